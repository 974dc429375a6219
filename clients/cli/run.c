/* shrinkctl run: a model of a local file on the engine that this program is linked with. No server.
 *
 * The way: options → arrays for inputs and constants → model → session → run → what was asked for:
 * a table of the outputs, an npz of them, times (run_time.c). */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/vec.h"
#include "run.h"

/* ── Options ────────────────────────────────────────────────────────────────────────────────── */

enum {
    INPUT,
    OUTPUT,
    CONST,
    BATCH,
    DIM,
    THREADS,
    CPU_MASK,
    SEED,
    SECONDS,
    TIME,
    PROFILE,
    NO_FUSE,
    N_OPTIONS
};

static bool parse_number(const char *name, const char *text, int64_t *ret)
{
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno != 0 || end == text || *end != 0 || value < 0) {
        cli_error("--%s: '%s' is no whole number", name, text);
        return false;
    }
    *ret = value;
    return true;
}

static bool number_option(const struct cli_option *option, int64_t *ret)
{
    const char *text = cli_option_get(option);
    return text == NULL || parse_number(option->name, text, ret);
}

/* "avx2,avxvnni" to bits; the names are those that shr_cpu_name gives to single bits. */
static bool parse_mask(const char *text, unsigned *ret)
{
    static const unsigned bits[] = {SHR_CPU_AVX2, SHR_CPU_AVXVNNI, SHR_CPU_AVX512,
                                    SHR_CPU_AVX512VNNI};
    unsigned mask = 0;
    for (const char *at = text; *at != 0;) {
        size_t n = strcspn(at, ",");
        bool found = n == 3 && strncmp(at, "all", 3) == 0;
        mask |= found ? ~0u : 0;
        for (size_t i = 0; i < SHR_COUNT_OF(bits); i++) {
            char name[64];
            shr_cpu_name(bits[i], name, sizeof name);
            if (strlen(name) == n && strncmp(name, at, n) == 0) {
                mask |= bits[i];
                found = true;
            }
        }
        if (!found) {
            char names[128];
            cli_error("--cpu-mask: '%.*s' is not among %s, all", (int)n, at,
                      shr_cpu_name(~0u, names, sizeof names));
            return false;
        }
        at += n + (at[n] == ',');
    }
    *ret = mask;
    return true;
}

/* "name=value" of --dim. */
static bool parse_dims(const struct cli_option *option, struct run *r)
{
    for (size_t i = 0; i < option->n; i++) {
        char *equals = strrchr(option->values[i], '=');
        struct shr_dim *dim = SHR_VEC_ADD(&r->dims);
        if (dim == NULL || equals == NULL) {
            cli_error("--dim: '%s' is not name=value", option->values[i]);
            return false;
        }
        *equals = 0;
        dim->name = option->values[i];
        if (!parse_number("dim", equals + 1, &dim->value)) {
            return false;
        }
    }
    return true;
}

static bool take_options(struct cli_option *o, struct run *r)
{
    int64_t threads = 1, seed = 0, seconds = 1;
    const char *mask = cli_option_get(&o[CPU_MASK]);
    if (!number_option(&o[BATCH], &r->batch) || !number_option(&o[THREADS], &threads) ||
        !number_option(&o[SEED], &seed) || !number_option(&o[SECONDS], &seconds) ||
        (mask != NULL && !parse_mask(mask, &r->ctx.cpu_mask)) || !parse_dims(&o[DIM], r)) {
        return false;
    }
    if (threads < 1 || threads > 1024) {
        cli_error("--threads: %" PRId64 " is not in [1, 1024]", threads);
        return false;
    }
    r->ctx.threads = (int)threads;
    r->ctx.seed = (uint64_t)seed;
    r->seconds = (double)seconds;
    r->output = cli_option_get(&o[OUTPUT]);
    r->time = o[TIME].n > 0;
    r->profile = o[PROFILE].n > 0;
    r->no_fuse = o[NO_FUSE].n > 0;
    return true;
}

/* ── Files ──────────────────────────────────────────────────────────────────────────────────── */

static int local_error(const char *path, const char *why)
{
    cli_error("%s: %s", path, why);
    return CLI_LOCAL;
}

static int read_file(const char *path, struct shr_buf *ret)
{
    enum { CHUNK = 1 << 20 };
    FILE *f = fopen(path, "rb");
    if (f == NULL) {
        return local_error(path, strerror(errno));
    }
    for (;;) {
        void *room = shr_buf_reserve(ret, CHUNK);
        size_t n = room == NULL ? 0 : fread(room, 1, CHUNK, f);
        ret->len += n;
        if (n < CHUNK) {
            break;
        }
    }
    const bool bad = ferror(f) != 0;
    const int why = errno;
    fclose(f);
    if (shr_buf_failed(ret)) {
        return local_error(path, "out of memory");
    }
    return bad ? local_error(path, strerror(why)) : CLI_OK;
}

static bool ends_with(const char *s, const char *end)
{
    return strlen(s) >= strlen(end) && strcmp(s + strlen(s) - strlen(end), end) == 0;
}

/* "x" of "some/x.npy". */
static void stem_of(const char *path, char *text, size_t size)
{
    const char *slash = strrchr(path, '/');
    snprintf(text, size, "%s", slash == NULL ? path : slash + 1);
    char *dot = strrchr(text, '.');
    if (dot != NULL) {
        *dot = 0;
    }
}

static int read_arrays(struct run *r, const char *path)
{
    struct shr_buf bytes = {0};
    struct shr_err err = {0};
    char stem[256];
    int code = read_file(path, &bytes);
    if (code == CLI_OK) {
        struct shr_arrays **slot = SHR_VEC_ADD(&r->files);
        const struct shr_bytes file = {bytes.data, bytes.len};
        const bool npz = ends_with(path, ".npz");
        stem_of(path, stem, sizeof stem);
        if (slot == NULL) {
            code = local_error(path, "out of memory");
        } else if (shr_arrays_load(npz ? SHR_DATASET_NPZ : SHR_DATASET_NPY, npz ? path : stem,
                                   &file, 0, slot, &err) != 0) {
            code = local_error(path, err.msg);
        }
    }
    shr_buf_finish(&bytes);
    return code;
}

/* ── Inputs and constants ───────────────────────────────────────────────────────────────────── */

/* The only array stands for the only input, whatever it is called. */
static int add_inputs(struct run *r)
{
    for (size_t f = 0; f < r->files.n; f++) {
        for (size_t i = 0; i < shr_arrays_count(r->files.v[f]); i++) {
            struct shr_view *view = SHR_VEC_ADD(&r->inputs);
            if (view == NULL) {
                return local_error(r->path, "out of memory");
            }
            *view = shr_arrays_at(r->files.v[f], i);
        }
    }
    if (r->inputs.n == 1 && r->info.n_inputs == 1) {
        r->inputs.v[0].name = r->info.inputs[0].name;
    }
    return CLI_OK;
}

/* One number as an element of the type; false when it is none or does not fit. */
static bool to_element(const char *text, enum shr_dtype dtype, union run_number *ret,
                       size_t *ret_bytes)
{
    char *end;
    errno = 0;
    const double real = strtod(text, &end);
    if (end == text || *end != 0) {
        return false;
    }
    const long long whole = strtoll(text, &end, 10);
    const bool is_whole = *end == 0 && errno == 0;
    switch (dtype) {
    case SHR_DTYPE_F32:
        ret->f32 = (float)real;
        *ret_bytes = sizeof ret->f32;
        return true;
    case SHR_DTYPE_F64:
        ret->f64 = real;
        *ret_bytes = sizeof ret->f64;
        return true;
    case SHR_DTYPE_I64:
        ret->i64 = whole;
        *ret_bytes = sizeof ret->i64;
        return is_whole;
    case SHR_DTYPE_I32:
        ret->i32 = (int32_t)whole;
        *ret_bytes = sizeof ret->i32;
        return is_whole && whole >= INT32_MIN && whole <= INT32_MAX;
    case SHR_DTYPE_BOOL:
        ret->u8 = whole != 0;
        *ret_bytes = sizeof ret->u8;
        return is_whole;
    default:
        return false;
    }
}

/* "name=number" of --const: an input of one element that is decided when the plan is made. */
static int add_constant(struct run *r, char *text)
{
    char *equals = strrchr(text, '=');
    struct shr_view *view = SHR_VEC_ADD(&r->constants);
    union run_number *number = r->numbers + r->constants.n - 1;
    if (equals == NULL || view == NULL) {
        cli_error("--const: '%s' is not name=number", text);
        return CLI_USAGE;
    }
    *equals = 0;
    for (size_t i = 0; i < r->info.n_inputs; i++) {
        const struct shr_model_value *input = &r->info.inputs[i];
        if (strcmp(input->name, text) != 0) {
            continue;
        }
        *view = (struct shr_view){.name = input->name,
                                  .dtype = input->type.dtype,
                                  .rank = input->type.rank < 0 ? 0 : input->type.rank,
                                  .data = number};
        for (int d = 0; d < view->rank; d++) {
            view->dim[d] = 1;
        }
        if (!to_element(equals + 1, view->dtype, number, &view->bytes)) {
            cli_error("--const: %s: '%s' is no number of type %s", text, equals + 1,
                      shr_dtype_name(view->dtype));
            return CLI_USAGE;
        }
        return CLI_OK;
    }
    cli_error("--const: the model has no input %s", text);
    return CLI_USAGE;
}

static int add_constants(struct run *r, const struct cli_option *option)
{
    r->numbers = calloc(option->n + 1, sizeof *r->numbers);
    if (r->numbers == NULL) {
        return local_error(r->path, "out of memory");
    }
    int code = CLI_OK;
    for (size_t i = 0; code == CLI_OK && i < option->n; i++) {
        code = add_constant(r, option->values[i]);
    }
    return code;
}

/* ── From the file to the session ───────────────────────────────────────────────────────────── */

static int load_model(struct run *r)
{
    struct shr_err err = {0};
    const double begin = run_seconds();
    if (run_load(r->path, &r->model, &err) != 0 ||
        shr_model_describe(r->model, &r->info, &err) != 0) {
        return local_error(r->path, err.msg);
    }
    r->load_seconds = run_seconds() - begin;
    return CLI_OK;
}

static int make_session(struct run *r)
{
    const struct shr_session_opts opts = {
        .batch = r->batch,
        .dims = r->dims.v,
        .n_dims = r->dims.n,
        .inputs = r->inputs.v,
        .n_inputs = r->inputs.n,
        .constants = r->constants.v,
        .n_constants = r->constants.n,
        .no_fuse = r->no_fuse,
    };
    struct shr_err err = {0};
    const double begin = run_seconds();
    int failed = shr_session_new_take(r->model, &opts, &r->ctx, &r->session, &err);
    r->model = NULL;
    if (failed != 0) {
        return local_error(r->path, err.msg);
    }
    r->plan_seconds = run_seconds() - begin;
    if (r->inputs.n < shr_session_input_count(r->session) && !r->time && !r->profile) {
        cli_error("%s: %zu of %zu inputs are given; --time and --profile make up the others",
                  r->path, r->inputs.n, shr_session_input_count(r->session));
        return CLI_USAGE;
    }
    if (shr_session_run(r->session, &r->ctx, &err) != 0) {
        return local_error(r->path, err.msg);
    }
    return CLI_OK;
}

static int save_outputs(const struct run *r)
{
    size_t n = shr_session_output_count(r->session);
    struct shr_view *views = calloc(n + 1, sizeof *views);
    struct shr_buf bytes = {0};
    struct shr_err err = {0};
    if (views == NULL) {
        return local_error(r->output, "out of memory");
    }
    for (size_t i = 0; i < n; i++) {
        views[i] = shr_session_output(r->session, i);
    }
    int code =
        shr_arrays_save(views, n, &bytes, &err) == 0 ? CLI_OK : local_error(r->output, err.msg);
    free(views);
    FILE *f = code == CLI_OK ? fopen(r->output, "wb") : NULL;
    if (code == CLI_OK && f == NULL) {
        code = local_error(r->output, strerror(errno));
    }
    if (f != NULL) {
        const bool good = fwrite(bytes.data, 1, bytes.len, f) == bytes.len;
        if (fclose(f) != 0 || !good) {
            code = local_error(r->output, strerror(errno));
        }
    }
    shr_buf_finish(&bytes);
    return code;
}

static int do_run(const struct cli *cli, struct run *r, struct cli_option *options)
{
    int code = CLI_OK;
    for (size_t i = 0; code == CLI_OK && i < options[INPUT].n; i++) {
        code = read_arrays(r, options[INPUT].values[i]);
    }
    code = code == CLI_OK ? load_model(r) : code;
    code = code == CLI_OK ? add_inputs(r) : code;
    code = code == CLI_OK ? add_constants(r, &options[CONST]) : code;
    code = code == CLI_OK ? make_session(r) : code;
    if (code == CLI_OK && r->output != NULL) {
        code = save_outputs(r);
    }
    if (code == CLI_OK && cli->json) {
        r->report = json_object();
    }
    if (code == CLI_OK && r->output == NULL) {
        run_print_outputs(r);
    }
    if (code == CLI_OK && r->time) {
        code = run_print_times(r);
    }
    if (code == CLI_OK && r->profile) {
        code = run_print_profile(r);
    }
    if (code == CLI_OK && cli->json) {
        cli_print_json(r->report);
    }
    return code;
}

static void finish(struct run *r)
{
    shr_session_free(r->session);
    shr_model_info_finish(&r->info);
    shr_model_free(r->model);
    for (size_t i = 0; i < r->files.n; i++) {
        shr_arrays_free(r->files.v[i]);
    }
    SHR_VEC_FINISH(&r->files);
    SHR_VEC_FINISH(&r->inputs);
    SHR_VEC_FINISH(&r->constants);
    SHR_VEC_FINISH(&r->dims);
    free(r->numbers);
    json_decref(r->report);
}

int cli_run(const struct cli *cli, int argc, char **argv)
{
    struct cli_option options[N_OPTIONS] = {
        [INPUT] = {.name = "input"},
        [OUTPUT] = {.name = "output"},
        [CONST] = {.name = "const"},
        [BATCH] = {.name = "batch"},
        [DIM] = {.name = "dim"},
        [THREADS] = {.name = "threads"},
        [CPU_MASK] = {.name = "cpu-mask"},
        [SEED] = {.name = "seed"},
        [SECONDS] = {.name = "seconds"},
        [TIME] = {.name = "time", .is_flag = true},
        [PROFILE] = {.name = "profile", .is_flag = true},
        [NO_FUSE] = {.name = "no-fuse", .is_flag = true},
    };
    struct run r = {0};
    int words, code = CLI_USAGE;
    if (cli_options(argc, argv, options, N_OPTIONS, &words) && cli_one_word(argv, words) &&
        take_options(options, &r)) {
        r.path = argv[0];
        code = do_run(cli, &r, options);
    }
    finish(&r);
    cli_options_free(options, N_OPTIONS);
    return code;
}
