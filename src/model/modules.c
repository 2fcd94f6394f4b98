/* SPDX-License-Identifier: Apache-2.0 */
/* modules.c - the sentence-transformers side of a model directory.
 *
 * The one idea: read what the library itself would obey, and refuse what it would obey and we can't. Two generations
 * of these files are about: before version 5.4 ("sentence_transformers.models.Pooling", one boolean a pooling mode,
 * activation in config.json) and after ("...sentence_transformer.modules.pooling.Pooling", a "pooling_mode" name,
 * cross-encoders with a modules.json too, activation in config_sentence_transformers.json). Both are read.
 *
 * tokenizer_config.json often holds 1000000000000000019884624838656 as model_max_length ("no limit"), more than a
 * JSON integer of jansson holds, so that file alone is parsed with integers as reals. Threads: no state. */
#include "model/modules.h"

#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "model/fields.h"

enum { PATH_BYTES = 4096, SMALL_FILE_BYTES_MAX = 1 << 20, TOKENIZER_CONFIG_BYTES_MAX = 1 << 26, LENGTH_MIN = 3 };

/* *out stays NULL when DIR/NAME is absent. path: PATH_BYTES, filled for later errors. */
static cpl_status load_optional(json_t **out, char *path, const char *dir, const char *name, cpl_error *err)
{
    *out = NULL;
    cpl_status st = cpl_file_join(path, PATH_BYTES, dir, name, err);
    if (st || !cpl_file_exists(path)) return st;
    return cpl_json_load(out, path, SMALL_FILE_BYTES_MAX, err);
}

static cpl_status load_object(json_t **out, char *path, const char *dir, const char *name, cpl_error *err)
{
    cpl_status st = load_optional(out, path, dir, name, err);
    if (!st && *out) st = cpl_field_expect_object(*out, path, "the whole file", err);
    return st;
}

/* ---- 1_Pooling/config.json ---------------------------------------------------------------------------------- */

static cpl_status set_pooling(cpl_modules *m, const char *name, const char *path, cpl_error *err)
{
    char shown[CPL_SHOW_BYTES];
    if (strcmp(name, "mean") == 0)
        m->pooling = CPL_POOLING_MEAN;
    else if (strcmp(name, "cls") == 0)
        m->pooling = CPL_POOLING_CLS;
    else if (strcmp(name, "max") == 0)
        m->pooling = CPL_POOLING_MAX;
    else
        return cpl_fail_line(err, CPL_UNSUPPORTED, path, 0, 0, "pooling_mode",
                             "pooling '%s' is not supported: expected mean, cls or max", cpl_show(shown, name));
    return CPL_OK;
}

/* The older form: a boolean for each mode, of which exactly one must be set. */
static cpl_status read_pooling_flags(cpl_modules *m, const json_t *root, const char *path, cpl_error *err)
{
    static const struct {
        const char *key, *name;
    } flags[] = {
        {"pooling_mode_cls_token", "cls"},
        {"pooling_mode_mean_tokens", "mean"},
        {"pooling_mode_max_tokens", "max"},
        {"pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len_tokens"},
        {"pooling_mode_weightedmean_tokens", "weightedmean"},
        {"pooling_mode_lasttoken", "lasttoken"},
    };
    const char *chosen = NULL;
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        bool set;
        cpl_status st = cpl_field_bool(root, path, flags[i].key, false, &set, err);
        if (st) return st;
        if (set && chosen)
            return cpl_fail_line(err, CPL_UNSUPPORTED, path, 0, 0, flags[i].key,
                                 "several poolings ('%s' and '%s') are not supported: expected one", chosen,
                                 flags[i].name);
        if (set) chosen = flags[i].name;
    }
    if (!chosen)
        return cpl_fail_line(err, CPL_CORRUPT, path, 0, 0, "pooling_mode",
                             "no pooling is set: expected one of 'pooling_mode_...' to be true");
    return set_pooling(m, chosen, path, err);
}

static cpl_status read_pooling(cpl_modules *m, const json_t *root, const char *path, uint32_t hidden, cpl_error *err)
{
    uint32_t width;
    const char *key = cpl_field_any(root, "embedding_dimension") ? "embedding_dimension" : "word_embedding_dimension";
    cpl_status st = cpl_field_u32(root, path, key, 1, UINT32_MAX, &hidden, &width, err);
    if (st) return st;
    if (width != hidden)
        return cpl_fail_line(err, CPL_CORRUPT, path, 0, 0, key,
                             "key '%s': expected %u as 'hidden_size' in config.json, found %u", key, hidden, width);
    bool prompt;
    st = cpl_field_bool(root, path, "include_prompt", true, &prompt, err);
    if (st) return st;
    if (!prompt)
        return cpl_fail_line(err, CPL_UNSUPPORTED, path, 0, 0, "include_prompt",
                             "pooling without the prompt ('include_prompt': false) is not supported");
    const json_t *mode = cpl_field_any(root, "pooling_mode");
    if (!mode) return read_pooling_flags(m, root, path, err);
    if (json_is_array(mode) && json_array_size(mode) == 1) mode = json_array_get(mode, 0);
    if (json_is_array(mode))
        return cpl_fail_line(err, CPL_UNSUPPORTED, path, 0, 0, "pooling_mode",
                             "%zu poolings at once are not supported: expected one", json_array_size(mode));
    if (!json_is_string(mode))
        return cpl_fail_line(err, CPL_CORRUPT, path, 0, 0, "pooling_mode",
                             "key 'pooling_mode': expected a name, found %s", cpl_json_kind(mode));
    return set_pooling(m, json_string_value(mode), path, err);
}

static cpl_status load_pooling(cpl_modules *m, const char *dir, uint32_t hidden, cpl_error *err)
{
    char path[PATH_BYTES];
    json_t *root = NULL;
    cpl_status st = cpl_file_join(path, sizeof path, dir, "config.json", err);
    if (!st) st = cpl_json_load(&root, path, SMALL_FILE_BYTES_MAX, err);
    if (!st) st = cpl_field_expect_object(root, path, "the whole file", err);
    if (!st) st = read_pooling(m, root, path, hidden, err);
    json_decref(root);
    return st;
}

/* Normalize has a config only in newer directories, and only there another target than the sentence vector. */
static cpl_status load_normalize(cpl_modules *m, const char *dir, cpl_error *err)
{
    static const char *const keys[] = {"module_input_name", "module_output_name"};
    char path[PATH_BYTES], shown[CPL_SHOW_BYTES];
    json_t *root;
    cpl_status st = load_object(&root, path, dir, "config.json", err);
    for (size_t i = 0; i < 2 && !st && root; i++) {
        const char *name;
        st = cpl_field_text(root, path, keys[i], "sentence_embedding", &name, err);
        if (!st && strcmp(name, "sentence_embedding") != 0)
            st = cpl_fail_line(err, CPL_UNSUPPORTED, path, 0, 0, keys[i],
                               "Normalize of '%s' is not supported: expected 'sentence_embedding'",
                               cpl_show(shown, name));
    }
    json_decref(root);
    m->normalize = true;
    return st;
}

/* ---- modules.json ------------------------------------------------------------------------------------------- */

/* "sentence_transformers.<anything>.Pooling" -> "Pooling"; NULL for classes of somebody else. */
static const char *module_class(const char *type)
{
    const char *dot = strrchr(type, '.');
    return dot && strncmp(type, "sentence_transformers.", 22) == 0 ? dot + 1 : NULL;
}

static cpl_status read_module(cpl_modules *m, size_t i, const json_t *entry, const char *dir, const char *file,
                              const cpl_model_config *config, cpl_error *err)
{
    static const char *const expected[] = {"Transformer", "Pooling", "Normalize"};
    const char *type, *sub;
    char path[PATH_BYTES], shown[CPL_SHOW_BYTES];
    cpl_status st = cpl_field_expect_object(entry, file, "a module", err);
    if (!st) st = cpl_field_text(entry, file, "type", "", &type, err);
    if (!st) st = cpl_field_text(entry, file, "path", "", &sub, err);
    if (st) return st;
    const char *class = module_class(type);
    size_t known = config->classifier ? 1 : 3;
    if (i >= known || !class || strcmp(class, expected[i]) != 0)
        return cpl_fail_line(err, CPL_UNSUPPORTED, file, 0, 0, "type", "module %zu '%s' is not supported: expected %s",
                             i, cpl_show(shown, type), i < known ? expected[i] : "no further module");
    if (i == 0 && *sub)
        return cpl_fail_line(err, CPL_UNSUPPORTED, file, 0, 0, "path",
                             "a Transformer in folder '%s' is not supported: expected it beside modules.json",
                             cpl_show(shown, sub));
    if (i == 0) return CPL_OK;
    if (!*sub || *sub == '/' || strstr(sub, ".."))
        return cpl_fail_line(err, CPL_CORRUPT, file, 0, 0, "path", "module path '%s': expected a folder of the model",
                             cpl_show(shown, sub));
    st = cpl_file_join(path, sizeof path, dir, sub, err);
    if (st) return st;
    return i == 1 ? load_pooling(m, path, config->arch.hidden, err) : load_normalize(m, path, err);
}

static cpl_status load_modules(cpl_modules *m, const char *dir, const cpl_model_config *config, cpl_error *err)
{
    char path[PATH_BYTES];
    json_t *root;
    cpl_status st = load_optional(&root, path, dir, "modules.json", err);
    m->pooling = CPL_POOLING_MEAN;
    if (st || !root) return st;
    m->present = true;
    size_t n = json_array_size(root), least = config->classifier ? 1 : 2;
    if (!json_is_array(root) || n < least)
        st = cpl_fail_file(err, CPL_UNSUPPORTED, path, "expected a list of modules (%s), found %s of %zu",
                           least == 1 ? "Transformer" : "Transformer, Pooling, Normalize", cpl_json_kind(root), n);
    for (size_t i = 0; i < n && !st; i++) st = read_module(m, i, json_array_get(root, i), dir, path, config, err);
    json_decref(root);
    return st;
}

/* ---- config_sentence_transformers.json ------------------------------------------------------------------------ */

static cpl_status refuse_prompt(const json_t *root, const char *path, cpl_error *err)
{
    const char *name, *prompt = NULL;
    char shown[CPL_SHOW_BYTES];
    cpl_status st = cpl_field_text(root, path, "default_prompt_name", NULL, &name, err);
    const json_t *prompts = cpl_field_any(root, "prompts");
    if (st || !name || !prompts) return st;
    st = cpl_field_expect_object(prompts, path, "key 'prompts'", err);
    if (!st) st = cpl_field_text(prompts, path, name, NULL, &prompt, err);
    if (!st && prompt && *prompt)
        st = cpl_fail_line(err, CPL_UNSUPPORTED, path, 0, 0, "default_prompt_name",
                           "a default prompt ('%s') is not supported: expected none", cpl_show(shown, name));
    return st;
}

static cpl_status read_library_config(cpl_modules *m, const json_t *root, const char *path,
                                      const cpl_model_config *config, cpl_error *err)
{
    const char *expected = config->classifier ? "CrossEncoder" : "SentenceTransformer", *type, *activation;
    char shown[CPL_SHOW_BYTES];
    cpl_status st = cpl_field_text(root, path, "model_type", expected, &type, err);
    if (!st && strcmp(type, expected) != 0)
        st = cpl_fail_line(err, CPL_UNSUPPORTED, path, 0, 0, "model_type",
                           "model_type '%s' is not supported with architecture %s: expected %s", cpl_show(shown, type),
                           config->architecture, expected);
    if (!st) st = refuse_prompt(root, path, err);
    if (!st) st = cpl_field_text(root, path, "activation_fn", NULL, &activation, err);
    if (st || !activation || !config->classifier) return st;
    m->activation_given = true;
    return cpl_model_config_activation(activation, path, "activation_fn", &m->activation, err);
}

/* ---- length limit --------------------------------------------------------------------------------------------- */

static cpl_status read_reals(json_t **out, const char *path, cpl_error *err)
{
    cpl_buf text = {0};
    json_error_t e;
    cpl_status st = cpl_file_read(&text, path, TOKENIZER_CONFIG_BYTES_MAX, err);
    if (!st) {
        *out = json_loadb(text.data, text.size, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &e);
        if (!*out && json_error_code(&e) == json_error_out_of_memory)
            st = cpl_fail_memory(err, text.size);
        else if (!*out)
            st = cpl_fail_line(err, CPL_CORRUPT, path, e.line, e.column, NULL, "not valid JSON: %s", e.text);
    }
    cpl_buf_deinit(&text);
    return st;
}

typedef struct tokenizer_options {
    double length;   /* HUGE_VAL-like when there is none */
    bool keeps_case; /* do_lower_case is false in so many words */
} tokenizer_options;

static cpl_status load_tokenizer_options(tokenizer_options *o, const char *dir, cpl_error *err)
{
    char path[PATH_BYTES];
    json_t *root = NULL;
    bool lower = true;
    *o = (tokenizer_options){.length = 1e30};
    cpl_status st = cpl_file_join(path, sizeof path, dir, "tokenizer_config.json", err);
    if (st || !cpl_file_exists(path)) return st;
    st = read_reals(&root, path, err);
    if (!st) st = cpl_field_expect_object(root, path, "the whole file", err);
    if (!st) st = cpl_field_number(root, path, "model_max_length", 1e30, &o->length, err);
    if (!st) st = cpl_field_bool(root, path, "do_lower_case", true, &lower, err);
    if (!st && !(o->length >= LENGTH_MIN))
        st = cpl_fail_line(err, CPL_CORRUPT, path, 0, 0, "model_max_length",
                           "key 'model_max_length': expected at least %d, found %.9g", LENGTH_MIN, o->length);
    o->keeps_case = !lower;
    json_decref(root);
    return st;
}

/* sentence_bert_config.json: the limit, and options that change what goes into the model. */
static cpl_status read_transformer(const json_t *root, const char *path, const cpl_model_config *config,
                                   const tokenizer_options *o, uint32_t *length, cpl_error *err)
{
    const char *expected = config->classifier ? "sequence-classification" : "feature-extraction", *task;
    char shown[CPL_SHOW_BYTES];
    bool lower;
    static const uint32_t none = 0;
    cpl_status st = cpl_field_u32(root, path, "max_seq_length", LENGTH_MIN, UINT32_MAX, &none, length, err);
    if (!st) st = cpl_field_bool(root, path, "do_lower_case", false, &lower, err);
    if (!st) st = cpl_field_text(root, path, "transformer_task", expected, &task, err);
    if (st) return st;
    if (strcmp(task, expected) != 0)
        return cpl_fail_line(err, CPL_UNSUPPORTED, path, 0, 0, "transformer_task",
                             "transformer_task '%s' is not supported with architecture %s: expected %s",
                             cpl_show(shown, task), config->architecture, expected);
    if (lower && o->keeps_case)
        return cpl_fail_line(err, CPL_UNSUPPORTED, path, 0, 0, "do_lower_case",
                             "'do_lower_case' before a tokenizer that keeps case is not supported");
    const json_t *extra = cpl_field_any(root, "processing_kwargs");
    if (extra && (!json_is_object(extra) || json_object_size(extra)))
        return cpl_fail_line(err, CPL_UNSUPPORTED, path, 0, 0, "processing_kwargs",
                             "tokenizer options in 'processing_kwargs' are not supported: expected none");
    return CPL_OK;
}

static cpl_status load_length(cpl_modules *m, const char *dir, const cpl_model_config *config, cpl_error *err)
{
    char path[PATH_BYTES];
    tokenizer_options o;
    json_t *root = NULL;
    uint32_t length = 0, positions = config->arch.positions;
    cpl_status st = load_tokenizer_options(&o, dir, err);
    if (!st) st = load_object(&root, path, dir, "sentence_bert_config.json", err);
    if (!st && root) st = read_transformer(root, path, config, &o, &length, err);
    json_decref(root);
    if (!length) length = o.length < positions ? (uint32_t)o.length : positions;
    m->max_length = length < positions ? length : positions;
    return st;
}

cpl_status cpl_modules_load(cpl_modules *out, const char *dir, const cpl_model_config *config, cpl_error *err)
{
    cpl_modules m = {0};
    char path[PATH_BYTES];
    json_t *root = NULL;
    cpl_status st = load_modules(&m, dir, config, err);
    if (!st) st = load_object(&root, path, dir, "config_sentence_transformers.json", err);
    if (!st && root) st = read_library_config(&m, root, path, config, err);
    json_decref(root);
    if (!st) st = load_length(&m, dir, config, err);
    if (!st) *out = m;
    return st;
}
