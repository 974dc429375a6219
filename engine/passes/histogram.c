/* Histograms and the ranges read from them; see histogram.h.
 *
 * DESIGN: the entropy threshold is that of S. Migacz, "8-bit Inference with TensorRT" (GTC 2017):
 * for every threshold the clipped distribution P is compared with the same distribution after
 * merging its bins to 128 levels, Q; the threshold of the least KL(P||Q) wins. Where all values
 * have one sign, 8 bits have 256 levels on that side, and so has Q. */
#include "passes/histogram.h"

#include <math.h>
#include <string.h>

enum { BINS = SHR_HISTOGRAM_BINS, MSE_STEPS = 100 };

static double bin_width(const struct shr_histogram *h)
{
    return ldexp(1, h->exponent) / BINS;
}

static bool is_flat(const struct shr_histogram *h)
{
    return h->min == 0 && h->max == 0;
}

/* Doubles the limit `times` times: bin j from 0 becomes floor(j / 2^times). */
static void widen(struct shr_histogram *h, int times)
{
    uint64_t merged[2 * BINS] = {0};
    for (int j = -BINS; j < BINS; j++) {
        int to = times > 12 ? (j < 0 ? -1 : 0) : (int)floor(ldexp(j, -times));
        merged[to + BINS] += h->count[j + BINS];
    }
    memcpy(h->count, merged, sizeof merged);
    h->exponent += times;
}

bool shr_histogram_add(struct shr_histogram *h, const float *x, size_t n)
{
    double min = h->min, max = h->max;
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(x[i])) {
            return false;
        }
        min = (double)x[i] < min ? (double)x[i] : min;
        max = (double)x[i] > max ? (double)x[i] : max;
    }
    if (min != 0 || max != 0) {
        int exponent = 0;
        frexp(fmax(-min, max), &exponent); /* below 2^exponent */
        if (is_flat(h)) {
            h->exponent = exponent; /* what is counted yet are zeros, in the bin that begins at 0 */
        } else if (exponent > h->exponent) {
            widen(h, exponent - h->exponent);
        }
    }
    h->min = min;
    h->max = max;
    double per_width = is_flat(h) ? 0 : 1 / bin_width(h);
    for (size_t i = 0; i < n; i++) {
        h->count[(int)floor((double)x[i] * per_width) + BINS]++;
        h->zeros += x[i] == 0;
    }
    h->n += n;
    return true;
}

void shr_histogram_percentile(const struct shr_histogram *h, double percentile, double *ret_min,
                              double *ret_max)
{
    double cut = (100 - percentile) / 200 * (double)h->n, below = 0, above = 0;
    int low = 0, high = 2 * BINS - 1;
    while (low < high && below + (double)h->count[low] <= cut) {
        below += (double)h->count[low++];
    }
    while (high > low && above + (double)h->count[high] <= cut) {
        above += (double)h->count[high--];
    }
    if (is_flat(h)) {
        *ret_min = *ret_max = 0;
        return;
    }
    *ret_min = fmax((low - BINS) * bin_width(h), h->min);
    *ret_max = fmin((high + 1 - BINS) * bin_width(h), h->max);
}

/* ── Entropy ────────────────────────────────────────────────────────────────────────────────── */

/* KL(P||Q) for the first `bins` bins of counts, what is above added to the last of them. Levels
 * are as even as integers allow: level l has the bins from l*bins/levels to (l+1)*bins/levels; in Q
 * a level's mass is spread over those of its bins that P has mass in. A little of Q is spread over
 * all of them, so that P never has mass where Q has none. */
static double divergence(const double *counts, int bins, int levels, double above, double total)
{
    const double epsilon = 1e-4;
    double sum = 0, inside = total - above; /* outliers are in P, not in Q */
    int in_all = 0;
    for (int i = 0; i < bins; i++) {
        in_all += counts[i] > 0 || (i == bins - 1 && above > 0);
    }
    for (int level = 0; level < levels; level++) {
        int from = level * bins / levels, to = (level + 1) * bins / levels, in_level = 0;
        double mass = 0;
        for (int i = from; i < to; i++) {
            mass += counts[i];
            in_level += counts[i] > 0 || (i == bins - 1 && above > 0);
        }
        double q = mass > 0 ? (1 - epsilon) * mass / in_level / inside : 0;
        for (int i = from; i < to; i++) {
            double p = (counts[i] + (i == bins - 1 ? above : 0)) / total;
            sum += p > 0 ? p * log(p / (q + epsilon / in_all)) : 0;
        }
    }
    return sum;
}

static const double MOST_CUT = 0.1; /* of the values, by a threshold */

void shr_histogram_entropy(const struct shr_histogram *h, double *ret_min, double *ret_max)
{
    if (is_flat(h)) {
        *ret_min = *ret_max = 0;
        return;
    }
    double counts[BINS], total = (double)(h->n - h->zeros); /* of |x| */
    int used = 0;
    for (int i = 0; i < BINS; i++) {
        counts[i] = (double)h->count[BINS + i] + (double)h->count[BINS - 1 - i];
        counts[i] -= i == 0 ? (double)h->zeros : 0;
        used = counts[i] > 0 ? i + 1 : used;
    }
    int best = used, levels = SHR_HISTOGRAM_LEVELS;
    levels *= h->min == 0 || h->max == 0 ? 2 : 1;
    double least = INFINITY, above = 0;
    /* With nearly everything in the last bin, P and Q are alike and say nothing. */
    for (int bins = used; bins >= levels && above <= MOST_CUT * total; bins--) {
        double kl = divergence(counts, bins, levels, above, total);
        if (kl < least) {
            least = kl;
            best = bins;
        }
        above += counts[bins - 1];
    }
    double threshold = best * bin_width(h);
    *ret_min = fmax(-threshold, h->min);
    *ret_max = fmin(threshold, h->max);
}

/* ── Mean squared error ─────────────────────────────────────────────────────────────────────── */

static double squared_error(const struct shr_histogram *h, int levels, double min, double max)
{
    double width = bin_width(h), step = (max - min) / levels, zero = rint(-min / step), sum = 0;
    for (int i = 0; i < 2 * BINS; i++) {
        if (h->count[i] == 0) {
            continue;
        }
        double x = (i - BINS + 0.5) * width;
        double q = fmin(fmax(rint(x / step) + zero, 0), levels) - zero;
        sum += (double)h->count[i] * (x - q * step) * (x - q * step);
    }
    return sum;
}

void shr_histogram_mse(const struct shr_histogram *h, int levels, double *ret_min, double *ret_max)
{
    *ret_min = h->min;
    *ret_max = h->max;
    double least = INFINITY;
    for (int i = MSE_STEPS; i > 0 && !is_flat(h); i--) {
        double min = h->min * i / MSE_STEPS, max = h->max * i / MSE_STEPS;
        double error = squared_error(h, levels, min, max);
        if (error < least) {
            least = error;
            *ret_min = min;
            *ret_max = max;
        }
    }
}

bool shr_histogram_cuts_too_much(const struct shr_histogram *h, int levels, double min, double max)
{
    return !is_flat(h) &&
           squared_error(h, levels, min, max) > squared_error(h, levels, h->min, h->max);
}
