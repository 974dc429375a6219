/* The log: one line a message on standard error, with UTC time, level and the id of the job or
 * request it is about; as text or as JSON. Control characters in a message are escaped, since
 * names in it come from clients. Lines are written whole. Thread: any. */
#ifndef SRV_LOG_H
#define SRV_LOG_H

#include <stdarg.h>

#include "base/attr.h"
#include "settings.h"

enum srv_log_level { SRV_LOG_ERROR, SRV_LOG_WARNING, SRV_LOG_INFO, SRV_LOG_DEBUG };

void srv_log_setup(enum srv_log_level least, enum srv_log_format format);

/* id NULL = about the process. */
void srv_log(enum srv_log_level level, const char *id, const char *format, ...) SHR_PRINTF(3, 4);
void srv_log_v(enum srv_log_level level, const char *id, const char *format, va_list args)
    SHR_PRINTF(3, 0);

#endif
