/* Where the values of a plan lie: one arena, shared by lifetime.
 *
 * DESIGN. The steps are walked once. A value takes the smallest hole that holds it when its
 * producer comes (best fit) and gives it back after its last reader; the arena ends where the
 * highest value ended. An elementwise step may write over an input when it is the last reader.
 * Inputs, outputs and kept values never share, so that they hold after the run. Every place is a
 * multiple of SHR_MEM_ALIGN. */
#include <string.h>

#include "exec/step.h"

struct hole {
    size_t offset, bytes;
};

struct layout {
    SHR_VEC(struct hole) holes; /* free places below end, by offset, never touching */
    size_t end;
};

static const size_t NEVER = SIZE_MAX;

static bool align_up(size_t bytes, size_t *ret)
{
    if (!shr_size_add(bytes, SHR_MEM_ALIGN - 1, ret)) {
        return false;
    }
    *ret -= *ret % SHR_MEM_ALIGN;
    return true;
}

static void hole_remove(struct layout *l, size_t i)
{
    memmove(&l->holes.v[i], &l->holes.v[i + 1], (l->holes.n - i - 1) * sizeof *l->holes.v);
    l->holes.n--;
}

static int take(struct layout *l, size_t bytes, size_t *ret_offset, struct shr_err *err)
{
    size_t best = NEVER;
    for (size_t i = 0; i < l->holes.n; i++) {
        if (l->holes.v[i].bytes >= bytes &&
            (best == NEVER || l->holes.v[i].bytes < l->holes.v[best].bytes)) {
            best = i;
        }
    }
    if (best != NEVER) {
        struct hole *hole = &l->holes.v[best];
        *ret_offset = hole->offset;
        hole->offset += bytes;
        hole->bytes -= bytes;
        if (hole->bytes == 0) {
            hole_remove(l, best);
        }
        return SHR_OK;
    }

    /* Grow; a hole at the very end is the beginning of the new place. */
    size_t begin = l->end;
    if (l->holes.n > 0) {
        const struct hole *last = &l->holes.v[l->holes.n - 1];
        if (last->offset + last->bytes == l->end) {
            begin = last->offset;
            l->holes.n--;
        }
    }
    *ret_offset = begin;
    if (!shr_size_add(begin, bytes, &l->end)) {
        return shr_err_set(err, SHR_ERR_LIMIT, "the values of the model do not fit in memory");
    }
    return SHR_OK;
}

static int give(struct layout *l, size_t offset, size_t bytes, struct shr_err *err)
{
    size_t i = 0;
    while (i < l->holes.n && l->holes.v[i].offset < offset) {
        i++;
    }
    bool joins_before = i > 0 && l->holes.v[i - 1].offset + l->holes.v[i - 1].bytes == offset;
    bool joins_behind = i < l->holes.n && offset + bytes == l->holes.v[i].offset;
    if (joins_before) {
        l->holes.v[i - 1].bytes += bytes;
        if (joins_behind) {
            l->holes.v[i - 1].bytes += l->holes.v[i].bytes;
            hole_remove(l, i);
        }
        return SHR_OK;
    }
    if (joins_behind) {
        l->holes.v[i].offset = offset;
        l->holes.v[i].bytes += bytes;
        return SHR_OK;
    }
    if (SHR_VEC_ADD(&l->holes) == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory while a plan is made");
    }
    memmove(&l->holes.v[i + 1], &l->holes.v[i], (l->holes.n - 1 - i) * sizeof *l->holes.v);
    l->holes.v[i] = (struct hole){offset, bytes};
    return SHR_OK;
}

/* ── Lifetimes ──────────────────────────────────────────────────────────────────────────────── */

/* The slot that a tensor of a call is in. */
static struct shr__slot *slot_in(const struct shr_tensor *t)
{
    return t == NULL ? NULL
                     : (struct shr__slot *)((uintptr_t)t - offsetof(struct shr__slot, tensor));
}

static void find_lifetimes(struct shr_plan *plan)
{
    for (size_t i = 0; i < plan->n_slots; i++) {
        struct shr__slot *slot = plan->list[i];
        slot->first = NEVER;
        slot->root->whole |= slot->whole;
    }
    for (size_t s = 0; s < plan->n_steps; s++) {
        const struct shr_op_call *call = &plan->steps[s].call;
        for (size_t i = 0; i < call->n_in + call->n_out; i++) {
            struct shr__slot *slot =
                slot_in(i < call->n_in ? call->in[i] : call->out[i - call->n_in]);
            if (slot == NULL) {
                continue;
            }
            slot = slot->root;
            if (slot->first == NEVER) {
                slot->first = s;
            }
            slot->last = s;
        }
    }
}

static size_t count_reads(const struct shr_op_call *call, const struct shr__slot *root)
{
    size_t n = 0;
    for (size_t i = 0; i < call->n_in; i++) {
        const struct shr__slot *in = slot_in(call->in[i]);
        n += in != NULL && in->root == root;
    }
    return n;
}

/* The input whose bytes output 0 of this step may take over; NULL = none. One that the step reads
 * twice is none: the other time it may be read differently. */
static struct shr__slot *taken_over(const struct shr__step *step, size_t s)
{
    const struct shr_op_call *call = &step->call;
    const struct shr__slot *out = call->n_out == 0 ? NULL : slot_in(call->out[0]);
    if (out == NULL || out->whole || out->root != out) {
        return NULL;
    }
    for (size_t i = 0; i < call->n_in && step->op->in_place >> i != 0; i++) {
        struct shr__slot *in = (step->op->in_place >> i & 1) == 0 ? NULL : slot_in(call->in[i]);
        in = in == NULL ? NULL : in->root;
        if (in != NULL && !in->constant && !in->whole && in->placed && in->last == s &&
            in->bytes == out->bytes && count_reads(call, in) == 1) {
            return in;
        }
    }
    return NULL;
}

static int place(struct layout *l, struct shr__slot *slot, struct shr_err *err)
{
    size_t bytes;
    if (!align_up(slot->bytes == 0 ? 1 : slot->bytes, &bytes)) {
        return shr_err_set(err, SHR_ERR_LIMIT, "value %s does not fit in memory",
                           slot->value->name);
    }
    int rc = take(l, bytes, &slot->offset, err);
    slot->placed = rc == 0;
    return rc;
}

static int give_slot(struct layout *l, struct shr__slot *slot, struct shr_err *err)
{
    size_t bytes;
    slot->placed = false;
    return align_up(slot->bytes == 0 ? 1 : slot->bytes, &bytes)
               ? give(l, slot->offset, bytes, err)
               : shr_err_set(err, SHR_ERR_INTERNAL, "value %s grew", slot->value->name);
}

static int place_outputs(struct layout *l, const struct shr__step *step, size_t s,
                         struct shr_err *err)
{
    size_t from = 0;
    struct shr__slot *in = taken_over(step, s);
    if (in != NULL) {
        struct shr__slot *out = slot_in(step->call.out[0]);
        out->offset = in->offset;
        out->placed = true;
        in->placed = false;
        from = 1;
    }
    for (size_t i = from; i < step->call.n_out; i++) {
        struct shr__slot *out = slot_in(step->call.out[i]);
        if (out != NULL && !out->placed && out->theirs == NULL) {
            int rc = place(l, out, err);
            if (rc != 0) {
                return rc;
            }
        }
    }
    return SHR_OK;
}

static int release(struct layout *l, const struct shr__step *step, size_t s, struct shr_err *err)
{
    for (size_t i = 0; i < step->call.n_in + step->call.n_out; i++) {
        struct shr__slot *slot =
            slot_in(i < step->call.n_in ? step->call.in[i] : step->call.out[i - step->call.n_in]);
        if (slot == NULL) {
            continue;
        }
        slot = slot->root;
        if (slot->placed && !slot->whole && slot->last == s) {
            int rc = give_slot(l, slot, err);
            if (rc != 0) {
                return rc;
            }
        }
    }
    return SHR_OK;
}

/* Places the values of one step; *ret_scratch is where its scratch lies. */
static int place_step(struct layout *l, const struct shr__step *step, size_t s, size_t *ret_scratch,
                      struct shr_err *err)
{
    int rc = place_outputs(l, step, s, err);
    if (rc != 0) {
        return rc;
    }
    size_t bytes;
    if (!align_up(step->scratch, &bytes)) {
        return shr_err_set(err, SHR_ERR_LIMIT, "the scratch of an operator does not fit in memory");
    }
    if (bytes > 0) {
        rc = take(l, bytes, ret_scratch, err);
        if (rc == 0) {
            rc = give(l, *ret_scratch, bytes, err);
        }
    }
    return rc != 0 ? rc : release(l, step, s, err);
}

static int lay_out(struct shr_plan *plan, struct layout *l, size_t *scratch, struct shr_err *err)
{
    for (size_t i = 0; i < plan->n_slots; i++) {
        struct shr__slot *slot = plan->list[i];
        if (slot->root == slot && slot->whole && !slot->constant && slot->theirs == NULL) {
            int rc = place(l, slot, err);
            if (rc != 0) {
                return rc;
            }
        }
    }
    for (size_t s = 0; s < plan->n_steps; s++) {
        int rc = place_step(l, &plan->steps[s], s, &scratch[s], err);
        if (rc != 0) {
            return rc;
        }
    }
    return SHR_OK;
}

static int allocate(struct shr_plan *plan, size_t bytes, const size_t *scratch, struct shr_err *err)
{
    if (bytes > plan->max_arena) {
        return shr_err_set(
            err, SHR_ERR_LIMIT,
            "running the model takes %zu bytes of values, more than the limit of %zu", bytes,
            plan->max_arena);
    }
    plan->arena = shr_mem_aligned(bytes == 0 ? SHR_MEM_ALIGN : bytes);
    if (plan->arena == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for %zu bytes of values", bytes);
    }
    plan->arena_bytes = bytes;
    memset(plan->arena, 0, bytes);
    for (size_t i = 0; i < plan->n_slots; i++) {
        struct shr__slot *slot = plan->list[i];
        const struct shr__slot *root = slot->root;
        if (!slot->constant) {
            slot->tensor.data = root->constant ? root->tensor.data
                                : root->theirs != NULL
                                    ? root->theirs
                                    : (unsigned char *)plan->arena + root->offset;
        }
    }
    for (size_t s = 0; s < plan->n_steps; s++) {
        plan->steps[s].call.scratch = (unsigned char *)plan->arena + scratch[s];
    }
    return SHR_OK;
}

int shr__plan_place(struct shr_plan *plan, struct shr_err *err)
{
    size_t *scratch = shr_mem_new(plan->n_steps + 1, sizeof *scratch);
    if (scratch == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory while a plan is made");
    }
    struct layout layout = {0};
    find_lifetimes(plan);
    int rc = lay_out(plan, &layout, scratch, err);
    if (rc == 0) {
        rc = allocate(plan, layout.end, scratch, err);
    }
    SHR_VEC_FINISH(&layout.holes);
    shr_mem_free(scratch);
    return rc;
}
