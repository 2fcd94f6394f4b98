/* SPDX-License-Identifier: Apache-2.0 */
/* model_dir.h - a scratch copy of a tiny golden model whose files a test changes one at a time. Header only. */
#ifndef CPL_TESTS_MODEL_DIR_H
#define CPL_TESTS_MODEL_DIR_H

#include <dirent.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"

static char model_dir[256]; /* "" when there is none */

static inline const char *dir_path(const char *name)
{
    static char path[1024];
    snprintf(path, sizeof path, "%s/%s", model_dir, name);
    return path;
}

static inline void dir_write(const char *name, const void *data, size_t n)
{
    assert_int_equal(cpl_file_write(dir_path(name), data, n, NULL), CPL_OK);
}

static inline void dir_text(const char *name, const char *text) { dir_write(name, text, strlen(text)); }

static inline void dir_unlink(const char *name) { assert_int_equal(unlink(dir_path(name)), 0); }

static inline void dir_close(void)
{
    static const char *const folders[] = {"1_Pooling", "2_Normalize", "other", ""};
    for (size_t i = 0; model_dir[0] && i < sizeof folders / sizeof *folders; i++) {
        char folder[512];
        snprintf(folder, sizeof folder, "%s/%s", model_dir, folders[i]);
        DIR *d = opendir(folder);
        if (!d) continue;
        struct dirent *e;
        while ((e = readdir(d))) {
            char path[1024];
            snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
            if (e->d_type != DT_DIR) unlink(path);
        }
        closedir(d);
        rmdir(folder);
    }
    model_dir[0] = 0;
}

static inline void copy_file(const char *from, const char *name)
{
    cpl_buf b = {0};
    if (cpl_file_exists(from)) {
        assert_int_equal(cpl_file_read(&b, from, 1 << 26, NULL), CPL_OK);
        dir_write(name, b.data, b.size);
    }
    cpl_buf_deinit(&b);
}

/* A fresh copy of tests/golden/models/NAME (without the tokenizer, which this floor does not read). */
static inline void dir_open(const char *name)
{
    static const char *const files[] = {"config.json",           "model.safetensors",         "modules.json",
                                        "1_Pooling/config.json", "sentence_bert_config.json", "tokenizer_config.json"};
    dir_close();
    const char *base = getenv("TMPDIR");
    snprintf(model_dir, sizeof model_dir, "%s/cpl_model_XXXXXX", base ? base : P_tmpdir);
    assert_non_null(mkdtemp(model_dir));
    assert_int_equal(mkdir(dir_path("1_Pooling"), 0700), 0);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char from[256];
        snprintf(from, sizeof from, "tests/golden/models/%s/%s", name, files[i]);
        copy_file(from, files[i]);
    }
}

/* Puts the members of `change` over the JSON object in the file; null members are removed when read. */
static inline void dir_change(const char *name, const char *change)
{
    json_error_t e;
    json_t *root = json_load_file(dir_path(name), 0, &e), *over = json_loads(change, 0, &e);
    if (!root) root = json_object();
    if (!over) fail_msg("the test's own JSON is broken: %s", change);
    assert_int_equal(json_object_update(root, over), 0);
    char *text = json_dumps(root, 0);
    dir_text(name, text);
    free(text);
    json_decref(root);
    json_decref(over);
}

/* The header of model.safetensors with tensor `name` renamed (to not NULL) and the members of `change` put over it. */
static inline void dir_change_tensor(const char *name, const char *to, const char *change)
{
    cpl_buf file = {0}, out = {0};
    json_error_t e;
    assert_int_equal(cpl_file_read(&file, dir_path("model.safetensors"), 1 << 26, NULL), CPL_OK);
    uint64_t length;
    memcpy(&length, file.data, 8);
    json_t *root = json_loadb(file.data + 8, length, 0, &e), *over = json_loads(change, 0, &e);
    json_t *entry = json_incref(json_object_get(root, name));
    if (!entry || !over) fail_msg("no tensor '%s', or broken JSON '%s'", name, change);
    json_object_update(entry, over);
    if (to) {
        json_object_del(root, name);
        json_object_set(root, to, entry);
    }
    char *text = json_dumps(root, JSON_COMPACT);
    uint64_t changed = strlen(text);
    cpl_buf_add(&out, &changed, 8);
    cpl_buf_add(&out, text, changed);
    cpl_buf_add(&out, file.data + 8 + length, file.size - 8 - length);
    dir_write("model.safetensors", out.data, out.size);
    free(text);
    json_decref(entry);
    json_decref(root);
    json_decref(over);
    cpl_buf_deinit(&file);
    cpl_buf_deinit(&out);
}

#endif
