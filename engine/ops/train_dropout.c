/* Dropout in training: RandomMask (x, seed) -> y, x / (1 - ratio) or 0.
 *
 * Whether element i stays follows from the seed of the step, the attribute salt of the node and i
 * alone: the gradient is the same node applied to dy, and no mask is kept. */
#include "ops/util.h"

#include "ops/families.h"
#include "ops/grad.h"

enum { BLOCK = 16384 }; /* elements of a task */

/* Steele, Lea and Flood's SplitMix64 at a place of its sequence. */
static uint64_t random_at(uint64_t seed, uint64_t i)
{
    uint64_t z = seed + (i + 1) * UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

struct mask {
    const float *x;
    float *y, scale;
    uint64_t seed, least; /* of 32 random bits for an element to stay */
    size_t n;
};

static void mask_block(void *arg, size_t task, size_t worker)
{
    (void)worker;
    const struct mask *m = arg;
    const size_t from = task * BLOCK, to = m->n - from < BLOCK ? m->n : from + BLOCK;
    for (size_t i = from; i < to; i += 2) {
        const uint64_t bits = random_at(m->seed, i);
        m->y[i] = (bits & UINT32_MAX) >= m->least ? m->x[i] * m->scale : 0.0f;
        if (i + 1 < to) {
            m->y[i + 1] = bits >> 32 >= m->least ? m->x[i + 1] * m->scale : 0.0f;
        }
    }
}

static int mask_setup(struct shr_op_setup *c, struct shr_err *err)
{
    int code = shr_op_want(c, 0, SHR_BIT(F32), err);
    return code == SHR_OK ? shr_op_want(c, 1, SHR_BIT(I64), err) : code;
}

static int mask_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const double ratio = (double)shr_node_float(c->node, "ratio", 0.5f);
    const uint64_t salt = (uint64_t)shr_node_int(c->node, "salt", 0);
    struct mask m = {.x = c->in[0]->data,
                     .y = c->out[0]->data,
                     .scale = ratio >= 1 ? 0 : (float)(1 / (1 - ratio)),
                     .seed = random_at((uint64_t) * (const int64_t *)c->in[1]->data, salt),
                     .least = (uint64_t)(ratio * 4294967296.0),
                     .n = (size_t)shr_tensor_count(c->out[0])};
    shr_team_run(c->team, (m.n + BLOCK - 1) / BLOCK, mask_block, &m);
    return SHR_OK;
}

static const struct shr_op rows[] = {
    {.domain = SHR_TRAIN_DOMAIN,
     .name = "RandomMask",
     .since = 1,
     SHR_SLOTS(2, 2, 1, 1),
     .infer = shr_infer_same,
     .setup = mask_setup,
     .forward = mask_forward,
     SHR_NO_WEIGHT,
     .in_place = 1,
     .backward = shr_backward_random_mask},
};
const struct shr_op_family shr_ops_train_dropout = {rows, SHR_COUNT_OF(rows)};
