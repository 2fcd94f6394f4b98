/* SPDX-License-Identifier: Apache-2.0 */
/* scan_neon.c - scan.h in quarters of 16 bytes; the method is scan_avx512.c's. The last bytes of a text are copied
 * before they are read as a vector. */
#include <string.h>

#include "text/scan_isa.h"

#if defined(__aarch64__)
#include <arm_neon.h>

/* 1 << (c / 16), 0 from 0x80 on. */
static inline uint8x16_t row_of(uint8x16_t c)
{
    static const uint8_t rows[16] = {1, 2, 4, 8, 16, 32, 64, 128};
    return vqtbl1q_u8(vld1q_u8(rows), vshrq_n_u8(c, 4));
}

static inline uint8x16_t members(uint8x16_t c, uint8x16_t rows, uint8x16_t set)
{
    return vtstq_u8(vqtbl1q_u8(set, vandq_u8(c, vdupq_n_u8(15))), rows);
}

/* A bit a byte of four vectors whose bytes are 0 or 255. */
static inline uint64_t bits_of(const uint8x16_t m[4])
{
    static const uint8_t weights[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    uint8x16_t w = vld1q_u8(weights);
    uint8x16_t ab = vpaddq_u8(vandq_u8(m[0], w), vandq_u8(m[1], w));
    uint8x16_t cd = vpaddq_u8(vandq_u8(m[2], w), vandq_u8(m[3], w));
    uint8x16_t all = vpaddq_u8(ab, cd);
    return vgetq_lane_u64(vreinterpretq_u64_u8(vpaddq_u8(all, all)), 0);
}

static size_t copy_neon(char *to, const char *from, size_t n, const cpl_scan_classes *classes)
{
    const uint8x16_t drop = vld1q_u8(classes->drop.nibble), lower = vdupq_n_u8(classes->lower);
    for (size_t i = 0; i < n; i += 16) {
        uint8_t rest[16] = {0};
        size_t left = n - i;
        if (left < 16) memcpy(rest, from + i, left);
        uint8x16_t c = vld1q_u8(left < 16 ? rest : (const uint8_t *)from + i);
        uint8x16_t upper = vcltq_u8(vsubq_u8(c, vdupq_n_u8('A')), vdupq_n_u8(26));
        uint8x16_t stop = vorrq_u8(members(c, row_of(c), drop), vcgeq_u8(c, vdupq_n_u8(0x80)));
        vst1q_u8((uint8_t *)to + i, vorrq_u8(c, vandq_u8(upper, lower)));
        uint64_t nibbles = vget_lane_u64(vreinterpret_u64_u8(vshrn_n_u16(vreinterpretq_u16_u8(stop), 4)), 0);
        if (left < 16) nibbles &= (1ull << (4 * left)) - 1;
        if (nibbles) return i + (size_t)__builtin_ctzll(nibbles) / 4;
    }
    return n;
}

static size_t split_neon(const char *text, size_t n, const cpl_scan_classes *classes, uint16_t *starts, uint16_t *ends)
{
    const uint8x16_t punct_set = vld1q_u8(classes->punct.nibble), space_set = vld1q_u8(classes->space.nibble);
    cpl_scan_cursor cursor = {0};
    for (size_t i = 0; i < n; i += 64) {
        uint8x16_t punct[4], space[4];
        for (int k = 0; k < 4; k++) {
            uint8x16_t c = vld1q_u8((const uint8_t *)text + i + 16 * k), rows = row_of(c);
            punct[k] = members(c, rows, punct_set);
            space[k] = members(c, rows, space_set);
        }
        uint64_t punct_bits = bits_of(punct);
        cpl_scan_block(&cursor, ~(punct_bits | bits_of(space)), punct_bits, i, starts, ends);
    }
    return cpl_scan_finish(&cursor, n, ends);
}

const cpl_scan cpl_scan_neon = {"neon", copy_neon, split_neon};
#else
typedef int cpl_scan_neon_elsewhere;
#endif
