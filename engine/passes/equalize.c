/* Cross-layer equalization; see equalize.h.
 *
 * DESIGN: M. Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias
 * Correction" (2019). What is between two layers W1 and W2 is positively homogeneous, f(s x) =
 * s f(x) for s > 0: so channel i of W1 and its bias may be divided by s_i, and what W2 has for it
 * multiplied. s_i = sqrt(r1_i / r2_i), r being the largest |weight|, makes both ranges equal. A
 * layer in two pairs changes both, so all are gone over until the factors are near 1. */
#include "passes/equalize.h"

#include <math.h>

#include "base/mem.h"
#include "base/vec.h"
#include "passes/rescale.h"

enum { MOST_ROUNDS = 20 };
static const double CLOSE_ENOUGH = 0.01; /* of a factor to 1 */

struct pair {
    struct shr_node *first, *second;
    int64_t channels;       /* outputs of first */
    int64_t area;           /* inputs of second for each of them: more than one behind Flatten */
    double *moved;          /* (channels) by what was divided so far */
    double *range, *inputs; /* (channels), (channels * area): scratch */
};

struct pairs {
    SHR_VEC(struct pair) list;
};

static bool is_homogeneous(const struct shr_node *node)
{
    static const char *const ops[] = {"Relu",        "LeakyRelu",         "MaxPool",
                                      "AveragePool", "GlobalAveragePool", "GlobalMaxPool"};
    for (size_t i = 0; i < SHR_COUNT_OF(ops); i++) {
        if (shr_node_is(node, ops[i])) {
            return node->n_out == 1;
        }
    }
    return false;
}

/* The weighted node that alone reads what `first` writes; NULL when there is none. */
static struct shr_node *find_second(const struct shr_node *first, bool *ret_flat)
{
    const struct shr_value *v = shr_node_out(first, 0);
    *ret_flat = false;
    for (;;) {
        struct shr_node *reader = v->is_output || v->captured ? NULL : shr_edit_reader(v);
        bool flatten = shr_node_is(reader, "Flatten") && shr_node_int(reader, "axis", 1) == 1;
        if (reader == NULL || (!flatten && !is_homogeneous(reader))) {
            return reader != NULL && shr_node_in(reader, 0) == v ? reader : NULL;
        }
        *ret_flat = *ret_flat || flatten;
        v = shr_node_out(reader, 0);
    }
}

/* With what follows `first`, if that can be. */
static int add_pair(struct pairs *pairs, struct shr_node *first, struct shr_err *err)
{
    bool flat = false;
    struct shr_node *second =
        shr_rescale_obstacle(first) == NULL ? find_second(first, &flat) : NULL;
    if (second == NULL || shr_rescale_obstacle(second) != NULL) {
        return SHR_OK;
    }
    struct pair p = {first, second, .channels = shr_rescale_channels(first, SHR_SIDE_OUT)};
    const int64_t inputs = shr_rescale_channels(second, SHR_SIDE_IN);
    if (inputs % p.channels != 0 || (inputs != p.channels && !flat)) {
        return SHR_OK;
    }
    p.area = inputs / p.channels;
    struct pair *added = SHR_VEC_ADD(&pairs->list);
    if (added == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for pairs of layers");
    }
    *added = p;
    added->moved = shr_mem_new((size_t)p.channels, sizeof *p.moved);
    added->range = shr_mem_new((size_t)p.channels, sizeof *p.range);
    added->inputs = shr_mem_new((size_t)inputs, sizeof *p.inputs);
    if (added->moved == NULL || added->range == NULL || added->inputs == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for pairs of layers");
    }
    for (int64_t c = 0; c < p.channels; c++) {
        added->moved[c] = 1;
    }
    return SHR_OK;
}

static void finish_pairs(struct pairs *pairs)
{
    for (size_t i = 0; i < pairs->list.n; i++) {
        shr_mem_free(pairs->list.v[i].moved);
        shr_mem_free(pairs->list.v[i].range);
        shr_mem_free(pairs->list.v[i].inputs);
    }
    SHR_VEC_FINISH(&pairs->list);
}

/* p->range becomes 1/s for first, p->inputs s for second. Returns how far the factors are from 1.
 */
static double find_factors(struct pair *p)
{
    double farthest = 0;
    for (int64_t c = 0; c < p->channels; c++) {
        p->range[c] = 0;
    }
    for (int64_t k = 0; k < p->channels * p->area; k++) {
        p->inputs[k] = 0;
    }
    shr_rescale_ranges(p->first, SHR_SIDE_OUT, p->range);
    shr_rescale_ranges(p->second, SHR_SIDE_IN, p->inputs);
    for (int64_t c = 0; c < p->channels; c++) {
        double next = 0, *inputs = &p->inputs[c * p->area];
        for (int64_t a = 0; a < p->area; a++) {
            next = inputs[a] > next ? inputs[a] : next;
        }
        /* a dead channel has no range; float32 factors keep the weights where they are exact */
        double s = p->range[c] > 0 && next > 0 ? sqrt(p->range[c] / next) : 1;
        s = isfinite(s) && s > 1e-6 && s < 1e6 ? s : 1;
        for (int64_t a = 0; a < p->area; a++) {
            inputs[a] = s;
        }
        p->range[c] = 1 / s;
        p->moved[c] *= s;
        farthest = fmax(farthest, fabs(log(s)));
    }
    return farthest;
}

static int equalize_once(struct shr_graph *g, struct pairs *pairs, double *ret_farthest,
                         struct shr_err *err)
{
    double farthest = 0;
    for (size_t i = 0; i < pairs->list.n; i++) {
        struct pair *p = &pairs->list.v[i];
        const double change = find_factors(p);
        int code = change > 0 ? shr_rescale(g, p->first, SHR_SIDE_OUT, p->range, err) : SHR_OK;
        if (code == SHR_OK && change > 0) {
            code = shr_rescale(g, p->second, SHR_SIDE_IN, p->inputs, err);
        }
        if (code != SHR_OK) {
            return code;
        }
        farthest = fmax(farthest, change);
    }
    *ret_farthest = farthest;
    return SHR_OK;
}

static void tell(const struct pairs *pairs, struct shr_report *report)
{
    for (size_t i = 0; i < pairs->list.n; i++) {
        const struct pair *p = &pairs->list.v[i];
        char first[128], second[128];
        double least = INFINITY, most = 0;
        for (int64_t c = 0; c < p->channels; c++) {
            least = fmin(least, p->moved[c]);
            most = fmax(most, p->moved[c]);
        }
        struct shr_note *note =
            shr_report_note(report, SHR_NOTE_DONE, shr_node_label(p->first, first, sizeof first),
                            "channels equalized with those of %s",
                            shr_node_label(p->second, second, sizeof second));
        shr_note_figure(note, "divided_by_min", least);
        shr_note_figure(note, "divided_by_max", most);
    }
    if (pairs->list.n == 0) {
        shr_report_note(
            report, SHR_NOTE_WARNING, "",
            "nothing was equalized: no two layers follow each other directly or through "
            "Relu, LeakyRelu or pooling");
    }
}

int shr_equalize(struct shr_model *model, struct shr_report *report, struct shr_err *err)
{
    struct pairs pairs = {0};
    int code = SHR_OK;
    SHR_EACH_NODE (node, &model->graph) {
        code = code == SHR_OK ? add_pair(&pairs, node, err) : code;
    }
    double farthest = INFINITY;
    for (int round = 0; code == SHR_OK && round < MOST_ROUNDS && farthest > CLOSE_ENOUGH; round++) {
        code = equalize_once(&model->graph, &pairs, &farthest, err);
    }
    if (code == SHR_OK) {
        tell(&pairs, report);
    }
    finish_pairs(&pairs);
    return code;
}
