/* Selecting the k smallest of many numbers, and how many an amount is.
 * Ties go to the lowest position first. Thread: any. */
#ifndef SHR_PASSES_SELECT_H
#define SHR_PASSES_SELECT_H

#include "shrink.h"

/* How many of n an AMOUNT is: a count as it is (INVALID when it is more than n), a fraction times
 * n rounded half to even, as Python's round() does. what names the n things in the error. */
int shr_amount_of(const struct shr_arg *amount, int64_t n, const char *what, int64_t *ret_k,
                  struct shr_err *err) SHR_MUSTCHECK;

/* Marks the k smallest of n keys (none of them NaN or negative): ret_marks[i] = 1, else 0. */
void shr_select_smallest(const double *keys, int64_t n, int64_t k, unsigned char *ret_marks);

#endif
