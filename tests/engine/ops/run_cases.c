/* Runs the operator cases that tests/harness/node_cases.py writes: run_cases FOLDER
 *
 * Each case is run twice, fused with the machine's kernels and node by node with the reference
 * kernels, and both times compared with the expected outputs: types, shapes and integers exactly,
 * floats within 1e-4 unless it says (half precision: two units in the last place). A case is
 * skipped when an operator or a type has no row, or when it is in the table of exceptions; any
 * other case must pass. TAP on stdout. */
#include <fnmatch.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "exec/plan.h"

enum { MOST_TENSORS = 64, LINE = 512 };

/* Cases of operators that have a row, which the engine does not run, and why. */
static const struct {
    const char *name; /* a glob */
    const char *why;
} exceptions[] = {
    {"test_batchnorm_*training_mode*", "training mode"},
    {"test_training_dropout*", "training mode"},
};

struct file {
    unsigned char *data;
    size_t n, at;
};

struct test_case {
    size_t n_in, n_out;
    double tolerance;                                      /* relative, of floats */
    struct shr_tensor in[MOST_TENSORS], out[MOST_TENSORS]; /* data points into the file */
};

enum outcome { PASSED, FAILED, SKIPPED };

struct result {
    enum outcome outcome;
    char why[LINE];
};

static bool read_file(const char *folder, const char *name, const char *end, struct file *ret)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s%s", folder, name, end);
    FILE *f = fopen(path, "rb");
    if (f == NULL) {
        return false;
    }
    fseek(f, 0, SEEK_END);
    size_t n = (size_t)ftell(f);
    rewind(f);
    *ret = (struct file){.data = malloc(n + 1), .n = n};
    bool ok = ret->data != NULL && fread(ret->data, 1, n, f) == n;
    fclose(f);
    return ok;
}

static bool take(struct file *f, void *to, size_t n)
{
    if (f->n - f->at < n) {
        return false;
    }
    memcpy(to, f->data + f->at, n);
    f->at += n;
    return true;
}

static bool take_tensor(struct file *f, struct shr_tensor *t)
{
    int32_t head[2];
    if (!take(f, head, sizeof head) || head[1] < 0 || head[1] > SHR_MAX_RANK) {
        return false;
    }
    t->dtype = (enum shr_dtype)head[0];
    t->rank = head[1];
    if (!take(f, t->dim, (size_t)t->rank * sizeof *t->dim)) {
        return false;
    }
    size_t n = shr_tensor_bytes(t);
    t->data = f->data + f->at;
    f->at += (n + 7) / 8 * 8; /* tensors stay aligned */
    return f->at <= f->n;
}

static bool take_case(struct file *f, struct test_case *ret)
{
    int32_t head[2];
    double tolerance;
    if (!take(f, head, sizeof head) || !take(f, &tolerance, sizeof tolerance) ||
        head[0] > MOST_TENSORS || head[1] > MOST_TENSORS) {
        return false;
    }
    *ret = (struct test_case){(size_t)head[0], (size_t)head[1], .tolerance = tolerance};
    for (size_t i = 0; i < ret->n_in + ret->n_out; i++) {
        if (!take_tensor(f, i < ret->n_in ? &ret->in[i] : &ret->out[i - ret->n_in])) {
            return false;
        }
    }
    return f->at == f->n;
}

static struct result tell(enum outcome outcome, const char *format, ...) SHR_PRINTF(2, 3);
static struct result tell(enum outcome outcome, const char *format, ...)
{
    struct result r = {.outcome = outcome};
    va_list args;
    va_start(args, format);
    vsnprintf(r.why, sizeof r.why, format, args);
    va_end(args);
    return r;
}

/* ── Comparing ──────────────────────────────────────────────────────────────────────────────── */

static bool near(double got, double want, double tolerance)
{
    if (isnan(want) || isnan(got)) {
        return isnan(want) && isnan(got);
    }
    return got == want || fabs(got - want) <= 1e-6 + tolerance * fabs(want);
}

/* Two units in the last place of half precision: where sums are rounded is not defined. */
static double tolerance_of(enum shr_dtype dtype, double tolerance)
{
    return dtype == SHR_DTYPE_F16 ? 0x1p-9 : dtype == SHR_DTYPE_BF16 ? 0x1p-6 : tolerance;
}

static struct result compare(size_t i, const struct shr_tensor *got, const struct shr_tensor *want,
                             double tolerance)
{
    char a[96], b[96];
    if (got->dtype != want->dtype || !shr_tensor_same_shape(got, want)) {
        return tell(FAILED, "output %zu is %s %s, not %s %s", i, shr_dtype_name(got->dtype),
                    shr_dims_text(got->rank, got->dim, a, sizeof a), shr_dtype_name(want->dtype),
                    shr_dims_text(want->rank, want->dim, b, sizeof b));
    }
    if (!shr_dtype_is_float(got->dtype)) {
        size_t n = shr_tensor_bytes(got), size = shr_dtype_size(got->dtype), at = 0;
        while (at < n && ((char *)got->data)[at] == ((char *)want->data)[at]) {
            at++;
        }
        int64_t k = (int64_t)(at / size);
        return at == n ? tell(PASSED, "%s", "")
                       : tell(FAILED, "output %zu[%lld] is %g, not %g", i, (long long)k,
                              shr_tensor_get(got, k), shr_tensor_get(want, k));
    }
    tolerance = tolerance_of(got->dtype, tolerance);
    for (int64_t k = 0; k < shr_tensor_count(got); k++) {
        double x = shr_tensor_get(got, k), y = shr_tensor_get(want, k);
        if (!near(x, y, tolerance)) {
            return tell(FAILED, "output %zu[%lld] is %.9g, not %.9g", i, (long long)k, x, y);
        }
    }
    return tell(PASSED, "%s", "");
}

/* ── Running ────────────────────────────────────────────────────────────────────────────────── */

static struct shr_type type_of(const struct shr_tensor *t)
{
    struct shr_type type = {.dtype = t->dtype, .rank = t->rank};
    memcpy(type.dim, t->dim, sizeof type.dim);
    return type;
}

static struct result run_plan(struct shr_plan *plan, const struct test_case *k)
{
    struct shr_err err = {0};
    for (size_t i = 0; i < k->n_in; i++) {
        if (shr_tensor_bytes(&k->in[i]) > 0) {
            memcpy(shr_plan_input(plan, i)->data, k->in[i].data, shr_tensor_bytes(&k->in[i]));
        }
    }
    if (shr_plan_run(plan, NULL, &err) != SHR_OK) {
        return tell(FAILED, "run: %s", err.msg);
    }
    if (shr_plan_output_count(plan) != k->n_out) {
        return tell(FAILED, "%zu outputs, not %zu", shr_plan_output_count(plan), k->n_out);
    }
    struct result r = {PASSED, ""};
    for (size_t i = 0; i < k->n_out && r.outcome == PASSED; i++) {
        r = compare(i, shr_plan_output(plan, i), &k->out[i], k->tolerance);
    }
    return r;
}

/* The type that a row refused, when it is one that rows need not cover; else NULL. */
static const char *refused_type(const struct shr_err *err)
{
    static const enum shr_dtype rare[] = {SHR_DTYPE_F16, SHR_DTYPE_BF16, SHR_DTYPE_F64,
                                          SHR_DTYPE_STRING};
    const char *at = strstr(err->msg, " of type ");
    for (size_t i = 0; i < SHR_COUNT_OF(rare) && at != NULL; i++) {
        if (strcmp(at + strlen(" of type "), shr_dtype_name(rare[i])) == 0) {
            return shr_dtype_name(rare[i]);
        }
    }
    return NULL;
}

static struct result run_model(const struct shr_model *model, const struct test_case *k)
{
    SHR_EACH_NODE (node, &model->graph) {
        if (node->op == NULL) {
            return tell(SKIPPED, "no row for %s", node->op_type);
        }
    }
    struct shr_type types[MOST_TENSORS];
    for (size_t i = 0; i < k->n_in; i++) {
        types[i] = type_of(&k->in[i]);
    }
    struct result r = {PASSED, ""};
    for (int reference = 0; reference < 2 && r.outcome == PASSED; reference++) {
        struct shr_plan_opts opts = {
            .inputs = types, .no_fuse = reference != 0, .cpu_mask = reference != 0 ? ~0u : 0};
        struct shr_err err = {0};
        struct shr_plan *plan = NULL;
        int code = shr_plan_new(model, &opts, &plan, &err);
        if (code == SHR_ERR_UNSUPPORTED && strstr(err.msg, "does not run here") != NULL) {
            r = tell(SKIPPED, "in a subgraph: %s", err.msg);
        } else if (code == SHR_ERR_UNSUPPORTED && refused_type(&err) != NULL) {
            r = tell(SKIPPED, "%s", refused_type(&err));
        } else {
            r = code != SHR_OK ? tell(FAILED, "plan: %s", err.msg) : run_plan(plan, k);
        }
        shr_plan_free(plan);
    }
    return r;
}

static struct result run_case(const char *folder, const char *name)
{
    for (size_t i = 0; i < SHR_COUNT_OF(exceptions); i++) {
        if (fnmatch(exceptions[i].name, name, 0) == 0) {
            return tell(SKIPPED, "%s", exceptions[i].why);
        }
    }
    struct file onnx = {0}, tensors = {0};
    struct test_case k;
    struct shr_model *model = NULL;
    struct shr_err err = {0};
    struct result r;
    if (!read_file(folder, name, ".onnx", &onnx) || !read_file(folder, name, ".bin", &tensors) ||
        !take_case(&tensors, &k)) {
        r = tell(FAILED, "cannot read the case");
    } else if (shr_model_load(onnx.data, onnx.n, NULL, &model, &err) != SHR_OK) {
        r = err.code == SHR_ERR_UNSUPPORTED ? tell(SKIPPED, "load: %s", err.msg)
                                            : tell(FAILED, "load: %s", err.msg);
    } else {
        r = run_model(model, &k);
    }
    shr_model_free(model);
    free(onnx.data);
    free(tensors.data);
    return r;
}

int main(int argc, char **argv)
{
    struct file list = {0};
    if (argc != 2 || !read_file(argv[1], "cases", ".txt", &list)) {
        printf("Bail out! usage: run_cases FOLDER, with cases.txt in it\n");
        return 1;
    }
    list.data[list.n] = 0;
    size_t n = 0;
    bool failed = false;
    char *rest = NULL;
    for (char *line = strtok_r((char *)list.data, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        char *reason = strchr(line, '\t');
        struct result r;
        if (reason != NULL) {
            *reason++ = 0;
            r = tell(SKIPPED, "%s", reason);
        } else {
            r = run_case(argv[1], line);
        }
        failed = failed || r.outcome == FAILED;
        printf("%s %zu - %s%s%s\n", r.outcome == FAILED ? "not ok" : "ok", ++n, line,
               r.outcome == SKIPPED ? " # SKIP " : "", r.outcome == SKIPPED ? r.why : "");
        if (r.outcome == FAILED) {
            printf("# %s\n", r.why);
        }
        fflush(stdout);
    }
    printf("1..%zu\n", n);
    free(list.data);
    return failed ? 1 : 0;
}
