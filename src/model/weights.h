/* SPDX-License-Identifier: Apache-2.0 */
/* weights.h - the tensors of a safetensors file by role. */
#ifndef CPL_MODEL_WEIGHTS_H
#define CPL_MODEL_WEIGHTS_H

#include "base/arena.h"
#include "couplet.h"
#include "model/model.h"
#include "model/safetensors.h"

/* Finds every tensor that `arch` needs, under the prefix the file uses ("", "bert." or "model."), with LayerNorm's
 * names old ("gamma", "beta") or new, and checks shape and dtype. Tensors of the encoder that `arch` has no place for
 * (a further layer, an adapter) are an error too: without them the model would run, and be another one. Errors name
 * file, tensor, expected and found. *parameters counts the elements taken. Marks tensors of `s` as used. */
cpl_status cpl_weights_assign(cpl_weights_by_role *out, uint64_t *parameters, const cpl_safetensors *s,
                              const cpl_arch *arch, cpl_arena *arena, cpl_error *err);

#endif
