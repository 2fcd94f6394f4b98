/* SPDX-License-Identifier: Apache-2.0 */
/* model.c - a model directory, opened: config, side files and weights into one read-only record.
 *
 * The one idea: the public cpl_model is the first member of a private struct that owns what it points into (one arena,
 * one mapping), so that closing is three releases whatever failed when. Weights stay in the mapped file: nothing is
 * copied here, and the pages come in as a backend packs them (MADV_WILLNEED starts the disk early, MADV_SEQUENTIAL
 * reads ahead). cpl_model_release_pages gives them back after that.
 *
 * Limits: the file must not be cut short while the model is open (SIGBUS, as with every mapping); replace models by
 * renaming. Threads: opening is one thread's; afterwards read-only for all. */
#include "model/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/digest.h"
#include "base/error.h"
#include "base/file.h"
#include "model/config.h"
#include "model/modules.h"
#include "model/safetensors.h"
#include "model/weights.h"

enum { PATH_BYTES = 4096, CONFIG_BYTES_MAX = 16 << 20, ARENA_CHUNK_BYTES = 64 << 10 };

typedef struct model_file {
    cpl_model model; /* first: the two share an address */
    cpl_arena arena;
    cpl_map map;
} model_file;

static const char *keep(model_file *f, const char *text, cpl_error *err)
{
    const char *copy = cpl_arena_copy(&f->arena, text, strlen(text));
    if (!copy) cpl_fail_memory(err, strlen(text) + 1);
    return copy;
}

static cpl_status load_config(cpl_model_config *c, model_file *f, cpl_error *err)
{
    char path[PATH_BYTES];
    cpl_buf text = {0};
    cpl_status st = cpl_file_join(path, sizeof path, f->model.dir, "config.json", err);
    if (!st) st = cpl_file_read(&text, path, CONFIG_BYTES_MAX, err);
    if (!st) st = cpl_model_config_parse(c, path, text.data, text.size, &f->arena, err);
    cpl_buf_deinit(&text);
    return st;
}

/* What happens to the rows that come back; by now config and modules agree on the task. */
static cpl_status settle_task(model_file *f, const cpl_model_config *c, const cpl_modules *m, cpl_error *err)
{
    static const char guess[] = "no modules.json: mean pooling, not normalised, as sentence-transformers does";
    cpl_model *model = &f->model;
    model->task = c->classifier ? CPL_TASK_CROSS_ENCODER : CPL_TASK_EMBEDDER;
    if (!c->classifier && !c->bare && !m->present)
        return cpl_fail_file(err, CPL_UNSUPPORTED, model->dir,
                             "architecture '%s' without modules.json is not supported: expected BertModel, "
                             "BertForSequenceClassification or a sentence-transformers directory",
                             c->architecture);
    model->architecture = c->architecture;
    model->arch = c->arch;
    model->labels = c->labels;
    model->note = c->note;
    model->pooling = m->pooling;
    model->normalize = m->normalize;
    model->max_length = m->max_length;
    model->activation = m->activation_given ? m->activation : c->activation;
    if (c->classifier || m->present) return CPL_OK;
    char note[1024];
    snprintf(note, sizeof note, "%s%s%s", guess, *c->note ? "; " : "", c->note);
    model->note = keep(f, note, err);
    return model->note ? CPL_OK : CPL_NO_MEMORY;
}

static const char *const graphs[] = {"model.onnx", "onnx/model.onnx"};

/* A graph in place of weights: f->model.graph, or NULL. */
static cpl_status find_graph(model_file *f, cpl_error *err)
{
    char path[PATH_BYTES];
    cpl_status st = cpl_file_join(path, sizeof path, f->model.dir, "model.safetensors", err);
    if (st || cpl_file_exists(path)) return st;
    for (size_t i = 0; !st && !f->model.graph && i < sizeof graphs / sizeof *graphs; i++) {
        st = cpl_file_join(path, sizeof path, f->model.dir, graphs[i], err);
        if (!st && cpl_file_exists(path)) f->model.graph = graphs[i];
    }
    return st;
}

/* CPL_OK only when DIR/model.safetensors is there; otherwise what is there instead decides the sentence. */
static cpl_status find_weights(char path[PATH_BYTES], const char *dir, cpl_error *err)
{
    static const struct {
        const char *name, *sentence;
    } others[] = {
        {"model.onnx", "only a graph is there: expected model.safetensors; backend onnx runs graphs"},
        {"onnx/model.onnx", "only a graph is there: expected model.safetensors; backend onnx runs graphs"},
        {"model.safetensors.index.json", "weights in several files are not supported: expected one model.safetensors"},
        {"pytorch_model.bin", "only PyTorch's pickled weights are there: expected model.safetensors; convert them with "
                              "Python's transformers, model.save_pretrained(DIR)"},
        {"pytorch_model.bin.index.json", "only PyTorch's pickled weights are there: expected model.safetensors"},
    };
    cpl_status st = cpl_file_join(path, PATH_BYTES, dir, "model.safetensors", err);
    if (st || cpl_file_exists(path)) return st;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        char other[PATH_BYTES];
        st = cpl_file_join(other, sizeof other, dir, others[i].name, err);
        if (st) return st;
        if (cpl_file_exists(other)) return cpl_fail_file(err, CPL_UNSUPPORTED, other, "%s", others[i].sentence);
    }
    return cpl_fail_file(err, CPL_NOT_FOUND, path, "no weights: expected this file");
}

static cpl_status load_weights(model_file *f, cpl_error *err)
{
    char path[PATH_BYTES];
    cpl_safetensors s;
    cpl_status st = find_weights(path, f->model.dir, err);
    if (!st) st = cpl_file_map(&f->map, path, err);
    if (st) return st;
    if (f->map.size) {
        madvise((void *)f->map.data, f->map.size, MADV_SEQUENTIAL); /* advice: a refusal costs speed only */
        madvise((void *)f->map.data, f->map.size, MADV_WILLNEED);
    }
    st = cpl_safetensors_parse(&s, path, f->map.data, f->map.size, &f->arena, err);
    if (st) return st;
    return cpl_weights_assign(&f->model.weights, &f->model.parameters, &s, &f->model.arch, &f->arena, err);
}

static cpl_status open_model(cpl_model **out, const char *dir, bool any, cpl_error *err)
{
    cpl_model_config config;
    cpl_modules modules;
    *out = NULL;
    model_file *f = calloc(1, sizeof *f);
    if (!f) return cpl_fail_memory(err, sizeof *f);
    cpl_arena_init(&f->arena, ARENA_CHUNK_BYTES, 0);
    f->model.dir = keep(f, dir, err);
    cpl_status st = f->model.dir ? CPL_OK : CPL_NO_MEMORY;
    if (!st) st = load_config(&config, f, err);
    if (!st) st = cpl_modules_load(&modules, f->model.dir, &config, err);
    if (!st) st = settle_task(f, &config, &modules, err);
    if (!st && any) st = find_graph(f, err);
    if (!st && !f->model.graph) st = load_weights(f, err);
    if (st)
        cpl_model_close(&f->model);
    else
        *out = &f->model;
    return st;
}

cpl_status cpl_model_open(cpl_model **out, const char *dir, cpl_error *err) { return open_model(out, dir, false, err); }

cpl_status cpl_model_open_any(cpl_model **out, const char *dir, cpl_error *err)
{
    return open_model(out, dir, true, err);
}

uint64_t cpl_model_digest(const cpl_model *m)
{
    const model_file *f = (const model_file *)m;
    return cpl_digest(f->map.data, f->map.size);
}

void cpl_model_release_pages(const cpl_model *m)
{
    const model_file *f = (const model_file *)m;
    if (f->map.size) madvise((void *)f->map.data, f->map.size, MADV_DONTNEED);
}

void cpl_model_close(cpl_model *m)
{
    if (!m) return;
    model_file *f = (model_file *)m;
    cpl_file_unmap(&f->map);
    cpl_arena_deinit(&f->arena);
    free(f);
}
