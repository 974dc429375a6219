/* What http.c (the daemon) and http_exchange.c (a request and its answer) share. Both know the HTTP
 * library, nobody else does. Thread: http. */
#ifndef API_HTTP_EXCHANGE_H
#define API_HTTP_EXCHANGE_H

#include <microhttpd.h>

#include "context.h"

/* Callbacks of the library; `cls` is the struct api. */
void *api_exchange_begin(void *cls, const char *uri, struct MHD_Connection *connection);
enum MHD_Result api_exchange_step(void *cls, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *bytes,
                                  size_t *n, void **exchange);
void api_exchange_end(void *cls, struct MHD_Connection *connection, void **exchange,
                      enum MHD_RequestTerminationCode how);

#endif
