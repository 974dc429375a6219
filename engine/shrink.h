/* libshrink: neural networks in, smaller and faster networks out.
 *
 * The only header of the engine that other layers and outside users include. Models and datasets
 * come as bytes and leave as bytes; the engine does not log, print, open files, read the
 * environment or keep mutable globals. Every function is re-entrant; an object belongs to one
 * thread at a time, except that a loaded model and a loaded dataset may be read by many.
 *
 * The way through:
 *     shr_model_load → shr_pass_find("quantize_static")->run → shr_model_save → shr_eval_measure */
#ifndef SHR_SHRINK_H
#define SHR_SHRINK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/attr.h"
#include "base/buf.h"
#include "base/err.h"

#define SHR_VERSION "0.1.0"

enum { SHR_MAX_RANK = 8 };

/* ── The context of one job ─────────────────────────────────────────────────────────────────── */

/* Told between nodes and batches, from the thread that runs the job. total 0 = not known. */
typedef void (*shr_progress_fn)(void *user, const char *stage, uint64_t done, uint64_t total);

/* A figure of work that goes on: the loss of a step, the accuracy of an epoch. `at` counts what the
 * series has seen (steps for all series of training). From the thread that runs the job. */
typedef void (*shr_figure_fn)(void *user, const char *series, uint64_t at, double value);

/* Bytes from which the running pass can go on, copied by the callee. */
typedef int (*shr_checkpoint_fn)(void *user, const void *bytes, size_t n, struct shr_err *err);

struct shr_ctx { /* all zero = one thread, seed 0, no limit, nobody listens */
    uint64_t seed;
    int threads;               /* budget of this job; 0 means 1 */
    size_t max_memory;         /* bytes a job may hold beside its models; 0 = no limit */
    const atomic_bool *cancel; /* polled; true ends the call with SHR_ERR_CANCELLED */
    shr_progress_fn progress;
    shr_figure_fn figure;
    shr_checkpoint_fn checkpoint; /* NULL = none are kept */
    double checkpoint_seconds;    /* between them; 0 = 60 */
    const void *resume;           /* the last one of this very pass, or NULL */
    size_t n_resume;
    void *user;        /* given to progress, figure and checkpoint */
    bool plan;         /* only what decides the size of a result: nothing is run on data, so ranges
                        * are made up and training is left out */
    unsigned cpu_mask; /* enum shr_cpu bits that must not be used; 0 = use all */
};

/* SHR_ERR_CANCELLED when the token is set, else 0. */
SHR_API int shr_ctx_poll(const struct shr_ctx *ctx, struct shr_err *err) SHR_MUSTCHECK;
SHR_API void shr_ctx_tell(const struct shr_ctx *ctx, const char *stage, uint64_t done,
                          uint64_t total);
SHR_API void shr_ctx_figure(const struct shr_ctx *ctx, const char *series, uint64_t at,
                            double value);
/* 0 without a callback. An error is the callback's: the work itself may go on. */
SHR_API int shr_ctx_checkpoint(const struct shr_ctx *ctx, const void *bytes, size_t n,
                               struct shr_err *err) SHR_MUSTCHECK;

/* Instruction sets that kernels are written for, weakest first. */
enum shr_cpu {
    SHR_CPU_AVX2 = 1u << 0, /* with FMA */
    SHR_CPU_AVXVNNI = 1u << 1,
    SHR_CPU_AVX512 = 1u << 2, /* F, BW, DQ, VL */
    SHR_CPU_AVX512VNNI = 1u << 3,
};

/* What this machine can run, and "avx2 avx512 …" of a set; the text is static. */
SHR_API unsigned shr_cpu_flags(void);
SHR_API const char *shr_cpu_name(unsigned flags, char *text, size_t size);

/* ── Types ──────────────────────────────────────────────────────────────────────────────────── */

enum shr_dtype { /* values of ONNX TensorProto.DataType */
                 SHR_DTYPE_NONE = 0,
                 SHR_DTYPE_F32 = 1,
                 SHR_DTYPE_U8 = 2,
                 SHR_DTYPE_I8 = 3,
                 SHR_DTYPE_U16 = 4,
                 SHR_DTYPE_I16 = 5,
                 SHR_DTYPE_I32 = 6,
                 SHR_DTYPE_I64 = 7,
                 SHR_DTYPE_STRING = 8,
                 SHR_DTYPE_BOOL = 9,
                 SHR_DTYPE_F16 = 10,
                 SHR_DTYPE_F64 = 11,
                 SHR_DTYPE_U32 = 12,
                 SHR_DTYPE_U64 = 13,
                 SHR_DTYPE_BF16 = 16,
                 SHR_DTYPE_F8E4M3FN = 17,
                 SHR_DTYPE_F8E4M3FNUZ = 18,
                 SHR_DTYPE_F8E5M2 = 19,
                 SHR_DTYPE_F8E5M2FNUZ = 20,
                 SHR_DTYPE_U4 = 21,
                 SHR_DTYPE_I4 = 22,
                 SHR_DTYPE_F4E2M1 = 23,
                 SHR_DTYPE_F8E8M0 = 24,
                 SHR_DTYPE_U2 = 25,
                 SHR_DTYPE_I2 = 26,
                 SHR_DTYPE_COUNT = 27
};

SHR_API const char *shr_dtype_name(enum shr_dtype dtype); /* "float32", "int8", …; never NULL */

struct shr_type {                  /* of a value in a graph */
    enum shr_dtype dtype;          /* NONE = unknown */
    int rank;                      /* -1 = unknown */
    int64_t dim[SHR_MAX_RANK];     /* -1 = unknown or symbolic */
    const char *sym[SHR_MAX_RANK]; /* the symbol of a symbolic dim, else NULL; owned by the graph */
};

struct shr_view { /* a named array, borrowed: C order, little-endian */
    const char *name;
    enum shr_dtype dtype;
    int rank;
    int64_t dim[SHR_MAX_RANK];
    const void *data;
    size_t bytes;
};

struct shr_bytes {
    const void *data;
    size_t n;
};

struct shr_dim {      /* what stands for an open dimension of the inputs */
    const char *name; /* its symbol, or "input:axis" */
    int64_t value;
};

/* ── Models ─────────────────────────────────────────────────────────────────────────────────── */

struct shr_model; /* immutable once loaded; shared weights are reference-counted */

struct shr_limits {       /* of what a loader accepts; all zero = the defaults below */
    size_t max_bytes;     /* of the file: 2 GiB - 1, protobuf's own limit */
    size_t max_nodes;     /* 1,000,000 */
    size_t max_name;      /* bytes of a name: 4096 */
    int64_t max_elements; /* of one tensor: 2^31 */
    int max_nesting;      /* of subgraphs: 16 */
};

/* Reads an ONNX ModelProto (IR version 3 to 13, opset 7 on), checks it and copies what it needs.
 * Errors name the field, node, tensor or byte: PARSE, INVALID, LIMIT, UNSUPPORTED. A node whose
 * operator is unknown is no error here: passes that need not run it still work. */
SHR_API int shr_model_load(const void *bytes, size_t n, const struct shr_limits *limits,
                           struct shr_model **ret_model, struct shr_err *err) SHR_MUSTCHECK;

/* How a model's external data is found: gives the bytes of a file, valid until the load is over.
 * location is relative, of plain parts: no "..", no root, no backslash. */
struct shr_files {
    int (*open)(void *user, const char *location, struct shr_bytes *ret, struct shr_err *err);
    void *user;
};

/* As above for a model that may keep its weights in other files; with files NULL (and above) such a
 * model is UNSUPPORTED. What comes out is one model, so max_bytes holds for all of it. Nodes that
 * call functions of the model are replaced by what they stand for. */
SHR_API int shr_model_load_files(const void *bytes, size_t n, const struct shr_limits *limits,
                                 const struct shr_files *files, struct shr_model **ret_model,
                                 struct shr_err *err) SHR_MUSTCHECK;

/* Appends the ONNX bytes; metadata, doc strings and unknown fields that were read are written. */
SHR_API int shr_model_save(const struct shr_model *model, struct shr_buf *ret_bytes,
                           struct shr_err *err) SHR_MUSTCHECK;

/* How many bytes shr_model_save would append; nothing is copied for it. */
SHR_API int shr_model_size(const struct shr_model *model, size_t *ret_bytes,
                           struct shr_err *err) SHR_MUSTCHECK;

/* Sets a metadata_props entry of the model (the recipe, the source hash). */
SHR_API int shr_model_set_metadata(struct shr_model *model, const char *key, const char *value,
                                   struct shr_err *err) SHR_MUSTCHECK;

/* The graph as text, one node a line, for people. */
SHR_API int shr_model_print(const struct shr_model *model, struct shr_buf *ret_text,
                            struct shr_err *err) SHR_MUSTCHECK;

/* Its dependency groups as text: which channels can be pruned together, and what must stay and
 * why. */
SHR_API int shr_model_print_groups(const struct shr_model *model, struct shr_buf *ret_text,
                                   struct shr_err *err) SHR_MUSTCHECK;

SHR_API void shr_model_free(struct shr_model *model);

struct shr_model_value { /* an input or output */
    const char *name;
    struct shr_type type;
};

struct shr_model_op { /* an operator that occurs in the model */
    const char *name; /* "Conv", or "com.microsoft.QGemm" outside ai.onnx */
    size_t count;
    bool runnable; /* has a row in the operator table for the model's opset */
};

struct shr_model_info {
    struct shr_arena arena; /* owns all below */
    int64_t ir_version, opset;
    const char *producer;
    size_t n_inputs, n_outputs, n_ops, n_nodes, n_initializers;
    struct shr_model_value *inputs, *outputs; /* inputs that are initializers are not listed */
    struct shr_model_op *ops;                 /* sorted by name */
    int64_t parameters; /* elements of floating-point and quantized weight initializers */
};

SHR_API int shr_model_describe(const struct shr_model *model, struct shr_model_info *ret_info,
                               struct shr_err *err) SHR_MUSTCHECK;
SHR_API void shr_model_info_finish(struct shr_model_info *info);
/* As the metric of that name counts them: in the shapes that the model was trained in. */
SHR_API int64_t shr_model_parameters(const struct shr_model *model);

/* ── Datasets ───────────────────────────────────────────────────────────────────────────────── */

struct shr_dataset; /* arrays with one row a sample, and optional integer labels */

enum shr_dataset_format {
    SHR_DATASET_NPZ, /* a zip of npy: one array a model input, and `labels` */
    SHR_DATASET_NPY, /* one array */
    SHR_DATASET_IDX, /* images, then labels, each idx or idx.gz */
};

struct shr_dataset_opts { /* all zero = the defaults */
    /* A sample becomes (x * scale - mean[c]) / std[c] where the model's input is floating point. */
    double scale;       /* 0 = 1/255 for uint8 arrays, 1 for others */
    const double *mean; /* one value, or one a channel; NULL = 0 */
    const double *std;  /* likewise; NULL = 1 */
    size_t n_mean, n_std;
    bool nhwc;        /* the arrays are NHWC and the model wants NCHW */
    size_t max_bytes; /* of the uncompressed arrays; 0 = 4 GiB */
};

/* parts: the npz or npy file, or the idx files of images and labels (labels may be missing).
 * The parts may be freed afterwards. Errors name the file, array and byte. */
SHR_API int shr_dataset_load(enum shr_dataset_format format, const struct shr_bytes *parts,
                             size_t n_parts, const struct shr_dataset_opts *opts,
                             struct shr_dataset **ret_dataset, struct shr_err *err) SHR_MUSTCHECK;
SHR_API void shr_dataset_free(struct shr_dataset *dataset);

struct shr_array_info {
    const char *name; /* "images" for idx */
    enum shr_dtype dtype;
    int rank;
    int64_t dim[SHR_MAX_RANK]; /* dim[0] = samples */
};

struct shr_dataset_info {
    struct shr_arena arena; /* owns all below */
    int64_t samples;
    size_t n_arrays;
    struct shr_array_info *arrays; /* without the labels */
    bool has_labels;
    int64_t n_classes;  /* largest label + 1 */
    int64_t *histogram; /* samples of each class; NULL above 65,536 classes */
};

SHR_API int shr_dataset_describe(const struct shr_dataset *dataset,
                                 struct shr_dataset_info *ret_info,
                                 struct shr_err *err) SHR_MUSTCHECK;
SHR_API void shr_dataset_info_finish(struct shr_dataset_info *info);

/* Do the arrays fit the model's inputs? INVALID with the input, its shape and the array's. */
SHR_API int shr_dataset_check(const struct shr_dataset *dataset, const struct shr_model *model,
                              struct shr_err *err) SHR_MUSTCHECK;

/* ── Reports ────────────────────────────────────────────────────────────────────────────────── */

enum shr_note_kind {
    SHR_NOTE_DONE,    /* subject was changed */
    SHR_NOTE_SKIPPED, /* subject was left alone, and why */
    SHR_NOTE_WARNING, /* the user should know */
    SHR_NOTE_KIND_COUNT
};

struct shr_figure {
    const char *name; /* "scale", "pruned", "sqnr_db" */
    double value;
};

enum { SHR_NOTE_FIGURES = 8 };

struct shr_note {
    struct shr_note *next;
    enum shr_note_kind kind;
    const char *subject; /* a node or tensor name, "" = the model */
    const char *text;    /* what was done, or the reason, as a sentence */
    size_t n_figures;
    struct shr_figure figures[SHR_NOTE_FIGURES];
};

struct shr_report {         /* what a pass did; all zero = empty and valid */
    struct shr_arena arena; /* owns the notes */
    struct shr_note *first, *last;
    size_t n;
};

/* Adds a note and returns it for figures; NULL when out of memory. */
SHR_API struct shr_note *shr_report_note(struct shr_report *report, enum shr_note_kind kind,
                                         const char *subject, const char *format, ...)
    SHR_PRINTF(4, 5);
SHR_API void shr_note_figure(struct shr_note *note, const char *name,
                             double value); /* note may be NULL */
SHR_API void shr_report_finish(struct shr_report *report);

/* ── The size ledger ────────────────────────────────────────────────────────────────────────── */

/* Where the bytes of a file are. file = parameters + quantization + constants + graph, exactly.
 * Tensors count the bytes of their elements as the file holds them: packed, and with the indices
 * of sparse ones. */
struct shr_ledger_side {
    int64_t file;
    int64_t parameters;   /* weights and biases, each tensor once */
    int64_t quantization; /* scales and zero points */
    int64_t constants;    /* shapes, indices and whatever else is constant */
    int64_t graph;        /* the rest: nodes, names, shapes of tensors, metadata, subgraphs */
    size_t tensors;       /* of parameters */
    size_t shared;        /* of them, those with more than one reader */
    int64_t shared_saved; /* bytes that there would be more if each reader had its own */
};

struct shr_ledger_row {                  /* a parameter whose type or bytes changed */
    const char *name;                    /* before; of what is new, after */
    enum shr_dtype was, is;              /* NONE = it is not there */
    int64_t before, after, quantization; /* after: without its scales and zero points */
    size_t readers;                      /* nodes that read it after */
};

struct shr_ledger {
    struct shr_arena arena; /* owns the rows and names */
    struct shr_ledger_side before, after;
    size_t n;
    struct shr_ledger_row *rows; /* in the order of the model before, then what is new */
};

/* Compares a model with what a pass made of it; the models' files have so many bytes. What a pass
 * makes of a tensor is named after it, and found so. */
SHR_API int shr_ledger_make(const struct shr_model *before, size_t file_before,
                            const struct shr_model *after, size_t file_after,
                            struct shr_ledger *ret_ledger, struct shr_err *err) SHR_MUSTCHECK;
SHR_API void shr_ledger_finish(struct shr_ledger *ledger);

/* ── Passes ─────────────────────────────────────────────────────────────────────────────────── */

enum shr_param_type {
    SHR_PARAM_BOOL,
    SHR_PARAM_INT,
    SHR_PARAM_FLOAT,
    SHR_PARAM_ENUM,   /* one of choices */
    SHR_PARAM_AMOUNT, /* a fraction 0..1 (given as a real) or a count (given as an integer) */
    SHR_PARAM_BYTES,  /* an integer, or text such as "2GiB" */
    SHR_PARAM_LIST,   /* texts */
    SHR_PARAM_MODEL,  /* another model, by name; "" = none. A pass has at most one such */
    SHR_PARAM_TYPE_COUNT
};

struct shr_param {
    const char *name;
    enum shr_param_type type;
    const char *fallback;       /* the default as text: "0.5", "true", "int8", "MatMul,Gemm", "" */
    double min, max;            /* of INT, FLOAT; both 0 = no bounds */
    const char *const *choices; /* of ENUM, ends with NULL */
    const char *help;           /* one sentence */
};

struct shr_arg {              /* of a parameter */
    enum shr_param_type type; /* which member holds: see below */
    bool is_count;            /* AMOUNT: i holds a count, else f a fraction */
    bool b;
    int64_t i;      /* INT, BYTES, AMOUNT; ENUM: index in choices */
    double f;       /* FLOAT, AMOUNT */
    size_t n_texts; /* LIST; MODEL: 0 = none, else 1 */
    const char **texts;
};

struct shr_args { /* the parameters of one run of a pass, in the order of its table */
    struct shr_arena arena;
    const struct shr_pass *pass;
    struct shr_arg *v;
};

struct shr_pass_call {
    const struct shr_model *model;    /* not changed */
    const struct shr_model *original; /* what the job began with; NULL = model */
    const struct shr_model *other;    /* that the parameter of type MODEL names, or NULL */
    const struct shr_args *args;
    const struct shr_dataset *calibrate; /* NULL unless the job has one */
    const struct shr_dataset *train;
    const struct shr_ctx *ctx;
    struct shr_report *report;
    struct shr_model *ret_model; /* set on success, the caller's */
};

enum shr_pass_needs {
    SHR_NEEDS_CALIBRATE = 1u << 0, /* data.calibrate must be given */
    SHR_NEEDS_TRAIN = 1u << 1,
    SHR_NEEDS_RUN = 1u << 2, /* executes the graph: every operator must be runnable */
};

struct shr_pass {
    const char *name;
    const char *help; /* one sentence */
    unsigned needs;   /* enum shr_pass_needs bits */
    const struct shr_param *params;
    size_t n_params;
    /* One of the two: makes call->ret_model, or changes a clone of call->model that becomes it. */
    int (*run)(struct shr_pass_call *call, struct shr_err *err);
    int (*edit)(struct shr_pass_call *call, struct shr_model *model, struct shr_err *err);
};

SHR_API size_t shr_pass_count(void);
SHR_API const struct shr_pass *shr_pass_at(size_t i);
SHR_API const struct shr_pass *shr_pass_find(const char *name); /* NULL if there is none */

/* Runs a pass: the result is a checked new model, or an error that names the node. */
SHR_API int shr_pass_run(const struct shr_pass *pass, struct shr_pass_call *call,
                         struct shr_err *err) SHR_MUSTCHECK;

/* All parameters at their defaults. */
SHR_API int shr_args_init(struct shr_args *ret_args, const struct shr_pass *pass,
                          struct shr_err *err) SHR_MUSTCHECK;
SHR_API void shr_args_finish(struct shr_args *args);

/* Sets one parameter. The errors (INVALID) read "amount: 1.7 is not in [0, 1]": unknown name,
 * wrong type, out of bounds, not among the choices. */
SHR_API int shr_args_set_bool(struct shr_args *args, const char *name, bool value,
                              struct shr_err *err) SHR_MUSTCHECK;
SHR_API int shr_args_set_int(struct shr_args *args, const char *name, int64_t value,
                             struct shr_err *err) SHR_MUSTCHECK;
SHR_API int shr_args_set_float(struct shr_args *args, const char *name, double value,
                               struct shr_err *err) SHR_MUSTCHECK;
/* For a LIST: its elements, separated by commas; as an integer, a list of one. */
SHR_API int shr_args_set_text(struct shr_args *args, const char *name, const char *value,
                              struct shr_err *err) SHR_MUSTCHECK;
SHR_API int shr_args_set_list(struct shr_args *args, const char *name, const char *const *texts,
                              size_t n, struct shr_err *err) SHR_MUSTCHECK;

/* Sets a parameter of any type from how people write it on a command line: "true", "512", "0.5",
 * "2GiB", "MatMul,Gemm". Errors as above. */
SHR_API int shr_args_parse(struct shr_args *args, const char *name, const char *text,
                           struct shr_err *err) SHR_MUSTCHECK;

/* The parameter of type MODEL, when it names one: what `other` of the call must be. NULL = none. */
SHR_API const struct shr_param *shr_args_model(const struct shr_args *args, const char **ret_name);

/* ── Evaluation ─────────────────────────────────────────────────────────────────────────────── */

struct shr_metric_info {
    const char *name;  /* "accuracy"; "latency_ms" is the stem of latency_ms_b1, _b64, … */
    const char *title; /* for the head of a table */
    const char *unit;  /* "B", "ms", "%", "x", "" */
    int better;        /* +1 higher, -1 lower, 0 neither */
    const char *help;
    bool of_data;  /* comes from the outputs on a dataset */
    bool headline; /* belongs into a table for people, where all would be too wide */
};

SHR_API size_t shr_metric_count(void);
SHR_API const struct shr_metric_info *shr_metric_at(size_t i);

struct shr_metric {
    char name[48];
    double value; /* when measured */
    bool measured;
    char why[160]; /* when not measured: the reason */
};

struct shr_metrics { /* of one model; all zero = empty and valid */
    struct shr_metric *v;
    size_t n, cap;
};

SHR_API const struct shr_metric *shr_metrics_find(const struct shr_metrics *m, const char *name);
SHR_API void shr_metrics_finish(struct shr_metrics *m);

struct shr_eval_opts {              /* all zero = sizes and counts only */
    const struct shr_dataset *data; /* accuracy (if it has labels), agreement, sqnr_db */
    int64_t max_samples;            /* 0 = all */
    bool latency;
    const int64_t *latency_batch; /* e.g. {1, 64} */
    size_t n_latency_batch;
    double latency_seconds; /* time for each batch size of each model; 0 = 1 */
};

struct shr_eval; /* keeps the original: its plan and its predictions */

/* bytes: the original as saved; it is copied. Data and arrays of opts must outlive the eval. */
SHR_API int shr_eval_new(const void *bytes, size_t n, const struct shr_eval_opts *opts,
                         const struct shr_ctx *ctx, struct shr_eval **ret_eval,
                         struct shr_err *err) SHR_MUSTCHECK;

/* The metrics of the original itself: counts, sizes, accuracy, latency. */
SHR_API int shr_eval_original(struct shr_eval *eval, const struct shr_ctx *ctx,
                              struct shr_metrics *ret_metrics, struct shr_err *err) SHR_MUSTCHECK;

/* Those of a candidate, as saved, reloaded from bytes; latency interleaved with the original. A
 * figure that cannot be had (an operator that does not run, no labels) is a metric with a reason,
 * not an error; errors are bytes that do not load, cancellation and memory. */
SHR_API int shr_eval_measure(struct shr_eval *eval, const void *bytes, size_t n,
                             const struct shr_ctx *ctx, struct shr_metrics *ret_metrics,
                             struct shr_err *err) SHR_MUSTCHECK;
SHR_API void shr_eval_free(struct shr_eval *eval);

/* ── Arrays in files ────────────────────────────────────────────────────────────────────────── */

struct shr_arrays; /* those of an npz or npy file */

/* An npy has one array, named after the file: name is "x" for "x.npy". max_bytes of the elements;
 * 0 = 4 GiB. */
SHR_API int shr_arrays_load(enum shr_dataset_format format, const char *name,
                            const struct shr_bytes *file, size_t max_bytes,
                            struct shr_arrays **ret_arrays, struct shr_err *err) SHR_MUSTCHECK;
SHR_API size_t shr_arrays_count(const struct shr_arrays *arrays);
SHR_API struct shr_view shr_arrays_at(const struct shr_arrays *arrays, size_t i);
SHR_API void shr_arrays_free(struct shr_arrays *arrays);

/* Appends an npz of the arrays, not compressed. UNSUPPORTED: a type that NumPy does not have. */
SHR_API int shr_arrays_save(const struct shr_view *arrays, size_t n, struct shr_buf *ret_bytes,
                            struct shr_err *err) SHR_MUSTCHECK;

/* ── Running a model ────────────────────────────────────────────────────────────────────────── */

struct shr_session; /* a model compiled for fixed shapes */

struct shr_session_opts {       /* all zero = the model as declared, batch 1 */
    int64_t batch;              /* for the open first dim of the inputs; 0 = 1 */
    const struct shr_dim *dims; /* for other open dims */
    size_t n_dims;
    const struct shr_view *inputs; /* data for inputs, copied; their shapes bind open dims */
    size_t n_inputs;
    const struct shr_view *constants; /* inputs that never change: what they decide is decided */
    size_t n_constants;
    bool no_fuse; /* every node a step of its own */
};

/* Inputs that are not given hold random numbers made from the seed of ctx: floats in [0, 1),
 * integers 0 or 1. Errors name the input, dim, node or operator. The model must outlive it. */
SHR_API int shr_session_new(const struct shr_model *model, const struct shr_session_opts *opts,
                            const struct shr_ctx *ctx, struct shr_session **ret_session,
                            struct shr_err *err) SHR_MUSTCHECK;
/* The same of a model that is given away, also on failure: the peak of memory is lower. */
SHR_API int shr_session_new_take(struct shr_model *take_model, const struct shr_session_opts *opts,
                                 const struct shr_ctx *ctx, struct shr_session **ret_session,
                                 struct shr_err *err) SHR_MUSTCHECK;
SHR_API void shr_session_free(struct shr_session *session);

SHR_API size_t shr_session_input_count(const struct shr_session *session);
SHR_API size_t shr_session_output_count(const struct shr_session *session);
/* Valid until the next run; the bytes of an input may be written. */
SHR_API struct shr_view shr_session_input(const struct shr_session *session, size_t i);
SHR_API struct shr_view shr_session_output(const struct shr_session *session, size_t i);

SHR_API int shr_session_run(struct shr_session *session, const struct shr_ctx *ctx,
                            struct shr_err *err) SHR_MUSTCHECK;

struct shr_step_info {     /* a step of a run, in order */
    const char *op, *node; /* "" when the node has no name */
    const char *kernel;    /* what was chosen; NULL = there was nothing to choose */
};
SHR_API size_t shr_session_step_count(const struct shr_session *session);
SHR_API struct shr_step_info shr_session_step(const struct shr_session *session, size_t i);
/* Runs once and writes the nanoseconds of each step. */
SHR_API int shr_session_run_timed(struct shr_session *session, const struct shr_ctx *ctx,
                                  uint64_t *ret_ns, struct shr_err *err) SHR_MUSTCHECK;

/* Bytes of values between steps, and of weights in the form that kernels read. */
SHR_API size_t shr_session_value_bytes(const struct shr_session *session);
SHR_API size_t shr_session_weight_bytes(const struct shr_session *session);

/* Runs rows of a dataset and writes the first output, converted to float, row after row.
 * ret_out is the caller's (shr_mem_free), ret_width the elements of a row. */
SHR_API int shr_model_predict(const struct shr_model *model, const struct shr_dataset *data,
                              int64_t first, int64_t count, int64_t batch,
                              const struct shr_ctx *ctx, float **ret_out, int64_t *ret_width,
                              struct shr_err *err) SHR_MUSTCHECK;

/* The operator table, for `shrinkctl ops`, the docs and the tests. */
struct shr_op_info {
    const char *domain, *name; /* domain "" = ai.onnx */
    int since, until;          /* opsets, until 0 = no end known */
};
SHR_API size_t shr_op_count(void);
SHR_API struct shr_op_info shr_op_at(size_t i);

/* The operators of ai.onnx that have no row, by name. */
struct shr_op_absent {
    const char *name;
    const char *why; /* a sentence without a full stop */
};
SHR_API size_t shr_op_absent_count(void);
SHR_API struct shr_op_absent shr_op_absent_at(size_t i);

#endif
