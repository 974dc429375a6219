/* Selecting the k smallest; see select.h.
 *
 * DESIGN: the bits of non-negative doubles sort as the numbers do, so the k-th smallest is found
 * by fixing it from the top, a byte at a time: eight passes that count, no sorting, no memory. */
#include "passes/select.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

enum { DIGIT_BITS = 8, DIGITS = 1 << DIGIT_BITS };

int shr_amount_of(const struct shr_arg *amount, int64_t n, const char *what, int64_t *ret_k,
                  struct shr_err *err)
{
    if (!amount->is_count) {
        *ret_k = (int64_t)rint(amount->f * (double)n);
        return SHR_OK;
    }
    if (amount->i > n) {
        return shr_err_set(err, SHR_ERR_INVALID,
                           "amount: %" PRId64 " is more than the %" PRId64 " %s", amount->i, n,
                           what);
    }
    *ret_k = amount->i;
    return SHR_OK;
}

static uint64_t bits_of(double key)
{
    uint64_t bits;
    memcpy(&bits, &key, sizeof bits);
    return bits & ~(UINT64_C(1) << 63); /* -0 is 0 */
}

/* The k-th smallest (from 0) and in *ret_equal how many of its equals are among the k smallest. */
static uint64_t find_kth(const double *keys, int64_t n, int64_t k, int64_t *ret_equal)
{
    uint64_t prefix = 0;
    for (int shift = 64 - DIGIT_BITS; shift >= 0; shift -= DIGIT_BITS) {
        int64_t counts[DIGITS] = {0};
        for (int64_t i = 0; i < n; i++) {
            uint64_t bits = bits_of(keys[i]);
            bool in = shift == 64 - DIGIT_BITS || bits >> (shift + DIGIT_BITS) == prefix;
            counts[(bits >> shift) & (DIGITS - 1)] += in;
        }
        uint64_t digit = 0;
        while (k >= counts[digit]) {
            k -= counts[digit++];
        }
        prefix = prefix << DIGIT_BITS | digit;
    }
    *ret_equal = k;
    return prefix;
}

void shr_select_smallest(const double *keys, int64_t n, int64_t k, unsigned char *ret_marks)
{
    if (k >= n) {
        memset(ret_marks, 1, (size_t)n);
        return;
    }
    int64_t equal = 0;
    uint64_t threshold = find_kth(keys, n, k, &equal);
    for (int64_t i = 0; i < n; i++) {
        uint64_t bits = bits_of(keys[i]);
        ret_marks[i] = bits < threshold || (bits == threshold && equal-- > 0);
    }
}
