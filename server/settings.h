/* The settings of shrinkd: one table is their only home (settings.c).
 *
 * Sources, later ones win: defaults, the file of --config, the environment (SHRINKD_NAME), flags
 * (--name value, --name=value). An unknown name or a bad value is an error that says where it
 * stands. Loaded once at start; on SIGHUP only the reloadable ones change. Thread: the numbers of
 * reloadable settings belong to the loop, all else is constant after load. */
#ifndef SRV_SETTINGS_H
#define SRV_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "service.h"

enum srv_log_format { SRV_LOG_TEXT, SRV_LOG_JSON };

struct srv_settings {              /* all zero = empty */
    struct shr_arena arena;        /* owns the texts */
    const char *config;            /* path of the file that was read, or NULL */
    struct srv_http_settings http; /* see service.h */
    const char *state_dir;
    unsigned workers, queue_max, max_plans;
    uint64_t max_dataset_bytes; /* of uncompressed arrays */
    uint64_t job_max_memory;
    unsigned job_max_seconds, max_attempts, max_threads, checkpoint_s;
    unsigned sweep_age_s, stop_timeout_s, stop_grace_s;
    unsigned log_level; /* enum srv_log_level */
    unsigned log_format;
};

/* What the command line asks for beside settings. */
enum srv_command { SRV_RUN, SRV_SHOW_HELP, SRV_SHOW_VERSION, SRV_CHECK_CONFIG };

/* Reads all sources. env is a NULL-terminated array of NAME=value. */
int srv_settings_load(int argc, char **argv, char **env, struct srv_settings *ret,
                      enum srv_command *ret_command, struct shr_err *err) SHR_MUSTCHECK;
void srv_settings_finish(struct srv_settings *settings);

/* Takes the reloadable values of `fresh`; ret_ignored gets the names of others that differ. */
void srv_settings_reload(struct srv_settings *settings, const struct srv_settings *fresh,
                         struct shr_buf *ret_ignored);

/* The table as text for --help, and the present values as a settings file. */
void srv_settings_help(struct shr_buf *ret_text);
void srv_settings_print(const struct srv_settings *settings, struct shr_buf *ret_text);

#endif
