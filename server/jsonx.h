/* Reading JSON that clients wrote: each reader checks the type and names the field by its full path
 * ("evaluate.latency.batch[1]: must be an integer"). A missing field leaves the result as it is.
 * Thread: any. */
#ifndef SRV_JSONX_H
#define SRV_JSONX_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"

/* The text as an object; PARSE with line and column, INVALID when it is something else. */
int srv_json_parse(const char *text, size_t n, const char *what, json_t **ret,
                   struct shr_err *err) SHR_MUSTCHECK;

/* "pipeline[1]." + "amount": a path for messages. at "" = the top. */
struct srv_json_at {
    json_t *object;
    const char *path; /* "" or ending with a dot */
};

/* INVALID "<path>foo: unknown field" unless every field is in names (ends with NULL). */
int srv_json_only(struct srv_json_at at, const char *const *names,
                  struct shr_err *err) SHR_MUSTCHECK;

int srv_json_text(struct srv_json_at at, const char *name, struct shr_arena *arena,
                  const char **ret, struct shr_err *err) SHR_MUSTCHECK;
int srv_json_int(struct srv_json_at at, const char *name, int64_t min, int64_t max, int64_t *ret,
                 struct shr_err *err) SHR_MUSTCHECK;
int srv_json_number(struct srv_json_at at, const char *name, double min, double max, double *ret,
                    struct shr_err *err) SHR_MUSTCHECK;
/* An integer or text such as "2GiB". */
int srv_json_bytes(struct srv_json_at at, const char *name, uint64_t *ret,
                   struct shr_err *err) SHR_MUSTCHECK;
/* The member when it is an array or object; NULL when it is missing. */
int srv_json_array(struct srv_json_at at, const char *name, size_t max, json_t **ret,
                   struct shr_err *err) SHR_MUSTCHECK;
int srv_json_object(struct srv_json_at at, const char *name, json_t **ret,
                    struct shr_err *err) SHR_MUSTCHECK;

/* Sets name to take_value in object; false when either is NULL or memory ran out. */
bool srv_json_put(json_t *object, const char *name, json_t *take_value);

/* Text (shr_mem_free) of a value, compact, numbers as they were typed; NULL when out of memory. */
char *srv_json_dump(const json_t *value);

#endif
