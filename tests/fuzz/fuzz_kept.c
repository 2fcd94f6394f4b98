/* SPDX-License-Identifier: Apache-2.0 */
/* couplet_keep.json beside a model: found or refused with one line, and what is put beside choices that were read is
 * found again. "@" stands for the weights' digest, so that inputs get past it. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "model/kept.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const names[] = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
                                    CPL_KEPT_FILE};
enum { LINKS = 4, FILES = 5, PATH_BYTES = 4200 };

static char dir[64], digest[32];
static cpl_model *model;

static void end(void)
{
    char path[PATH_BYTES];
    cpl_model_close(model);
    for (int i = 0; i < FILES; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        unlink(path);
    }
    rmdir(dir);
}

static void begin(void)
{
    char path[PATH_BYTES], here[2048], to[PATH_BYTES];
    cpl_error err;
    snprintf(dir, sizeof dir, "%s/couplet-fuzz-XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
    if (!mkdtemp(dir) || !getcwd(here, sizeof here)) abort();
    for (int i = 0; i < LINKS; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        snprintf(to, sizeof to, "%s/tests/golden/models/cross-encoder/%s", here, names[i]);
        if (symlink(to, path)) abort();
    }
    if (cpl_model_open(&model, dir, &err)) abort();
    snprintf(digest, sizeof digest, "%016llx", (unsigned long long)cpl_model_digest(model));
    atexit(end);
}

static void check_refusal(const cpl_error *err)
{
    if (!err->what[0] || strpbrk(err->what, "\r\n")) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[PATH_BYTES];
    cpl_buf text = {0};
    cpl_kept kept, again;
    cpl_error err = {0};
    if (!model) begin();
    for (size_t i = 0; i < size; i++)
        if (data[i] == '@')
            cpl_buf_text(&text, digest);
        else
            cpl_buf_add(&text, data + i, 1);
    snprintf(path, sizeof path, "%s/%s", dir, CPL_KEPT_FILE);
    FILE *f = fopen(path, "we");
    if (!f || fwrite(text.data ? text.data : "", 1, text.size, f) != text.size || fclose(f)) abort();
    cpl_buf_deinit(&text);
    if (cpl_kept_find(&kept, model, "int8", 0, &err)) {
        check_refusal(&err);
        return 0;
    }
    if (cpl_kept_put(model, &kept, &err)) {
        check_refusal(&err); /* another choice of the file is broken */
        return 0;
    }
    if (cpl_kept_find(&again, model, "int8", 0, &err) || strcmp(again.keep, kept.keep) != 0) abort();
    return 0;
}
