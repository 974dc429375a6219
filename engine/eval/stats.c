/* Median, quantiles and the bootstrap (Efron, 1979); see eval.h. */
#include "eval/eval.h"

enum { RESAMPLES = 500 };

static void swap(double *a, double *b)
{
    double t = *a;
    *a = *b;
    *b = t;
}

/* Quickselect (Hoare, 1961): afterwards v[k] is what sorting would put there, nothing before it is
 * larger and nothing behind it is smaller. */
static double select_kth(double *v, size_t n, size_t k)
{
    size_t low = 0, high = n - 1;
    while (low < high) {
        double pivot = v[low + (high - low) / 2];
        size_t i = low, j = high;
        for (;;) {
            while (v[i] < pivot) {
                i++;
            }
            while (v[j] > pivot) {
                j--;
            }
            if (i >= j) {
                break;
            }
            swap(&v[i++], &v[j--]);
        }
        /* Now low … j is not above the pivot and j+1 … high is not below it. */
        if (k <= j) {
            high = j;
        } else {
            low = j + 1;
        }
    }
    return v[k];
}

double shr__quantile(double *v, size_t n, double q)
{
    double position = q * (double)(n - 1);
    size_t k = (size_t)position;
    double below = select_kth(v, n, k);
    if (k + 1 >= n) {
        return below;
    }
    double above = v[k + 1];
    for (size_t i = k + 2; i < n; i++) {
        above = v[i] < above ? v[i] : above;
    }
    return below + (position - (double)k) * (above - below);
}

double shr__median(double *v, size_t n)
{
    return shr__quantile(v, n, 0.5);
}

void shr__bootstrap_median(const double *v, size_t n, double *scratch, struct shr_rng *rng,
                           double *ret_low, double *ret_high)
{
    double medians[RESAMPLES];
    for (size_t r = 0; r < RESAMPLES; r++) {
        for (size_t i = 0; i < n; i++) {
            scratch[i] = v[shr_rng_below(rng, n)];
        }
        medians[r] = shr__median(scratch, n);
    }
    *ret_low = shr__quantile(medians, RESAMPLES, 0.025);
    *ret_high = shr__quantile(medians, RESAMPLES, 0.975);
}
