/* SPDX-License-Identifier: Apache-2.0 */
/* Messages from the network: an InferRequest, and the symbol a reflection client asks for. What is accepted keeps the
 * limits, lies inside the message and is UTF-8. */
#include <stdint.h>
#include <stdlib.h>

#include "base/utf8.h"
#include "wire/descriptors.h"
#include "wire/infer_decode.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_text(cpl_text t, const uint8_t *data, size_t size)
{
    if (t.size > 64 || cpl_utf8_valid_prefix(t.data, t.size) != t.size) abort();
    if (t.size && ((const uint8_t *)t.data < data || (const uint8_t *)t.data + t.size > data + size)) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const cpl_infer_limits limits = {.pairs_max = 20, .text_bytes_max = 64};
    cpl_pair_list list = {0};
    cpl_error err = {0};
    cpl_status st = cpl_infer_decode(&list, data, size, &limits, &err);
    if (st && (st != CPL_INVALID || !*err.what)) abort();
    if (!st && (list.count < 1 || list.count > limits.pairs_max)) abort();
    for (size_t i = 0; !st && i < list.count; i++) {
        check_text(list.pairs[i].query, data, size);
        check_text(list.pairs[i].document, data, size);
    }
    cpl_pair_list_deinit(&list);
    /* The same bytes as a name, and as a descriptor set of somebody else's making. */
    cpl_descriptors own = cpl_descriptors_own(), hostile = {data, size};
    cpl_text text = {(const char *)data, size};
    char name[64];
    cpl_descriptors_find_symbol(&own, text);
    cpl_descriptors_find_symbol(&hostile, cpl_text_of("a.b.c"));
    cpl_descriptors_import(&hostile, 0, 0);
    cpl_descriptors_service(&hostile, 0, 0, name, sizeof name);
    return 0;
}
