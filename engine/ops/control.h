/* What If, Loop and Scan share: the bodies of a node, their types and their copies.
 *
 * A body's inputs are its own, then one for each value that the node's bodies capture; the node's
 * inputs end with those values (shr_model_expand). On a model that is not expanded the rows leave
 * their outputs as they were declared. Thread: as the plan. */
#ifndef SHR_OPS_CONTROL_H
#define SHR_OPS_CONTROL_H

#include "ops/util.h"

/* The body of a GRAPH attribute; NULL when there is none or it is not expanded. */
struct shr_model *shr_control_body(const struct shr_node *node, const char *attr);

/* Inputs of the node before the captures. */
size_t shr_control_own(const struct shr_node *node);

/* How many inputs of its own and outputs the body must have; INVALID names the attribute. */
int shr_control_counts(const struct shr_node *node, const char *attr, size_t n_own, size_t n_out,
                       struct shr_err *err) SHR_MUSTCHECK;

/* Infers a body from the types of its own inputs; captures come from the node, with their data. */
int shr_control_infer(const struct shr_infer *c, struct shr_model *body, const struct shr_type *own,
                      size_t n_own, struct shr_err *err) SHR_MUSTCHECK;

/* The type of an output of a body that was inferred. */
struct shr_type shr_control_out(const struct shr_model *body, size_t i);

/* A body ready to run; own are the tensors of its own inputs, as for shr_body_fn. */
int shr_control_new(struct shr_op_setup *c, const char *attr, const struct shr_tensor *own,
                    size_t n_own, struct shr_body **ret, struct shr_err *err) SHR_MUSTCHECK;
void shr_control_free(struct shr_body *body); /* NULL is fine */

/* Copies the captured values into the body; n_own are the body's own inputs. */
void shr_control_fill(const struct shr_op_call *c, const struct shr_body *body, size_t n_own);

/* Copies all elements; to may be NULL. */
void shr_control_copy(struct shr_tensor *to, const struct shr_tensor *from);

#endif
