/* Fused elementwise steps of float32: activations, and a scale and shift a channel; see fuse.h.
 * Work is split into blocks that stay in the cache. */
#include "exec/fused.h"

enum { BLOCK = 4096 }; /* elements of a task, about */

struct elements {
    const struct shr_kernels *kernels;
    struct shr_scale_f32 p; /* of a scale: all rows of channels, or with c = 1 pixels of a plane */
    size_t n;               /* elements */
    size_t planes;          /* NCHW: channels of all images, else 0 */
    const float *x;
    float *y;
};

static int act_setup(struct shr_op_setup *c, struct shr_err *err)
{
    struct shr__act act = shr__fuse_act_of(c->node);
    struct elements *e = NULL;
    int rc = shr__fused_memory(c, 1, sizeof *e, &e, err);
    if (rc != 0) {
        return rc;
    }
    const struct shr_tensor *x = c->in[0];
    *e = (struct elements){.kernels = c->kernels, .n = (size_t)shr_tensor_count(x)};
    e->p.act = act.kind;
    e->p.act_lo = act.lo;
    e->p.act_hi = act.hi;
    if (c->n_in > 1) {
        e->p.scale = c->in[1]->data;
        e->p.bias = c->in[2]->data;
        e->p.c = (size_t)shr_tensor_count(c->in[1]);
        e->p.rows = e->p.c == 0 ? 0 : e->n / e->p.c;
        bool rows = x->rank == 2 || shr_node_int(c->node, "nhwc", 0) != 0;
        e->planes = rows ? 0 : (size_t)x->dim[0] * e->p.c;
    }
    c->state = e;
    return SHR_OK;
}

static int act_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const struct elements *e = c->state;
    shr_op_act(c, e->p.act, e->p.act_lo, e->p.act_hi);
    return SHR_OK;
}

const struct shr_op shr__fused_activation = {SHR__FUSED_ROW("Activation"), .setup = act_setup,
                                             .forward = act_forward, .in_place = 1};

/* ── Scale and shift ────────────────────────────────────────────────────────────────────────── */

static size_t rows_of_task(const struct elements *e)
{
    return e->p.c >= BLOCK ? 1 : BLOCK / e->p.c;
}

/* Some rows of channels. */
static void affine_rows(void *arg, size_t task, size_t worker)
{
    (void)worker;
    const struct elements *e = arg;
    const size_t rows = rows_of_task(e), first = task * rows;
    struct shr_scale_f32 p = e->p;
    p.rows = p.rows - first < rows ? p.rows - first : rows;
    e->kernels->scale_f32(&p, e->x + first * p.c, e->y + first * p.c);
}

/* One channel of an image, NCHW. */
static void affine_plane(void *arg, size_t task, size_t worker)
{
    (void)worker;
    const struct elements *e = arg;
    const size_t n = e->n / e->planes, c = task % e->p.c;
    const float *x = e->x + task * n;
    float *y = e->y + task * n;
    for (size_t i = 0; i < n; i++) {
        y[i] = x[i] * e->p.scale[c] + e->p.bias[c];
    }
    if (e->p.act != SHR_ACT_NONE) {
        e->kernels->act_f32(n, y, e->p.act, e->p.act_lo, e->p.act_hi, y);
    }
}

static int affine_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    struct elements e = *(const struct elements *)c->state;
    e.x = c->in[0]->data;
    e.y = c->out[0]->data;
    if (e.n == 0) {
        return SHR_OK;
    }
    if (e.planes > 0) {
        shr_team_run(c->team, e.planes, affine_plane, &e);
    } else {
        size_t rows = rows_of_task(&e);
        shr_team_run(c->team, (e.p.rows + rows - 1) / rows, affine_rows, &e);
    }
    return SHR_OK;
}

const struct shr_op shr__fused_affine = {SHR__FUSED_ROW("ScaleShift"), .setup = act_setup,
                                         .forward = affine_forward, .in_place = 1};
