/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer_draft.c - what tokenizer.json and vocab.txt have in common: words and added tokens in, a checked tokenizer
 * out.
 * The one idea: ids are given the way Hugging Face gives them (an added token has the id of the vocabulary's word, else
 * the next number behind the count of words), and a file that states another id is refused rather than half believed:
 * its author and the library disagree, so whichever we took would be wrong for somebody.
 * Invariant: every id of the finished tokenizer is in [0, vocab_size). Threads: one. */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "text/tokenizer_impl.h"

cpl_status cpl_draft_init(cpl_draft *d, const char *name, cpl_error *err)
{
    *d = (cpl_draft){.name = name, .t = calloc(1, sizeof *d->t)};
    if (!d->t) return cpl_fail_memory(err, sizeof *d->t);
    cpl_arena_init(&d->t->arena, (size_t)1 << 16, 0);
    return CPL_OK;
}

void cpl_draft_deinit(cpl_draft *d)
{
    cpl_tokenizer_close(d->t);
    free(d->entries);
    free(d->added);
    *d = (cpl_draft){.twins = d->twins};
}

const char *cpl_token_quote(cpl_quoted *q, const char *token, size_t size)
{
    size_t n = 0;
    for (; n < size && n < 60; n++) q->text[n] = (unsigned char)token[n] < 0x20 || token[n] == 0x7F ? '?' : token[n];
    while (n < size && n && ((unsigned char)token[n] & 0xC0) == 0x80) n--;
    q->text[n] = 0;
    return q->text;
}

static cpl_status add_entry(cpl_draft *d, cpl_vocab_kind kind, const char *text, size_t size, int32_t value,
                            cpl_error *err)
{
    if (size > (size_t)1 << 30) return cpl_fail_file(err, CPL_UNSUPPORTED, d->name, "token of more than 1 GiB");
    if (!cpl_tokenizer_grow((void **)&d->entries, &d->entry_cap, d->entry_count + 1, sizeof *d->entries))
        return cpl_fail_memory(err, (d->entry_count + 1) * sizeof *d->entries);
    d->entries[d->entry_count] = (cpl_vocab_entry){text, (uint32_t)size, (uint32_t)d->entry_count, value, kind};
    d->entry_count++;
    return CPL_OK;
}

cpl_status cpl_draft_add_word(cpl_draft *d, const char *text, size_t size, int64_t id, cpl_error *err)
{
    if (id < 0 || id >= CPL_TOKEN_IDS_MAX)
        return cpl_fail_file(err, CPL_CORRUPT, d->name, "id %lld of token \"%s\" is out of range (0 to %d)",
                             (long long)id, CPL_QUOTE(text, size), CPL_TOKEN_IDS_MAX - 1);
    if (d->t->vocab_size <= (uint32_t)id) d->t->vocab_size = (uint32_t)id + 1;
    return add_entry(d, CPL_VOCAB_WORD, text, size, (int32_t)id, err);
}

cpl_status cpl_draft_add_token(cpl_draft *d, const cpl_added_token *token, cpl_error *err)
{
    if (!token->size) return CPL_OK; /* the library ignores these too */
    if (!cpl_tokenizer_grow((void **)&d->added, &d->added_cap, d->added_count + 1, sizeof *d->added))
        return cpl_fail_memory(err, (d->added_count + 1) * sizeof *d->added);
    d->added[d->added_count++] = *token;
    return CPL_OK;
}

static bool read_flag(const json_t *object, const char *key, bool *out)
{
    const json_t *value = json_object_get(object, key);
    *out = json_is_true(value);
    return json_is_boolean(value);
}

cpl_status cpl_draft_read_token(cpl_draft *d, const json_t *object, int64_t id, cpl_error *err)
{
    const json_t *content = json_object_get(object, "content"), *number = json_object_get(object, "id");
    cpl_added_token token = {0};
    if (!json_is_string(content) || !read_flag(object, "special", &token.special) ||
        !read_flag(object, "single_word", &token.single_word) || !read_flag(object, "lstrip", &token.lstrip) ||
        !read_flag(object, "rstrip", &token.rstrip) || !read_flag(object, "normalized", &token.normalized))
        return cpl_fail_file(err, CPL_CORRUPT, d->name,
                             "an added token needs content and the flags special, single_word, lstrip, rstrip and "
                             "normalized");
    if (id < 0) id = json_is_integer(number) ? json_integer_value(number) : -1;
    if (id < 0 || id >= CPL_TOKEN_IDS_MAX || json_string_length(content) > (size_t)1 << 30)
        return cpl_fail_file(err, CPL_CORRUPT, d->name, "id of added token \"%s\" is missing or out of range (0 to %d)",
                             CPL_QUOTE(json_string_value(content), json_string_length(content)), CPL_TOKEN_IDS_MAX - 1);
    token.content = json_string_value(content);
    token.size = (uint32_t)json_string_length(content);
    token.id = (int32_t)id;
    return cpl_draft_add_token(d, &token, err);
}

cpl_status cpl_draft_bert_templates(cpl_draft *d, int32_t cls, int32_t sep, cpl_error *err)
{
    const cpl_template_piece pieces[] = {{cls, 0}, {-1, 0}, {sep, 0}, {-2, 1}, {sep, 1}};
    cpl_template_piece *p = cpl_arena_take(&d->t->arena, sizeof pieces, 16);
    if (!p) return cpl_fail_memory(err, sizeof pieces);
    memcpy(p, pieces, sizeof pieces);
    d->t->single = (cpl_template){p, 3, 2};
    d->t->pair = (cpl_template){p, 5, 3};
    return CPL_OK;
}

/* ---- finishing ---------------------------------------------------------------------------------------------- */

static bool equal_words(const cpl_vocab_entry *a, const cpl_vocab_entry *b)
{
    return a->size == b->size && !memcmp(a->text, b->text, a->size);
}

/* Of equal words the last one stays (as in a Python dictionary); ids must be different. */
static cpl_status settle_words(cpl_draft *d, uint8_t *used, cpl_error *err)
{
    size_t kept = 0;
    cpl_status st = cpl_vocab_sort(d->entries, d->entry_count, err);
    if (st) return st;
    for (size_t i = 0; i < d->entry_count; i++) {
        if (i + 1 < d->entry_count && equal_words(&d->entries[i], &d->entries[i + 1])) {
            d->twins = d->cut;
            continue;
        }
        uint32_t id = (uint32_t)d->entries[i].value;
        if (used[id / 8] & 1 << id % 8)
            return cpl_fail_file(err, CPL_CORRUPT, d->name, "id %u stands for \"%s\" and for another token", id,
                                 CPL_QUOTE(d->entries[i].text, d->entries[i].size));
        used[id / 8] |= (uint8_t)(1 << id % 8);
        d->entries[kept++] = d->entries[i];
    }
    d->entry_count = kept;
    return d->twins ? cpl_fail_file(err, CPL_CORRUPT, d->name, "a token is in the vocabulary twice") : CPL_OK;
}

static int compare_contents(const void *x, const void *y)
{
    const cpl_added_token *a = *(cpl_added_token *const *)x, *b = *(cpl_added_token *const *)y;
    int c = memcmp(a->content, b->content, a->size < b->size ? a->size : b->size);
    return c ? c : a->size < b->size ? -1 : a->size > b->size;
}

static cpl_status refuse_twins(cpl_draft *d, cpl_error *err)
{
    const cpl_tokenizer *t = d->t;
    if (t->added_count < 2) return CPL_OK;
    cpl_added_token **order = malloc(t->added_count * sizeof(cpl_added_token *));
    if (!order) return cpl_fail_memory(err, t->added_count * sizeof(cpl_added_token *));
    for (size_t i = 0; i < t->added_count; i++) order[i] = &t->added[i];
    qsort(order, t->added_count, sizeof(cpl_added_token *), compare_contents);
    cpl_status st = CPL_OK;
    for (size_t i = 1; !st && i < t->added_count; i++)
        if (!compare_contents(&order[i - 1], &order[i]))
            st = cpl_fail_file(err, CPL_CORRUPT, d->name, "added token \"%s\" is listed twice",
                               CPL_QUOTE(order[i]->content, order[i]->size));
    free(order);
    return st;
}

/* Added tokens move into the arena, and what they look like in a text becomes entries of the trie. */
static cpl_status settle_added(cpl_draft *d, cpl_error *err)
{
    cpl_tokenizer *t = d->t;
    cpl_tokenizer_scratch *scratch = NULL;
    t->added = CPL_ARENA_NEW(&t->arena, cpl_added_token, d->added_count + 1);
    cpl_status st = t->added ? cpl_tokenizer_scratch_open(&scratch, err) : cpl_fail_memory(err, sizeof *t->added);
    for (size_t i = 0; !st && i < d->added_count; i++) {
        cpl_added_token *token = &t->added[i];
        *token = d->added[i];
        token->pattern = token->content = cpl_arena_copy(&t->arena, token->content, token->size);
        token->pattern_size = token->size;
        if (!token->content) st = cpl_fail_memory(err, token->size);
        if (!st && token->normalized) {
            st = cpl_tokenizer_normalize(t, scratch, (cpl_text){token->content, token->size}, err);
            token->pattern_size = scratch->text_size;
            token->pattern = st ? NULL : cpl_arena_copy(&t->arena, scratch->text, token->pattern_size);
            if (!st && !token->pattern) st = cpl_fail_memory(err, token->pattern_size);
        }
        cpl_vocab_kind kind = token->normalized ? CPL_VOCAB_NORMAL : CPL_VOCAB_RAW;
        if (!st) st = add_entry(d, kind, token->pattern, token->pattern_size, (int32_t)i, err);
        t->matchers[kind]++;
        t->added_count = i + 1;
    }
    cpl_tokenizer_scratch_close(scratch);
    return st ? st : refuse_twins(d, err);
}

/* Value of a word among the settled ones, or -1. */
static int32_t word_value(const cpl_draft *d, size_t words, const char *text, size_t n)
{
    size_t lo = 0, hi = words;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        const cpl_vocab_entry *e = &d->entries[mid];
        int c = memcmp(e->text, text, e->size < n ? e->size : n);
        if (!c && e->size == n) return e->value;
        if (c < 0 || (!c && e->size < n))
            lo = mid + 1;
        else
            hi = mid;
    }
    return -1;
}

static cpl_status settle_pieces(cpl_draft *d, cpl_error *err)
{
    cpl_status st = CPL_OK;
    for (size_t i = 0, words = d->entry_count; !st && i < words; i++) {
        cpl_vocab_entry e = d->entries[i];
        if (e.size > d->prefix_size && !memcmp(e.text, d->prefix, d->prefix_size))
            st = add_entry(d, CPL_VOCAB_PIECE, e.text + d->prefix_size, e.size - d->prefix_size, e.value, err);
    }
    return st;
}

/* Ids as the library gives them. */
static cpl_status settle_ids(cpl_draft *d, size_t words, const uint8_t *used, cpl_error *err)
{
    cpl_tokenizer *t = d->t;
    size_t next = words;
    uint32_t model_size = t->vocab_size;
    for (size_t i = 0; i < t->added_count; i++) {
        cpl_added_token *token = &t->added[i];
        int32_t id = word_value(d, words, token->content, token->size);
        if (id < 0) {
            if (next >= CPL_TOKEN_IDS_MAX || (next < model_size && used[next / 8] & 1 << next % 8))
                return cpl_fail_file(err, CPL_CORRUPT, d->name,
                                     "added token \"%s\" would get id %zu, which is taken; number the vocabulary "
                                     "without gaps",
                                     CPL_QUOTE(token->content, token->size), next);
            id = (int32_t)next++;
        }
        if (token->id >= 0 && token->id != id)
            return cpl_fail_file(err, CPL_CORRUPT, d->name,
                                 "added token \"%s\" says id %d, but by the vocabulary it is %d",
                                 CPL_QUOTE(token->content, token->size), token->id, id);
        token->id = id;
        if (t->vocab_size <= (uint32_t)id) t->vocab_size = (uint32_t)id + 1;
    }
    for (int pair = 0; pair < 2; pair++) {
        const cpl_template *layout = pair ? &t->pair : &t->single;
        for (size_t i = 0; i < layout->n; i++)
            if (layout->pieces[i].id >= 0 && (uint32_t)layout->pieces[i].id >= t->vocab_size)
                return cpl_fail_file(err, CPL_CORRUPT, d->name, "the template's id %d is not in the vocabulary of %u",
                                     layout->pieces[i].id, t->vocab_size);
    }
    return CPL_OK;
}

/* Words that no text can have are left out of what is searched: punctuation is a word of its own, so "[unused1]" and
 * "##ing" never come. */
static size_t drop_unreachable(const cpl_draft *d, cpl_vocab_entry *out)
{
    size_t kept = 0;
    for (size_t i = 0; i < d->entry_count; i++) {
        const cpl_vocab_entry *e = &d->entries[i];
        if (e->kind == CPL_VOCAB_WORD && e->size > 1 && d->t->classes.of[(uint8_t)e->text[0]] == CPL_ASCII_PUNCT)
            continue;
        out[kept++] = *e;
    }
    return kept;
}

static cpl_status build_vocab(cpl_draft *d, cpl_error *err)
{
    cpl_tokenizer *t = d->t;
    cpl_vocab_entry *entries = malloc((d->entry_count + 1) * sizeof *entries);
    if (!entries) return cpl_fail_memory(err, (d->entry_count + 1) * sizeof *entries);
    size_t n = drop_unreachable(d, entries);
    cpl_status st = cpl_vocab_build(&t->vocab, &t->arena, entries, n, t->word_chars_max, err);
    free(entries);
    return st;
}

static cpl_status refuse_same_patterns(const cpl_draft *d, cpl_error *err)
{
    const cpl_tokenizer *t = d->t;
    for (size_t i = 0; i < t->added_count; i++) {
        const cpl_added_token *token = &t->added[i];
        int32_t which = -1;
        if (!token->pattern_size) continue; /* normalised away: it has its id, but nothing to be found by */
        cpl_vocab_longest(&t->vocab, token->normalized ? CPL_VOCAB_NORMAL : CPL_VOCAB_RAW, token->pattern,
                          token->pattern_size, &which);
        if (which != (int32_t)i)
            return cpl_fail_file(err, CPL_CORRUPT, d->name, "added token \"%s\" is the same as another once normalised",
                                 CPL_QUOTE(token->content, token->size));
    }
    return CPL_OK;
}

static cpl_status finish(cpl_draft *d, uint8_t *used, cpl_error *err)
{
    cpl_tokenizer *t = d->t;
    cpl_status st = cpl_tokenizer_set_tables(t, err);
    if (!st) st = settle_words(d, used, err);
    size_t words = d->entry_count;
    if (!st) st = settle_pieces(d, err);
    if (!st) st = settle_added(d, err);
    if (!st) st = build_vocab(d, err);
    if (st) return st;
    t->unk_id = word_value(d, words, d->unk_token, strlen(d->unk_token));
    if (t->unk_id < 0)
        return cpl_fail_file(err, CPL_CORRUPT, d->name, "the unknown token \"%s\" is not in the vocabulary",
                             CPL_QUOTE(d->unk_token, strlen(d->unk_token)));
    st = refuse_same_patterns(d, err);
    if (!st) st = settle_ids(d, words, used, err);
    if (!st) cpl_tokenizer_set_matches(t);
    return st;
}

cpl_status cpl_draft_finish(cpl_draft *d, cpl_tokenizer **out, cpl_error *err)
{
    *out = NULL;
    uint8_t *used = calloc(d->t->vocab_size / 8 + 1, 1);
    cpl_status st = used ? finish(d, used, err) : cpl_fail_memory(err, d->t->vocab_size / 8 + 1);
    free(used);
    if (!st) {
        *out = d->t;
        d->t = NULL;
    }
    cpl_draft_deinit(d);
    return st;
}

void cpl_tokenizer_close(cpl_tokenizer *t)
{
    if (!t) return;
    cpl_arena_deinit(&t->arena);
    free(t);
}
