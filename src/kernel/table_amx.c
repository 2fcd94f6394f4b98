/* SPDX-License-Identifier: Apache-2.0 */
/* table_amx.c - the AMX kernels' table, and a thread's way in and out of the tiles. The configuration is constant: one
 * built on the stack was lost by a compiler that doesn't see ldtilecfg read it. */
#include "kernel/amx.h"
#include "kernel/tile_amx.h"

CPL_AMX_DECLARE(AMX_NAME);

/* Palette 1, eight tiles of 16 rows of 64 bytes. */
static const struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} config __attribute__((aligned(64))) = {
    .palette = 1,
    .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64},
    .rows = {16, 16, 16, 16, 16, 16, 16, 16},
};

static void begin(void) { T_CONFIG(&config); }

static void end(void) { T_RELEASE(); }

const cpl_amx_kernels AMX_NAME(cpl_amx_table) = {
    .begin = begin,
    .end = end,
    .gemm = AMX_NAME(cpl_amx_gemm_run),
    .attention = AMX_NAME(cpl_amx_attention_run),
    .attention_scratch = AMX_NAME(cpl_amx_attention_room),
    .put_row = AMX_NAME(cpl_amx_put_row),
    .get_row = AMX_NAME(cpl_amx_get_row),
    .norm = AMX_NAME(cpl_amx_norm),
    .quantise_halves = AMX_NAME(cpl_amx_quantise_halves),
    .quantise_activated = AMX_NAME(cpl_amx_quantise_activated),
};
