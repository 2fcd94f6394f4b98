/* SPDX-License-Identifier: Apache-2.0 */
/* words.c - the word table as stored or in int8 (words.h). Filled at load, then only read; any thread. */
#include "backend/native/words.h"

#include <string.h>

static size_t stored_bytes(const cpl_tensor *t)
{
    return (size_t)t->shape[0] * t->shape[1] * (t->dtype == CPL_DTYPE_F32 ? 4 : 2);
}

void cpl_native_words_take(cpl_native_words *w, cpl_native_bump *b, const cpl_tensor *stored, int as_i8)
{
    const size_t count = (size_t)stored->shape[0] * stored->shape[1];
    w->stored = *stored;
    w->q = NULL;
    w->scale = NULL;
    if (as_i8) {
        w->q = (int8_t *)cpl_native_take(b, (count + 3) / 4);
        w->scale = cpl_native_take(b, stored->shape[0]);
        w->stored.data = NULL;
    } else {
        w->stored.data = cpl_native_take(b, (stored_bytes(stored) + 3) / 4);
    }
}

void cpl_native_words_fill(cpl_native_words *w, const cpl_kernels *k, const cpl_tensor *stored, float *row)
{
    const uint32_t n = stored->shape[1];
    if (!w->q) {
        memcpy((void *)w->stored.data, stored->data, stored_bytes(stored));
        return;
    }
    for (uint32_t id = 0; id < stored->shape[0]; id++) {
        cpl_tensor_read_f32(stored, (size_t)id * n, n, row);
        k->weights_i8(w->q + (size_t)id * n, &w->scale[id], row, n);
    }
}

void cpl_native_words_fetch(const cpl_native_words *w, uint32_t id)
{
    const size_t n = w->stored.shape[1], bytes = w->q ? n : stored_bytes(&w->stored) / w->stored.shape[0];
    const char *at = (w->q ? (const char *)w->q : (const char *)w->stored.data) + id * bytes;
    for (size_t i = 0; i < bytes; i += 64) __builtin_prefetch(at + i);
    if (w->q) __builtin_prefetch(&w->scale[id]);
}

void cpl_native_words_add(const cpl_native_words *w, const cpl_kernels *k, uint32_t id, const float *b, const float *c,
                          float *x)
{
    const uint32_t n = w->stored.shape[1];
    const size_t at = (size_t)id * n;
    if (w->q) {
        k->add3_i8(x, w->q + at, w->scale[id], b, c, n);
    } else if (w->stored.dtype == CPL_DTYPE_F32) {
        k->add3_f32(x, (const float *)w->stored.data + at, b, c, n);
    } else {
        cpl_tensor_read_f32(&w->stored, at, n, x);
        k->add3_f32(x, x, b, c, n);
    }
}
