/* Running a plan and looking at it; see plan.h. Nothing here allocates but the printer. */
#include <string.h>
#include <time.h>

#include "exec/plan.h"
#include "exec/step.h"

int shr_plan_run(struct shr_plan *plan, const struct shr_ctx *ctx, struct shr_err *err)
{
    const struct shr__step *end = plan->steps + plan->n_steps;
    plan->ctx = ctx;
    for (const struct shr__step *step = plan->steps; step < end; step++) {
        int rc = shr_ctx_poll(ctx, err);
        if (rc == 0) {
            rc = step->op->forward(&step->call, err);
        }
        if (rc != 0) {
            return rc;
        }
    }
    return SHR_OK;
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

int shr_plan_run_timed(struct shr_plan *plan, const struct shr_ctx *ctx, uint64_t *ret_ns,
                       struct shr_err *err)
{
    uint64_t begin = now_ns();
    plan->ctx = ctx;
    for (size_t i = 0; i < plan->n_steps; i++) {
        int rc = shr_ctx_poll(ctx, err);
        if (rc == 0) {
            rc = plan->steps[i].op->forward(&plan->steps[i].call, err);
        }
        if (rc != 0) {
            return rc;
        }
        uint64_t end = now_ns();
        ret_ns[i] = end - begin;
        begin = end;
    }
    return SHR_OK;
}

size_t shr_plan_step_count(const struct shr_plan *plan)
{
    return plan->n_steps;
}

struct shr_step_info shr_plan_step(const struct shr_plan *plan, size_t i)
{
    const struct shr__step *step = &plan->steps[i];
    return (struct shr_step_info){step->op->name, step->call.node->name, step->kernel};
}

size_t shr_plan_input_count(const struct shr_plan *plan)
{
    return plan->n_inputs;
}

size_t shr_plan_output_count(const struct shr_plan *plan)
{
    return plan->n_outputs;
}

struct shr_tensor *shr_plan_input(struct shr_plan *plan, size_t i)
{
    return &plan->inputs[i]->tensor;
}

const char *shr_plan_input_name(const struct shr_plan *plan, size_t i)
{
    return plan->inputs[i]->value->name;
}

const char *shr_plan_output_name(const struct shr_plan *plan, size_t i)
{
    return plan->outputs[i]->value->name;
}

const struct shr_tensor *shr_plan_output(const struct shr_plan *plan, size_t i)
{
    return &plan->outputs[i]->tensor;
}

const struct shr_tensor *shr_plan_value(const struct shr_plan *plan, const char *name)
{
    const struct shr__slot *slot = shr_map_get(&plan->slots, name);
    return slot == NULL || !(slot->constant || slot->whole) ? NULL : &slot->tensor;
}

size_t shr_plan_arena_bytes(const struct shr_plan *plan)
{
    return plan->arena_bytes;
}

size_t shr_plan_weight_bytes(const struct shr_plan *plan)
{
    return plan->weight_bytes;
}

static void print_value(struct shr_buf *text, const struct shr_value *v, const struct shr_tensor *t)
{
    if (v == NULL) {
        shr_buf_puts(text, "-");
        return;
    }
    char dims[96];
    shr_buf_printf(text, "%s %s%s", v->name, shr_dtype_name(t->dtype),
                   shr_dims_text(t->rank, t->dim, dims, sizeof dims));
}

static void print_step(struct shr_buf *text, const struct shr__step *step)
{
    const struct shr_node *node = step->call.node;
    for (size_t i = 0; i < node->n_out; i++) {
        shr_buf_puts(text, i == 0 ? "" : ", ");
        print_value(text, node->out[i], step->call.out[i]);
    }
    shr_buf_printf(text, " = %s(", step->op->name);
    for (size_t i = 0; i < node->n_in; i++) {
        shr_buf_puts(text, i == 0 ? "" : ", ");
        shr_buf_puts(text, node->in[i].value == NULL ? "-" : node->in[i].value->name);
    }
    shr_buf_puts(text, ")\n");
}

int shr_plan_print(const struct shr_plan *plan, struct shr_buf *ret_text, struct shr_err *err)
{
    for (size_t i = 0; i < plan->n_steps; i++) {
        print_step(ret_text, &plan->steps[i]);
    }
    return shr_buf_failed(ret_text)
               ? shr_err_set(err, SHR_ERR_NOMEM, "out of memory while a plan is printed")
               : SHR_OK;
}
