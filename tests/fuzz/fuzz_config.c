/* SPDX-License-Identifier: Apache-2.0 */
/* A config.json: accepted ones must describe a model whose sizes fit together; refusals must say why. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "model/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    cpl_arena arena;
    cpl_model_config c;
    cpl_error err;
    cpl_arena_init(&arena, 4096, 0);
    cpl_error_clear(&err);
    if (cpl_model_config_parse(&c, "fuzz", (const char *)data, size, &arena, &err) == CPL_OK) {
        const cpl_arch *a = &c.arch;
        if (!a->layers || !a->heads || a->heads * a->head_size != a->hidden || !a->types || a->positions < 3) abort();
        if (!(a->norm_epsilon > 0) || c.classifier != (a->labels > 0)) abort();
        size_t bytes = strlen(c.architecture) + strlen(c.note);
        for (uint32_t i = 0; i < a->labels; i++) bytes += strlen(c.labels[i]);
        volatile size_t sink = bytes; /* the reads must happen */
        (void)sink;
    } else if (!err.what[0] || strpbrk(err.what, "\r\n")) {
        abort(); /* every refusal is one sentence on one line */
    }
    cpl_arena_deinit(&arena);
    return 0;
}
