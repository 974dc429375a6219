/* Random numbers that are the same everywhere: xoshiro256** seeded by splitmix64
 * (Blackman and Vigna, 2018). State is the caller's. Thread: one at a time. */
#ifndef SHR_CORE_RNG_H
#define SHR_CORE_RNG_H

#include <stdint.h>

struct shr_rng {
    uint64_t s[4];
};

void shr_rng_init(struct shr_rng *rng, uint64_t seed);
uint64_t shr_rng_next(struct shr_rng *rng);
uint64_t shr_rng_below(struct shr_rng *rng, uint64_t n); /* uniform in [0, n), unbiased */
double shr_rng_uniform(struct shr_rng *rng);             /* [0, 1), 53 bits */
double shr_rng_normal(struct shr_rng *rng);              /* mean 0, variance 1 */

#endif
