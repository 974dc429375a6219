/* Taking channels out of a model, whoever chooses them; see channels.h. */
#include <string.h>

#include "passes/channels.h"

static const char stuck[] = "its size is computed in a way that does not follow";

static int try_once(const struct shr_channel_job *job, struct shr_model *model,
                    struct shr_channels *c, struct shr_channel_copies *copies,
                    const struct shr_map *refused, const char **ret_bad, struct shr_err *err)
{
    int code = shr_channels_separate(copies, model, err);
    if (code == SHR_OK) {
        code = shr_model_infer(model, NULL, err);
    }
    if (code == SHR_OK) {
        code = shr_channels_find(c, model, job->nodes, refused, err);
    }
    if (code != SHR_OK) {
        return code;
    }
    unsigned char *gone = shr_mem_new((size_t)c->n + 1, 1);
    if (gone == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for the choice of channels");
    }
    code = job->choose(job->user, c, model, gone, err);
    if (code == SHR_OK) {
        code = shr_channels_cut(c, model, gone, job->remove, ret_bad, err);
    }
    if (code == SHR_OK && *ret_bad == NULL) {
        job->tell(job->user, c, model, gone);
        shr_channels_unite_copies(copies, model);
    }
    shr_mem_free(gone);
    return code;
}

int shr_channels_run(const struct shr_channel_job *job, const struct shr_model *model,
                     struct shr_model **ret, struct shr_err *err)
{
    struct shr_arena arena = {0}; /* of names */
    struct shr_map refused = {0};
    struct shr_model *done = NULL;
    int code = SHR_OK;
    while (code == SHR_OK && done == NULL) {
        struct shr_model *clone = NULL;
        struct shr_channels c = {0};
        struct shr_channel_copies copies = {{0}};
        const char *bad = NULL;
        code = shr_model_clone(model, &clone, err);
        if (code == SHR_OK) {
            code = try_once(job, clone, &c, &copies, &refused, &bad, err);
        }
        if (code == SHR_OK && bad == NULL) {
            done = clone;
            clone = NULL;
        } else if (code == SHR_OK) {
            char *name = shr_arena_strdup(&arena, bad);
            code = name == NULL ? shr_err_set(err, SHR_ERR_NOMEM, "out of memory")
                                : shr_map_put(&refused, name, (void *)(uintptr_t)stuck, err);
        }
        shr_channels_finish(&c);
        shr_channels_finish_copies(&copies);
        shr_model_free(clone);
    }
    shr_map_finish(&refused);
    shr_arena_finish(&arena);
    *ret = done;
    return code;
}
