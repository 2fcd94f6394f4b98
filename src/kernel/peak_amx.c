/* SPDX-License-Identifier: Apache-2.0 */
/* peak_amx.c - tile products on registers only: four accumulators, so that each waits for its own sum of three products
 * ago. One product of full tiles is 16 x 16 x 64 multiply-adds in int8, half of that in bf16, every 16 cycles.
 *
 * The operands are random numbers: on zeros the same loop runs up to a quarter faster, since the core then keeps a
 * clock that it can't keep while it multiplies. For the same reason the clock that a product's 16 cycles are cycles of
 * is told by adds between products, so many that products wait for them a fifth of the time. */
#include "base/clock.h"
#include "kernel/amx.h"
#include "kernel/peak.h"
#include "kernel/tile_amx.h"

enum { PER_ROUND = 16, OPERANDS = 4, ADDS = 20 };

/* Numbers of int8, or of bf16 from 1/2 to 2 of either sign. */
static void load_operands(int bf16)
{
    static const uint32_t low = 0x80ff80ff, one = 0x3f003f00; /* sign and mantissa; 1/2 */
    uint32_t words[OPERANDS][256] __attribute__((aligned(64)));
    uint32_t state = 12345;
    for (int i = 0; i < OPERANDS * 256; i++) {
        state = state * 1664525u + 1013904223u;
        const uint32_t random = state ^ state >> 15;
        words[i / 256][i % 256] = bf16 ? (random & low) | one : random;
    }
    T_LOAD(4, words[0], 64);
    T_LOAD(5, words[1], 64);
    T_LOAD(6, words[2], 64);
    T_LOAD(7, words[3], 64);
    T_ZERO(0);
    T_ZERO(1);
    T_ZERO(2);
    T_ZERO(3);
    AMX_FENCE();
}

double cpl_peak_block_amx_int8(uint64_t rounds, float *sink)
{
    cpl_amx_table.begin();
    load_operands(0);
    for (uint64_t i = 0; i < rounds; i++)
        __asm__ volatile(".rept 4\n\ttdpbssd %%tmm6, %%tmm4, %%tmm0\n\ttdpbssd %%tmm6, %%tmm5, %%tmm1\n\t"
                         "tdpbssd %%tmm7, %%tmm4, %%tmm2\n\ttdpbssd %%tmm7, %%tmm5, %%tmm3\n\t.endr" ::);
    cpl_amx_table.end();
    *sink += 1;
    return 2.0 * 16 * 16 * 64 * PER_ROUND * (double)rounds;
}

double cpl_peak_block_amx_bf16(uint64_t rounds, float *sink)
{
    cpl_amx_table.begin();
    load_operands(1);
    for (uint64_t i = 0; i < rounds; i++)
        __asm__ volatile(".rept 4\n\ttdpbf16ps %%tmm6, %%tmm4, %%tmm0\n\ttdpbf16ps %%tmm6, %%tmm5, %%tmm1\n\t"
                         "tdpbf16ps %%tmm7, %%tmm4, %%tmm2\n\ttdpbf16ps %%tmm7, %%tmm5, %%tmm3\n\t.endr" ::);
    cpl_amx_table.end();
    *sink += 1;
    return 2.0 * 16 * 16 * 32 * PER_ROUND * (double)rounds;
}

/* ADDS dependent adds behind each product, which take longer than it. */
#define PRODUCT_AND_ADDS(op, t, a, b)                                                                                  \
#op " %%tmm" #b ", %%tmm" #a ", %%tmm" #t "\n\t.rept 20\n\tadd %0, %0\n\t.endr\n\t"
#define CLOCK_LOOP(op)                                                                                                 \
    for (uint64_t i = 0; i < rounds; i++)                                                                              \
    __asm__ volatile(PRODUCT_AND_ADDS(op, 0, 4, 6) PRODUCT_AND_ADDS(op, 1, 5, 6) PRODUCT_AND_ADDS(op, 2, 4, 7)         \
                         PRODUCT_AND_ADDS(op, 3, 5, 7)                                                                 \
                     : "+r"(x))

static double clock_beside(uint64_t rounds, int bf16)
{
    uint64_t x = 1;
    cpl_amx_table.begin();
    load_operands(bf16);
    const uint64_t start = cpl_clock_ns();
    if (bf16)
        CLOCK_LOOP(tdpbf16ps);
    else
        CLOCK_LOOP(tdpbssd);
    const uint64_t ns = cpl_clock_ns() - start;
    cpl_amx_table.end();
    return 4.0 * ADDS * (double)rounds * 1e9 / (double)(ns + 1);
}

double cpl_peak_clock_amx_int8(uint64_t rounds) { return clock_beside(rounds, 0); }
double cpl_peak_clock_amx_bf16(uint64_t rounds) { return clock_beside(rounds, 1); }
