/* SPDX-License-Identifier: Apache-2.0 */
/* layout.c - from the ids of one or two texts to the sequence a model reads.
 * The one idea: a template is a list of pieces, each an id or a whole text; truncation happens before, on two counts,
 * by Hugging Face's longest-first rule (which is arithmetic there too: no id is taken off one at a time). The rule
 * gives the odd id of an odd budget to the longer text, and to b when both are as long. Threads: no state but the
 * caller's scratch. */
#include "base/error.h"
#include "text/tokenizer_impl.h"

size_t cpl_tokenizer_added(const cpl_tokenizer *t, int pair) { return pair ? t->pair.added : t->single.added; }

uint32_t cpl_tokenizer_vocab_size(const cpl_tokenizer *t) { return t->vocab_size; }

static void truncate_longest_first(size_t *a, size_t *b, size_t budget)
{
    if (*a <= budget && *b <= budget - *a) return;
    size_t *shorter = *a > *b ? b : a, *longer = *a > *b ? a : b;
    if (*shorter <= budget / 2) {
        *longer = budget - *shorter;
        return;
    }
    *shorter = budget / 2;
    *longer = budget - budget / 2;
}

cpl_status cpl_tokenizer_lay_out(const cpl_tokenizer *t, const int32_t *a, size_t a_count, const int32_t *b,
                                 size_t b_count, size_t max_length, int32_t *ids, uint8_t *type_ids, size_t cap,
                                 size_t *count, cpl_error *err)
{
    const cpl_template *layout = b ? &t->pair : &t->single;
    *count = 0;
    if (!b) b_count = 0;
    if (max_length) {
        if (max_length < layout->added)
            return cpl_fail(err, CPL_INVALID,
                            "max_length %zu is below the %zu special tokens of a %s; use at least %zu", max_length,
                            layout->added, b ? "pair" : "text", layout->added);
        truncate_longest_first(&a_count, &b_count, max_length - layout->added);
    }
    size_t n = 0;
    for (size_t i = 0; i < layout->n; i++) {
        cpl_template_piece piece = layout->pieces[i];
        const int32_t *from = piece.id >= 0 ? &piece.id : piece.id == -1 ? a : b;
        size_t size = piece.id >= 0 ? 1 : piece.id == -1 ? a_count : b_count;
        for (size_t k = 0; k < size && n + k < cap; k++) {
            ids[n + k] = from[k];
            type_ids[n + k] = piece.type_id;
        }
        n += size;
    }
    *count = n;
    return CPL_OK;
}

/* The ids of one side into the scratch: at most max_length of them, all with max_length 0. */
static cpl_status encode_side(const cpl_tokenizer *t, cpl_tokenizer_scratch *s, int side, cpl_text text,
                              size_t max_length, size_t *count, cpl_error *err)
{
    size_t most = text.size + 1; /* a text has no more ids than bytes */
    if (max_length && most > max_length) most = max_length;
    if (!cpl_tokenizer_grow((void **)&s->side[side], &s->side_cap[side], most, sizeof(int32_t)))
        return cpl_fail_memory(err, most * sizeof(int32_t));
    return cpl_tokenizer_encode(t, s, text, s->side[side], most, count, err);
}

cpl_status cpl_tokenizer_pair(const cpl_tokenizer *t, cpl_tokenizer_scratch *s, cpl_text a, const cpl_text *b,
                              size_t max_length, int32_t *ids, uint8_t *type_ids, size_t cap, size_t *count,
                              cpl_error *err)
{
    size_t a_count = 0, b_count = 0;
    *count = 0;
    cpl_status st = encode_side(t, s, 0, a, max_length, &a_count, err);
    if (!st && b) st = encode_side(t, s, 1, *b, max_length, &b_count, err);
    if (!st && b && max_length && a_count == max_length && b_count == max_length) {
        st = cpl_tokenizer_count(t, s, a, &a_count, err);
        if (!st) st = cpl_tokenizer_count(t, s, *b, &b_count, err);
    }
    if (st) return st;
    return cpl_tokenizer_lay_out(t, s->side[0], a_count, b ? s->side[1] : NULL, b_count, max_length, ids, type_ids, cap,
                                 count, err);
}
