/* The metric table, and the list of metrics that a measurement fills; see shrink.h. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/vec.h"
#include "eval/eval.h"

/* Names that end in _ms, speedup… and throughput are stems: "_b64" follows for batch 64.
 * The unit "%" means a fraction that tables show times 100. */
static const struct shr_metric_info METRICS[] = {
    {"size_bytes", "Size", "B", -1, "Bytes of the ONNX file as saved", .headline = true},
    {"gzip_bytes", "Gzip", "B", -1, "Bytes of the file after gzip -6", .headline = true},
    {"compression", "Compression", "x", 1, "Bytes of the original file / bytes of this one",
     .headline = true},
    {"parameters", "Parameters", "", 0,
     "Elements of weights and biases, float or quantized; scales and zero points do not count"},
    {"nonzero_parameters", "Non-zero", "", -1,
     "Parameters that are not zero; of a quantized tensor, not its zero point", .headline = true},
    {"sparsity", "Sparsity", "%", 0, "Share of the parameters that is zero", .headline = true},
    {"macs", "MACs", "", -1, "Multiply-accumulates of one sample, zeros included"},
    {"accuracy", "Accuracy", "%", 1, "Share of samples whose largest output is their label",
     .of_data = true, .headline = true},
    {"top5_accuracy", "Top-5", "%", 1, "Share of samples whose label is among the five largest",
     .of_data = true},
    {"agreement", "Agreement", "%", 1,
     "Share of samples whose largest output is that of the original model", .of_data = true,
     .headline = true},
    {"sqnr_db", "SQNR", "dB", 1,
     "Energy of the original's outputs / energy of the difference to them", .of_data = true},
    {"latency_ms", "Latency", "ms", -1, "Median time of one run", .headline = true},
    {"latency_p95_ms", "Latency p95", "ms", -1, "95th percentile of the time of one run"},
    {"speedup", "Speed-up", "x", 1,
     "Median of time of the original / time of this, timed in turn in one process",
     .headline = true},
    {"speedup_low", "Speed-up low", "x", 1, "Lower end of the speed-up's 95 % interval"},
    {"speedup_high", "Speed-up high", "x", 1, "Upper end of the speed-up's 95 % interval"},
    {"throughput", "Throughput", "1/s", 1, "Samples a second at the median latency"},
    {"peak_memory_bytes", "Memory", "B", -1,
     "Bytes that a run at batch 1 holds: intermediate values, scratch and weights as prepared"},
};

size_t shr_metric_count(void)
{
    return SHR_COUNT_OF(METRICS);
}

const struct shr_metric_info *shr_metric_at(size_t i)
{
    return i < SHR_COUNT_OF(METRICS) ? &METRICS[i] : NULL;
}

static SHR_PRINTF(2, 0) struct shr_metric *add(struct shr_metrics *m, const char *name,
                                               va_list args)
{
    bool failed = false;
    m->v = shr_vec_grow(m->v, &m->n, &m->cap, sizeof *m->v, &failed);
    if (failed) {
        return NULL;
    }
    struct shr_metric *metric = &m->v[m->n - 1];
    vsnprintf(metric->name, sizeof metric->name, name, args);
    return metric;
}

int shr__metric_set(struct shr_metrics *m, double value, struct shr_err *err, const char *name, ...)
{
    va_list args;
    va_start(args, name);
    struct shr_metric *metric = add(m, name, args);
    va_end(args);
    if (metric == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for a metric");
    }
    metric->value = value;
    metric->measured = true;
    return SHR_OK;
}

int shr__metric_miss(struct shr_metrics *m, const char *why, struct shr_err *err, const char *name,
                     ...)
{
    va_list args;
    va_start(args, name);
    struct shr_metric *metric = add(m, name, args);
    va_end(args);
    if (metric == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for a metric");
    }
    snprintf(metric->why, sizeof metric->why, "%s", why);
    return SHR_OK;
}

const struct shr_metric *shr_metrics_find(const struct shr_metrics *m, const char *name)
{
    for (size_t i = 0; i < m->n; i++) {
        if (strcmp(m->v[i].name, name) == 0) {
            return &m->v[i];
        }
    }
    return NULL;
}

void shr_metrics_finish(struct shr_metrics *m)
{
    shr_mem_free(m->v);
    *m = (struct shr_metrics){0};
}
