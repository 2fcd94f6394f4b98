/* SPDX-License-Identifier: Apache-2.0 */
/* A whole model.safetensors: header, then roles for the smallest architecture, then every byte that was promised. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "model/safetensors.h"
#include "model/weights.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void touch(const cpl_tensor *t)
{
    float values[64];
    size_t n = cpl_tensor_count(t);
    for (size_t at = 0; at < n; at += 64) cpl_tensor_read_f32(t, at, n - at < 64 ? n - at : 64, values);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const cpl_arch arch = {.layers = 1,
                                  .hidden = 2,
                                  .heads = 1,
                                  .head_size = 2,
                                  .intermediate = 3,
                                  .vocab = 4,
                                  .positions = 3,
                                  .types = 1,
                                  .head = CPL_HEAD_POOLER_CLASSIFIER,
                                  .labels = 1};
    cpl_arena arena;
    cpl_safetensors s;
    cpl_weights_by_role w;
    uint64_t parameters;
    cpl_error err;
    cpl_arena_init(&arena, 4096, 0);
    cpl_error_clear(&err);
    if (cpl_safetensors_parse(&s, "fuzz", data, size, &arena, &err) == CPL_OK) {
        unsigned sum = 0;
        for (size_t i = 0; i < s.count; i++)
            for (uint64_t k = 0; k < s.tensors[i].bytes; k++) sum += s.tensors[i].data[k];
        volatile unsigned sink = sum; /* the reads must happen */
        (void)sink;
        if (cpl_weights_assign(&w, &parameters, &s, &arch, &arena, &err) == CPL_OK) {
            touch(&w.word_embedding);
            touch(&w.layers[0].down_weight);
            touch(&w.layers[0].output_norm_bias);
            touch(&w.classifier_weight);
        }
    }
    if (err.status && (!err.what[0] || strpbrk(err.what, "\r\n"))) abort(); /* every refusal is one line */
    cpl_arena_deinit(&arena);
    return 0;
}
