/* A team of threads for the inside of one operator.
 *
 * The caller takes part, so that a team of one has no threads. Between tasks the others spin for
 * some microseconds, then sleep: a team that is not used costs nothing. A team serves one caller
 * at a time, and tasks do not run tasks. What a task computes must not depend on how many threads
 * there are: work is split by rows, columns or channels, never inside a sum. */
#ifndef SHR_CORE_TEAM_H
#define SHR_CORE_TEAM_H

#include <stddef.h>

#include "shrink.h"

struct shr_team;

/* A team of this size, 1 … SHR_TEAM_MAX. Errors: LIMIT (more, or the system gives no thread). */
int shr_team_new(int threads, struct shr_team **ret, struct shr_err *err) SHR_MUSTCHECK;
void shr_team_free(struct shr_team *team);

enum { SHR_TEAM_MAX = 256 };

/* Threads that take part; 1 of NULL. */
size_t shr_team_size(const struct shr_team *team);

/* task … of n, on thread worker < size, for scratch of its own. */
typedef void (*shr_team_fn)(void *arg, size_t task, size_t worker);

/* Calls fn once for each task < n and returns when all are done; team NULL = here, in order. */
void shr_team_run(struct shr_team *team, size_t n, shr_team_fn fn, void *arg);

#endif
