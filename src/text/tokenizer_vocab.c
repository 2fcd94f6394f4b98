/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer_vocab.c - a BERT tokenizer from vocab.txt and tokenizer_config.json, for models that came before
 * tokenizer.json.
 * The one idea: it becomes what transformers' BertTokenizerFast makes of the same files: the line number is the id, the
 * five special tokens are added tokens. What that class would treat in another way is refused by name.
 * Threads: no state. */
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/utf8.h"
#include "text/tokenizer_impl.h"
#include "text/unicode_tables.h"

static const char *const classes[] = {"BertTokenizer",           "BertTokenizerFast",      "DistilBertTokenizer",
                                      "DistilBertTokenizerFast", "ElectraTokenizer",       "ElectraTokenizerFast",
                                      "MobileBertTokenizer",     "MobileBertTokenizerFast"};

enum { UNK, CLS, SEP, PAD, MASK, SPECIALS };
static const char *const special_keys[SPECIALS] = {"unk_token", "cls_token", "sep_token", "pad_token", "mask_token"};
static const char *const special_defaults[SPECIALS] = {"[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"};

static cpl_status read_switch(const json_t *config, const char *file, const char *key, bool *value, cpl_error *err)
{
    const json_t *v = json_object_get(config, key);
    if (!v || json_is_null(v)) return CPL_OK;
    if (!json_is_boolean(v)) return cpl_fail_file(err, CPL_CORRUPT, file, "%s has to be true or false", key);
    *value = json_is_true(v);
    return CPL_OK;
}

static cpl_status check_class(const json_t *config, const char *file, cpl_error *err)
{
    const char *name = json_string_value(json_object_get(config, "tokenizer_class"));
    if (!name) return CPL_OK;
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
        if (!strcmp(name, classes[i])) return CPL_OK;
    return cpl_fail_file(err, CPL_UNSUPPORTED, file, "tokenizer_class \"%s\" is not supported without a tokenizer.json",
                         CPL_QUOTE(name, strlen(name)));
}

static cpl_status read_options(cpl_tokenizer *t, const json_t *config, const char *file, cpl_error *err)
{
    bool basic = true;
    const json_t *kept = json_object_get(config, "never_split"), *more;
    t->clean = t->cjk = t->lower = true;
    cpl_status st = check_class(config, file, err);
    if (!st) st = read_switch(config, file, "do_lower_case", &t->lower, err);
    if (!st) st = read_switch(config, file, "tokenize_chinese_chars", &t->cjk, err);
    if (!st) st = read_switch(config, file, "clean_text", &t->clean, err);
    t->strip = t->lower;
    if (!st) st = read_switch(config, file, "strip_accents", &t->strip, err);
    if (!st) st = read_switch(config, file, "do_basic_tokenize", &basic, err);
    if (st) return st;
    more = json_object_get(config, "additional_special_tokens");
    if (!basic) return cpl_fail_file(err, CPL_UNSUPPORTED, file, "do_basic_tokenize false is not supported");
    if (json_array_size(kept)) return cpl_fail_file(err, CPL_UNSUPPORTED, file, "never_split is not supported");
    if (json_array_size(more) && !json_object_get(config, "added_tokens_decoder"))
        return cpl_fail_file(err, CPL_UNSUPPORTED, file,
                             "additional_special_tokens without added_tokens_decoder is not supported");
    return CPL_OK;
}

/* "[CLS]" or {"content": "[CLS]", ...}. */
static cpl_status special_name(const json_t *config, const char *file, int which, const char **out, cpl_error *err)
{
    const json_t *v = json_object_get(config, special_keys[which]);
    *out = special_defaults[which];
    if (!v || json_is_null(v)) return CPL_OK;
    if (json_is_object(v)) v = json_object_get(v, "content");
    *out = json_string_value(v);
    if (!*out || !**out) return cpl_fail_file(err, CPL_CORRUPT, file, "%s has to be a text", special_keys[which]);
    return CPL_OK;
}

/* Without white space at the end, which transformers takes off too. */
static size_t trimmed(const char *line, size_t size)
{
    while (size) {
        size_t at = size - 1;
        uint32_t c;
        while (at && ((unsigned char)line[at] & 0xC0) == 0x80) at--;
        cpl_utf8_decode(line + at, size - at, &c);
        if (!(cpl_unicode_flags(c) & CPL_CHAR_WHITE)) break;
        size = at;
    }
    return size;
}

static cpl_status read_lines(cpl_draft *d, const cpl_buf *text, cpl_error *err)
{
    size_t valid = cpl_utf8_valid_prefix(text->data, text->size);
    if (valid < text->size) return cpl_fail_byte(err, CPL_CORRUPT, d->name, (int64_t)valid, "not valid UTF-8");
    int64_t id = 0;
    for (size_t at = 0; at < text->size; id++) {
        const char *line = text->data + at, *end = memchr(line, '\n', text->size - at);
        size_t size = end ? (size_t)(end - line) : text->size - at;
        at += size + 1;
        cpl_status st = cpl_draft_add_word(d, line, trimmed(line, size), id, err);
        if (st) return st;
    }
    return CPL_OK;
}

/* The id of `name` in the words read so far (the last of equal ones), or -1. */
static int32_t word_id(const cpl_draft *d, const char *name)
{
    size_t n = strlen(name);
    for (size_t i = d->entry_count; i-- > 0;)
        if (d->entries[i].size == n && !memcmp(d->entries[i].text, name, n)) return d->entries[i].value;
    return -1;
}

static bool listed(const cpl_draft *d, const char *name)
{
    for (size_t i = 0; i < d->added_count; i++)
        if (d->added[i].size == strlen(name) && !memcmp(d->added[i].content, name, d->added[i].size)) return true;
    return false;
}

static cpl_status read_specials(cpl_draft *d, const json_t *config, const char *file, cpl_error *err)
{
    const char *names[SPECIALS], *key;
    json_t *token;
    cpl_status st = CPL_OK;
    json_object_foreach(json_object_get(config, "added_tokens_decoder"), key, token)
    {
        int64_t id = 0;
        for (const char *p = key; *p; p++)
            id = *p < '0' || *p > '9' || id > CPL_TOKEN_IDS_MAX ? INT32_MAX : id * 10 + (*p - '0');
        st = cpl_draft_read_token(d, token, *key ? id : INT32_MAX, err);
        if (st) return st;
    }
    for (int i = 0; i < SPECIALS; i++) {
        st = special_name(config, file, i, &names[i], err);
        if (st) return st;
        if (listed(d, names[i])) continue;
        cpl_added_token added = {.content = names[i], .size = (uint32_t)strlen(names[i]), .id = -1, .special = true};
        st = cpl_draft_add_token(d, &added, err);
        if (st) return st;
    }
    d->unk_token = names[UNK];
    int32_t cls = word_id(d, names[CLS]), sep = word_id(d, names[SEP]);
    if (cls < 0 || sep < 0)
        return cpl_fail_file(err, CPL_CORRUPT, d->name, "special token \"%s\" is not in the vocabulary",
                             CPL_QUOTE(names[cls < 0 ? CLS : SEP], strlen(names[cls < 0 ? CLS : SEP])));
    return cpl_draft_bert_templates(d, cls, sep, err);
}

static cpl_status read_directory(cpl_draft *d, const char *dir, const cpl_buf *vocab, const json_t *config,
                                 const char *config_path, cpl_error *err)
{
    char path[4096];
    cpl_status st = cpl_file_join(path, sizeof path, dir, "added_tokens.json", err);
    if (!st && cpl_file_exists(path))
        st = cpl_fail_file(err, CPL_UNSUPPORTED, path, "not supported beside vocab.txt; ship a tokenizer.json");
    if (!st) st = read_options(d->t, config, config_path, err);
    d->t->word_chars_max = 100;
    d->prefix = "##";
    d->prefix_size = 2;
    if (!st) st = read_lines(d, vocab, err);
    if (!st) st = read_specials(d, config, config_path, err);
    return st;
}

cpl_status cpl_tokenizer_open_vocab(cpl_tokenizer **out, const char *dir, cpl_error *err)
{
    char path[4096], config_path[4096];
    cpl_buf vocab = {0};
    json_t *config = NULL;
    cpl_draft draft;
    *out = NULL;
    cpl_status st = cpl_file_join(path, sizeof path, dir, "vocab.txt", err);
    if (!st) st = cpl_file_join(config_path, sizeof config_path, dir, "tokenizer_config.json", err);
    if (st) return st;
    if (!cpl_file_exists(path))
        return cpl_fail_file(err, CPL_NOT_FOUND, dir, "neither tokenizer.json nor vocab.txt is in this directory");
    st = cpl_file_read(&vocab, path, (size_t)256 << 20, err);
    if (!st && cpl_file_exists(config_path)) st = cpl_json_load(&config, config_path, (size_t)64 << 20, err);
    if (!st) st = cpl_draft_init(&draft, path, err);
    if (!st) {
        st = read_directory(&draft, dir, &vocab, config, config_path, err);
        if (st)
            cpl_draft_deinit(&draft);
        else
            st = cpl_draft_finish(&draft, out, err);
    }
    json_decref(config);
    cpl_buf_deinit(&vocab);
    return st;
}
