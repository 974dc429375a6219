/* Compiler attributes, the one place where extensions of gcc and clang are used.
 *
 * Everything else is plain C11, so that another compiler needs to change this file only. */
#ifndef SHR_BASE_ATTR_H
#define SHR_BASE_ATTR_H

#if defined(__clang__)
#define SHR_UNROLL _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__)
#define SHR_UNROLL _Pragma("GCC unroll 32")
#else
#define SHR_UNROLL /* before a loop of constant count, whose arrays are to become registers */
#endif

#if defined(__GNUC__) || defined(__clang__)
#define SHR_API __attribute__((visibility("default")))
#define SHR_MUSTCHECK __attribute__((warn_unused_result))
#define SHR_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define SHR_UNUSED __attribute__((unused))
#define SHR_INLINE                                                                                 \
    static inline __attribute__((always_inline)) /* for kernels with constant sizes */
#else
#define SHR_API
#define SHR_MUSTCHECK
#define SHR_PRINTF(fmt, args)
#define SHR_UNUSED
#define SHR_INLINE static inline
#endif

/* Elements of a real array (not of a pointer). */
#define SHR_COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

#endif
