/* GET / and /ui/{file}: the dashboard, from the binary itself.
 *
 * A name is looked up in a table, never in a file system. The policy lets the page load nothing but
 * our own files and talk to nobody but us. Thread: http. */
#include "ui.h"

#include <string.h>

#include "handlers.h"

static const struct {
    const char *name, *value;
} headers[] = {
    {"Content-Security-Policy",
     "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src "
     "'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"},
    {"Referrer-Policy", "no-referrer"},
    {"Cross-Origin-Opener-Policy", "same-origin"},
    {"Cross-Origin-Resource-Policy", "same-origin"},
    {"Cache-Control", "no-cache"}, /* asks again with the ETag: a new build shows at once */
};

static const char *type_of(const char *name)
{
    static const struct {
        const char *end, *type;
    } types[] = {
        {".html", "text/html; charset=utf-8"},
        {".js", "text/javascript; charset=utf-8"},
        {".mjs", "text/javascript; charset=utf-8"},
        {".css", "text/css; charset=utf-8"},
        {".svg", "image/svg+xml"},
        {".png", "image/png"},
        {".json", "application/json"},
        {".txt", "text/plain; charset=utf-8"},
    };
    const char *dot = strrchr(name, '.');
    for (size_t i = 0; dot != NULL && i < SHR_COUNT_OF(types); i++) {
        if (strcmp(dot, types[i].end) == 0) {
            return types[i].type;
        }
    }
    return "application/octet-stream";
}

static const struct api_file *file_find(const char *name)
{
    for (size_t i = 0; i < api_ui_file_count; i++) {
        if (strcmp(api_ui_files[i].name, name) == 0) {
            return &api_ui_files[i];
        }
    }
    return NULL;
}

int api_ui_get(struct api_request *req, struct shr_err *err)
{
    const char *name = req->segments[0] == NULL ? "index.html" : req->segments[0];
    const struct api_file *file = file_find(name);
    if (file == NULL) {
        return shr_err_set(err, SHR_ERR_NOT_FOUND, "the dashboard has no file '%.100s'", name);
    }
    int rc = api_reply_header(req, "ETag", file->etag, err);
    for (size_t i = 0; rc == 0 && i < SHR_COUNT_OF(headers); i++) {
        rc = api_reply_header(req, headers[i].name, headers[i].value, err);
    }
    if (rc != 0) {
        return rc;
    }
    const char *none_match = api_request_header(req, "If-None-Match");
    if (none_match != NULL && api_etag_listed(none_match, file->etag)) {
        return api_reply_empty(req, 304);
    }
    return api_reply_static(req, 200, type_of(name), file->bytes, file->n, err);
}
