/* SPDX-License-Identifier: Apache-2.0 */
/* prepare.c - from a spec to sequences that can be queued.
 *
 * Everything is checked and every byte taken from the task's arena before the first text is tokenized, so tokenizing
 * needs no lock and no memory, and slices of it run on any thread. The room for ids is an upper bound: BERT's
 * normaliser makes at most two scalar values out of a byte pair (three out of a Hangul syllable's three bytes), each
 * piece covers at least one of them, so a sequence of b bytes has at most 2 b + added tokens, and never more than
 * max_length.
 *
 * An embedder's request of pairs becomes one sequence a distinct query and one a document; which queries are equal is
 * found with a hash table in the arena. For a cross-encoder a query equal to the previous pair's is not encoded again.
 *
 * Threads: the submitting one; cpl_task_tokenize any, one a slice. */
#include <string.h>

#include "base/digest.h"
#include "base/error.h"
#include "base/utf8.h"
#include "engine/state.h"

/* ---- checks --------------------------------------------------------------------------------------------------- */

static cpl_status check_label(const cpl_model *m, int32_t label, cpl_error *err)
{
    if (m->task == CPL_TASK_EMBEDDER) {
        if (label <= 0) return CPL_OK;
        return cpl_fail(err, CPL_INVALID, "label %d asked for, but an embedder has none", label);
    }
    if (label == CPL_LABEL_UNSET && m->arch.labels > 1)
        return cpl_fail(err, CPL_PRECONDITION,
                        "model has %u labels: choose the one that is the score with model.score_label", m->arch.labels);
    if (label < CPL_LABEL_UNSET || (label >= 0 && (uint32_t)label >= m->arch.labels))
        return cpl_fail(err, CPL_INVALID, "label %d is out of range: the model has %u", label, m->arch.labels);
    return CPL_OK;
}

static cpl_status check_text(cpl_text text, const char *kind, size_t index, const char *side, cpl_error *err)
{
    size_t valid = cpl_utf8_valid_prefix(text.data, text.size);
    if (valid == text.size) return CPL_OK;
    return cpl_fail(err, CPL_INVALID, "%s %zu%s is not valid UTF-8 at byte %zu", kind, index, side, valid);
}

static cpl_status check_texts(const cpl_task_spec *s, cpl_error *err)
{
    cpl_status st = CPL_OK;
    for (size_t i = 0; i < s->n && !st; i++) {
        size_t number = s->item_base + i;
        if (s->op == CPL_OP_EMBED) {
            st = check_text(s->texts[i], "text", number, "", err);
            continue;
        }
        st = check_text(s->pairs[i].query, "pair", number, ": query", err);
        if (!st) st = check_text(s->pairs[i].document, "pair", number, ": document", err);
    }
    return st;
}

static cpl_status check_ids(const cpl_ids *in, size_t base, const cpl_model *m, uint32_t max_length, cpl_error *err)
{
    for (size_t i = 0; i < in->n; i++) {
        uint32_t from = in->cu_seqlens[i], to = in->cu_seqlens[i + 1];
        if (to <= from) return cpl_fail(err, CPL_INVALID, "sequence %zu is empty", base + i);
        if (to - from > max_length)
            return cpl_fail(err, CPL_INVALID, "sequence %zu has %u tokens: at most %u are allowed", base + i, to - from,
                            max_length);
        for (uint32_t k = from; k < to; k++) {
            if (in->ids[k] < 0 || (uint32_t)in->ids[k] >= m->arch.vocab)
                return cpl_fail(err, CPL_INVALID, "sequence %zu: id %d at token %u is outside the vocabulary of %u",
                                base + i, in->ids[k], k - from, m->arch.vocab);
            if (in->type_ids && in->type_ids[k] >= m->arch.types)
                return cpl_fail(err, CPL_INVALID, "sequence %zu: type id %u at token %u, where the model has %u types",
                                base + i, in->type_ids[k], k - from, m->arch.types);
        }
    }
    return CPL_OK;
}

cpl_status cpl_task_check(const cpl_engine *e, const cpl_task_spec *s, cpl_error *err)
{
    const cpl_loaded_model *m = s->model < CPL_ENGINE_MODELS_MAX ? e->models[s->model] : NULL;
    if (!m) return cpl_fail(err, CPL_INVALID, "model %u is not loaded", s->model);
    if (!s->n || (s->op == CPL_OP_IDS && !s->ids->n))
        return cpl_fail(err, CPL_INVALID, "no %s given",
                        s->op == CPL_OP_SCORE   ? "pairs"
                        : s->op == CPL_OP_EMBED ? "texts"
                                                : "sequences");
    if (s->n > UINT32_MAX / 4) return cpl_fail(err, CPL_INVALID, "%zu items are too many for one request", s->n);
    if (s->priority >= CPL_BATCH_PRIORITIES)
        return cpl_fail(err, CPL_INVALID, "priority %u is out of range: 0 to %d are valid", s->priority,
                        CPL_BATCH_PRIORITIES - 1);
    if (s->max_length > m->public.max_length)
        return cpl_fail(err, CPL_INVALID, "max_length %u is above the model's %u", s->max_length, m->public.max_length);
    uint32_t max_length = s->max_length ? s->max_length : m->public.max_length;
    switch (s->op) {
    case CPL_OP_SCORE: {
        cpl_status st = check_label(m->model, s->label, err);
        return st ? st : check_texts(s, err);
    }
    case CPL_OP_EMBED:
        if (m->model->task != CPL_TASK_EMBEDDER)
            return cpl_fail(err, CPL_PRECONDITION, "model '%s' is a cross-encoder: it scores pairs and has no vectors",
                            m->name);
        return check_texts(s, err);
    case CPL_OP_IDS:
        if (s->ids->n != s->n) return cpl_fail(err, CPL_INVALID, "n is %zu but ids hold %zu", s->n, s->ids->n);
        return check_ids(s->ids, s->item_base, m->model, max_length, err);
    }
    return cpl_fail(err, CPL_INVALID, "unknown operation %d", (int)s->op);
}

/* ---- layout --------------------------------------------------------------------------------------------------- */

static bool same_text(cpl_text a, cpl_text b)
{
    return a.size == b.size && (a.data == b.data || !a.size || !memcmp(a.data, b.data, a.size));
}

/* Fills query_of, query_pair and queries. */
static bool find_queries(cpl_task *t)
{
    uint32_t n = (uint32_t)t->spec.n;
    size_t slots = 16;
    while (slots < 2 * (size_t)n) slots *= 2;
    uint32_t *table = CPL_ARENA_NEW(&t->arena, uint32_t, slots); /* query + 1 */
    uint64_t *hashes = cpl_arena_take(&t->arena, n * sizeof *hashes, 8);
    t->query_of = cpl_arena_take(&t->arena, n * sizeof *t->query_of, 4);
    t->query_pair = cpl_arena_take(&t->arena, n * sizeof *t->query_pair, 4);
    if (!table || !hashes || !t->query_of || !t->query_pair) return false;
    t->queries = 0;
    for (uint32_t i = 0; i < n; i++) {
        cpl_text text = t->spec.pairs[i].query;
        uint64_t h = cpl_digest(text.data, text.size);
        size_t at = h & (slots - 1);
        while (table[at]) {
            uint32_t q = table[at] - 1;
            if (hashes[q] == h && same_text(t->spec.pairs[t->query_pair[q]].query, text)) break;
            at = (at + 1) & (slots - 1);
        }
        if (!table[at]) {
            hashes[t->queries] = h;
            t->query_pair[t->queries] = i;
            table[at] = ++t->queries;
        }
        t->query_of[i] = table[at] - 1;
    }
    return true;
}

/* What sequence i is made of. */
static cpl_text first_text(const cpl_task *t, uint32_t i)
{
    const cpl_task_spec *s = &t->spec;
    if (s->op == CPL_OP_EMBED) return s->texts[i];
    if (t->reducer == CPL_REDUCE_ROW) return s->pairs[i].query;
    return i < t->queries ? s->pairs[t->query_pair[i]].query : s->pairs[i - t->queries].document;
}

static bool is_pair(const cpl_task *t) { return t->spec.op == CPL_OP_SCORE && t->reducer == CPL_REDUCE_ROW; }

static uint64_t bytes_of(const cpl_task *t, uint32_t i)
{
    uint64_t bytes = first_text(t, i).size;
    return is_pair(t) ? bytes + t->spec.pairs[i].document.size : bytes;
}

static size_t tokens_bound(const cpl_task *t, uint64_t bytes, size_t added)
{
    return bytes >= t->max_length              ? t->max_length
           : 2 * bytes + added > t->max_length ? t->max_length
                                               : (size_t)(2 * bytes + added);
}

/* Cuts the sequences into slices of about equal bytes, none so small that handing it over costs more than its text, and
 * returns the room for all ids. */
static size_t cut_slices(cpl_task *t, uint32_t slices_max, size_t added)
{
    enum { SLICE_BYTES_MIN = 4096 };
    uint64_t aim = t->text_bytes / slices_max + 1, bytes = 0;
    if (aim < SLICE_BYTES_MIN) aim = SLICE_BYTES_MIN;
    size_t at = 0;
    t->slice_count = 0;
    for (uint32_t i = 0; i < t->sequences; i++) {
        if (!i || (bytes >= aim && t->slice_count < slices_max)) {
            t->slices[t->slice_count++] = (cpl_token_slice){.first = i, .at = at};
            bytes = 0;
        }
        uint64_t b = bytes_of(t, i);
        bytes += b;
        at += tokens_bound(t, b, added);
        t->slices[t->slice_count - 1].end = i + 1;
    }
    return at;
}

static cpl_status lay_out_ids(cpl_task *t, cpl_error *err)
{
    const cpl_ids *in = t->spec.ids;
    (void)err;
    for (uint32_t i = 0; i < t->sequences; i++) {
        t->offsets[i] = in->cu_seqlens[i];
        t->lengths[i] = in->cu_seqlens[i + 1] - in->cu_seqlens[i];
    }
    t->ids = in->ids;
    t->type_ids = in->type_ids;
    t->slice_count = 0;
    return CPL_OK;
}

static cpl_status no_room(cpl_task *t, cpl_error *err)
{
    return cpl_fail(err, CPL_NO_MEMORY, "out of memory for a request of %zu items", t->spec.n);
}

cpl_status cpl_task_lay_out(cpl_engine *e, cpl_task *t, uint32_t slices_max, cpl_error *err)
{
    const cpl_loaded_model *m = e->models[t->spec.model];
    cpl_arena *a = &t->arena;
    t->max_length = t->spec.max_length ? t->spec.max_length : m->public.max_length;
    t->raw_width = m->row_width;
    t->reducer = t->spec.op == CPL_OP_SCORE && m->model->task == CPL_TASK_EMBEDDER ? CPL_REDUCE_COSINE : CPL_REDUCE_ROW;
    t->queries = 0;
    if (t->reducer == CPL_REDUCE_COSINE && !find_queries(t)) return no_room(t, err);
    t->sequences = (uint32_t)t->spec.n + t->queries;
    size_t n = t->sequences;
    t->lengths = cpl_arena_take(a, n * sizeof *t->lengths, 4);
    t->offsets = cpl_arena_take(a, n * sizeof *t->offsets, 8);
    t->raw = cpl_arena_take(a, n * t->raw_width * sizeof *t->raw, 64);
    size_t results = t->spec.op == CPL_OP_SCORE ? t->spec.n * (m->model->arch.labels ? m->model->arch.labels : 1) : 0;
    float *rows = results ? cpl_arena_take(a, results * sizeof *rows, 64) : t->raw;
    if (!t->lengths || !t->offsets || !t->raw || !rows) return no_room(t, err);
    t->result.rows = rows;
    if (t->spec.op == CPL_OP_IDS) return lay_out_ids(t, err);

    t->text_bytes = 0;
    for (uint32_t i = 0; i < t->sequences; i++) t->text_bytes += bytes_of(t, i);
    t->slices = cpl_arena_take(a, slices_max * sizeof *t->slices, 8);
    if (!t->slices) return no_room(t, err);
    size_t room = cut_slices(t, slices_max, cpl_tokenizer_added(m->tokenizer, is_pair(t)));
    t->ids_room = cpl_arena_take(a, room * sizeof *t->ids_room, 64);
    t->type_ids_room = cpl_arena_take(a, room, 64);
    if (!t->ids_room || !t->type_ids_room) return no_room(t, err);
    t->ids = t->ids_room;
    t->type_ids = t->type_ids_room;
    return CPL_OK;
}

/* ---- tokenizing ----------------------------------------------------------------------------------------------- */

/* The ids of sequence i if they are known, into its place. */
static bool find_ids(const cpl_loaded_model *m, cpl_task *t, const cpl_id_key *key, uint32_t i, size_t at)
{
    cpl_id_row row;
    if (!m->ids || !cpl_id_cache_find(m->ids, key, &row)) return false;
    memcpy(t->ids_room + at, row.ids, row.count * sizeof *row.ids);
    memcpy(t->type_ids_room + at, row.type_ids, row.count);
    t->lengths[i] = row.count;
    return true;
}

/* What a thread keeps from one sequence of a slice to the next: the ids of the text that pairs begin with. */
typedef struct encoding {
    const cpl_tokenizer *tokenizer;
    cpl_tokenizer_scratch *scratch;
    int32_t *a, *b;
    size_t a_count, b_count;
    uint32_t a_of; /* the sequence that `a` is of; UINT32_MAX: none */
} encoding;

static cpl_status encode_one(cpl_task *t, encoding *e, uint32_t i, size_t at, cpl_error *err)
{
    bool pair = is_pair(t);
    size_t cap = t->max_length, added = cpl_tokenizer_added(e->tokenizer, pair);
    cpl_status st = CPL_OK;
    cpl_text text = first_text(t, i);
    if (!pair || e->a_of == UINT32_MAX || !same_text(text, first_text(t, e->a_of)))
        st = cpl_tokenizer_encode(e->tokenizer, e->scratch, text, e->a, cap, &e->a_count, err);
    e->a_of = st ? UINT32_MAX : i;
    if (!st && pair)
        st = cpl_tokenizer_encode(e->tokenizer, e->scratch, t->spec.pairs[i].document, e->b, cap, &e->b_count, err);
    size_t bound = tokens_bound(t, bytes_of(t, i), added), count = 0;
    size_t a_whole = e->a_count, b_whole = e->b_count;
    if (!st && pair && e->a_count == cap && e->b_count == cap) { /* which is longer decides who keeps an odd id */
        st = cpl_tokenizer_count(e->tokenizer, e->scratch, text, &a_whole, err);
        if (!st) st = cpl_tokenizer_count(e->tokenizer, e->scratch, t->spec.pairs[i].document, &b_whole, err);
    }
    if (!st)
        st = cpl_tokenizer_lay_out(e->tokenizer, e->a, a_whole, pair ? e->b : NULL, b_whole, cap, t->ids_room + at,
                                   t->type_ids_room + at, bound, &count, err);
    if (!st && (!count || count > bound))
        st = cpl_fail(err, CPL_INTERNAL, "tokenizer gave %zu tokens where %zu were possible", count, bound);
    t->lengths[i] = (uint32_t)count;
    return st;
}

cpl_status cpl_task_tokenize(cpl_engine *engine, cpl_task *t, const cpl_token_slice *slice,
                             cpl_tokenizer_scratch *scratch, int32_t *room, cpl_error *err)
{
    const cpl_loaded_model *m = engine->models[t->spec.model];
    bool pair = is_pair(t);
    size_t at = slice->at;
    encoding e = {m->tokenizer, scratch, room, room + t->max_length, 0, 0, UINT32_MAX};
    for (uint32_t i = slice->first; i < slice->end; i++) {
        cpl_id_key key = {first_text(t, i), pair ? t->spec.pairs[i].document : (cpl_text){0}, pair, t->max_length};
        bool found = find_ids(m, t, &key, i, at);
        cpl_status st = found ? CPL_OK : encode_one(t, &e, i, at, err);
        if (st) {
            cpl_error_prefix(err, "%s %u", pair ? "pair" : "text", i >= t->queries ? i - t->queries : i);
            return st;
        }
        if (m->ids && !found)
            cpl_id_cache_add(m->ids, &key, &(cpl_id_row){t->ids_room + at, t->type_ids_room + at, t->lengths[i]});
        t->offsets[i] = at;
        at += t->lengths[i];
    }
    return CPL_OK;
}
