/* The float product of the vector libraries: tiles of rows x vectors whose sums stay in registers.
 *
 * B is packed in panels of two vectors of columns, row after row; the last panel has one to three,
 * as fits. Rows of A are given by pointers and a row's elements by pieces of contiguous memory, so
 * that a convolution is a product of its image where it lies. A long k is done in stretches that
 * leave their part of a panel in the first cache, with C holding the sums between them. DESIGN:
 * Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication" (2008), with the
 * pointers of Dukhan, "The Indirect Convolution Algorithm" (2019).
 * Every sum is formed in the order of k, whatever the tile: results do not depend on how rows and
 * panels are shared out. */
#ifndef SHR_KERNELS_F32_TILE_H
#define SHR_KERNELS_F32_TILE_H

#include "kernels/internal.h"
#include "kernels/vf.h"

enum {
    F32_STRETCH = 384,  /* rows of a panel at a time */
    F32_PANEL = 2 * VF, /* columns of all panels but the last */
    F32_LAST = 3 * VF,  /* at most, of the last */
    F32_FEW = 3,        /* rows of a product that is run in chains */
};

struct f32_piece { /* of a row of A */
    size_t at, len;
};

struct f32_act {
    enum shr_act act;
    float lo, hi;
};

struct f32_stretch {
    const float *const *rows; /* (m) pointers into A */
    size_t m;
    const struct f32_piece *pieces; /* relative to a row's pointer + shift */
    size_t n_pieces, shift;
    const float *b;  /* packed: (k, n) */
    size_t n, k, k0; /* k0: the row of B where the stretch begins */
    size_t panel_from, panel_to;
    const float *bias;     /* (n) or NULL; read by the first stretch, as the residual */
    const float *residual; /* (m, n) row stride ldc, or NULL */
    float *c;              /* (m, n) row stride ldc */
    size_t ldc;
    bool first, last;
    bool few; /* the whole product has at most F32_FEW rows */
    struct f32_act act;
};

SHR_INLINE size_t f32_min(size_t a, size_t b)
{
    return a < b ? a : b;
}

SHR_INLINE size_t f32_panels(size_t n)
{
    return n <= F32_LAST ? 1 : (n - F32_LAST + F32_PANEL - 1) / F32_PANEL + 1;
}

/* The panels that hold n columns, as columns. */
SHR_INLINE size_t f32_padded(size_t n)
{
    return (n + VF - 1) / VF * VF;
}

/* Where element (i, j) of a packed B (k, n) is; vectors of a row are whole. */
SHR_INLINE size_t f32_packed_at(size_t k, size_t n, size_t i, size_t j)
{
    const size_t panels = f32_panels(n), panel = f32_min(j / F32_PANEL, panels - 1);
    const size_t from = panel * F32_PANEL, cols = panel + 1 < panels ? F32_PANEL : n - from;
    return from * k + i * f32_padded(cols) + j - from;
}

/* What clipping does of an activation: nothing of a curve, which is applied afterwards. */
SHR_INLINE void f32_bounds(const struct f32_act *a, float *lo, float *hi)
{
    *lo = a->act == SHR_ACT_RELU ? 0 : a->act == SHR_ACT_CLIP ? a->lo : -INFINITY;
    *hi = a->act == SHR_ACT_CLIP ? a->hi : INFINITY;
}

/* Packs B (k, n), row stride ldb, or (n, k) when trans. */
void VF_NAME(f32_pack)(size_t k, size_t n, const float *b, size_t ldb, bool trans, float *packed);

/* Adds a stretch to C. */
void VF_NAME(f32_stretch)(const struct f32_stretch *s);

#endif
