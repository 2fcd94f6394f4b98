/* SPDX-License-Identifier: Apache-2.0 */
/* peak_amx.c - tile products on registers only: four accumulators, so that each waits for its own sum of three products
 * ago. One product of full tiles is 16 x 16 x 64 multiply-adds in int8, half of that in bf16, every 16 cycles. */
#include "kernel/amx.h"
#include "kernel/peak.h"
#include "kernel/tile_amx.h"

enum { PER_ROUND = 16 };

double cpl_peak_block_amx_int8(uint64_t rounds, float *sink)
{
    cpl_amx_table.begin();
    T_ZERO(0);
    T_ZERO(1);
    T_ZERO(2);
    T_ZERO(3);
    T_ZERO(4);
    T_ZERO(5);
    for (uint64_t i = 0; i < rounds; i++)
        __asm__ volatile(".rept 4\n\ttdpbssd %%tmm5, %%tmm4, %%tmm0\n\ttdpbssd %%tmm5, %%tmm4, %%tmm1\n\t"
                         "tdpbssd %%tmm5, %%tmm4, %%tmm2\n\ttdpbssd %%tmm5, %%tmm4, %%tmm3\n\t.endr" ::);
    cpl_amx_table.end();
    *sink += 1;
    return 2.0 * 16 * 16 * 64 * PER_ROUND * (double)rounds;
}

double cpl_peak_block_amx_bf16(uint64_t rounds, float *sink)
{
    cpl_amx_table.begin();
    T_ZERO(0);
    T_ZERO(1);
    T_ZERO(2);
    T_ZERO(3);
    T_ZERO(4);
    T_ZERO(5);
    for (uint64_t i = 0; i < rounds; i++)
        __asm__ volatile(".rept 4\n\ttdpbf16ps %%tmm5, %%tmm4, %%tmm0\n\ttdpbf16ps %%tmm5, %%tmm4, %%tmm1\n\t"
                         "tdpbf16ps %%tmm5, %%tmm4, %%tmm2\n\ttdpbf16ps %%tmm5, %%tmm4, %%tmm3\n\t.endr" ::);
    cpl_amx_table.end();
    *sink += 1;
    return 2.0 * 16 * 16 * 32 * PER_ROUND * (double)rounds;
}
