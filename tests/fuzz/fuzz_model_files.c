/* SPDX-License-Identifier: Apache-2.0 */
/* The small files of a model directory: modules.json, the modules' own configs, the limits, and a tokenizer of the old
 * kind (vocab.txt). Input: files one after the other, a NUL byte between; one that is empty isn't there. A refusal is
 * one line; a tokenizer that is accepted gives ids of its vocabulary. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "model/config.h"
#include "model/modules.h"
#include "text/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const names[] = {"modules.json",
                                    "1_Pooling/config.json",
                                    "2_Normalize/config.json",
                                    "config_sentence_transformers.json",
                                    "sentence_bert_config.json",
                                    "tokenizer_config.json",
                                    "vocab.txt"};
enum { FILES = sizeof names / sizeof *names, PATH_BYTES = 256 };

static char dir[PATH_BYTES];

static void remove_dir(void)
{
    char path[2 * PATH_BYTES];
    for (int i = 0; i < FILES; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        unlink(path);
    }
    snprintf(path, sizeof path, "%s/1_Pooling", dir);
    rmdir(path);
    snprintf(path, sizeof path, "%s/2_Normalize", dir);
    rmdir(path);
    rmdir(dir);
}

static void make_dir(void)
{
    char path[2 * PATH_BYTES];
    const char *memory = access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm";
    snprintf(dir, sizeof dir, "%s/couplet-fuzz-XXXXXX", memory);
    if (!mkdtemp(dir)) abort();
    atexit(remove_dir);
    snprintf(path, sizeof path, "%s/1_Pooling", dir);
    if (mkdir(path, 0700)) abort();
    snprintf(path, sizeof path, "%s/2_Normalize", dir);
    if (mkdir(path, 0700)) abort();
}

static void put_file(const char *name, const uint8_t *data, size_t size)
{
    char path[2 * PATH_BYTES];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    unlink(path);
    if (!size) return;
    FILE *f = fopen(path, "we");
    if (!f || fwrite(data, 1, size, f) != size || fclose(f)) abort();
}

static void check_refusal(const cpl_error *err)
{
    if (!err->what[0] || strpbrk(err->what, "\r\n")) abort();
}

static void check_modules(bool classifier)
{
    const cpl_model_config config = {.classifier = classifier,
                                     .architecture = classifier ? "BertForSequenceClassification" : "BertModel",
                                     .arch = {.hidden = 32, .positions = 64}};
    cpl_modules m;
    cpl_error err = {0};
    if (cpl_modules_load(&m, dir, &config, &err))
        check_refusal(&err);
    else if (m.max_length < 3 || m.max_length > 64)
        abort();
}

static void check_tokenizer(void)
{
    cpl_tokenizer *t = NULL;
    cpl_tokenizer_scratch *s = NULL;
    cpl_error err = {0};
    int32_t ids[64];
    size_t count = 0;
    if (cpl_tokenizer_open(&t, dir, &err)) {
        if (t) abort();
        check_refusal(&err);
        return;
    }
    const cpl_text text = cpl_text_of("Hello, w\xC3\xB6rld [SEP] abab \xE4\xB8\x80");
    if (cpl_tokenizer_scratch_open(&s, &err)) abort();
    if (cpl_tokenizer_encode(t, s, text, ids, 64, &count, &err) || count > 64) abort();
    for (size_t i = 0; i < count; i++)
        if (ids[i] < 0 || (uint32_t)ids[i] >= cpl_tokenizer_vocab_size(t)) abort();
    cpl_tokenizer_scratch_close(s);
    cpl_tokenizer_close(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!*dir) make_dir();
    for (int i = 0; i < FILES; i++) {
        const uint8_t *cut = i + 1 < FILES && size ? memchr(data, 0, size) : NULL;
        const size_t n = cut ? (size_t)(cut - data) : size;
        put_file(names[i], data, n);
        data += cut ? n + 1 : n;
        size -= cut ? n + 1 : n;
    }
    check_modules(false);
    check_modules(true);
    check_tokenizer();
    return 0;
}
