/* Gradients against finite differences.
 *
 * Every float32 initializer of the model whose name begins with "p" is a parameter. The loss is the
 * sum of all outputs, each element times a random number; it is added up in double, so that what
 * limits the differences is the rounding of the forward run alone. */
#ifndef SHR_TESTS_TRAIN_GRADCHECK_H
#define SHR_TESTS_TRAIN_GRADCHECK_H

#include "../exec/build.h"
#include "train/autograd.h"

enum { GRADCHECK_PARAMS = 8 };

/* The forward run's own step size and the error that is allowed, a share of the largest gradient of
 * a parameter; true inputs are filled with random numbers. Takes the model. */
void gradcheck(struct shr_model *take_m, double step, double tolerance);
/* The same with the usual numbers, and nodes in their training form when told. */
void gradcheck_usual(struct shr_model *take_m);
void gradcheck_training(struct shr_model *take_m);

#endif
