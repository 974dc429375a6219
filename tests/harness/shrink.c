/* shrink: the engine on a command line, for tests that compare it with other libraries.
 *
 *     shrink run MODEL PASS [key=value …] -o OUT [--calibrate FILES] [--seed N]
 *     shrink predict MODEL -o OUT.f32 --data FILES [--count N] [--batch N]
 *     shrink eval ORIGINAL MODEL --data FILES [--count N] [--latency]
 *     shrink ledger BEFORE AFTER
 *
 * A model among the arguments is a file too. FILES is one npz or npy file, or the idx files of
 * images and labels joined by a comma. run prints the report, a note a line: kind, subject, text
 * and figures, separated by tabs. predict writes the first output as little-endian floats and
 * prints the width of a row. ledger prints both sides and a line for each row. Exit code 1 on
 * errors. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "engine/shrink.h"

struct options {
    const char *words[64]; /* what is no option: the command, models, pass, arguments */
    int n_words;
    const char *out, *data;
    long long count, batch;
    bool latency;
    struct shr_ctx ctx;
};

static int fail(const char *what, const char *why)
{
    fprintf(stderr, "shrink: %s: %s\n", what, why);
    return 1;
}

/* ── Files ──────────────────────────────────────────────────────────────────────────────────── */

static int read_file(const char *path, struct shr_buf *ret)
{
    FILE *f = fopen(path, "rb");
    if (f == NULL) {
        return fail(path, "cannot be opened");
    }
    enum { CHUNK = 1 << 16 };
    void *room;
    while ((room = shr_buf_reserve(ret, CHUNK)) != NULL) {
        size_t n = fread(room, 1, CHUNK, f);
        ret->len += n;
        if (n < CHUNK) {
            break;
        }
    }
    bool bad = ferror(f) != 0 || shr_buf_failed(ret);
    fclose(f);
    return bad ? fail(path, "cannot be read") : 0;
}

static int write_file(const char *path, const void *bytes, size_t n)
{
    FILE *f = path != NULL ? fopen(path, "wb") : NULL;
    if (f == NULL) {
        return fail(path != NULL ? path : "-o", "cannot be written");
    }
    bool good = fwrite(bytes, 1, n, f) == n;
    good = fclose(f) == 0 && good;
    return good ? 0 : fail(path, "cannot be written");
}

static bool ends_with(const char *s, const char *end)
{
    return strlen(s) >= strlen(end) && strcmp(s + strlen(s) - strlen(end), end) == 0;
}

static int load_data(const char *files, struct shr_dataset **ret)
{
    struct shr_buf parts[2] = {{0}};
    struct shr_bytes bytes[2];
    struct shr_err err = {0};
    size_t n = 0;
    int code = 0;
    char *copy = shr_mem_strdup(files), *rest = NULL;
    for (char *path = strtok_r(copy, ",", &rest); path != NULL && n < 2 && code == 0;
         path = strtok_r(NULL, ",", &rest)) {
        code = read_file(path, &parts[n]);
        bytes[n] = (struct shr_bytes){parts[n].data, parts[n].len};
        n++;
    }
    enum shr_dataset_format format = ends_with(files, ".npz")   ? SHR_DATASET_NPZ
                                     : ends_with(files, ".npy") ? SHR_DATASET_NPY
                                                                : SHR_DATASET_IDX;
    struct shr_dataset_opts opts = {0};
    if (code == 0 && shr_dataset_load(format, bytes, n, &opts, ret, &err) != 0) {
        code = fail(files, err.msg);
    }
    shr_buf_finish(&parts[0]);
    shr_buf_finish(&parts[1]);
    shr_mem_free(copy);
    return code;
}

static int load_model(const char *path, struct shr_model **ret)
{
    struct shr_buf bytes = {0};
    struct shr_err err = {0};
    int code = read_file(path, &bytes);
    if (code == 0 && shr_model_load(bytes.data, bytes.len, NULL, ret, &err) != 0) {
        code = fail(path, err.msg);
    }
    shr_buf_finish(&bytes);
    return code;
}

/* ── run ────────────────────────────────────────────────────────────────────────────────────── */

static void print_report(const struct shr_report *report)
{
    static const char *const kinds[SHR_NOTE_KIND_COUNT] = {"done", "skipped", "warning"};
    for (const struct shr_note *n = report->first; n != NULL; n = n->next) {
        printf("%s\t%s\t%s", kinds[n->kind], n->subject, n->text);
        for (size_t i = 0; i < n->n_figures; i++) {
            printf("\t%s=%.9g", n->figures[i].name, n->figures[i].value);
        }
        printf("\n");
    }
}

static int set_arguments(struct shr_args *args, const struct options *o, struct shr_err *err)
{
    for (int i = 3; i < o->n_words; i++) {
        char name[128];
        const char *value = strchr(o->words[i], '=');
        if (value == NULL) {
            return shr_err_set(err, SHR_ERR_INVALID, "%s: not key=value", o->words[i]);
        }
        snprintf(name, sizeof name, "%.*s", (int)(value - o->words[i]), o->words[i]);
        int code = shr_args_parse(args, name, value + 1, err);
        if (code != SHR_OK) {
            return code;
        }
    }
    return SHR_OK;
}

static int save(const struct shr_model *model, const char *path)
{
    struct shr_buf bytes = {0};
    struct shr_err err = {0};
    int code = shr_model_save(model, &bytes, &err) == 0 ? write_file(path, bytes.data, bytes.len)
                                                        : fail("save", err.msg);
    shr_buf_finish(&bytes);
    return code;
}

static int run(const struct options *o)
{
    const struct shr_pass *pass = o->n_words >= 3 ? shr_pass_find(o->words[2]) : NULL;
    if (pass == NULL) {
        return fail("run", "needs a model and the name of a pass");
    }
    struct shr_err err = {0};
    struct shr_args args = {0};
    struct shr_model *model = NULL;
    struct shr_model *other = NULL;
    struct shr_dataset *data = NULL;
    struct shr_report report = {0};
    const char *file = NULL;
    int code = load_model(o->words[1], &model);
    if (code == 0 && o->data != NULL) {
        code = load_data(o->data, &data);
    }
    if (code == 0 &&
        (shr_args_init(&args, pass, &err) != 0 || set_arguments(&args, o, &err) != 0)) {
        code = fail(pass->name, err.msg);
    }
    if (code == 0 && shr_args_model(&args, &file) != NULL) {
        code = load_model(file, &other);
    }
    struct shr_pass_call call = {.model = model,
                                 .other = other,
                                 .args = &args,
                                 .calibrate = data,
                                 .train = data,
                                 .ctx = &o->ctx,
                                 .report = &report};
    if (code == 0 && shr_pass_run(pass, &call, &err) != 0) {
        code = fail(o->words[1], err.msg);
    }
    if (code == 0) {
        print_report(&report);
        code = save(call.ret_model, o->out);
    }
    shr_model_free(call.ret_model);
    shr_model_free(model);
    shr_model_free(other);
    shr_dataset_free(data);
    shr_args_finish(&args);
    shr_report_finish(&report);
    return code;
}

/* ── predict, eval ──────────────────────────────────────────────────────────────────────────── */

static int64_t count_of(const struct shr_dataset *data, long long asked)
{
    struct shr_dataset_info info = {0};
    if (shr_dataset_describe(data, &info, NULL) != 0) {
        return 0;
    }
    int64_t n = asked > 0 && asked < info.samples ? asked : info.samples;
    shr_dataset_info_finish(&info);
    return n;
}

static int predict(const struct options *o)
{
    struct shr_model *model = NULL;
    struct shr_dataset *data = NULL;
    struct shr_err err = {0};
    float *out = NULL;
    int64_t width = 0;
    if (o->n_words != 2 || o->data == NULL) {
        return fail("predict", "needs a model and --data");
    }
    int code = load_model(o->words[1], &model);
    if (code == 0) {
        code = load_data(o->data, &data);
    }
    int64_t n = code == 0 ? count_of(data, o->count) : 0;
    if (code == 0 &&
        shr_model_predict(model, data, 0, n, o->batch, &o->ctx, &out, &width, &err) != 0) {
        code = fail(o->words[1], err.msg);
    }
    if (code == 0) {
        printf("%lld\n", (long long)width);
        code = write_file(o->out, out, (size_t)(n * width) * sizeof *out);
    }
    shr_mem_free(out);
    shr_model_free(model);
    shr_dataset_free(data);
    return code;
}

static int eval(const struct options *o)
{
    struct shr_buf original = {0}, candidate = {0};
    struct shr_dataset *data = NULL;
    struct shr_eval *eval = NULL;
    struct shr_metrics metrics = {0};
    struct shr_err err = {0};
    if (o->n_words != 3) {
        return fail("eval", "needs the original model and another");
    }
    int code = read_file(o->words[1], &original);
    if (code == 0) {
        code = read_file(o->words[2], &candidate);
    }
    if (code == 0 && o->data != NULL) {
        code = load_data(o->data, &data);
    }
    const int64_t batches[] = {1, 64};
    struct shr_eval_opts opts = {.data = data,
                                 .max_samples = o->count,
                                 .latency = o->latency,
                                 .latency_batch = batches,
                                 .n_latency_batch = SHR_COUNT_OF(batches)};
    if (code == 0 &&
        (shr_eval_new(original.data, original.len, &opts, &o->ctx, &eval, &err) != 0 ||
         shr_eval_measure(eval, candidate.data, candidate.len, &o->ctx, &metrics, &err) != 0)) {
        code = fail(o->words[2], err.msg);
    }
    for (size_t i = 0; i < metrics.n; i++) {
        const struct shr_metric *m = &metrics.v[i];
        if (m->measured) {
            printf("%s\t%.9g\n", m->name, m->value);
        } else {
            printf("%s\t-\t%s\n", m->name, m->why);
        }
    }
    shr_metrics_finish(&metrics);
    shr_eval_free(eval);
    shr_dataset_free(data);
    shr_buf_finish(&original);
    shr_buf_finish(&candidate);
    return code;
}

/* ── ledger ─────────────────────────────────────────────────────────────────────────────────── */

static void print_side(const char *name, const struct shr_ledger_side *s)
{
    printf("%s\t%lld\t%lld\t%lld\t%lld\t%lld\t%zu\t%lld\n", name, (long long)s->file,
           (long long)s->parameters, (long long)s->quantization, (long long)s->constants,
           (long long)s->graph, s->shared, (long long)s->shared_saved);
}

static int ledger(const struct options *o)
{
    struct shr_buf bytes[2] = {{0}};
    struct shr_model *models[2] = {0};
    struct shr_ledger made = {0};
    struct shr_err err = {0};
    int code = o->n_words == 3 ? 0 : fail("ledger", "needs two models");
    for (int i = 0; i < 2 && code == 0; i++) {
        code = read_file(o->words[i + 1], &bytes[i]);
        code = code == 0 ? load_model(o->words[i + 1], &models[i]) : code;
    }
    if (code == 0 &&
        shr_ledger_make(models[0], bytes[0].len, models[1], bytes[1].len, &made, &err) != 0) {
        code = fail(o->words[2], err.msg);
    }
    if (code == 0) {
        print_side("before", &made.before);
        print_side("after", &made.after);
    }
    for (size_t i = 0; i < made.n; i++) {
        const struct shr_ledger_row *r = &made.rows[i];
        printf("%s\t%s\t%lld\t%s\t%lld\t%lld\t%zu\n", r->name, shr_dtype_name(r->was),
               (long long)r->before, shr_dtype_name(r->is), (long long)r->after,
               (long long)r->quantization, r->readers);
    }
    shr_ledger_finish(&made);
    for (int i = 0; i < 2; i++) {
        shr_model_free(models[i]);
        shr_buf_finish(&bytes[i]);
    }
    return code;
}

/* ── Options ────────────────────────────────────────────────────────────────────────────────── */

static bool parse_options(int argc, char **argv, struct options *o)
{
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(word, "--latency") == 0) {
            o->latency = true;
        } else if (word[0] != '-') {
            if (o->n_words == SHR_COUNT_OF(o->words)) {
                return false;
            }
            o->words[o->n_words++] = word;
        } else if (value == NULL) {
            return false;
        } else {
            i++;
            if (strcmp(word, "-o") == 0) {
                o->out = value;
            } else if (strcmp(word, "--data") == 0 || strcmp(word, "--calibrate") == 0) {
                o->data = value;
            } else if (strcmp(word, "--count") == 0) {
                o->count = atoll(value);
            } else if (strcmp(word, "--batch") == 0) {
                o->batch = atoll(value);
            } else if (strcmp(word, "--seed") == 0) {
                o->ctx.seed = strtoull(value, NULL, 10);
            } else if (strcmp(word, "--threads") == 0) {
                o->ctx.threads = atoi(value);
            } else {
                return false;
            }
        }
    }
    return o->n_words > 0;
}

int main(int argc, char **argv)
{
    struct options o = {.batch = 64};
    if (parse_options(argc, argv, &o)) {
        if (strcmp(o.words[0], "run") == 0) {
            return run(&o);
        }
        if (strcmp(o.words[0], "predict") == 0) {
            return predict(&o);
        }
        if (strcmp(o.words[0], "eval") == 0) {
            return eval(&o);
        }
        if (strcmp(o.words[0], "ledger") == 0) {
            return ledger(&o);
        }
    }
    fprintf(stderr, "usage: shrink run|predict|eval|ledger …; see the head of shrink.c\n");
    return 2;
}
