/* Augmentation; see augment.h.
 *
 * A pixel of the new image is looked up in the old one: where it was before the image was shifted,
 * flipped and enlarged. Between pixels values are interpolated linearly. */
#include "data/augment.h"

#include <math.h>

#include "core/rng.h"

struct change { /* of one sample */
    bool flip;
    double shift_x, shift_y;
    double size, from_x, from_y; /* of the part that stays, in shares of the sides */
};

static double within(struct shr_rng *rng, int64_t most)
{
    return (double)((int64_t)shr_rng_below(rng, (uint64_t)(2 * most + 1)) - most);
}

/* All draws are made, used or not: one kind does not change the others. */
static struct change draw(const struct shr_augment *a, int64_t epoch, int64_t sample)
{
    struct shr_rng rng;
    struct change c;
    shr_rng_init(&rng, a->seed ^ ((uint64_t)epoch + 1) * 0x9e3779b97f4a7c15u);
    shr_rng_init(&rng, shr_rng_next(&rng) ^ (uint64_t)sample);
    c.flip = shr_rng_below(&rng, 2) == 1 && a->flip;
    c.shift_x = within(&rng, a->shift);
    c.shift_y = within(&rng, a->shift);
    c.size = 1 - a->crop * shr_rng_uniform(&rng);
    c.from_x = (1 - c.size) * shr_rng_uniform(&rng);
    c.from_y = (1 - c.size) * shr_rng_uniform(&rng);
    return c;
}

/* Where pixel i of n comes from; the part that stays ends at the image's edge. */
static double source(int64_t i, int64_t n, double size, double from)
{
    const double at = from * (double)n + ((double)i + 0.5) * size - 0.5;
    return fmin(fmax(at, 0), (double)(n - 1));
}

static float pixel(const float *plane, const struct shr__image *m, int64_t y, int64_t x,
                   float empty)
{
    const bool inside = y >= 0 && x >= 0 && y < m->height && x < m->width;
    return inside ? plane[y * m->width + x] : empty;
}

static float blend(const float *plane, const struct shr__image *m, double y, double x, float empty)
{
    const int64_t y0 = (int64_t)floor(y), x0 = (int64_t)floor(x);
    const float fy = (float)(y - (double)y0), fx = (float)(x - (double)x0);
    float row[2];
    for (int64_t k = 0; k < 2; k++) {
        const float left = fy == 0 && k == 1 ? 0 : pixel(plane, m, y0 + k, x0, empty);
        row[k] = fx == 0 ? left : left + fx * (pixel(plane, m, y0 + k, x0 + 1, empty) - left);
    }
    return fy == 0 ? row[0] : row[0] + fy * (row[1] - row[0]);
}

void shr__augment(const struct shr_augment *a, int64_t epoch, int64_t sample,
                  const struct shr__image *image, const float *in, float *out)
{
    const struct change c = draw(a, epoch, sample);
    const int64_t height = image->height, width = image->width;
    for (int64_t y = 0; y < height; y++) {
        const double from_y = source(y, height, c.size, c.from_y) - c.shift_y;
        for (int64_t x = 0; x < width; x++) {
            const int64_t seen = c.flip ? width - 1 - x : x;
            const double from_x = source(seen, width, c.size, c.from_x) - c.shift_x;
            for (int64_t k = 0; k < image->channels; k++) {
                const int64_t plane = k * height * width;
                out[plane + y * width + x] =
                    blend(in + plane, image, from_y, from_x, image->empty[k]);
            }
        }
    }
}
