/* SPDX-License-Identifier: Apache-2.0 */
/* keep.h - what of an int8 or int4 model is kept in a higher precision: the setting `keep`. */
#ifndef CPL_BACKEND_NATIVE_KEEP_H
#define CPL_BACKEND_NATIVE_KEEP_H

#include "backend/native/native.h"

/* `text` is a list of
 *
 *   ITEM[=PRECISION],...   ITEM: qkv, out, up, down, layer (all four), each followed by .N for layer N alone; attention
 *
 * and kinds[layer][item], what the precision makes of the model, become better by it. PRECISION: fp32, bf16, fp16 or
 * int8, the next better one when not given (bf16 for int8, int8 for 4 bits). *attention_fp32 becomes 1 when `attention`
 * is named. CPL_INVALID for anything else, and for an entry that makes nothing better. */
cpl_status cpl_native_keep_read(cpl_native_kind (*kinds)[CPL_NATIVE_ITEMS], int *attention_fp32, const char *text,
                                uint32_t layers, cpl_error *err);
/* ", kept: down.5 bf16, up.0 bf16" for the load line, "" when kinds are base's; cut with "..." where cap ends. */
void cpl_native_keep_name(char *to, size_t cap, const cpl_native_kind (*kinds)[CPL_NATIVE_ITEMS],
                          const cpl_native_kind (*base)[CPL_NATIVE_ITEMS], uint32_t layers);

#endif
