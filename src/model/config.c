/* SPDX-License-Identifier: Apache-2.0 */
/* config.c - decides from config.json whether couplet can run this model, and what its forward pass looks like.
 *
 * The one idea: never half-run a model. A key that would change the forward pass and that we don't implement is a
 * refusal with its name; keys that only matter for training (dropout, initializer_range, problem_type) are not read.
 * Keys that Hugging Face transformers gives a default get the same default here, except the five sizes every writer
 * puts down: a file without those is not a model's config.
 *
 * Sizes are bounded (below), so that products of two of them can't overflow 64 bits anywhere later. The bounds are far
 * above any model of this class. Threads: no state. */
#include "model/config.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "model/fields.h"

enum {
    LAYERS_MAX = 1024,
    HIDDEN_MAX = 1 << 16,
    INTERMEDIATE_MAX = 1 << 20,
    VOCAB_MAX = 1 << 26,
    POSITIONS_MAX = 1 << 20,
    TYPES_MAX = 256, /* type ids are bytes */
    LABELS_MAX = 1 << 16
};

static cpl_status unsupported(cpl_error *err, const char *file, const char *key, const char *found,
                              const char *expected)
{
    char shown[CPL_SHOW_BYTES];
    return cpl_fail_line(err, CPL_UNSUPPORTED, file, 0, 0, key, "%s '%s' is not supported: expected %s", key,
                         cpl_show(shown, found), expected);
}

static cpl_status read_architecture(cpl_model_config *c, const json_t *root, const char *file, cpl_arena *arena,
                                    cpl_error *err)
{
    const char *type, *name = "BertModel";
    cpl_status st = cpl_field_text(root, file, "model_type", NULL, &type, err);
    if (st) return st;
    if (type && strcmp(type, "bert") != 0) return unsupported(err, file, "model_type", type, "'bert'");
    const json_t *list = cpl_field_any(root, "architectures");
    if (list) {
        if (!json_is_array(list) || json_array_size(list) != 1 || !json_is_string(json_array_get(list, 0)))
            return cpl_fail_line(err, CPL_CORRUPT, file, 0, 0, "architectures",
                                 "key 'architectures': expected a list of one name, found %s of %zu",
                                 cpl_json_kind(list), json_array_size(list));
        name = json_string_value(json_array_get(list, 0));
    } else if (!type) {
        return cpl_fail_line(err, CPL_CORRUPT, file, 0, 0, "architectures",
                             "neither 'model_type' nor 'architectures' is there: expected a model's config");
    }
    c->classifier = strcmp(name, "BertForSequenceClassification") == 0;
    c->bare = strcmp(name, "BertModel") == 0;
    /* Encoders saved with a pretraining head: sentence-transformers uses the encoder and leaves the head. */
    bool pretraining = strcmp(name, "BertForMaskedLM") == 0 || strcmp(name, "BertForPreTraining") == 0;
    if (!c->classifier && !c->bare && !pretraining)
        return unsupported(err, file, "architecture", name, "BertModel or BertForSequenceClassification");
    c->architecture = cpl_arena_copy(arena, name, strlen(name));
    return c->architecture ? CPL_OK : cpl_fail_memory(err, strlen(name));
}

static cpl_status refuse_flag(const json_t *root, const char *file, const char *key, const char *what, cpl_error *err)
{
    bool set;
    cpl_status st = cpl_field_bool(root, file, key, false, &set, err);
    if (!st && set)
        st = cpl_fail_line(err, CPL_UNSUPPORTED, file, 0, 0, key,
                           "%s ('%s': true) is not supported: expected an encoder", what, key);
    return st;
}

/* Keys whose mere content changes what the forward pass is. */
static cpl_status refuse_variants(const json_t *root, const char *file, cpl_error *err)
{
    const char *position;
    cpl_status st = cpl_field_text(root, file, "position_embedding_type", "absolute", &position, err);
    if (st) return st;
    if (strncmp(position, "relative", 8) == 0)
        return unsupported(err, file, "relative positions: position_embedding_type", position, "'absolute'");
    if (strcmp(position, "absolute") != 0)
        return unsupported(err, file, "position_embedding_type", position, "'absolute'");
    st = refuse_flag(root, file, "is_decoder", "a decoder", err);
    if (!st) st = refuse_flag(root, file, "add_cross_attention", "cross-attention", err);
    if (!st) st = refuse_flag(root, file, "is_encoder_decoder", "an encoder-decoder", err);
    if (st) return st;
    static const struct {
        const char *key, *what;
    } extras[] = {
        {"pruned_heads", "a model with pruned heads"},
        {"quantization_config", "a checkpoint that is quantized already"},
        {"auto_map", "a model with code of its own"},
    };
    for (size_t i = 0; i < sizeof extras / sizeof *extras; i++) {
        const json_t *v = cpl_field_any(root, extras[i].key);
        if (v && (!json_is_object(v) || json_object_size(v)))
            return cpl_fail_line(err, CPL_UNSUPPORTED, file, 0, 0, extras[i].key,
                                 "%s ('%s') is not supported: expected plain BERT", extras[i].what, extras[i].key);
    }
    return CPL_OK;
}

static cpl_status read_sizes(cpl_arch *a, const json_t *root, const char *file, cpl_error *err)
{
    static const uint32_t positions = 512, types = 2;
    cpl_status st = cpl_field_u32(root, file, "num_hidden_layers", 1, LAYERS_MAX, NULL, &a->layers, err);
    if (!st) st = cpl_field_u32(root, file, "hidden_size", 1, HIDDEN_MAX, NULL, &a->hidden, err);
    if (!st) st = cpl_field_u32(root, file, "num_attention_heads", 1, HIDDEN_MAX, NULL, &a->heads, err);
    if (!st) st = cpl_field_u32(root, file, "intermediate_size", 1, INTERMEDIATE_MAX, NULL, &a->intermediate, err);
    if (!st) st = cpl_field_u32(root, file, "vocab_size", 1, VOCAB_MAX, NULL, &a->vocab, err);
    if (!st)
        st = cpl_field_u32(root, file, "max_position_embeddings", 3, POSITIONS_MAX, &positions, &a->positions, err);
    if (!st) st = cpl_field_u32(root, file, "type_vocab_size", 1, TYPES_MAX, &types, &a->types, err);
    if (st) return st;
    if (a->hidden % a->heads)
        return cpl_fail_line(err, CPL_CORRUPT, file, 0, 0, "num_attention_heads",
                             "expected 'hidden_size' to be a multiple of 'num_attention_heads', found %u and %u",
                             a->hidden, a->heads);
    a->head_size = a->hidden / a->heads;
    return CPL_OK;
}

static cpl_status read_numerics(cpl_arch *a, const json_t *root, const char *file, cpl_error *err)
{
    static const struct {
        const char *name;
        cpl_activation activation;
    } known[] = {
        {"gelu", CPL_ACTIVATION_GELU},
        {"gelu_new", CPL_ACTIVATION_GELU_TANH},
        {"gelu_pytorch_tanh", CPL_ACTIVATION_GELU_TANH},
        {"relu", CPL_ACTIVATION_RELU},
    };
    double epsilon;
    const char *name;
    cpl_status st = cpl_field_number(root, file, "layer_norm_eps", 1e-12, &epsilon, err);
    if (!st) st = cpl_field_text(root, file, "hidden_act", "gelu", &name, err);
    if (st) return st;
    if (!(epsilon >= 1e-30 && epsilon <= 0.1))
        return cpl_fail_line(err, CPL_CORRUPT, file, 0, 0, "layer_norm_eps",
                             "key 'layer_norm_eps': expected a number from 1e-30 to 0.1, found %.9g", epsilon);
    a->norm_epsilon = (float)epsilon;
    a->norm_place = CPL_NORM_POST;
    a->position_scheme = CPL_POSITION_LEARNED;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(name, known[i].name) != 0) continue;
        a->activation = known[i].activation;
        return CPL_OK;
    }
    return unsupported(err, file, "hidden_act", name, "gelu, gelu_new, gelu_pytorch_tanh or relu");
}

/* id2label when it is there, else num_labels (transformers' default: 2) with transformers' names. */
static cpl_status read_labels(cpl_model_config *c, const json_t *root, const char *file, cpl_arena *arena,
                              cpl_error *err)
{
    static const uint32_t two = 2;
    uint32_t n;
    const json_t *map = cpl_field_any(root, "id2label");
    cpl_status st = map ? cpl_field_expect_object(map, file, "key 'id2label'", err) : CPL_OK;
    if (st) return st;
    uint32_t named = (uint32_t)json_object_size(map);
    st = cpl_field_u32(root, file, "num_labels", 1, LABELS_MAX, named ? &named : &two, &n, err);
    if (st) return st;
    if (n > LABELS_MAX || (map && named != n))
        return cpl_fail_line(err, CPL_CORRUPT, file, 0, 0, "id2label",
                             "expected 'id2label' to hold the %u of 'num_labels' (at most %d), found %u", n, LABELS_MAX,
                             named);
    const char **labels = CPL_ARENA_NEW(arena, const char *, n);
    if (!labels) return cpl_fail_memory(err, n * sizeof *labels);
    for (uint32_t i = 0; i < n; i++) {
        char key[16], name[32];
        snprintf(key, sizeof key, "%u", i);
        snprintf(name, sizeof name, "LABEL_%u", i);
        const json_t *v = map ? cpl_field_any(map, key) : NULL;
        if (map && !json_is_string(v))
            return cpl_fail_line(err, CPL_CORRUPT, file, 0, 0, "id2label",
                                 "key 'id2label': expected names for \"0\" to \"%u\", found %s for \"%u\"", n - 1,
                                 cpl_json_kind(v), i);
        const char *text = v ? json_string_value(v) : name;
        labels[i] = cpl_arena_copy(arena, text, strlen(text));
        if (!labels[i]) return cpl_fail_memory(err, strlen(text) + 1);
    }
    c->labels = labels;
    c->arch.labels = n;
    c->arch.head = CPL_HEAD_POOLER_CLASSIFIER;
    return CPL_OK;
}

cpl_status cpl_model_config_activation(const char *path, const char *file, const char *key, cpl_score_activation *out,
                                       cpl_error *err)
{
    static const struct {
        const char *path;
        cpl_score_activation activation;
    } known[] = {
        {"torch.nn.modules.activation.Sigmoid", CPL_SCORE_SIGMOID},   {"torch.nn.Sigmoid", CPL_SCORE_SIGMOID},
        {"torch.nn.modules.linear.Identity", CPL_SCORE_IDENTITY}, /* where torch really keeps Identity */
        {"torch.nn.modules.activation.Identity", CPL_SCORE_IDENTITY}, {"torch.nn.Identity", CPL_SCORE_IDENTITY},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(path, known[i].path) != 0) continue;
        *out = known[i].activation;
        return CPL_OK;
    }
    return unsupported(err, file, key, path, "torch.nn.modules.activation.Sigmoid or torch.nn.modules.linear.Identity");
}

static cpl_status read_activation(cpl_model_config *c, const json_t *root, const char *file, cpl_error *err)
{
    static const char legacy[] = "sbert_ce_default_activation_function";
    const char *path = NULL, *key = "activation_fn";
    const json_t *block = cpl_field_any(root, "sentence_transformers");
    cpl_status st = CPL_OK;
    if (block) st = cpl_field_expect_object(block, file, "key 'sentence_transformers'", err);
    if (!st && block) st = cpl_field_text(block, file, key, NULL, &path, err);
    if (!st && !path) {
        key = legacy;
        st = cpl_field_text(root, file, key, NULL, &path, err);
    }
    c->activation = c->arch.labels == 1 ? CPL_SCORE_SIGMOID : CPL_SCORE_IDENTITY;
    c->activation_given = path != NULL;
    if (st || !path) return st;
    return cpl_model_config_activation(path, file, key, &c->activation, err);
}

static cpl_status read_root(cpl_model_config *c, const json_t *root, const char *file, cpl_arena *arena, cpl_error *err)
{
    const char *note;
    cpl_status st = cpl_field_expect_object(root, file, "the whole file", err);
    if (!st) st = read_architecture(c, root, file, arena, err);
    if (!st) st = refuse_variants(root, file, err);
    if (!st) st = read_sizes(&c->arch, root, file, err);
    if (!st) st = read_numerics(&c->arch, root, file, err);
    if (!st && c->classifier) st = read_labels(c, root, file, arena, err);
    if (!st && c->classifier) st = read_activation(c, root, file, err);
    if (!st) st = cpl_field_text(root, file, "couplet_note", "", &note, err);
    if (st) return st;
    c->note = cpl_arena_copy(arena, note, strlen(note));
    return c->note ? CPL_OK : cpl_fail_memory(err, strlen(note) + 1);
}

cpl_status cpl_model_config_parse(cpl_model_config *out, const char *file, const char *data, size_t n, cpl_arena *arena,
                                  cpl_error *err)
{
    cpl_model_config c = {0};
    json_t *root;
    cpl_status st = cpl_json_parse(&root, file, data, n, err);
    if (st) return st;
    st = read_root(&c, root, file, arena, err);
    json_decref(root);
    if (!st) *out = c;
    return st;
}
