/* The dashboard's files, embedded at build time (embed.py writes the table). Thread: any. */
#ifndef API_UI_H
#define API_UI_H

#include <stddef.h>

struct api_file {
    const char *name; /* "index.html" */
    const char *etag; /* "\"sha256:…\"" */
    const unsigned char *bytes;
    size_t n;
};

extern const struct api_file api_ui_files[];
extern const size_t api_ui_file_count;

extern const struct api_file api_schema_files[]; /* schemas.json, for openapi.c */
extern const size_t api_schema_file_count;

#endif
