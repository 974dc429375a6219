/* Helpers of the rows; see op.h and util.h. Checks and inference rules; walks are in walk.c. */
#include "ops/util.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int shr_op_fail(const struct shr_node *node, struct shr_err *err, int code, const char *format, ...)
{
    char text[SHR_ERR_MESSAGE_SIZE], label[128];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (node->name == NULL || node->name[0] == 0) { /* its label begins with the op type */
        return shr_err_set(err, code, "%s: %s", shr_node_label(node, label, sizeof label), text);
    }
    return shr_err_set(err, code, "%s '%s': %s", node->op_type,
                       shr_node_label(node, label, sizeof label), text);
}

const char *shr_op_in_name(const struct shr_node *node, size_t slot)
{
    const struct shr_value *v = shr_node_in(node, slot);
    return v == NULL ? "" : v->name;
}

bool shr_op_has_in(const struct shr_infer *c, size_t slot)
{
    return slot < c->n_in && c->node->in[slot].value != NULL;
}

int shr_op_want(const struct shr_op_setup *c, size_t slot, unsigned dtypes, struct shr_err *err)
{
    if (slot >= c->n_in || c->in[slot] == NULL || (dtypes >> c->in[slot]->dtype & 1u) != 0) {
        return SHR_OK;
    }
    return shr_op_fail(c->node, err, SHR_ERR_UNSUPPORTED, "cannot run with input '%s' of type %s",
                       shr_op_in_name(c->node, slot), shr_dtype_name(c->in[slot]->dtype));
}

int shr_op_setup_f32(struct shr_op_setup *c, struct shr_err *err)
{
    for (size_t i = 0; i < c->n_in; i++) {
        int code = shr_op_want(c, i, SHR_BIT(F32), err);
        if (code != SHR_OK) {
            return code;
        }
    }
    return SHR_OK;
}

int shr_op_setup_move(struct shr_op_setup *c, struct shr_err *err)
{
    return shr_op_want(c, 0, SHR_FIXED_SIZE, err);
}

int shr_op_same_dtype(const struct shr_infer *c, size_t a, size_t b, struct shr_err *err)
{
    if (c->in[a].dtype == SHR_DTYPE_NONE || c->in[b].dtype == SHR_DTYPE_NONE ||
        c->in[a].dtype == c->in[b].dtype) {
        return SHR_OK;
    }
    return shr_op_fail(c->node, err, SHR_ERR_INVALID, "input '%s' is %s, but input '%s' is %s",
                       shr_op_in_name(c->node, a), shr_dtype_name(c->in[a].dtype),
                       shr_op_in_name(c->node, b), shr_dtype_name(c->in[b].dtype));
}

int shr_op_axis(const struct shr_node *node, const char *what, int64_t axis, int rank, int *ret,
                struct shr_err *err)
{
    if (axis < -rank || axis >= rank) {
        return shr_op_fail(node, err, SHR_ERR_INVALID, "%s %lld is not in [%d, %d]", what,
                           (long long)axis, -rank, rank - 1);
    }
    *ret = (int)(axis < 0 ? axis + rank : axis);
    return SHR_OK;
}

int shr_op_ints(const struct shr_node *node, const char *what, const struct shr_tensor *t,
                int64_t *values, size_t max, size_t *ret_n, struct shr_err *err)
{
    if (t->dtype != SHR_DTYPE_I64 && t->dtype != SHR_DTYPE_I32) {
        return shr_op_fail(node, err, SHR_ERR_INVALID, "%s must be int64 or int32, not %s", what,
                           shr_dtype_name(t->dtype));
    }
    int64_t n = shr_tensor_count(t);
    if (t->rank > 1 || n > (int64_t)max) {
        return shr_op_fail(node, err, SHR_ERR_INVALID,
                           "%s must be a list of at most %zu integers, not rank %d with %lld", what,
                           max, t->rank, (long long)n);
    }
    for (int64_t i = 0; i < n; i++) {
        values[i] = t->dtype == SHR_DTYPE_I64 ? ((const int64_t *)t->data)[i]
                                              : ((const int32_t *)t->data)[i];
    }
    *ret_n = (size_t)n;
    return SHR_OK;
}

static int list_from_attr(const struct shr_node *node, const char *attr, struct shr_int_list *ret,
                          struct shr_err *err)
{
    size_t n = 0;
    const int64_t *v = attr == NULL ? NULL : shr_node_ints(node, attr, &n);
    if (v == NULL) {
        return SHR_OK;
    }
    if (n > SHR_LIST_MAX) {
        return shr_op_fail(node, err, SHR_ERR_INVALID, "attribute %s has %zu values, at most %d",
                           attr, n, SHR_LIST_MAX);
    }
    ret->given = ret->known = true;
    ret->n = n;
    memcpy(ret->v, v, n * sizeof *v);
    return SHR_OK;
}

int shr_op_list_infer(const struct shr_infer *c, const char *attr, size_t slot,
                      struct shr_int_list *ret, struct shr_err *err)
{
    *ret = (struct shr_int_list){0};
    if (!shr_op_has_in(c, slot)) {
        return list_from_attr(c->node, attr, ret, err);
    }
    ret->given = true;
    if (c->in_data[slot] == NULL) {
        return SHR_OK;
    }
    ret->known = true;
    return shr_op_ints(c->node, shr_op_in_name(c->node, slot), c->in_data[slot], ret->v,
                       SHR_LIST_MAX, &ret->n, err);
}

int shr_op_list_call(const struct shr_op_call *c, const char *attr, size_t slot,
                     struct shr_int_list *ret, struct shr_err *err)
{
    *ret = (struct shr_int_list){0};
    if (slot >= c->n_in || c->in[slot] == NULL) {
        return list_from_attr(c->node, attr, ret, err);
    }
    ret->given = ret->known = true;
    return shr_op_ints(c->node, shr_op_in_name(c->node, slot), c->in[slot], ret->v, SHR_LIST_MAX,
                       &ret->n, err);
}

int shr_op_axes_mask(const struct shr_node *node, const struct shr_int_list *axes, int rank,
                     unsigned *ret, struct shr_err *err)
{
    unsigned mask = 0;
    for (size_t i = 0; i < axes->n; i++) {
        int axis = 0;
        int code = shr_op_axis(node, "axis", axes->v[i], rank, &axis, err);
        if (code != SHR_OK) {
            return code;
        }
        if ((mask >> axis & 1u) != 0) {
            return shr_op_fail(node, err, SHR_ERR_INVALID, "axis %d is given twice", axis);
        }
        mask |= 1u << axis;
    }
    *ret = mask;
    return SHR_OK;
}

void shr_type_unknown(struct shr_type *t)
{
    *t = (struct shr_type){.rank = -1};
}

void shr_type_set_dim(struct shr_type *t, int i, int64_t n, const char *sym)
{
    t->dim[i] = n < 0 ? -1 : n;
    t->sym[i] = n < 0 ? sym : NULL;
}

void shr_type_copy_dim(struct shr_type *t, int i, const struct shr_type *from, int from_i)
{
    t->dim[i] = from->dim[from_i];
    t->sym[i] = from->sym[from_i];
}

void shr_type_copy_shape(struct shr_type *to, const struct shr_type *from)
{
    to->rank = from->rank;
    memcpy(to->dim, from->dim, sizeof to->dim);
    memcpy(to->sym, from->sym, sizeof to->sym);
}

/* One dim of a broadcast: 1 gives way; a number wins over a symbol; equal symbols stay. */
static bool broadcast_dim(struct shr_type *to, int i, int64_t n, const char *sym)
{
    int64_t have = to->dim[i];
    if (n == 1 || (have == n && n >= 0)) {
        return true;
    }
    if (have == 1 || (have < 0 && n >= 0)) {
        shr_type_set_dim(to, i, n, sym);
        return true;
    }
    if (have < 0 && n < 0) {
        bool same = sym != NULL && to->sym[i] != NULL && strcmp(sym, to->sym[i]) == 0;
        to->sym[i] = same ? sym : NULL;
        return true;
    }
    return n < 0;
}

int shr_type_broadcast(const struct shr_node *node, struct shr_type *to,
                       const struct shr_type *from, struct shr_err *err)
{
    if (to->rank < 0 || from->rank < 0) {
        to->rank = -1;
        return SHR_OK;
    }
    struct shr_type wide = *(to->rank >= from->rank ? to : from);
    const struct shr_type *narrow = to->rank >= from->rank ? from : to;
    for (int i = 0; i < narrow->rank; i++) {
        int j = wide.rank - narrow->rank + i;
        if (!broadcast_dim(&wide, j, narrow->dim[i], narrow->sym[i])) {
            char a[96], b[96];
            return shr_op_fail(node, err, SHR_ERR_INVALID, "shapes %s and %s do not broadcast",
                               shr_dims_text(to->rank, to->dim, a, sizeof a),
                               shr_dims_text(from->rank, from->dim, b, sizeof b));
        }
    }
    shr_type_copy_shape(to, &wide);
    return SHR_OK;
}

int shr_broadcast_types(const struct shr_infer *c, size_t a, size_t b, struct shr_type *ret,
                        struct shr_err *err)
{
    struct shr_type t = c->in[a];
    int code = shr_type_broadcast(c->node, &t, &c->in[b], err);
    if (code == SHR_OK) {
        *ret = t;
    }
    return code;
}

int shr_infer_dims(struct shr_infer *c, struct shr_err *err)
{
    size_t n = 0;
    int64_t count;
    const int64_t *dim = shr_node_ints(c->node, "dims", &n);
    if (n > SHR_MAX_RANK || !shr_dims_count((int)n, dim, &count)) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID, "dims is not a shape");
    }
    c->out[0].dtype = c->in[0].dtype;
    c->out[0].rank = (int)n;
    for (size_t i = 0; i < n; i++) {
        shr_type_set_dim(&c->out[0], (int)i, dim[i], NULL);
    }
    return SHR_OK;
}

int shr_infer_same(struct shr_infer *c, struct shr_err *err)
{
    (void)err;
    c->out[0] = c->in[0];
    return SHR_OK;
}

int shr_infer_broadcast(struct shr_infer *c, struct shr_err *err)
{
    struct shr_type t = c->in[0];
    for (size_t i = 1; i < c->n_in; i++) {
        int code = shr_op_same_dtype(c, 0, i, err);
        if (code == SHR_OK) {
            code = shr_type_broadcast(c->node, &t, &c->in[i], err);
        }
        if (code != SHR_OK) {
            return code;
        }
        if (t.dtype == SHR_DTYPE_NONE) {
            t.dtype = c->in[i].dtype;
        }
    }
    c->out[0] = t;
    return SHR_OK;
}

int64_t shr_dims_product(const int64_t *dim, int from, int to)
{
    int64_t n = 1;
    for (int i = from; i < to; i++) {
        n *= dim[i];
    }
    return n;
}

int64_t shr_op_macs(const struct shr_type *out, int n, const int64_t *dim)
{
    int64_t elements, each;
    if (!shr_dims_count(out->rank, out->dim, &elements) || !shr_dims_count(n, dim, &each) ||
        (each > 0 && elements > INT64_MAX / each)) {
        return -1;
    }
    return elements * each;
}

/* ── Elements ───────────────────────────────────────────────────────────────────────────────── */

enum { BLOCK = 4096 }; /* elements of a task */

struct act_work {
    const struct shr_op_call *call;
    enum shr_act act;
    float lo, hi;
    size_t n;
};

static void act_block(void *arg, size_t task, size_t worker)
{
    (void)worker;
    const struct act_work *w = arg;
    const size_t at = task * BLOCK, n = w->n - at < BLOCK ? w->n - at : BLOCK;
    w->call->kernels->act_f32(n, (const float *)w->call->in[0]->data + at, w->act, w->lo, w->hi,
                              (float *)w->call->out[0]->data + at);
}

void shr_op_act(const struct shr_op_call *c, enum shr_act act, float lo, float hi)
{
    struct act_work w = {c, act, lo, hi, (size_t)shr_tensor_count(c->in[0])};
    shr_team_run(c->team, (w.n + BLOCK - 1) / BLOCK, act_block, &w);
}
