/* The log, see log.h. Level and format are the only state of the process outside struct srv: a log
 * line must be possible before there is one. */
#include "log.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "units.h"

static atomic_int log_least = SRV_LOG_INFO;
static atomic_int log_as = SRV_LOG_TEXT;

static const char *const level_names[] = {"error", "warning", "info", "debug"};

void srv_log_setup(enum srv_log_level least, enum srv_log_format format)
{
    atomic_store(&log_least, (int)least);
    atomic_store(&log_as, (int)format);
}

/* Appends text with quotes, backslashes and control characters escaped as in JSON. */
static size_t escape(char *line, size_t at, size_t size, const char *text, bool quotes)
{
    for (; *text != '\0' && at + 8 < size; text++) {
        const unsigned char c = (unsigned char)*text;
        if (c < 0x20 || c == 0x7f) {
            at += (size_t)snprintf(line + at, size - at, "\\u%04x", c);
        } else if (quotes && (c == '"' || c == '\\')) {
            line[at++] = '\\';
            line[at++] = (char)c;
        } else {
            line[at++] = (char)c;
        }
    }
    return at;
}

static size_t format_text(char *line, size_t size, const char *time, enum srv_log_level level,
                          const char *id, const char *message)
{
    size_t at = (size_t)snprintf(line, size, "%s %-7s ", time, level_names[level]);
    if (id != NULL) {
        at += (size_t)snprintf(line + at, size - at, "[%.64s] ", id);
    }
    return escape(line, at, size, message, false);
}

static size_t format_json(char *line, size_t size, const char *time, enum srv_log_level level,
                          const char *id, const char *message)
{
    size_t at = (size_t)snprintf(line, size, "{\"time\":\"%s\",\"level\":\"%s\",", time,
                                 level_names[level]);
    if (id != NULL) {
        at += (size_t)snprintf(line + at, size - at, "\"id\":\"%.64s\",", id);
    }
    at += (size_t)snprintf(line + at, size - at, "\"message\":\"");
    at = escape(line, at, size - 8, message, true);
    line[at++] = '"';
    line[at++] = '}';
    return at;
}

void srv_log_v(enum srv_log_level level, const char *id, const char *format, va_list args)
{
    if ((int)level > atomic_load_explicit(&log_least, memory_order_relaxed)) {
        return;
    }
    char message[1024];
    char line[2048];
    char time[SRV_TIME_SIZE];
    vsnprintf(message, sizeof message, format, args);
    srv_time_format(srv_time_now_us(), time, sizeof time);

    size_t n = atomic_load_explicit(&log_as, memory_order_relaxed) == SRV_LOG_JSON
                   ? format_json(line, sizeof line, time, level, id, message)
                   : format_text(line, sizeof line, time, level, id, message);
    line[n++] = '\n';
    /* a log that cannot be written has nowhere to complain */
    const ssize_t written = write(STDERR_FILENO, line, n);
    (void)written;
}

void srv_log(enum srv_log_level level, const char *id, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    srv_log_v(level, id, format, args);
    va_end(args);
}
