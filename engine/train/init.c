/* Fresh weights; see init.h. */
#include "train/init.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "ops/op.h"

struct init {
    struct shr_model *model;
    struct shr_rng rng;
    struct shr_map done; /* values that are new: some have several readers */
    size_t n;
};

void shr_init_uniform(float *x, size_t n, int64_t fan_in, struct shr_rng *rng)
{
    const double bound = fan_in > 0 ? 1 / sqrt((double)fan_in) : 0;
    for (size_t i = 0; i < n; i++) {
        x[i] = (float)((2 * shr_rng_uniform(rng) - 1) * bound);
    }
}

/* New data for a float32 initializer that has none yet: random, or a constant with fan_in 0. */
static int renew(struct init *s, struct shr_value *v, int64_t fan_in, float constant,
                 struct shr_err *err)
{
    if (!shr_value_is_constant(v) || v->constant.dtype != SHR_DTYPE_F32 ||
        shr_map_get(&s->done, v->name) != NULL) {
        return SHR_OK;
    }
    struct shr_tensor t;
    int rc = shr_tensor_new(SHR_DTYPE_F32, v->constant.rank, v->constant.dim, &t, err);
    if (rc != SHR_OK) {
        return rc;
    }
    float *x = t.data;
    const size_t n = (size_t)shr_tensor_count(&t);
    if (fan_in > 0) {
        shr_init_uniform(x, n, fan_in, &s->rng);
    }
    for (size_t i = 0; fan_in == 0 && i < n; i++) {
        x[i] = constant;
    }
    shr_value_set_constant(v, t);
    s->n++;
    return shr_map_put(&s->done, v->name, v, err);
}

/* How many inputs a product adds up for one output; 0 = not known. */
static int64_t fan_in(const struct shr_node *node, const struct shr_tensor *w)
{
    const int64_t count = shr_tensor_count(w);
    if (w->rank < 2 || count == 0) {
        return 0;
    }
    if (shr_node_is(node, "Gemm")) {
        return w->dim[shr_node_int(node, "transB", 0) != 0 ? 1 : 0];
    }
    return shr_node_is(node, "Conv") ? count / w->dim[0] : w->dim[w->rank - 2];
}

static int renew_product(struct init *s, const struct shr_node *node, struct shr_err *err)
{
    struct shr_value *w = shr_node_in(node, (size_t)node->op->weight_slot);
    const int64_t fan = shr_value_is_constant(w) ? fan_in(node, &w->constant) : 0;
    if (fan == 0) {
        return SHR_OK;
    }
    int rc = renew(s, w, fan, 0.0f, err);
    struct shr_value *bias =
        node->op->bias_slot < 0 ? NULL : shr_node_in(node, (size_t)node->op->bias_slot);
    if (bias == NULL && shr_node_is(node, "MatMul")) { /* added by the next node */
        struct shr_node *add = shr_value_single_use(shr_node_out(node, 0));
        for (size_t i = 0; shr_node_is(add, "Add") && i < 2; i++) {
            struct shr_value *v = shr_node_in(add, i);
            bias = shr_value_is_constant(v) && v->constant.rank == 1 ? v : bias;
        }
    }
    return rc == SHR_OK && bias != NULL ? renew(s, bias, fan, 0.0f, err) : rc;
}

static int renew_recurrent(struct init *s, const struct shr_node *node, struct shr_err *err)
{
    const int64_t hidden = shr_node_int(node, "hidden_size", 0);
    int rc = SHR_OK;
    for (size_t i = 1; i < 4 && rc == SHR_OK && hidden > 0; i++) { /* W, R, B */
        struct shr_value *v = shr_node_in(node, i);
        rc = v == NULL ? SHR_OK : renew(s, v, hidden, 0.0f, err);
    }
    return rc;
}

/* Scale 1 and shift 0, and of a BatchNormalization mean 0 and variance 1. */
static int renew_norm(struct init *s, const struct shr_node *node, struct shr_err *err)
{
    static const float VALUES[] = {0, 1, 0, 0, 1};
    int rc = SHR_OK;
    for (size_t i = 1; i < 5 && i < node->n_in && rc == SHR_OK; i++) {
        struct shr_value *v = shr_node_in(node, i);
        rc = v == NULL ? SHR_OK : renew(s, v, 0, VALUES[i], err);
    }
    return rc;
}

static bool is_one_of(const struct shr_node *node, const char *const *names)
{
    for (; *names != NULL; names++) {
        if (shr_node_is(node, *names)) {
            return true;
        }
    }
    return false;
}

static const char *const NORMS[] = {"BatchNormalization", "LayerNormalization",
                                    "InstanceNormalization", "GroupNormalization", NULL};

int shr_init_model(struct shr_model *model, uint64_t seed, size_t *ret_n, struct shr_err *err)
{
    static const char *const PRODUCTS[] = {"Gemm", "MatMul", "Conv", NULL};
    static const char *const RECURRENT[] = {"LSTM", "GRU", NULL};
    struct init s = {.model = model};
    int rc = SHR_OK;
    shr_rng_init(&s.rng, seed);
    for (struct shr_node *node = model->graph.first_node; node != NULL && rc == SHR_OK;
         node = node->next) {
        if (is_one_of(node, PRODUCTS)) {
            rc = renew_product(&s, node, err);
        } else if (is_one_of(node, RECURRENT)) {
            rc = renew_recurrent(&s, node, err);
        } else if (is_one_of(node, NORMS)) {
            rc = renew_norm(&s, node, err);
        }
    }
    shr_map_finish(&s.done);
    *ret_n = s.n;
    return rc;
}

static int untie(struct shr_graph *g, struct shr_node *node, size_t slot, struct shr_err *err)
{
    struct shr_value *v = shr_node_in(node, slot), *own;
    if (!shr_value_is_constant(v) || v->producer != NULL || v->n_uses < 2) {
        return SHR_OK;
    }
    int rc = shr_graph_add_constant(g, v->name, shr_tensor_ref(&v->constant), &own, err);
    if (rc == SHR_OK) {
        shr_node_set_input(node, slot, own);
    }
    return rc;
}

int shr_untie_norms(struct shr_model *model, struct shr_err *err)
{
    int rc = SHR_OK;
    for (struct shr_node *node = model->graph.first_node; node != NULL && rc == SHR_OK;
         node = node->next) {
        for (size_t i = 1; i < node->n_in && is_one_of(node, NORMS) && rc == SHR_OK; i++) {
            rc = untie(&model->graph, node, i, err);
        }
    }
    return rc;
}
