/* shrinkctl run: what run.c and model_file.c prepare and run_print.c tells. One run of the program,
 * one thread. */
#ifndef CLI_RUN_H
#define CLI_RUN_H

#include "base/vec.h"
#include "cli.h"
#include "engine/shrink.h"

union run_number { /* the element of a constant */
    float f32;
    double f64;
    int64_t i64;
    int32_t i32;
    uint8_t u8;
};

struct run { /* all zero = empty */
    const char *path, *output;
    int64_t batch;
    double seconds; /* of timing */
    bool time, profile, no_fuse;
    struct shr_ctx ctx;
    SHR_VEC(struct shr_dim) dims;
    SHR_VEC(struct shr_arrays *) files;
    SHR_VEC(struct shr_view) inputs, constants;
    union run_number *numbers; /* behind constants */
    struct shr_model *model;
    struct shr_model_info info;
    struct shr_session *session;
    double load_seconds, plan_seconds;
    json_t *report; /* with --json: printed at the end; else NULL and text is printed at once */
};

/* Loads the model of a file, with its external data. */
int run_load(const char *path, struct shr_model **ret, struct shr_err *err);

double run_seconds(void); /* of a clock that only goes forward */

void run_print_outputs(const struct run *r);
int run_print_times(const struct run *r);
int run_print_profile(const struct run *r);

#endif
