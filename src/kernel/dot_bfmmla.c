/* SPDX-License-Identifier: Apache-2.0 */
/* dot_bfmmla.c - rows rounded to bf16 and the register tile for NEON with bf16 matrix products: up to 6 rows x 16
 * columns.
 *
 * i8_i8mm.c's tile with bfmmla: two rows of four k by two columns of four k, 16 multiply-adds an instruction, four
 * times fp32's. The four sums of an instruction are independent of each other, so a row's bits don't depend on its
 * partner; an odd last row is paired with itself. bfcvtn keeps denormals where the table's contract (and bfmmla) has 0,
 * so they are cleared first. */
#include "kernel/epilogue_neon.h"
#include "kernel/neon.h"

enum { NR = 16, MR = 6, GROUP = 4, ROW_PAIRS = MR / 2, COLUMN_PAIRS = NR / 2 };

/* Four floats to the nearest bf16, denormals to 0. */
CPL_INLINE uint16x4_t round4(float32x4_t x)
{
    const uint32x4_t denormal = vcltq_f32(vabsq_f32(x), vdupq_n_f32(0x1p-126f));
    const float32x4_t normal = vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(x), denormal));
    return vreinterpret_u16_bf16(vcvt_bf16_f32(normal));
}

static void round_rows(void *q, size_t ldq, const float *x, size_t rows, size_t n, size_t ld)
{
    for (size_t r = 0; r < rows; r++, x += ld) {
        uint16_t *out = (uint16_t *)(void *)((char *)q + r * ldq); /* whole groups: rows are filled up with zeros */
        for (size_t i = 0; i < n; i += 4) vst1_u16(out + i, round4(cpl_load_neon(x + i, n - i)));
    }
}

CPL_INLINE bfloat16x8_t load_pair(const uint16_t *first, const uint16_t *second)
{
    return vreinterpretq_bf16_u16(vcombine_u16(vld1_u16(first), vld1_u16(second)));
}

CPL_INLINE void tile_pairs(const cpl_tile_h16 *t, const uint32_t pairs)
{
    float32x4_t acc[ROW_PAIRS][COLUMN_PAIRS];
    const uint16_t *a[ROW_PAIRS][2];
    CPL_UNROLL for (uint32_t i = 0; i < pairs; i++)
    {
        CPL_UNROLL for (int j = 0; j < COLUMN_PAIRS; j++) acc[i][j] = vdupq_n_f32(0);
        const uint32_t second = 2 * i + 1 < t->m ? 2 * i + 1 : 2 * i;
        a[i][0] = (const uint16_t *)(const void *)((const char *)t->a + 2 * i * t->lda);
        a[i][1] = (const uint16_t *)(const void *)((const char *)t->a + second * t->lda);
    }
    const uint16_t *b = t->b;
    const char *hint = t->prefetch;
    const uint32_t end = t->groups * GROUP;
    for (uint32_t p = 0; p < end; p += GROUP, b += NR * GROUP) {
        if (!(p & (4 * GROUP - 1))) {
            __builtin_prefetch(hint, 0, 2);
            hint += 64;
        }
        bfloat16x8_t x[ROW_PAIRS];
        CPL_UNROLL for (uint32_t i = 0; i < pairs; i++) x[i] = load_pair(a[i][0] + p, a[i][1] + p);
        CPL_UNROLL for (int j = 0; j < COLUMN_PAIRS; j++)
        {
            const bfloat16x8_t columns = vreinterpretq_bf16_u16(vld1q_u16(b + 8 * j));
            CPL_UNROLL for (uint32_t i = 0; i < pairs; i++) acc[i][j] = vbfmmlaq_f32(acc[i][j], x[i], columns);
        }
    }
    const cpl_store_neon_to s = {t->c, t->ldc, t->bias, t->residual, t->ldr, t->epilogue};
    CPL_UNROLL for (uint32_t i = 0; i < pairs; i++)
    {
        float32x4_t row[2][4];
        CPL_UNROLL for (int j = 0; j < 4; j++)
        {
            const float64x2_t left = vreinterpretq_f64_f32(acc[i][2 * j]);
            const float64x2_t right = vreinterpretq_f64_f32(acc[i][2 * j + 1]);
            row[0][j] = vreinterpretq_f32_f64(vtrn1q_f64(left, right));
            row[1][j] = vreinterpretq_f32_f64(vtrn2q_f64(left, right));
        }
        cpl_store_row_neon(&s, 2 * i, row[0]);
        if (2 * i + 1 < t->m) cpl_store_row_neon(&s, 2 * i + 1, row[1]);
    }
    cpl_activate_neon(t->c, t->ldc, t->m, t->epilogue);
}

static void tile_1(const cpl_tile_h16 *t) { tile_pairs(t, 1); }
static void tile_2(const cpl_tile_h16 *t) { tile_pairs(t, 2); }
static void tile_3(const cpl_tile_h16 *t) { tile_pairs(t, 3); }

static void tile(const cpl_tile_h16 *t)
{
    static void (*const by_pairs[ROW_PAIRS + 1])(const cpl_tile_h16 *) = {NULL, tile_1, tile_2, tile_3};
    by_pairs[(t->m + 1) / 2](t);
}

void cpl_kernels_bfmmla(cpl_kernels *k)
{
    k->h16[CPL_H16_BF16] = (cpl_h16){"neon-bfmmla", MR, NR, GROUP, tile, round_rows};
}
