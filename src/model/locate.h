/* SPDX-License-Identifier: Apache-2.0 */
/* locate.h - from a model's name to the directory that holds it. Nothing is downloaded. */
#ifndef CPL_MODEL_LOCATE_H
#define CPL_MODEL_LOCATE_H

#include <stdbool.h>

#include "couplet.h"

/* Looks for `name`: a directory as it is; else models/LAST_PART; else the Hugging Face cache (HF_HUB_CACHE, HF_HOME,
 * ~/.cache/huggingface), there the revision that refs/main names. With allow_seeded, a cross-encoder called
 * ms-marco-MiniLM-L-6-v2 that is nowhere is stood in for by models/seeded-cross-encoder: *seeded says so (its speed is
 * real, its scores mean nothing), and callers must say it on; seeded may be NULL without allow_seeded. CPL_NOT_FOUND
 * names the places that were tried. */
cpl_status cpl_model_locate(char *dir, size_t cap, const char *name, bool allow_seeded, bool *seeded, cpl_error *err);

#endif
