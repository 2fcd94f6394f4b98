/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer_json.c - reads tokenizer.json.
 * The one idea: the pipeline is BERT's or it is refused by the name of the part that isn't; nothing is skipped that
 * would change an id. Truncation and padding blocks and the decoder don't, and are (DESIGN section 6).
 * Memory-safe on any bytes (tests/fuzz/fuzz_tokenizer.c). Threads: no state. */
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "text/tokenizer_impl.h"

static const char *type_of(const json_t *object)
{
    const char *type = json_string_value(json_object_get(object, "type"));
    return type ? type : json_is_object(object) ? "(no type)" : "(none)";
}

static cpl_status unsupported(const cpl_draft *d, const char *part, const json_t *value, const char *supported,
                              cpl_error *err)
{
    return cpl_fail_file(err, CPL_UNSUPPORTED, d->name, "%s \"%s\" is not supported, only %s", part,
                         CPL_QUOTE(type_of(value), strlen(type_of(value))), supported);
}

static cpl_status read_bool(const cpl_draft *d, const json_t *object, const char *key, bool *out, cpl_error *err)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_boolean(value))
        return cpl_fail_file(err, CPL_CORRUPT, d->name, "normalizer.%s has to be true or false", key);
    *out = json_is_true(value);
    return CPL_OK;
}

static cpl_status read_normalizer(cpl_draft *d, const json_t *n, cpl_error *err)
{
    if (strcmp(type_of(n), "BertNormalizer")) return unsupported(d, "normalizer", n, "BertNormalizer", err);
    const json_t *strip = json_object_get(n, "strip_accents");
    cpl_status st = read_bool(d, n, "clean_text", &d->t->clean, err);
    if (!st) st = read_bool(d, n, "handle_chinese_chars", &d->t->cjk, err);
    if (!st) st = read_bool(d, n, "lowercase", &d->t->lower, err);
    if (st) return st;
    d->t->strip = d->t->lower;
    if (!strip || json_is_null(strip)) return CPL_OK;
    return read_bool(d, n, "strip_accents", &d->t->strip, err);
}

static cpl_status read_vocab(cpl_draft *d, json_t *vocab, cpl_error *err)
{
    const char *token;
    json_t *id;
    cpl_status st = CPL_OK;
    json_object_foreach(vocab, token, id)
    {
        if (!json_is_integer(id))
            return cpl_fail_file(err, CPL_CORRUPT, d->name, "id of token \"%s\" is not a whole number",
                                 CPL_QUOTE(token, strlen(token)));
        st = cpl_draft_add_word(d, token, strlen(token), json_integer_value(id), err);
        if (st) return st;
    }
    return st;
}

static cpl_status read_model(cpl_draft *d, const json_t *model, cpl_error *err)
{
    const json_t *type = json_object_get(model, "type"); /* old files have none */
    if (!json_is_object(model) || (type && strcmp(type_of(model), "WordPiece")) || json_object_get(model, "merges"))
        return unsupported(d, "model", model, "WordPiece", err);
    const json_t *prefix = json_object_get(model, "continuing_subword_prefix");
    const json_t *chars = json_object_get(model, "max_input_chars_per_word");
    json_t *vocab = json_object_get(model, "vocab");
    d->unk_token = json_string_value(json_object_get(model, "unk_token"));
    d->prefix = json_string_value(prefix);
    if (!d->unk_token || strlen(d->unk_token) != json_string_length(json_object_get(model, "unk_token")) ||
        !d->prefix || !json_is_integer(chars) || json_integer_value(chars) < 0 || !json_is_object(vocab))
        return cpl_fail_file(err, CPL_CORRUPT, d->name,
                             "model needs vocab, unk_token, continuing_subword_prefix and max_input_chars_per_word");
    d->prefix_size = json_string_length(prefix);
    d->t->word_chars_max = (size_t)json_integer_value(chars);
    return d->cut ? CPL_OK : read_vocab(d, vocab, err);
}

/* ---- post-processor ----------------------------------------------------------------------------------------- */

static cpl_status read_type_id(const cpl_draft *d, const json_t *piece, uint8_t *out, cpl_error *err)
{
    const json_t *type_id = json_object_get(piece, "type_id");
    json_int_t value = json_is_integer(type_id) ? json_integer_value(type_id) : -1;
    if (value < 0 || value > 255)
        return cpl_fail_file(err, CPL_CORRUPT, d->name, "post_processor: a type_id is missing or not in 0 to 255");
    *out = (uint8_t)value;
    return CPL_OK;
}

/* The ids that a special token of the template stands for. */
static cpl_status find_special(const cpl_draft *d, const json_t *tokens, const json_t *piece, const json_t **ids,
                               cpl_error *err)
{
    const char *name = json_string_value(json_object_get(piece, "id"));
    if (!name) return cpl_fail_file(err, CPL_CORRUPT, d->name, "post_processor: a special token has no id");
    *ids = json_object_get(json_object_get(tokens, name), "ids");
    if (!json_is_array(*ids))
        return cpl_fail_file(err, CPL_CORRUPT, d->name,
                             "post_processor: special token \"%s\" is not described in special_tokens",
                             CPL_QUOTE(name, strlen(name)));
    for (size_t i = 0; i < json_array_size(*ids); i++) {
        const json_t *id = json_array_get(*ids, i);
        if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) >= CPL_TOKEN_IDS_MAX)
            return cpl_fail_file(err, CPL_CORRUPT, d->name, "post_processor: an id of \"%s\" is out of range",
                                 CPL_QUOTE(name, strlen(name)));
    }
    return CPL_OK;
}

static cpl_status read_piece(const cpl_draft *d, const json_t *item, const json_t *tokens, cpl_template *out,
                             unsigned *seen, cpl_error *err)
{
    const json_t *special = json_object_get(item, "SpecialToken"), *sequence = json_object_get(item, "Sequence");
    const json_t *piece = special ? special : sequence, *ids = NULL;
    uint8_t type_id = 0;
    cpl_status st = read_type_id(d, piece, &type_id, err);
    if (st) return st;
    if (!special) {
        const char *which = json_string_value(json_object_get(sequence, "id"));
        bool a = which && !strcmp(which, "A"), b = which && !strcmp(which, "B");
        if (!a && !b)
            return cpl_fail_file(err, CPL_CORRUPT, d->name, "post_processor: a sequence is neither \"A\" nor \"B\"");
        *seen += a ? 1 : 256;
        out->pieces[out->n++] = (cpl_template_piece){a ? -1 : -2, type_id};
        return CPL_OK;
    }
    st = find_special(d, tokens, piece, &ids, err);
    for (size_t i = 0; !st && i < json_array_size(ids); i++) {
        out->pieces[out->n++] = (cpl_template_piece){(int32_t)json_integer_value(json_array_get(ids, i)), type_id};
        out->added++;
    }
    return st;
}

static cpl_status read_template(cpl_draft *d, const json_t *list, const json_t *tokens, bool pair, cpl_template *out,
                                cpl_error *err)
{
    const char *name = pair ? "pair" : "single";
    size_t n = json_array_size(list), room = n;
    for (size_t i = 0; i < n; i++) { /* a special token may stand for several ids */
        const char *id =
            json_string_value(json_object_get(json_object_get(json_array_get(list, i), "SpecialToken"), "id"));
        room += id ? json_array_size(json_object_get(json_object_get(tokens, id), "ids")) : 0;
    }
    if (!n || n > 64 || room > 4096)
        return cpl_fail_file(err, CPL_CORRUPT, d->name, "post_processor: template %s is missing or too long", name);
    *out = (cpl_template){.pieces = CPL_ARENA_NEW(&d->t->arena, cpl_template_piece, room)};
    if (!out->pieces) return cpl_fail_memory(err, room * sizeof *out->pieces);
    unsigned seen = 0;
    for (size_t i = 0; i < n; i++) {
        cpl_status st = read_piece(d, json_array_get(list, i), tokens, out, &seen, err);
        if (st) return st;
    }
    if (seen != (pair ? 257u : 1u))
        return cpl_fail_file(err, CPL_UNSUPPORTED, d->name, "post_processor: template %s has to hold %s exactly once",
                             name, pair ? "A and B" : "A, and not B,");
    return CPL_OK;
}

static cpl_status read_bert_processing(cpl_draft *d, const json_t *p, cpl_error *err)
{
    int32_t ids[2];
    for (int i = 0; i < 2; i++) {
        const char *key = i ? "sep" : "cls";
        const json_t *id = json_array_get(json_object_get(p, key), 1);
        if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) >= CPL_TOKEN_IDS_MAX)
            return cpl_fail_file(err, CPL_CORRUPT, d->name, "post_processor.%s has to be [token, id]", key);
        ids[i] = (int32_t)json_integer_value(id);
    }
    return cpl_draft_bert_templates(d, ids[0], ids[1], err);
}

static cpl_status read_post_processor(cpl_draft *d, const json_t *p, cpl_error *err)
{
    if (!p || json_is_null(p)) { /* the texts as they are, type ids 0 and 1 */
        cpl_template_piece *pieces = CPL_ARENA_NEW(&d->t->arena, cpl_template_piece, 2);
        if (!pieces) return cpl_fail_memory(err, 2 * sizeof *pieces);
        pieces[0] = (cpl_template_piece){-1, 0};
        pieces[1] = (cpl_template_piece){-2, 1};
        d->t->single = (cpl_template){pieces, 1, 0};
        d->t->pair = (cpl_template){pieces, 2, 0};
        return CPL_OK;
    }
    if (!strcmp(type_of(p), "BertProcessing")) return read_bert_processing(d, p, err);
    if (strcmp(type_of(p), "TemplateProcessing"))
        return unsupported(d, "post_processor", p, "TemplateProcessing and BertProcessing", err);
    const json_t *tokens = json_object_get(p, "special_tokens");
    cpl_status st = read_template(d, json_object_get(p, "single"), tokens, false, &d->t->single, err);
    return st ? st : read_template(d, json_object_get(p, "pair"), tokens, true, &d->t->pair, err);
}

/* ---- the whole file ------------------------------------------------------------------------------------------ */

static cpl_status read_added_tokens(cpl_draft *d, const json_t *list, cpl_error *err)
{
    if (list && !json_is_null(list) && !json_is_array(list))
        return cpl_fail_file(err, CPL_CORRUPT, d->name, "added_tokens has to be a list");
    cpl_status st = CPL_OK;
    for (size_t i = 0; !st && i < json_array_size(list); i++)
        st = cpl_draft_read_token(d, json_array_get(list, i), -1, err);
    return st;
}

static cpl_status read_all(cpl_draft *d, const json_t *root, cpl_error *err)
{
    const json_t *version = json_object_get(root, "version");
    if (!json_is_object(root)) return cpl_fail_file(err, CPL_CORRUPT, d->name, "not a JSON object");
    if (version && (!json_is_string(version) || strcmp(json_string_value(version), "1.0")))
        return cpl_fail_file(err, CPL_UNSUPPORTED, d->name, "version of the format is not \"1.0\"");
    const json_t *splitter = json_object_get(root, "pre_tokenizer");
    cpl_status st = read_normalizer(d, json_object_get(root, "normalizer"), err);
    if (!st && strcmp(type_of(splitter), "BertPreTokenizer"))
        st = unsupported(d, "pre_tokenizer", splitter, "BertPreTokenizer", err);
    if (!st) st = read_model(d, json_object_get(root, "model"), err);
    if (!st) st = read_added_tokens(d, json_object_get(root, "added_tokens"), err);
    if (!st) st = read_post_processor(d, json_object_get(root, "post_processor"), err);
    return st;
}

/* The whole file through the library. */
static cpl_status parse_whole(cpl_tokenizer **out, const char *name, const char *json, size_t n, cpl_error *err)
{
    json_t *root = NULL;
    cpl_draft draft;
    cpl_status st = cpl_json_parse(&root, name, json, n, err);
    if (st) return st;
    st = cpl_draft_init(&draft, name, err);
    if (!st) {
        st = read_all(&draft, root, err);
        if (st)
            cpl_draft_deinit(&draft);
        else
            st = cpl_draft_finish(&draft, out, err);
    }
    json_decref(root);
    return st;
}

/* The same with the vocabulary cut out. *again: it has to be read as a whole. */
static cpl_status parse_cut(cpl_tokenizer **out, const char *name, const char *json, size_t n, bool *again,
                            cpl_error *err)
{
    json_t *root = NULL;
    cpl_draft draft;
    cpl_buf rest = {0};
    *again = false;
    cpl_status st = cpl_draft_init(&draft, name, err);
    if (st) return st;
    st = cpl_draft_cut_vocab(&draft, json, n, &rest, &draft.cut, err);
    *again = !st && (!draft.cut || cpl_json_parse(&root, name, rest.data, rest.size, err));
    if (!st && !*again) st = read_all(&draft, root, err);
    if (st || *again) {
        cpl_draft_deinit(&draft);
    } else {
        st = cpl_draft_finish(&draft, out, err);
        *again = draft.twins;
    }
    json_decref(root);
    cpl_buf_deinit(&rest);
    return st;
}

cpl_status cpl_tokenizer_parse(cpl_tokenizer **out, const char *name, const char *json, size_t n, cpl_error *err)
{
    bool again;
    *out = NULL;
    cpl_status st = parse_cut(out, name, json, n, &again, err);
    return again ? parse_whole(out, name, json, n, err) : st;
}

cpl_status cpl_tokenizer_open(cpl_tokenizer **out, const char *dir, cpl_error *err)
{
    char path[4096];
    cpl_buf text = {0};
    *out = NULL;
    cpl_status st = cpl_file_join(path, sizeof path, dir, "tokenizer.json", err);
    if (st) return st;
    if (!cpl_file_exists(path)) return cpl_tokenizer_open_vocab(out, dir, err);
    st = cpl_file_read(&text, path, (size_t)256 << 20, err);
    if (!st) st = cpl_tokenizer_parse(out, path, text.data ? text.data : "", text.size, err);
    cpl_buf_deinit(&text);
    return st;
}
