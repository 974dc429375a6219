/* Small edits that several passes make. Thread: one. */
#ifndef SHR_PASSES_EDIT_H
#define SHR_PASSES_EDIT_H

#include "passes/pass.h"

/* Gives a constant input of a node new data: in place when nobody else reads it, else a new
 * initializer named after it. */
int shr_edit_constant(struct shr_graph *g, struct shr_node *node, size_t slot,
                      struct shr_tensor take_tensor, struct shr_err *err) SHR_MUSTCHECK;

/* A new initializer called stem and suffix; takes what *take_tensor holds, also on failure. */
int shr_edit_add_constant(struct shr_graph *g, const char *stem, const char *suffix,
                          struct shr_tensor *take_tensor, struct shr_value **ret,
                          struct shr_err *err) SHR_MUSTCHECK;

/* A copy of a float32 bias as (n), multiplied by factor: of () or (1) repeated, of (n) or (1, n).
 * NULL is zeros. False when it is of another type or shape; then *ret is not set. */
int shr_edit_bias(const struct shr_tensor *bias, int64_t n, double factor, bool *ret_ok,
                  struct shr_tensor *ret, struct shr_err *err) SHR_MUSTCHECK;

/* May all that reads `from` read `to` instead, so that the producer of `from` can go? */
bool shr_edit_can_bypass(const struct shr_value *from, const struct shr_value *to);

/* Takes a node with one used output away; what read it reads value. Only if can_bypass. */
void shr_edit_bypass(struct shr_graph *g, struct shr_node *node, struct shr_value *value);

/* Takes a node away for what gives the same: what read its first output reads value. An output
 * that a subgraph reads keeps its name. */
int shr_edit_replace(struct shr_graph *g, struct shr_node *node, struct shr_value *value,
                     struct shr_err *err) SHR_MUSTCHECK;

/* A new node with one new output, whose name begins with stem. */
int shr_edit_insert(struct shr_graph *g, struct shr_node *before, const char *op_type,
                    const char *name, struct shr_value *const *in, size_t n_in, const char *stem,
                    struct shr_node **ret_node, struct shr_value **ret_value,
                    struct shr_err *err) SHR_MUSTCHECK;

/* The largest |x| of a float32 tensor; infinite or NaN when an element is. */
float shr_edit_largest(const struct shr_tensor *t);

/* Is no element of a float32 tensor infinite or no number? */
bool shr_edit_all_finite(const struct shr_tensor *t);

/* Elements of weights and biases, as they are stored. */
int64_t shr_edit_parameters(const struct shr_model *model);

/* Multiplications of a node whose types were inferred; 0 when its operator does not tell. */
int64_t shr_edit_macs(const struct shr_node *node);

/* The node that alone reads a value that may be NULL. */
struct shr_node *shr_edit_reader(const struct shr_value *v);

/* Optimizations, for the pass of that name and for quantization, which begins with them. Each
 * works in place, keeps the function of the model, and tells the report what it did. */
int shr_fold_constants(struct shr_model *model, struct shr_report *report,
                       struct shr_err *err) SHR_MUSTCHECK;
int shr_fold_batchnorm(struct shr_model *model, struct shr_report *report,
                       struct shr_err *err) SHR_MUSTCHECK;
int shr_fuse(struct shr_model *model, struct shr_report *report, struct shr_err *err) SHR_MUSTCHECK;

#endif
