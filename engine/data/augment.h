/* Augmentation of images: each sample a little different in every epoch. For feeds.
 *
 * What happens to a sample follows from seed, epoch and the number of the sample alone, so that it
 * does not matter who asks, when, and in which batch. Thread: any. */
#ifndef SHR_DATA_AUGMENT_H
#define SHR_DATA_AUGMENT_H

#include <stdbool.h>
#include <stdint.h>

struct shr_augment { /* all zero = none */
    int64_t shift;   /* pixels to each side, at most; what comes in is empty */
    bool flip;       /* left becomes right, half of the time */
    double crop;     /* share of both sides that is cut away, at most; the rest is enlarged */
    uint64_t seed;
};

static inline bool shr_augment_any(const struct shr_augment *a)
{
    return a->shift > 0 || a->flip || a->crop > 0;
}

struct shr__image {
    int64_t channels, height, width;
    float *empty; /* (channels) of a pixel without light, as the model sees it; the owner's */
};

/* in, out: (C, H, W), not the same. */
void shr__augment(const struct shr_augment *a, int64_t epoch, int64_t sample,
                  const struct shr__image *image, const float *in, float *out);

#endif
