/* The size ledger: where the bytes of a file are, before and after a pass.
 *
 * A side sums the constants of a model by what they are for; what the file has beside them is the
 * graph, so the parts always make the whole. Rows pair tensors of both models: by name, else what
 * is called "<tensor>_<more>" was made of that tensor, if no value of the earlier model, computed
 * ones included, has a longer name of that kind. Thread: one. */
#include <string.h>

#include "base/mem.h"
#include "onnx/onnx.h"

enum kind { PARAMETER, QUANTIZATION, CONSTANT };

static enum kind kind_of(const struct shr_value *v)
{
    return shr_value_is_parameter(v)      ? PARAMETER
           : shr_value_is_quantization(v) ? QUANTIZATION
                                          : CONSTANT;
}

/* Nodes that read a constant, as it is or through the one node that makes it float again. */
static size_t readers_of(const struct shr_value *v)
{
    size_t n = 0;
    SHR_EACH_USE (use, v) {
        const struct shr_node *node = use->node;
        const bool widens = shr_node_is(node, "DequantizeLinear") || shr_node_is(node, "Cast");
        const struct shr_value *wide = widens && use->slot == 0 ? shr_node_out(node, 0) : NULL;
        n += wide != NULL ? wide->n_uses : 1;
    }
    return n;
}

static void add_to_side(const struct shr_value *v, struct shr_ledger_side *side)
{
    const int64_t bytes = (int64_t)shr_value_stored(v);
    const enum kind kind = kind_of(v);
    *(kind == PARAMETER      ? &side->parameters
      : kind == QUANTIZATION ? &side->quantization
                             : &side->constants) += bytes;
    side->graph -= bytes;
    if (kind != PARAMETER) {
        return;
    }
    const size_t readers = readers_of(v);
    side->tensors++;
    if (readers > 1) {
        side->shared++;
        side->shared_saved += bytes * (int64_t)(readers - 1);
    }
}

static struct shr_ledger_side side_of(const struct shr_model *model, size_t file)
{
    struct shr_ledger_side side = {.file = (int64_t)file, .graph = (int64_t)file};
    SHR_EACH_VALUE (v, &model->graph) {
        if (shr_value_is_constant(v)) {
            add_to_side(v, &side);
        }
    }
    return side;
}

/* ── Rows ───────────────────────────────────────────────────────────────────────────────────── */

struct pairing {
    struct shr_ledger *ledger;
    const struct shr_graph *before;
    struct shr_map rows; /* by name */
};

static int no_memory(struct shr_err *err)
{
    return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for the size ledger");
}

static int add_row(struct pairing *p, const char *name, struct shr_ledger_row **ret,
                   struct shr_err *err)
{
    struct shr_ledger_row *row = &p->ledger->rows[p->ledger->n];
    row->name = shr_arena_strdup(&p->ledger->arena, name);
    if (row->name == NULL) {
        return no_memory(err);
    }
    p->ledger->n++;
    *ret = row;
    return shr_map_put(&p->rows, row->name, row, err);
}

/* What a constant of the later model was made of; NULL = nothing that was constant. name is
 * changed. */
static const struct shr_value *source_of(const struct pairing *p, char *name)
{
    const struct shr_value *found = shr_graph_find(p->before, name);
    for (char *cut = strrchr(name, '_'); found == NULL && cut != NULL && cut != name;
         cut = strrchr(name, '_')) {
        *cut = 0;
        found = shr_graph_find(p->before, name);
    }
    return shr_value_is_constant(found) ? found : NULL;
}

static int add_after(struct pairing *p, const struct shr_value *v, struct shr_err *err)
{
    const enum kind kind = kind_of(v);
    char *name = shr_arena_strdup(&p->ledger->arena, v->name);
    if (name == NULL) {
        return no_memory(err);
    }
    const struct shr_value *source = source_of(p, name);
    struct shr_ledger_row *row = source != NULL ? shr_map_get(&p->rows, source->name) : NULL;
    if (kind == QUANTIZATION && row != NULL) {
        row->quantization += (int64_t)shr_value_stored(v);
    }
    if (kind != PARAMETER) {
        return SHR_OK;
    }
    int code = row == NULL ? add_row(p, v->name, &row, err) : SHR_OK;
    if (code == SHR_OK) {
        row->is = v->constant.dtype;
        row->after += (int64_t)shr_value_stored(v);
        row->readers += readers_of(v);
    }
    return code;
}

static bool has_changed(const struct shr_ledger_row *row)
{
    return row->was != row->is || row->before != row->after || row->quantization != 0;
}

static int pair(struct pairing *p, const struct shr_model *before, const struct shr_model *after,
                struct shr_err *err)
{
    struct shr_ledger *ledger = p->ledger;
    ledger->rows = shr_arena_new(&ledger->arena, ledger->before.tensors + ledger->after.tensors + 1,
                                 sizeof *ledger->rows);
    int code = ledger->rows != NULL ? SHR_OK : no_memory(err);
    for (const struct shr_value *v = before->graph.first_value; v != NULL && code == SHR_OK;
         v = v->next) {
        struct shr_ledger_row *row = NULL;
        if (!shr_value_is_parameter(v)) {
            continue;
        }
        code = add_row(p, v->name, &row, err);
        if (code == SHR_OK) {
            row->was = v->constant.dtype;
            row->before = (int64_t)shr_value_stored(v);
        }
    }
    for (const struct shr_value *v = after->graph.first_value; v != NULL && code == SHR_OK;
         v = v->next) {
        code = shr_value_is_constant(v) ? add_after(p, v, err) : SHR_OK;
    }
    size_t kept = 0;
    for (size_t i = 0; i < ledger->n && code == SHR_OK; i++) {
        if (has_changed(&ledger->rows[i])) {
            ledger->rows[kept++] = ledger->rows[i];
        }
    }
    ledger->n = kept;
    return code;
}

int shr_ledger_make(const struct shr_model *before, size_t file_before,
                    const struct shr_model *after, size_t file_after, struct shr_ledger *ret_ledger,
                    struct shr_err *err)
{
    struct shr_ledger ledger = {.before = side_of(before, file_before),
                                .after = side_of(after, file_after)};
    struct pairing p = {.ledger = &ledger, .before = &before->graph};
    const int code = pair(&p, before, after, err);
    shr_map_finish(&p.rows);
    if (code != SHR_OK) {
        shr_arena_finish(&ledger.arena);
        return code;
    }
    *ret_ledger = ledger;
    return SHR_OK;
}

void shr_ledger_finish(struct shr_ledger *ledger)
{
    if (ledger != NULL) {
        shr_arena_finish(&ledger->arena);
        *ledger = (struct shr_ledger){0};
    }
}
