/* shrinkctl run: the outputs as a table, times and the profile.
 *
 * A time is the median of rounds; a round is a loop of runs that is long enough for the clock. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "run.h"

double run_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* ── Outputs ────────────────────────────────────────────────────────────────────────────────── */

enum { TOP = 5, FEWEST_CLASSES = 3 };

struct summary {
    double min, max, mean;
    int64_t n, odd; /* elements; of them infinite or not a number */
};

static double element(const struct shr_view *v, int64_t i)
{
    switch (v->dtype) {
    case SHR_DTYPE_F32:
        return (double)((const float *)v->data)[i];
    case SHR_DTYPE_F64:
        return ((const double *)v->data)[i];
    case SHR_DTYPE_I64:
        return (double)((const int64_t *)v->data)[i];
    case SHR_DTYPE_U64:
        return (double)((const uint64_t *)v->data)[i];
    case SHR_DTYPE_I32:
        return ((const int32_t *)v->data)[i];
    case SHR_DTYPE_U32:
        return ((const uint32_t *)v->data)[i];
    case SHR_DTYPE_I16:
        return ((const int16_t *)v->data)[i];
    case SHR_DTYPE_U16:
        return ((const uint16_t *)v->data)[i];
    case SHR_DTYPE_I8:
        return ((const int8_t *)v->data)[i];
    case SHR_DTYPE_U8:
    case SHR_DTYPE_BOOL:
        return ((const uint8_t *)v->data)[i];
    default: /* half precision is shown by its shape only */
        return NAN;
    }
}

static int64_t count_of(const struct shr_view *v)
{
    int64_t n = 1;
    for (int d = 0; d < v->rank; d++) {
        n *= v->dim[d];
    }
    return n;
}

static struct summary summarize(const struct shr_view *v)
{
    struct summary s = {.min = INFINITY, .max = -INFINITY, .n = count_of(v)};
    double sum = 0;
    for (int64_t i = 0; i < s.n; i++) {
        const double x = element(v, i);
        if (!isfinite(x)) {
            s.odd++;
            continue;
        }
        s.min = fmin(s.min, x);
        s.max = fmax(s.max, x);
        sum += x;
    }
    s.mean = sum / (double)(s.n - s.odd);
    return s;
}

static const char *shape_text(const struct shr_view *v, char *text, size_t size)
{
    size_t used = (size_t)snprintf(text, size, "[");
    for (int d = 0; d < v->rank && used < size; d++) {
        used += (size_t)snprintf(text + used, size - used, "%s%lld", d == 0 ? "" : ", ",
                                 (long long)v->dim[d]);
    }
    if (used < size) {
        snprintf(text + used, size - used, "]");
    }
    return text;
}

/* A row of scores a sample: the outputs of a classifier. */
static bool is_scores(const struct shr_view *v)
{
    return v->dtype == SHR_DTYPE_F32 && v->rank == 2 && v->dim[0] >= 1 &&
           v->dim[1] >= FEWEST_CLASSES;
}

/* The largest of the first row, best first; returns how many. */
static int find_top(const struct shr_view *v, int64_t top[TOP])
{
    int n = 0;
    for (int64_t i = 0; i < v->dim[1]; i++) {
        int at = n < TOP ? n++ : TOP;
        while (at > 0 && element(v, i) > element(v, top[at - 1])) {
            if (at < TOP) {
                top[at] = top[at - 1];
            }
            at--;
        }
        if (at < TOP) {
            top[at] = i;
        }
    }
    return n;
}

static void print_top(const struct shr_view *v)
{
    int64_t top[TOP] = {0};
    const int n = find_top(v, top);
    printf("\n%s, first row: ", v->name);
    for (int i = 0; i < n; i++) {
        printf("%s%lld (%.6g)", i == 0 ? "" : ", ", (long long)top[i], element(v, top[i]));
    }
    putchar('\n');
}

static json_t *output_json(const struct shr_view *v, const struct summary *s)
{
    json_t *dims = json_array();
    for (int d = 0; d < v->rank; d++) {
        json_array_append_new(dims, json_integer(v->dim[d]));
    }
    json_t *output = json_pack("{s:s, s:s, s:o}", "name", v->name, "dtype",
                               shr_dtype_name(v->dtype), "shape", dims);
    if (s->n > s->odd) {
        json_object_set_new(output, "min", json_real(s->min));
        json_object_set_new(output, "max", json_real(s->max));
        json_object_set_new(output, "mean", json_real(s->mean));
    }
    json_object_set_new(output, "not_finite", json_integer(s->odd));
    if (is_scores(v)) {
        int64_t top[TOP] = {0};
        const int n = find_top(v, top);
        json_t *list = json_array();
        for (int i = 0; i < n; i++) {
            json_array_append_new(list, json_integer(top[i]));
        }
        json_object_set_new(output, "top", list);
    }
    return output;
}

static void add_number(struct cli_table *table, double x, bool known)
{
    char text[32];
    snprintf(text, sizeof text, "%.6g", x);
    cli_table_add(table, known ? text : NULL, true);
}

static void add_row(struct cli_table *table, const struct shr_view *v, const struct summary *s)
{
    char text[160];
    cli_table_add(table, v->name, false);
    cli_table_add(table, shr_dtype_name(v->dtype), false);
    cli_table_add(table, shape_text(v, text, sizeof text), false);
    add_number(table, s->min, s->n > s->odd);
    add_number(table, s->max, s->n > s->odd);
    add_number(table, s->mean, s->n > s->odd);
}

static void add_head(struct cli_table *table, const char *const *head, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        cli_table_add(table, head[i], false);
    }
}

void run_print_outputs(const struct run *r)
{
    static const char *const head[] = {"OUTPUT", "TYPE", "SHAPE", "MIN", "MAX", "MEAN"};
    json_t *list = json_array();
    struct cli_table *table = cli_table_new(SHR_COUNT_OF(head));
    add_head(table, head, SHR_COUNT_OF(head));
    const size_t n = shr_session_output_count(r->session);
    for (size_t i = 0; i < n; i++) {
        const struct shr_view v = shr_session_output(r->session, i);
        const struct summary s = summarize(&v);
        add_row(table, &v, &s);
        json_array_append_new(list, output_json(&v, &s));
    }
    if (r->report != NULL) {
        json_object_set(r->report, "outputs", list);
    } else {
        cli_table_print(table, stdout);
        for (size_t i = 0; i < n; i++) {
            const struct shr_view v = shr_session_output(r->session, i);
            if (is_scores(&v)) {
                print_top(&v);
            }
        }
    }
    json_decref(list);
    cli_table_free(table);
}

/* ── Times ──────────────────────────────────────────────────────────────────────────────────── */

enum { FEWEST_ROUNDS = 15, MOST_ROUNDS = 10000 };
static const double SHORTEST_ROUND = 1e-3;

static int compare_doubles(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile(const double *sorted, size_t n, double q)
{
    return sorted[(size_t)(q * (double)(n - 1) + 0.5)];
}

static int failed(const struct run *r, const char *why)
{
    cli_error("%s: %s", r->path, why);
    return CLI_LOCAL;
}

/* Seconds of one run, measured over a loop of them. */
static int time_round(const struct run *r, int64_t loop, double *ret)
{
    struct shr_err err = {0};
    const double begin = run_seconds();
    for (int64_t i = 0; i < loop; i++) {
        if (shr_session_run(r->session, &r->ctx, &err) != 0) {
            return failed(r, err.msg);
        }
    }
    *ret = (run_seconds() - begin) / (double)loop;
    return CLI_OK;
}

static int time_rounds(const struct run *r, double *times, size_t *ret_n)
{
    double one = 0;
    int64_t loop = 1;
    int code = time_round(r, 1, &one);
    for (; code == CLI_OK && one * (double)loop < SHORTEST_ROUND; loop *= 2) {
        code = time_round(r, loop, &one);
    }
    const double begin = run_seconds();
    size_t n = 0;
    while (code == CLI_OK && n < MOST_ROUNDS &&
           (n < FEWEST_ROUNDS || run_seconds() - begin < r->seconds)) {
        code = time_round(r, loop, &times[n++]);
    }
    *ret_n = n;
    return code;
}

int run_print_times(const struct run *r)
{
    size_t n = 0;
    double *times = malloc(MOST_ROUNDS * sizeof *times);
    int code = times == NULL ? failed(r, "out of memory") : time_rounds(r, times, &n);
    if (code == CLI_OK) {
        qsort(times, n, sizeof *times, compare_doubles);
        const double median = quantile(times, n, 0.5) * 1e3, low = quantile(times, n, 0.1) * 1e3,
                     high = quantile(times, n, 0.9) * 1e3;
        const size_t values = shr_session_value_bytes(r->session),
                     weights = shr_session_weight_bytes(r->session);
        if (r->report != NULL) {
            json_object_set_new(r->report, "time",
                                json_pack("{s:f, s:f, s:f, s:I, s:f, s:f, s:I, s:I}", "median_ms",
                                          median, "p10_ms", low, "p90_ms", high, "rounds",
                                          (json_int_t)n, "load_ms", r->load_seconds * 1e3,
                                          "plan_ms", r->plan_seconds * 1e3, "value_bytes",
                                          (json_int_t)values, "weight_bytes", (json_int_t)weights));
        } else {
            char a[32], b[32];
            printf("\n%.4g ms a run: median of %zu rounds, 10 %% to 90 %% are %.4g to %.4g ms\n",
                   median, n, low, high);
            printf("%.4g ms to load, %.4g ms to plan; %s of values, %s of weights\n",
                   r->load_seconds * 1e3, r->plan_seconds * 1e3,
                   cli_bytes((double)values, a, sizeof a), cli_bytes((double)weights, b, sizeof b));
        }
    }
    free(times);
    return code;
}

/* ── Profile ────────────────────────────────────────────────────────────────────────────────── */

struct profile {
    size_t steps, rounds;
    double *medians; /* [steps], seconds */
    double total;
};

static int profile_rounds(const struct run *r, uint64_t *ns, struct profile *p)
{
    struct shr_err err = {0};
    const double begin = run_seconds();
    while (p->rounds < FEWEST_ROUNDS ||
           (p->rounds < MOST_ROUNDS / 10 && run_seconds() - begin < r->seconds)) {
        if (shr_session_run_timed(r->session, &r->ctx, ns + p->rounds * p->steps, &err) != 0) {
            return failed(r, err.msg);
        }
        p->rounds++;
    }
    return CLI_OK;
}

static void take_medians(const uint64_t *ns, double *column, struct profile *p)
{
    for (size_t s = 0; s < p->steps; s++) {
        for (size_t i = 0; i < p->rounds; i++) {
            column[i] = (double)ns[i * p->steps + s];
        }
        qsort(column, p->rounds, sizeof *column, compare_doubles);
        p->medians[s] = quantile(column, p->rounds, 0.5) * 1e-9;
        p->total += p->medians[s];
    }
}

static int make_profile(const struct run *r, struct profile *p)
{
    p->steps = shr_session_step_count(r->session);
    uint64_t *ns = calloc(MOST_ROUNDS / 10, (p->steps + 1) * sizeof *ns);
    double *column = calloc(MOST_ROUNDS / 10, sizeof *column);
    p->medians = calloc(p->steps + 1, sizeof *p->medians);
    int code = ns == NULL || column == NULL || p->medians == NULL ? failed(r, "out of memory")
                                                                  : profile_rounds(r, ns, p);
    if (code == CLI_OK) {
        take_medians(ns, column, p);
    }
    free(ns);
    free(column);
    return code;
}

static void print_steps(const struct run *r, const struct profile *p)
{
    static const char *const head[] = {"MS", "SHARE", "OPERATOR", "KERNEL", "NODE"};
    struct cli_table *table = cli_table_new(SHR_COUNT_OF(head));
    add_head(table, head, SHR_COUNT_OF(head));
    for (size_t i = 0; i < p->steps; i++) {
        const struct shr_step_info step = shr_session_step(r->session, i);
        char ms[32], share[32];
        snprintf(ms, sizeof ms, "%.5f", p->medians[i] * 1e3);
        snprintf(share, sizeof share, "%.1f %%", 100 * p->medians[i] / p->total);
        cli_table_add(table, ms, true);
        cli_table_add(table, share, true);
        cli_table_add(table, step.op, false);
        cli_table_add(table, step.kernel, false);
        cli_table_add(table, step.node, false);
    }
    putchar('\n');
    cli_table_print(table, stdout);
    printf("%zu steps, %.4g ms in all: medians of %zu rounds\n", p->steps, p->total * 1e3,
           p->rounds);
    cli_table_free(table);
}

static json_t *steps_json(const struct run *r, const struct profile *p)
{
    json_t *list = json_array();
    for (size_t i = 0; i < p->steps; i++) {
        const struct shr_step_info step = shr_session_step(r->session, i);
        json_array_append_new(list,
                              json_pack("{s:s, s:s, s:s?, s:f, s:f}", "operator", step.op, "node",
                                        step.node, "kernel", step.kernel, "ms", p->medians[i] * 1e3,
                                        "share", p->medians[i] / p->total));
    }
    return list;
}

int run_print_profile(const struct run *r)
{
    struct profile p = {0};
    int code = make_profile(r, &p);
    if (code == CLI_OK && r->report != NULL) {
        json_object_set_new(r->report, "profile", steps_json(r, &p));
    } else if (code == CLI_OK) {
        print_steps(r, &p);
    }
    free(p.medians);
    return code;
}
