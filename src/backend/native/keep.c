/* SPDX-License-Identifier: Apache-2.0 */
/* keep.c - the setting `keep` read, and what it kept in words (keep.h).
 *
 * The idea: q, k and v share their input and so its form, which makes four items a layer: qkv, out, up, down. A list is
 * applied from left to right; what it may say of an item is only a step up, so that the setting can't make a model
 * worse than the precision asked for, nor say something that changes nothing. No state, no threads. */
#include "backend/native/keep.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

static const char *const items[CPL_NATIVE_ITEMS] = {"qkv", "out", "up", "down"};
static const char *const kind_names[] = {[CPL_NATIVE_F32] = "fp32",
                                         [CPL_NATIVE_BF16] = "bf16",
                                         [CPL_NATIVE_FP16] = "fp16",
                                         [CPL_NATIVE_I8] = "int8",
                                         [CPL_NATIVE_I4] = "int4"};
enum { KINDS = sizeof kind_names / sizeof kind_names[0], WORD = 32 };

/* Better the smaller; bf16 and fp16 are as good. */
static int rank(cpl_native_kind kind)
{
    switch (kind) {
    case CPL_NATIVE_F32: return 0;
    case CPL_NATIVE_BF16:
    case CPL_NATIVE_FP16: return 1;
    case CPL_NATIVE_I8: return 2;
    default: return 3;
    }
}

typedef struct entry {
    char item[WORD], precision[WORD];
    long layer; /* -1: all */
} entry;

/* "down.5=bf16", n bytes of it. */
static int split(entry *e, const char *text, size_t n)
{
    char word[2 * WORD];
    *e = (entry){.layer = -1};
    if (!n || n >= sizeof word) return 0;
    memcpy(word, text, n);
    word[n] = 0;
    char *equals = strchr(word, '=');
    if (equals) {
        *equals++ = 0;
        if (!*equals || snprintf(e->precision, WORD, "%s", equals) >= WORD) return 0;
    }
    char *dot = strchr(word, '.'), *end;
    if (dot) {
        *dot++ = 0;
        e->layer = strtol(dot, &end, 10);
        if (*dot < '0' || *dot > '9' || *end) return 0;
    }
    return snprintf(e->item, WORD, "%s", word) < WORD;
}

static cpl_status bad(cpl_error *err, const char *text, size_t n, const char *why)
{
    return cpl_fail(
        err, CPL_INVALID,
        "can't keep \"%.*s\": %s; keep is none, auto or a list of ITEM[.LAYER][=PRECISION], ITEM one of qkv, "
        "out, up, down, layer and attention, PRECISION one of fp32, bf16, fp16 and int8",
        (int)(n < 40 ? n : 40), text, why);
}

/* Kind to keep an item in that has `now` without; KINDS when `precision` names none. */
static int kind_of(const char *precision, cpl_native_kind now)
{
    if (!*precision) return now == CPL_NATIVE_I4 ? CPL_NATIVE_I8 : CPL_NATIVE_BF16;
    for (int k = 0; k < KINDS; k++)
        if (k != CPL_NATIVE_I4 && !strcmp(precision, kind_names[k])) return k;
    return KINDS;
}

/* One entry's item i, of which some layers may be as good already; 1 when some weren't, -1 for no such precision. */
static int improve(cpl_native_kind (*kinds)[CPL_NATIVE_ITEMS], const entry *e, int i, uint32_t layers)
{
    int improved = 0;
    for (uint32_t l = 0; l < layers; l++) {
        if (e->layer >= 0 && e->layer != (long)l) continue;
        const int kind = kind_of(e->precision, kinds[l][i]);
        if (kind == KINDS) return -1;
        if (rank((cpl_native_kind)kind) >= rank(kinds[l][i])) continue;
        kinds[l][i] = (cpl_native_kind)kind;
        improved = 1;
    }
    return improved;
}

static cpl_status apply(cpl_native_kind (*kinds)[CPL_NATIVE_ITEMS], const entry *e, uint32_t layers, const char *text,
                        size_t n, cpl_error *err)
{
    int known = 0, improved = 0;
    if (e->layer >= (long)layers) return bad(err, text, n, "the model has no such layer");
    for (int i = 0; i < CPL_NATIVE_ITEMS; i++) {
        if (strcmp(e->item, "layer") && strcmp(e->item, items[i])) continue;
        const int got = improve(kinds, e, i, layers);
        if (got < 0) return bad(err, text, n, "no such precision");
        improved |= got;
        known = 1;
    }
    if (!known) return bad(err, text, n, "no such item");
    return improved ? CPL_OK : bad(err, text, n, "that is no better than what it has");
}

cpl_status cpl_native_keep_read(cpl_native_kind (*kinds)[CPL_NATIVE_ITEMS], int *attention_fp32, const char *text,
                                uint32_t layers, cpl_error *err)
{
    for (const char *at = text;;) {
        const size_t n = strcspn(at, ",");
        entry e;
        if (!split(&e, at, n)) return bad(err, at, n, "not understood");
        if (!strcmp(e.item, "attention")) {
            if (e.layer >= 0 || (*e.precision && strcmp(e.precision, "fp32")))
                return bad(err, at, n, "attention is kept in fp32, in all layers");
            *attention_fp32 = 1;
        } else {
            const cpl_status st = apply(kinds, &e, layers, at, n, err);
            if (st) return st;
        }
        if (!at[n]) return CPL_OK;
        at += n + 1;
    }
}

void cpl_native_keep_name(char *to, size_t cap, const cpl_native_kind (*kinds)[CPL_NATIVE_ITEMS],
                          const cpl_native_kind (*base)[CPL_NATIVE_ITEMS], uint32_t layers)
{
    size_t used = 0;
    *to = 0;
    for (uint32_t i = 0; i < layers * CPL_NATIVE_ITEMS; i++) {
        const uint32_t l = i / CPL_NATIVE_ITEMS, item = i % CPL_NATIVE_ITEMS;
        char one[WORD];
        if (kinds[l][item] == base[l][item]) continue;
        const int n = snprintf(one, sizeof one, "%s%s.%u %s", used ? ", " : ", kept: ", items[item], l,
                               kind_names[kinds[l][item]]);
        if (used + (size_t)n + sizeof ", ..." > cap) {
            snprintf(to + used, cap - used, ", ...");
            return;
        }
        used += (size_t)snprintf(to + used, cap - used, "%s", one);
    }
}
