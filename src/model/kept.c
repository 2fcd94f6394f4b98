/* SPDX-License-Identifier: Apache-2.0 */
/* kept.c - the choices in DIR/couplet_keep.json (kept.h).
 *
 * The idea: a choice holds for the weights that it was measured on and for no others, so the file carries their digest
 * and is refused beside any others; a model that was trained on, or a file that came along in a copy, can't be run with
 * a choice that nobody measured. The whole file is written at once, so a reader sees the old or the new one. No state.
 */
#include "model/kept.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "model/fields.h"

enum { FORMAT = 1, PATH_BYTES = 4096, FILE_BYTES_MAX = 1 << 20, DIGEST_TEXT = 20 };

static void digest_text(char *to, const cpl_model *m)
{
    snprintf(to, DIGEST_TEXT, "%016llx", (unsigned long long)cpl_model_digest(m));
}

static cpl_status copy_text(char *to, size_t cap, const json_t *object, const char *path, const char *key,
                            cpl_error *err)
{
    const char *text;
    cpl_status st = cpl_field_text(object, path, key, NULL, &text, err);
    if (st) return st;
    if (!text) return cpl_fail_file(err, CPL_CORRUPT, path, "a choice has no '%s'", key);
    if ((size_t)snprintf(to, cap, "%s", text) >= cap)
        return cpl_fail_file(err, CPL_CORRUPT, path, "'%s' is longer than %zu bytes", key, cap - 1);
    return CPL_OK;
}

static cpl_status read_choice(cpl_kept *k, const json_t *object, const char *path, cpl_error *err)
{
    static const uint32_t none = 0;
    uint32_t pairs = 0;
    cpl_status st = cpl_field_expect_object(object, path, "a choice", err);
    if (!st) st = copy_text(k->precision, sizeof k->precision, object, path, "precision", err);
    if (!st) st = cpl_field_u32(object, path, "group_size", 0, 1 << 16, &none, &k->group_size, err);
    if (!st) st = copy_text(k->keep, sizeof k->keep, object, path, "keep", err);
    if (!st) st = copy_text(k->measure, sizeof k->measure, object, path, "measure", err);
    if (!st) st = cpl_field_number(object, path, "goal", 0, &k->goal, err);
    if (!st) st = cpl_field_number(object, path, "before", 0, &k->before, err);
    if (!st) st = cpl_field_number(object, path, "reached", 0, &k->reached, err);
    if (!st) st = cpl_field_u32(object, path, "pairs", 0, UINT32_MAX, NULL, &pairs, err);
    if (!st) st = copy_text(k->source, sizeof k->source, object, path, "source", err);
    if (!st) st = copy_text(k->kernels, sizeof k->kernels, object, path, "kernels", err);
    k->pairs = pairs;
    return st;
}

/* The document, of a format that is known; *same: for the weights with that digest. */
static cpl_status load(json_t **out, bool *same, const char *path, const char *digest, cpl_error *err)
{
    uint32_t format = 0;
    const char *weights = NULL;
    cpl_status st = cpl_json_load(out, path, FILE_BYTES_MAX, err);
    if (st) return st;
    st = cpl_field_expect_object(*out, path, "the document", err);
    if (!st) st = cpl_field_u32(*out, path, "format", 0, UINT32_MAX, NULL, &format, err);
    if (!st && format != FORMAT)
        st = cpl_fail_file(err, CPL_UNSUPPORTED, path, "format %u is not supported: expected %d", format, FORMAT);
    if (!st) st = cpl_field_text(*out, path, "weights", "", &weights, err);
    if (!st && !json_is_array(cpl_field_any(*out, "choices")))
        st = cpl_fail_file(err, CPL_CORRUPT, path, "'choices' is not a list");
    *same = !st && strcmp(weights, digest) == 0;
    return st;
}

static bool is_for(const cpl_kept *k, const char *precision, uint32_t group_size)
{
    return !strcmp(k->precision, precision) && k->group_size == group_size;
}

cpl_status cpl_kept_find(cpl_kept *out, const cpl_model *m, const char *precision, uint32_t group_size, cpl_error *err)
{
    char path[PATH_BYTES], digest[DIGEST_TEXT], group[32] = "", setting[48] = "";
    json_t *doc = NULL;
    bool same = false;
    cpl_status st = cpl_file_join(path, sizeof path, m->dir, CPL_KEPT_FILE, err);
    if (st) return st;
    if (group_size) {
        snprintf(group, sizeof group, " in groups of %u", group_size);
        snprintf(setting, sizeof setting, " --settings group_size=%u", group_size);
    }
    if (!cpl_file_exists(path))
        return cpl_fail_file(err, CPL_NOT_FOUND, path,
                             "keep=auto goes by this file, which is not there: write it with 'couplet calibrate "
                             "--model %s --precision %s --pairs FILE', or say keep=none",
                             m->dir, precision);
    digest_text(digest, m);
    st = load(&doc, &same, path, digest, err);
    if (!st && !same)
        st = cpl_fail_file(err, CPL_PRECONDITION, path,
                           "made for other weights than these (%s): run 'couplet calibrate' again, or say keep=none",
                           digest);
    bool found = false;
    for (size_t i = 0; !st && !found && i < json_array_size(json_object_get(doc, "choices")); i++) {
        *out = (cpl_kept){0};
        st = read_choice(out, json_array_get(json_object_get(doc, "choices"), i), path, err);
        found = !st && is_for(out, precision, group_size);
    }
    if (!st && !found)
        st = cpl_fail_file(err, CPL_NOT_FOUND, path,
                           "no choice for %s%s: make one with 'couplet calibrate --precision %s%s', or say keep=none",
                           precision, group, precision, setting);
    json_decref(doc);
    return st;
}

static void write_choice(cpl_json_writer *w, const cpl_kept *k)
{
    cpl_json_open(w, NULL, '{');
    cpl_json_text(w, "precision", k->precision);
    if (k->group_size) cpl_json_int(w, "group_size", k->group_size);
    cpl_json_text(w, "keep", k->keep);
    cpl_json_text(w, "measure", k->measure);
    cpl_json_double(w, "goal", k->goal);
    cpl_json_double(w, "before", k->before);
    cpl_json_double(w, "reached", k->reached);
    cpl_json_int(w, "pairs", (int64_t)k->pairs);
    cpl_json_text(w, "source", k->source);
    cpl_json_text(w, "kernels", k->kernels);
    cpl_json_close(w, '}');
}

/* The choices of the file that stay beside the new one. */
static cpl_status write_others(cpl_json_writer *w, const json_t *doc, const cpl_kept *kept, const char *path,
                               cpl_error *err)
{
    const json_t *choices = json_object_get(doc, "choices");
    for (size_t i = 0; i < json_array_size(choices); i++) {
        cpl_kept other = {0};
        cpl_status st = read_choice(&other, json_array_get(choices, i), path, err);
        if (st) return st;
        if (!is_for(&other, kept->precision, kept->group_size)) write_choice(w, &other);
    }
    return CPL_OK;
}

cpl_status cpl_kept_put(const cpl_model *m, const cpl_kept *kept, cpl_error *err)
{
    char path[PATH_BYTES], digest[DIGEST_TEXT];
    json_t *doc = NULL;
    bool same = false;
    cpl_buf out = {0};
    cpl_json_writer w = {.out = &out, .pretty = true};
    cpl_status st = cpl_file_join(path, sizeof path, m->dir, CPL_KEPT_FILE, err);
    if (st) return st;
    digest_text(digest, m);
    if (cpl_file_exists(path)) st = load(&doc, &same, path, digest, err);
    if (!st) {
        cpl_json_open(&w, NULL, '{');
        cpl_json_int(&w, "format", FORMAT);
        cpl_json_text(&w, "weights", digest);
        cpl_json_open(&w, "choices", '[');
        if (same) st = write_others(&w, doc, kept, path, err);
        write_choice(&w, kept);
        cpl_json_close(&w, ']');
        cpl_json_close(&w, '}');
        cpl_buf_text(&out, "\n");
    }
    if (!st) st = cpl_buf_status(&out, err);
    if (!st) st = cpl_file_write(path, out.data, out.size, err);
    cpl_buf_deinit(&out);
    json_decref(doc);
    return st;
}
