/* Following a job to its end, and printing one. */
#ifndef CLI_FOLLOW_H
#define CLI_FOLLOW_H

#include "cli.h"

/* Shows progress on stderr (a bar on a terminal, a line a step elsewhere) until the job is final,
 * then prints it; survives a lost connection. Returns the job's exit code. */
int cli_follow(const struct cli *cli, const char *id);

void cli_print_job(const json_t *job, FILE *to);

#endif
