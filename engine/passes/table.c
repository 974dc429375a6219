/* The pass table: the only list of passes. Their names, parameters, defaults and sentences are the
 * truth behind recipe checks, GET /v1/passes, `shrinkctl passes` and the dashboard's form.
 * Constant data. Thread: any. */
#include <string.h>

#include "passes/pass.h"

static const struct shr_pass *const passes[] = {
    &shr_pass_optimize,
    &shr_pass_quantize_dynamic,
    &shr_pass_quantize_static,
    &shr_pass_quantize_aware,
    &shr_pass_quantize_weights,
    &shr_pass_convert,
    &shr_pass_prune_unstructured,
    &shr_pass_prune_structured,
    &shr_pass_compact,
    &shr_pass_distill,
    &shr_pass_finetune,
};

size_t shr_pass_count(void)
{
    return SHR_COUNT_OF(passes);
}

const struct shr_pass *shr_pass_at(size_t i)
{
    return i < SHR_COUNT_OF(passes) ? passes[i] : NULL;
}

const struct shr_pass *shr_pass_find(const char *name)
{
    for (size_t i = 0; i < SHR_COUNT_OF(passes); i++) {
        if (strcmp(passes[i]->name, name) == 0) {
            return passes[i];
        }
    }
    return NULL;
}
