/* SPDX-License-Identifier: Apache-2.0 */
/* weights.c - from tensor names to roles, with shapes checked against the architecture record.
 *
 * The one idea: one table says for each role its name and shape in BERT's terms; everything else (prefix, layer
 * number, old LayerNorm names) is string work in one function. Another family of models will bring another table.
 *
 * Invariant: after success every tensor in cpl_weights_by_role that the architecture has is present, readable, of the
 * expected shape, and inside the mapped file. What the encoder holds beyond that is refused (see weights.h); what lies
 * outside the encoder (a pooler an embedder does not use, a pretraining head, position_ids) is left alone.
 *
 * Rejected: initialising what is missing, as Python's loader does with a warning. Threads: no state. */
#include "model/weights.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "model/fields.h"

enum { NAME_BYTES = 192 };

/* Dimensions by name, so that the tables can be constant. */
typedef enum dim { DIM_ONE, DIM_HIDDEN, DIM_INTERMEDIATE, DIM_VOCAB, DIM_POSITIONS, DIM_TYPES, DIM_LABELS } dim;

typedef struct role {
    const char *name; /* after the prefix, and after "encoder.layer.N." for the roles of a layer */
    dim rows, columns;
    size_t offset; /* of the cpl_tensor in its struct */
} role;

#define AT_MODEL(field) offsetof(cpl_weights_by_role, field)
#define AT_LAYER(field) offsetof(cpl_layer, field)

static const role embedding_roles[] = {
    {"embeddings.word_embeddings.weight", DIM_VOCAB, DIM_HIDDEN, AT_MODEL(word_embedding)},
    {"embeddings.position_embeddings.weight", DIM_POSITIONS, DIM_HIDDEN, AT_MODEL(position_embedding)},
    {"embeddings.token_type_embeddings.weight", DIM_TYPES, DIM_HIDDEN, AT_MODEL(type_embedding)},
    {"embeddings.LayerNorm.weight", DIM_HIDDEN, DIM_ONE, AT_MODEL(embedding_norm_weight)},
    {"embeddings.LayerNorm.bias", DIM_HIDDEN, DIM_ONE, AT_MODEL(embedding_norm_bias)},
};
static const role pooler_roles[] = {
    {"pooler.dense.weight", DIM_HIDDEN, DIM_HIDDEN, AT_MODEL(pooler_weight)},
    {"pooler.dense.bias", DIM_HIDDEN, DIM_ONE, AT_MODEL(pooler_bias)},
};
static const role classifier_roles[] = {
    {"classifier.weight", DIM_LABELS, DIM_HIDDEN, AT_MODEL(classifier_weight)},
    {"classifier.bias", DIM_LABELS, DIM_ONE, AT_MODEL(classifier_bias)},
};
static const role layer_roles[] = {
    {"attention.self.query.weight", DIM_HIDDEN, DIM_HIDDEN, AT_LAYER(q_weight)},
    {"attention.self.query.bias", DIM_HIDDEN, DIM_ONE, AT_LAYER(q_bias)},
    {"attention.self.key.weight", DIM_HIDDEN, DIM_HIDDEN, AT_LAYER(k_weight)},
    {"attention.self.key.bias", DIM_HIDDEN, DIM_ONE, AT_LAYER(k_bias)},
    {"attention.self.value.weight", DIM_HIDDEN, DIM_HIDDEN, AT_LAYER(v_weight)},
    {"attention.self.value.bias", DIM_HIDDEN, DIM_ONE, AT_LAYER(v_bias)},
    {"attention.output.dense.weight", DIM_HIDDEN, DIM_HIDDEN, AT_LAYER(out_weight)},
    {"attention.output.dense.bias", DIM_HIDDEN, DIM_ONE, AT_LAYER(out_bias)},
    {"attention.output.LayerNorm.weight", DIM_HIDDEN, DIM_ONE, AT_LAYER(attention_norm_weight)},
    {"attention.output.LayerNorm.bias", DIM_HIDDEN, DIM_ONE, AT_LAYER(attention_norm_bias)},
    {"intermediate.dense.weight", DIM_INTERMEDIATE, DIM_HIDDEN, AT_LAYER(up_weight)},
    {"intermediate.dense.bias", DIM_INTERMEDIATE, DIM_ONE, AT_LAYER(up_bias)},
    {"output.dense.weight", DIM_HIDDEN, DIM_INTERMEDIATE, AT_LAYER(down_weight)},
    {"output.dense.bias", DIM_HIDDEN, DIM_ONE, AT_LAYER(down_bias)},
    {"output.LayerNorm.weight", DIM_HIDDEN, DIM_ONE, AT_LAYER(output_norm_weight)},
    {"output.LayerNorm.bias", DIM_HIDDEN, DIM_ONE, AT_LAYER(output_norm_bias)},
};
#define ROLES(table) table, sizeof table / sizeof *table

typedef struct taking {
    const cpl_safetensors *s;
    const cpl_arch *arch;
    uint64_t parameters;
} taking;

static uint32_t dim_size(const cpl_arch *a, dim d)
{
    switch (d) {
    case DIM_HIDDEN: return a->hidden;
    case DIM_INTERMEDIATE: return a->intermediate;
    case DIM_VOCAB: return a->vocab;
    case DIM_POSITIONS: return a->positions;
    case DIM_TYPES: return a->types;
    case DIM_LABELS: return a->labels;
    case DIM_ONE: break;
    }
    return 1;
}

/* "...LayerNorm.weight" -> "...LayerNorm.gamma", bias -> beta; false when the name is no LayerNorm's. */
static bool legacy_name(char out[NAME_BYTES], const char *name)
{
    const char *norm = strstr(name, "LayerNorm.");
    if (!norm) return false;
    size_t stem = (size_t)(norm - name) + strlen("LayerNorm.");
    snprintf(out, NAME_BYTES, "%.*s%s", (int)stem, name, strcmp(name + stem, "weight") == 0 ? "gamma" : "beta");
    return true;
}

static cpl_status find(cpl_safetensor **out, const cpl_safetensors *s, const char *name, cpl_error *err)
{
    char old[NAME_BYTES];
    cpl_safetensor *modern = cpl_safetensors_find(s, name);
    cpl_safetensor *legacy = legacy_name(old, name) ? cpl_safetensors_find(s, old) : NULL;
    *out = modern ? modern : legacy;
    if (modern && legacy)
        return cpl_fail_line(err, CPL_CORRUPT, s->file, 0, 0, name, "both '%s' and '%s' are there: expected one", name,
                             old);
    return CPL_OK;
}

static cpl_status take(cpl_tensor *slot, taking *k, const char *name, uint32_t rows, uint32_t columns, uint32_t rank,
                       cpl_error *err)
{
    cpl_safetensor *t;
    char expected[48], found[CPL_SHAPE_BYTES];
    if (rank == 1)
        snprintf(expected, sizeof expected, "[%u]", rows);
    else
        snprintf(expected, sizeof expected, "[%u, %u]", rows, columns);
    cpl_status st = find(&t, k->s, name, err);
    if (st) return st;
    if (!t)
        return cpl_fail_line(err, CPL_CORRUPT, k->s->file, 0, 0, name, "tensor '%s' is missing: expected shape %s",
                             name, expected);
    bool same = t->rank == rank && t->shape[0] == rows && (rank == 1 || t->shape[1] == columns);
    if (!same)
        return cpl_fail_line(err, CPL_CORRUPT, k->s->file, 0, 0, name,
                             "tensor '%s': expected shape %s as config.json says, found %s", t->name, expected,
                             cpl_safetensor_shape(found, t));
    if (!t->readable)
        return cpl_fail_line(err, CPL_UNSUPPORTED, k->s->file, 0, 0, name,
                             "tensor '%s': dtype %s is not supported: expected F32, F16 or BF16", t->name,
                             t->dtype_name);
    *slot = (cpl_tensor){.data = t->data, .dtype = t->dtype, .rank = rank, .shape = {rows, columns}};
    t->used = true;
    k->parameters += (uint64_t)rows * columns;
    return CPL_OK;
}

static cpl_status take_all(void *base, taking *k, const char *prefix, const role *roles, size_t count, cpl_error *err)
{
    cpl_status st = CPL_OK;
    for (size_t i = 0; i < count && !st; i++) {
        char name[NAME_BYTES];
        snprintf(name, sizeof name, "%s%s", prefix, roles[i].name);
        uint32_t rows = dim_size(k->arch, roles[i].rows), columns = dim_size(k->arch, roles[i].columns);
        cpl_tensor *slot = (cpl_tensor *)((char *)base + roles[i].offset);
        st = take(slot, k, name, rows, columns, roles[i].columns == DIM_ONE ? 1 : 2, err);
    }
    return st;
}

/* The prefix under which the word embedding lies; exactly one may fit. Without any, "" lets take() say what is gone. */
static cpl_status choose_prefix(const char **out, const cpl_safetensors *s, cpl_error *err)
{
    static const char *const prefixes[] = {"", "bert.", "model."};
    const char *chosen = NULL;
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
        char name[NAME_BYTES];
        snprintf(name, sizeof name, "%s%s", prefixes[i], embedding_roles[0].name);
        if (!cpl_safetensors_find(s, name)) continue;
        if (chosen)
            return cpl_fail_line(err, CPL_CORRUPT, s->file, 0, 0, name,
                                 "two encoders, '%sembeddings...' and '%sembeddings...': expected one", chosen,
                                 prefixes[i]);
        chosen = prefixes[i];
    }
    *out = chosen ? chosen : "";
    return CPL_OK;
}

/* Nothing of the encoder may be left over, or it would be another model that runs. */
static cpl_status refuse_leftovers(const cpl_safetensors *s, const char *prefix, cpl_error *err)
{
    char shown[CPL_SHOW_BYTES];
    size_t skip = strlen(prefix);
    for (size_t i = 0; i < s->count; i++) {
        const cpl_safetensor *t = &s->tensors[i];
        if (t->used || strncmp(t->name, prefix, skip) != 0) continue;
        const char *name = t->name + skip;
        if (strncmp(name, "encoder.", 8) != 0 && strncmp(name, "embeddings.", 11) != 0) continue;
        if (strcmp(name, "embeddings.position_ids") == 0 || strcmp(name, "embeddings.token_type_ids") == 0) continue;
        return cpl_fail_line(err, CPL_UNSUPPORTED, s->file, 0, 0, t->name,
                             "tensor '%s' has no place in the model that config.json describes: expected only BERT's",
                             cpl_show(shown, t->name));
    }
    return CPL_OK;
}

cpl_status cpl_weights_assign(cpl_weights_by_role *out, uint64_t *parameters, const cpl_safetensors *s,
                              const cpl_arch *arch, cpl_arena *arena, cpl_error *err)
{
    cpl_weights_by_role w = {0};
    taking k = {.s = s, .arch = arch};
    const char *prefix = "";
    cpl_status st = choose_prefix(&prefix, s, err);
    if (!st) st = take_all(&w, &k, prefix, ROLES(embedding_roles), err);
    if (st) return st;
    w.layers = CPL_ARENA_NEW(arena, cpl_layer, arch->layers);
    if (!w.layers) return cpl_fail_memory(err, arch->layers * sizeof *w.layers);
    for (uint32_t i = 0; i < arch->layers && !st; i++) {
        char of_layer[64];
        snprintf(of_layer, sizeof of_layer, "%sencoder.layer.%" PRIu32 ".", prefix, i);
        st = take_all(&w.layers[i], &k, of_layer, ROLES(layer_roles), err);
    }
    if (!st && arch->head == CPL_HEAD_POOLER_CLASSIFIER) {
        st = take_all(&w, &k, prefix, ROLES(pooler_roles), err);
        if (!st) st = take_all(&w, &k, "", ROLES(classifier_roles), err);
    }
    if (!st) st = refuse_leftovers(s, prefix, err);
    if (st) return st;
    *out = w;
    *parameters = k.parameters;
    return CPL_OK;
}
