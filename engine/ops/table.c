/* The operator table: every family, and how a node finds its row. Immutable. Thread: any. */
#include "ops/families.h"

#include <string.h>

#include "ops/grad.h"

/* clang-format off */
static const struct shr_op_family *const families[] = {
#define X(name) &shr_ops_##name,
#include "ops/families.def"
#undef X
};
/* clang-format on */

const struct shr_op *shr_op_find(const char *domain, const char *name, int64_t opset)
{
    if (strcmp(domain, "ai.onnx") == 0) {
        domain = "";
    }
    for (size_t f = 0; f < SHR_COUNT_OF(families); f++) {
        for (size_t i = 0; i < families[f]->n; i++) {
            const struct shr_op *row = &families[f]->rows[i];
            if (strcmp(row->name, name) == 0 && strcmp(row->domain, domain) == 0 &&
                opset >= row->since && (row->until == 0 || opset <= row->until)) {
                return row;
            }
        }
    }
    return NULL;
}

void shr_model_resolve(struct shr_model *model)
{
    SHR_EACH_NODE (node, &model->graph) {
        node->op = shr_op_find(node->domain, node->op_type, shr_model_opset(model, node->domain));
    }
}

/* Rows that models have; those of training stand in graphs of the engine alone. */
static bool is_public(const struct shr_op_family *family)
{
    return family->n == 0 || strcmp(family->rows[0].domain, SHR_TRAIN_DOMAIN) != 0;
}

size_t shr_op_count(void)
{
    size_t n = 0;
    for (size_t f = 0; f < SHR_COUNT_OF(families); f++) {
        n += is_public(families[f]) ? families[f]->n : 0;
    }
    return n;
}

struct shr_op_info shr_op_at(size_t i)
{
    for (size_t f = 0; f < SHR_COUNT_OF(families); f++) {
        const size_t n = is_public(families[f]) ? families[f]->n : 0;
        if (i < n) {
            const struct shr_op *row = &families[f]->rows[i];
            return (struct shr_op_info){row->domain, row->name, row->since, row->until};
        }
        i -= n;
    }
    return (struct shr_op_info){0};
}
