/* SPDX-License-Identifier: Apache-2.0 */
/* random_model.h - a cross-encoder or embedder with random weights, made in memory: the shape of MiniLM-L6 or another,
 * so that tests and the bench of the device need no model file. Header only, for tests. */
#ifndef CPL_TESTS_RANDOM_MODEL_H
#define CPL_TESTS_RANDOM_MODEL_H

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "model/model.h"

typedef struct cpl_random_model {
    cpl_model model;
    cpl_layer *layers;
    float *data;
    size_t used, room;
    uint64_t state;
} cpl_random_model;

static inline uint64_t cpl_random_next(uint64_t *state) /* splitmix64 */
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static inline double cpl_random_unit(uint64_t *state)
{
    return ((double)(cpl_random_next(state) >> 11) + 0.5) / 9007199254740992.0;
}

static inline uint32_t cpl_random_below(uint64_t *state, uint32_t n) { return (uint32_t)(cpl_random_next(state) % n); }

static inline double cpl_random_normal(uint64_t *state)
{
    const double u = cpl_random_unit(state), v = cpl_random_unit(state);
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v);
}

/* rows x columns (columns 0: a vector of rows), uniform around `centre` with the given deviation. */
static inline cpl_tensor cpl_random_tensor(cpl_random_model *r, uint32_t rows, uint32_t columns, float centre,
                                           float deviation)
{
    const size_t count = (size_t)rows * (columns ? columns : 1);
    float *at = r->data + r->used;
    r->used += count;
    for (size_t i = 0; i < count; i++)
        at[i] = centre + deviation * 3.4641016f * (float)(cpl_random_unit(&r->state) - 0.5);
    cpl_tensor t;
    memset(&t, 0, sizeof t);
    t.data = at;
    t.dtype = CPL_DTYPE_F32;
    t.rank = columns ? 2 : 1;
    t.shape[0] = rows;
    t.shape[1] = columns ? columns : 1;
    return t;
}

static inline void cpl_random_layer(cpl_random_model *r, cpl_layer *y)
{
    const uint32_t h = r->model.arch.hidden, f = r->model.arch.intermediate;
    const float hs = 1.0f / sqrtf((float)h), fs = 1.0f / sqrtf((float)f);
    y->q_weight = cpl_random_tensor(r, h, h, 0, 1.5f * hs);
    y->q_bias = cpl_random_tensor(r, h, 0, 0, 0.1f);
    y->k_weight = cpl_random_tensor(r, h, h, 0, 1.5f * hs);
    y->k_bias = cpl_random_tensor(r, h, 0, 0, 0.1f);
    y->v_weight = cpl_random_tensor(r, h, h, 0, hs);
    y->v_bias = cpl_random_tensor(r, h, 0, 0, 0.1f);
    y->out_weight = cpl_random_tensor(r, h, h, 0, hs);
    y->out_bias = cpl_random_tensor(r, h, 0, 0, 0.1f);
    y->attention_norm_weight = cpl_random_tensor(r, h, 0, 1, 0.1f);
    y->attention_norm_bias = cpl_random_tensor(r, h, 0, 0, 0.1f);
    y->up_weight = cpl_random_tensor(r, f, h, 0, hs);
    y->up_bias = cpl_random_tensor(r, f, 0, 0, 0.1f);
    y->down_weight = cpl_random_tensor(r, h, f, 0, fs);
    y->down_bias = cpl_random_tensor(r, h, 0, 0, 0.1f);
    y->output_norm_weight = cpl_random_tensor(r, h, 0, 1, 0.1f);
    y->output_norm_bias = cpl_random_tensor(r, h, 0, 0, 0.1f);
}

/* arch: sizes, labels (0: an embedder that pools by mean) and the rest of the shape. 0 when out of memory. */
static inline int cpl_random_model_make(cpl_random_model *r, const cpl_arch *arch, uint32_t max_length, uint64_t seed)
{
    const size_t h = arch->hidden, f = arch->intermediate;
    memset(r, 0, sizeof *r);
    r->state = seed;
    r->room = ((size_t)arch->vocab + arch->positions + arch->types + 2) * h + h * h + h + (h + 1) * arch->labels +
              arch->layers * (4 * h * h + 2 * h * f + 9 * h + f);
    r->data = (float *)malloc(r->room * sizeof(float));
    r->layers = (cpl_layer *)calloc(arch->layers, sizeof *r->layers);
    if (!r->data || !r->layers) return 0;
    r->model.dir = "random";
    r->model.architecture = "random";
    r->model.note = "random weights";
    r->model.arch = *arch;
    r->model.task = arch->labels ? CPL_TASK_CROSS_ENCODER : CPL_TASK_EMBEDDER;
    r->model.pooling = CPL_POOLING_MEAN;
    r->model.max_length = max_length;
    cpl_weights_by_role *w = &r->model.weights;
    w->word_embedding = cpl_random_tensor(r, arch->vocab, arch->hidden, 0, 0.05f);
    w->position_embedding = cpl_random_tensor(r, arch->positions, arch->hidden, 0, 0.02f);
    w->type_embedding = cpl_random_tensor(r, arch->types, arch->hidden, 0, 0.02f);
    w->embedding_norm_weight = cpl_random_tensor(r, arch->hidden, 0, 1, 0.1f);
    w->embedding_norm_bias = cpl_random_tensor(r, arch->hidden, 0, 0, 0.1f);
    for (uint32_t l = 0; l < arch->layers; l++) cpl_random_layer(r, &r->layers[l]);
    w->layers = r->layers;
    if (!arch->labels) return 1;
    w->pooler_weight = cpl_random_tensor(r, arch->hidden, arch->hidden, 0, 1.0f / sqrtf((float)h));
    w->pooler_bias = cpl_random_tensor(r, arch->hidden, 0, 0, 0.1f);
    w->classifier_weight = cpl_random_tensor(r, arch->labels, arch->hidden, 0, 2.0f / sqrtf((float)h));
    w->classifier_bias = cpl_random_tensor(r, arch->labels, 0, 0, 0.1f);
    return 1;
}

static inline void cpl_random_model_free(cpl_random_model *r)
{
    free(r->data);
    free(r->layers);
    memset(r, 0, sizeof *r);
}

/* The shape of MiniLM-L6. */
static inline cpl_arch cpl_minilm_arch(uint32_t labels)
{
    cpl_arch a;
    memset(&a, 0, sizeof a);
    a.layers = 6;
    a.hidden = 384;
    a.heads = 12;
    a.head_size = 32;
    a.intermediate = 1536;
    a.vocab = 30522;
    a.positions = 512;
    a.types = 2;
    a.norm_epsilon = 1e-12f;
    a.norm_place = CPL_NORM_POST;
    a.position_scheme = CPL_POSITION_LEARNED;
    a.activation = CPL_ACTIVATION_GELU;
    a.head = labels ? CPL_HEAD_POOLER_CLASSIFIER : CPL_HEAD_NONE;
    a.labels = labels;
    return a;
}

#endif
