/* GET /v1/compare: the table of chosen jobs as JSON, CSV, Markdown or text. Thread: http. */
#include <string.h>

#include "handlers.h"
#include "problem.h"

/* in the order of enum srv_table_format */
static const char *const types[] = {"application/json", "text/csv", "text/markdown", "text/plain"};
static const char *const names[] = {"json", "csv", "markdown", "text"};
static const char *const replies[] = {"application/json", "text/csv; charset=utf-8",
                                      "text/markdown; charset=utf-8", "text/plain; charset=utf-8"};

/* ?format= wins over Accept. */
static int format_pick(struct api_request *req, enum srv_table_format *ret, struct shr_err *err)
{
    const char *format = api_query_find(&req->query, "format");
    int pick = -1;
    if (format == NULL) {
        const char *accept = api_request_header(req, "Accept");
        pick = api_accept_pick(accept, types, SHR_COUNT_OF(types));
        if (pick < 0) {
            return shr_err_set(err, API_ERR_NOT_ACCEPTABLE,
                               "Accept: '%.100s' takes none of %s, %s, %s, %s", accept, types[0],
                               types[1], types[2], types[3]);
        }
    }
    for (size_t i = 0; format != NULL && i < SHR_COUNT_OF(names); i++) {
        if (strcmp(format, names[i]) == 0) {
            pick = (int)i;
        }
    }
    if (pick < 0) {
        return shr_err_set(err, SHR_ERR_INVALID,
                           "format: '%.32s' is not json, csv, markdown or text", format);
    }
    *ret = (enum srv_table_format)pick;
    return 0;
}

int api_compare_get(struct api_request *req, struct shr_err *err)
{
    const char *ids = api_query_find(&req->query, "ids");
    const struct srv_compare_query query = {
        .ids = ids == NULL ? "" : ids,
        .baseline = api_query_find(&req->query, "baseline"),
        .metrics = api_query_find(&req->query, "metrics"),
    };
    enum srv_table_format format = SRV_TABLE_JSON;
    struct shr_buf text = {0};
    int rc = format_pick(req, &format, err);
    if (rc == 0) {
        rc = srv_compare(req->srv, &query, format, &text, err);
    }
    if (rc == 0) {
        rc = api_reply_header(req, "Vary", "Accept", err);
    }
    if (rc != 0) {
        shr_buf_finish(&text);
        return rc;
    }
    if (text.len > 0 && text.data[text.len - 1] != '\n') {
        shr_buf_puts(&text, "\n");
    }
    return api_reply_text(req, 200, replies[format], &text, err);
}
