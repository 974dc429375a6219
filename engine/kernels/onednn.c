/* Float convolution by oneDNN; the only file that includes its header (the v2 API).
 *
 * oneDNN picks the layouts it likes for weights and activations; a reorder before and after keeps
 * NCHW outside. Its code is generated when a convolution is made, which fails where memory may
 * not become executable (systemd's MemoryDenyWriteExecute): such a convolution, and any shape that
 * it does not take, is made by the reference instead. Running one allocates nothing.
 * Thread: one at a time for a convolution; the number of threads is set for the caller's thread. */
#include <dnnl.h>
#include <string.h>

#include "base/attr.h"
#include "base/mem.h"
#include "kernels/internal.h"

/* Of the OpenMP runtime that oneDNN runs on, whose header not every compiler ships. */
extern void omp_set_num_threads(int n);

struct step { /* a primitive and what it is given */
    dnnl_primitive_t primitive;
    dnnl_exec_arg_t args[5];
    int n;
};

/* Memory objects of a convolution; each has a place: the caller's, the scratch's, or our own. */
enum { X, Y, SRC, DST, WORK, WEIGHTS, BIAS, N_MEMORY };

struct conv {
    struct shr_conv_f32 base;
    int threads;
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    dnnl_memory_t memory[N_MEMORY];
    size_t offset[N_MEMORY]; /* of SRC, DST and WORK in the scratch */
    bool reorder_src, reorder_dst;
    struct step steps[3]; /* in the order they run */
    int n_steps;
    void *weights, *bias;
};

static void conv_free(struct shr_conv_f32 *base)
{
    struct conv *conv = (struct conv *)base;
    for (int i = 0; i < conv->n_steps; i++) {
        dnnl_primitive_destroy(conv->steps[i].primitive);
    }
    for (int i = 0; i < N_MEMORY; i++) {
        if (conv->memory[i] != NULL) {
            dnnl_memory_destroy(conv->memory[i]);
        }
    }
    if (conv->stream != NULL) {
        dnnl_stream_destroy(conv->stream);
    }
    if (conv->engine != NULL) {
        dnnl_engine_destroy(conv->engine);
    }
    shr_mem_free(conv->weights);
    shr_mem_free(conv->bias);
    shr_mem_free(conv);
}

static void conv_run(const struct shr_conv_f32 *base, const float *x, float *y, void *scratch)
{
    const struct conv *conv = (const struct conv *)base;
    char *bytes = scratch;
    omp_set_num_threads(conv->threads);
    dnnl_memory_set_data_handle(conv->memory[X], (void *)(uintptr_t)x);
    dnnl_memory_set_data_handle(conv->memory[Y], y);
    if (conv->reorder_src) {
        dnnl_memory_set_data_handle(conv->memory[SRC], bytes + conv->offset[SRC]);
    }
    if (conv->reorder_dst) {
        dnnl_memory_set_data_handle(conv->memory[DST], bytes + conv->offset[DST]);
    }
    dnnl_memory_set_data_handle(conv->memory[WORK], bytes + conv->offset[WORK]);
    for (int i = 0; i < conv->n_steps; i++) {
        const struct step *step = &conv->steps[i];
        dnnl_primitive_execute(step->primitive, conv->stream, step->n, step->args);
    }
}

static bool ok(dnnl_status_t status)
{
    return status == dnnl_success;
}

static bool add_step(struct conv *conv, const_dnnl_primitive_desc_t desc, int n,
                     const dnnl_exec_arg_t *args)
{
    struct step *step = &conv->steps[conv->n_steps];
    if (!ok(dnnl_primitive_create(&step->primitive, desc))) {
        return false;
    }
    memcpy(step->args, args, (size_t)n * sizeof *args);
    step->n = n;
    conv->n_steps++;
    return true;
}

static bool add_reorder(struct conv *conv, int from, const dnnl_memory_desc_t *from_desc, int to,
                        const dnnl_memory_desc_t *to_desc)
{
    dnnl_primitive_desc_t desc;
    if (!ok(dnnl_reorder_primitive_desc_create(&desc, from_desc, conv->engine, to_desc,
                                               conv->engine, NULL))) {
        return false;
    }
    bool made = add_step(
        conv, desc, 2,
        (dnnl_exec_arg_t[]){{DNNL_ARG_FROM, conv->memory[from]}, {DNNL_ARG_TO, conv->memory[to]}});
    dnnl_primitive_desc_destroy(desc);
    return made;
}

/* The caller's layouts: x and y NCHW, w (groups,) OIHW. */
struct plain {
    dnnl_memory_desc_t x, w, bias, y;
    dnnl_dims_t w_dims;
    int w_rank;
};

static bool plain_descs(const struct shr_conv_shape *s, struct plain *p)
{
    int64_t cg = s->c / s->groups, og = s->oc / s->groups;
    dnnl_dims_t x = {s->n, s->c, s->h, s->w}, y = {s->n, s->oc, s->oh, s->ow}, bias = {s->oc};
    dnnl_dims_t dense = {og, cg, s->kh, s->kw}, grouped = {s->groups, og, cg, s->kh, s->kw};
    p->w_rank = s->groups > 1 ? 5 : 4;
    memcpy(p->w_dims, s->groups > 1 ? grouped : dense, sizeof dense);
    return ok(dnnl_memory_desc_init_by_tag(&p->x, 4, x, dnnl_f32, dnnl_nchw)) &&
           ok(dnnl_memory_desc_init_by_tag(&p->y, 4, y, dnnl_f32, dnnl_nchw)) &&
           ok(dnnl_memory_desc_init_by_tag(&p->bias, 1, bias, dnnl_f32, dnnl_x)) &&
           ok(dnnl_memory_desc_init_by_tag(&p->w, p->w_rank, p->w_dims, dnnl_f32,
                                           s->groups > 1 ? dnnl_goihw : dnnl_oihw));
}

static bool make_attr(enum shr_act act, dnnl_primitive_attr_t *ret)
{
    dnnl_post_ops_t ops = NULL;
    bool made = ok(dnnl_primitive_attr_create(ret)) &&
                ok(dnnl_primitive_attr_set_scratchpad_mode(*ret, dnnl_scratchpad_mode_user)) &&
                ok(dnnl_post_ops_create(&ops));
    if (made && act == SHR_ACT_RELU) {
        made = ok(dnnl_post_ops_append_eltwise(ops, 1, dnnl_eltwise_relu, 0, 0)) &&
               ok(dnnl_primitive_attr_set_post_ops(*ret, ops));
    }
    if (ops != NULL) {
        dnnl_post_ops_destroy(ops);
    }
    return made;
}

/* The convolution with whatever layouts oneDNN likes best. */
static bool make_desc(const struct conv *conv, const struct shr_conv_shape *s, struct plain *plain,
                      enum shr_act act, dnnl_primitive_desc_t *ret)
{
    struct plain any = *plain;
    dnnl_convolution_desc_t op;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_dims_t stride = {s->stride_h, s->stride_w}, dil = {s->dil_h - 1, s->dil_w - 1};
    dnnl_dims_t pad_l = {s->pad_t, s->pad_l}, pad_r = {s->pad_b, s->pad_r};
    bool made =
        ok(dnnl_memory_desc_init_by_tag(&any.x, 4, plain->x.dims, dnnl_f32, dnnl_format_tag_any)) &&
        ok(dnnl_memory_desc_init_by_tag(&any.y, 4, plain->y.dims, dnnl_f32, dnnl_format_tag_any)) &&
        ok(dnnl_memory_desc_init_by_tag(&any.w, plain->w_rank, plain->w_dims, dnnl_f32,
                                        dnnl_format_tag_any)) &&
        ok(dnnl_dilated_convolution_forward_desc_init(
            &op, dnnl_forward_inference, dnnl_convolution_direct, &any.x, &any.w, &any.bias, &any.y,
            stride, dil, pad_l, pad_r)) &&
        make_attr(act, &attr) && ok(dnnl_primitive_desc_create(ret, &op, attr, conv->engine, NULL));
    if (attr != NULL) {
        dnnl_primitive_attr_destroy(attr);
    }
    return made;
}

static bool make_memory(struct conv *conv, int which, const dnnl_memory_desc_t *desc, void *data)
{
    return ok(dnnl_memory_create(&conv->memory[which], desc, conv->engine, data));
}

/* Copies the weights into the layout of the primitive. */
static bool load_weights(struct conv *conv, const dnnl_memory_desc_t *from_desc, const float *w,
                         const dnnl_memory_desc_t *desc)
{
    dnnl_memory_t from = NULL;
    dnnl_primitive_desc_t reorder_desc = NULL;
    dnnl_primitive_t reorder = NULL;
    conv->weights = shr_mem_aligned(dnnl_memory_desc_get_size(desc));
    bool done =
        conv->weights != NULL && make_memory(conv, WEIGHTS, desc, conv->weights) &&
        ok(dnnl_memory_create(&from, from_desc, conv->engine, (void *)(uintptr_t)w)) &&
        ok(dnnl_reorder_primitive_desc_create(&reorder_desc, from_desc, conv->engine, desc,
                                              conv->engine, NULL)) &&
        ok(dnnl_primitive_create(&reorder, reorder_desc)) &&
        ok(dnnl_primitive_execute(
            reorder, conv->stream, 2,
            (dnnl_exec_arg_t[]){{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, conv->memory[WEIGHTS]}})) &&
        ok(dnnl_stream_wait(conv->stream));
    if (reorder != NULL) {
        dnnl_primitive_destroy(reorder);
    }
    if (reorder_desc != NULL) {
        dnnl_primitive_desc_destroy(reorder_desc);
    }
    if (from != NULL) {
        dnnl_memory_destroy(from);
    }
    return done;
}

static size_t place(struct conv *conv, int which, const dnnl_memory_desc_t *desc, size_t used)
{
    conv->offset[which] = used;
    size_t bytes = dnnl_memory_desc_get_size(desc);
    return used + (bytes + SHR_MEM_ALIGN - 1) / SHR_MEM_ALIGN * SHR_MEM_ALIGN;
}

static bool make_steps(struct conv *conv, const_dnnl_primitive_desc_t desc, struct plain *plain,
                       const float *w, size_t *ret_scratch)
{
    const dnnl_memory_desc_t *src = dnnl_primitive_desc_query_md(desc, dnnl_query_src_md, 0);
    const dnnl_memory_desc_t *dst = dnnl_primitive_desc_query_md(desc, dnnl_query_dst_md, 0);
    const dnnl_memory_desc_t *work =
        dnnl_primitive_desc_query_md(desc, dnnl_query_scratchpad_md, 0);
    const dnnl_memory_desc_t *weights =
        dnnl_primitive_desc_query_md(desc, dnnl_query_weights_md, 0);
    size_t scratch = 0;
    conv->reorder_src = !dnnl_memory_desc_equal(src, &plain->x);
    conv->reorder_dst = !dnnl_memory_desc_equal(dst, &plain->y);
    bool made = make_memory(conv, X, &plain->x, NULL) && make_memory(conv, Y, &plain->y, NULL) &&
                make_memory(conv, BIAS, &plain->bias, conv->bias) &&
                make_memory(conv, WORK, work, NULL) && load_weights(conv, &plain->w, w, weights);
    scratch = place(conv, WORK, work, scratch);
    if (conv->reorder_src) {
        made =
            made && make_memory(conv, SRC, src, NULL) && add_reorder(conv, X, &plain->x, SRC, src);
        scratch = place(conv, SRC, src, scratch);
    }
    if (conv->reorder_dst) {
        made = made && make_memory(conv, DST, dst, NULL);
        scratch = place(conv, DST, dst, scratch);
    }
    made = made &&
           add_step(conv, desc, 5,
                    (dnnl_exec_arg_t[]){{DNNL_ARG_SRC, conv->memory[conv->reorder_src ? SRC : X]},
                                        {DNNL_ARG_WEIGHTS, conv->memory[WEIGHTS]},
                                        {DNNL_ARG_BIAS, conv->memory[BIAS]},
                                        {DNNL_ARG_DST, conv->memory[conv->reorder_dst ? DST : Y]},
                                        {DNNL_ARG_SCRATCHPAD, conv->memory[WORK]}});
    if (conv->reorder_dst) {
        made = made && add_reorder(conv, DST, dst, Y, &plain->y);
    }
    *ret_scratch = scratch;
    return made;
}

struct shr_conv_f32 *shr__conv_f32_new_onednn(const struct shr_conv_shape *s, const float *w,
                                              const float *bias, enum shr_act act, int threads,
                                              size_t *ret_scratch)
{
    struct plain plain;
    dnnl_primitive_desc_t desc = NULL;
    struct conv *conv = shr_mem_new(1, sizeof *conv);
    if (conv == NULL) {
        return NULL;
    }
    conv->base = (struct shr_conv_f32){.run = conv_run, .free = conv_free};
    conv->threads = threads > 0 ? threads : 1;
    conv->bias = shr_mem_new((size_t)s->oc, sizeof(float));
    if (conv->bias != NULL && bias != NULL) {
        memcpy(conv->bias, bias, (size_t)s->oc * sizeof(float));
    }
    omp_set_num_threads(conv->threads); /* primitives are made for a number of threads */
    bool made = conv->bias != NULL && ok(dnnl_engine_create(&conv->engine, dnnl_cpu, 0)) &&
                ok(dnnl_stream_create(&conv->stream, conv->engine, dnnl_stream_default_flags)) &&
                plain_descs(s, &plain) && make_desc(conv, s, &plain, act, &desc) &&
                make_steps(conv, desc, &plain, w, ret_scratch);
    if (desc != NULL) {
        dnnl_primitive_desc_destroy(desc);
    }
    if (!made) {
        conv_free(&conv->base);
        return shr__conv_f32_new_ref(s, w, bias, act, threads, ret_scratch);
    }
    return &conv->base;
}
