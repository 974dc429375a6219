/* Random numbers; see rng.h. Integer arithmetic only, but for the logarithm of shr_rng_normal. */
#include "core/rng.h"

#include <math.h>

static uint64_t rotate(uint64_t x, int n)
{
    return x << n | x >> (64 - n);
}

void shr_rng_init(struct shr_rng *rng, uint64_t seed)
{
    for (int i = 0; i < 4; i++) { /* splitmix64 */
        seed += 0x9e3779b97f4a7c15u;
        uint64_t z = seed;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
        z = (z ^ z >> 27) * 0x94d049bb133111ebu;
        rng->s[i] = z ^ z >> 31;
    }
}

uint64_t shr_rng_next(struct shr_rng *rng)
{
    uint64_t *s = rng->s;
    const uint64_t result = rotate(s[1] * 5, 7) * 9;
    const uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate(s[3], 45);
    return result;
}

uint64_t shr_rng_below(struct shr_rng *rng, uint64_t n)
{
    if (n == 0) {
        return 0;
    }
    const uint64_t reject = (0 - n) % n; /* 2^64 mod n: the part that does not fill a round */
    uint64_t r;
    do {
        r = shr_rng_next(rng);
    } while (r < reject);
    return r % n;
}

double shr_rng_uniform(struct shr_rng *rng)
{
    return (double)(shr_rng_next(rng) >> 11) * 0x1p-53;
}

/* Marsaglia's polar method; the second number of each pair is dropped, so that the state is s. */
double shr_rng_normal(struct shr_rng *rng)
{
    double x, y, r;
    do {
        x = 2 * shr_rng_uniform(rng) - 1;
        y = 2 * shr_rng_uniform(rng) - 1;
        r = x * x + y * y;
    } while (r >= 1 || r == 0);
    return x * sqrt(-2 * log(r) / r);
}
