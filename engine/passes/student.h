/* Students of a teacher: models that are smaller and do the same. Thread: one per call. */
#ifndef SHR_PASSES_STUDENT_H
#define SHR_PASSES_STUDENT_H

#include "data/dataset.h"
#include "passes/pass.h"

/* A perceptron with hidden layers of these widths and Relu behind each, whose input and first
 * output are named and shaped like the teacher's; fresh. */
int shr_student_mlp(const struct shr_model *teacher, const struct shr_dataset *data,
                    const int64_t *widths, size_t n_widths, uint64_t seed, struct shr_model **ret,
                    struct shr_err *err) SHR_MUSTCHECK;

/* The teacher with this share of every layer's channels, those of the largest L2 norm. */
int shr_student_shrink(const struct shr_pass_call *call, double share, struct shr_model **ret,
                       struct shr_err *err) SHR_MUSTCHECK;

/* Can this model be a student of the teacher? INVALID where the first outputs differ in type or
 * shape. */
int shr_student_check(const struct shr_model *teacher, const struct shr_model *student,
                      struct shr_err *err) SHR_MUSTCHECK;

#endif
