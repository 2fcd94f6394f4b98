/* SPDX-License-Identifier: Apache-2.0 */
/* onnx_graph.c - a model as an ONNX graph.
 *
 * The one idea: plain standard operators in the order that the model computes, in the shapes that runtimes' optimisers
 * know (a bias after each product, erf for GELU, one softmax): those fuse them as they like best, which measured faster
 * than writing fused operators. What no optimiser would find out is done here: q, k and v are one product, the scale
 * 1/sqrt(d) is in q's weights, and where only [CLS] is read the last layer computes only its row, as the native engine
 * does. Padding gets -10000 before the softmax, whose exponential is exactly 0 in fp32, so it changes no row.
 *
 * int8 is what ONNX calls dynamic quantisation: DynamicQuantizeLinear, MatMulInteger with int8 weights by column, and
 * the two scales; heads and embeddings stay fp32. fp16 is fp16 everywhere between the inputs and a last cast.
 *
 * Invariants: weights are stored [in, out], as MatMul wants them; names of values are unique. Threads: none. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "model/onnx.h"
#include "model/onnx_proto.h"

enum { NAME = 64, WORDS = 4 * NAME, IR_VERSION = 8, OPSET = 17 };
#define BYTES_MAX 2147000000u

typedef struct graph {
    cpl_buf *out;
    const cpl_model *model;
    cpl_onnx_options options;
    bool cls_only; /* the last layer computes the first row of each sequence */
    float *room;   /* the largest matrix of a product */
    float *column; /* its rows, for quantising */
    char x[NAME];  /* the value that goes on */
} graph;

static int type_of(const graph *g) { return g->options.numbers == CPL_ONNX_FP16 ? CPL_ONNX_FLOAT16 : CPL_ONNX_FLOAT; }

/* Round to nearest, ties to even; what is too large becomes infinite, as the hardware does it. */
static uint16_t half_of(float f)
{
    uint32_t u, sign;
    memcpy(&u, &f, sizeof u);
    sign = u >> 16 & 0x8000u;
    u &= 0x7fffffffu;
    if (u >= 0x47800000u) return (uint16_t)(sign | (u > 0x7f800000u ? 0x7e00u : 0x7c00u));
    if (u < 0x38800000u) { /* subnormal or zero: a multiple of 2^-24 */
        float magnitude;
        memcpy(&magnitude, &u, sizeof magnitude);
        return (uint16_t)(sign | (uint32_t)lrintf(magnitude * 0x1p24f));
    }
    return (uint16_t)(sign | ((u + 0xfffu + (u >> 13 & 1u) - 0x38000000u) >> 13));
}

/* ---- initialisers ------------------------------------------------------------------------------------------------ */

/* In the graph's own type. */
static void put_floats(graph *g, const float *from, size_t n)
{
    if (g->options.numbers != CPL_ONNX_FP16) {
        cpl_buf_add(g->out, from, n * sizeof *from);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        uint16_t h = half_of(from[i]);
        cpl_buf_add(g->out, &h, sizeof h);
    }
}

static void tensor(graph *g, const char *name, const float *from, int64_t rows, int64_t columns)
{
    const int64_t dims[] = {rows, columns};
    size_t n = (size_t)rows * (size_t)(columns ? columns : 1);
    size_t at = cpl_onnx_tensor(g->out, name, type_of(g), dims, columns ? 2 : 1,
                                n * (g->options.numbers == CPL_ONNX_FP16 ? 2 : 4));
    put_floats(g, from, n);
    cpl_onnx_end(g->out, at);
}

static void scalar(graph *g, const char *name, float value)
{
    size_t at =
        cpl_onnx_tensor(g->out, name, type_of(g), NULL, 0, g->options.numbers == CPL_ONNX_FP16 ? 2 : sizeof value);
    put_floats(g, &value, 1);
    cpl_onnx_end(g->out, at);
}

static void integers(graph *g, const char *name, const int64_t *values, int64_t n, bool is_scalar)
{
    size_t at = cpl_onnx_tensor(g->out, name, CPL_ONNX_INT64, &n, is_scalar ? 0 : 1, (size_t)n * sizeof *values);
    cpl_buf_add(g->out, values, (size_t)n * sizeof *values);
    cpl_onnx_end(g->out, at);
}

/* As stored, through the room: embedding tables in parts, small vectors at once. */
static void stored(graph *g, const char *name, const cpl_tensor *t)
{
    const int64_t dims[] = {t->shape[0], t->shape[1]};
    const size_t n = cpl_tensor_count(t), part = (size_t)g->model->arch.hidden * g->model->arch.hidden;
    size_t at =
        cpl_onnx_tensor(g->out, name, type_of(g), dims, t->rank, n * (g->options.numbers == CPL_ONNX_FP16 ? 2 : 4));
    for (size_t from = 0; from < n; from += part) {
        size_t count = n - from < part ? n - from : part;
        cpl_tensor_read_f32(t, from, count, g->room);
        put_floats(g, g->room, count);
    }
    cpl_onnx_end(g->out, at);
}

/* ---- nodes ------------------------------------------------------------------------------------------------------- */

static void node(graph *g, const char *op, const char *inputs, const char *output)
{
    cpl_onnx_node(g->out, op, inputs, output, NULL, 0);
}

static void node_int(graph *g, const char *op, const char *inputs, const char *output, const char *name, int64_t value)
{
    const cpl_onnx_attribute a = {.name = name, .kind = 'i', .i = value};
    cpl_onnx_node(g->out, op, inputs, output, &a, 1);
}

static void transpose(graph *g, const char *input, const char *output, const int64_t perm[4])
{
    const cpl_onnx_attribute a = {.name = "perm", .kind = 'l', .list = perm, .n = 4};
    cpl_onnx_node(g->out, "Transpose", input, output, &a, 1);
}

/* node(), with the names made as by printf: "inputs output" split at the last space. */
static void CPL_PRINTF(3, 4) op(graph *g, const char *name, const char *fmt, ...)
{
    char words[WORDS];
    va_list args;
    va_start(args, fmt);
    vsnprintf(words, sizeof words, fmt, args);
    va_end(args);
    char *last = strrchr(words, ' ');
    *last = 0;
    node(g, name, words, last + 1);
}

static void set_x(graph *g, const char *prefix, const char *name) { snprintf(g->x, NAME, "%s%s", prefix, name); }

/* ---- products ---------------------------------------------------------------------------------------------------- */

/* What one product multiplies with: up to three matrices side by side, the first scaled. */
typedef struct product {
    const cpl_tensor *weight[3], *bias[3];
    uint32_t count;
    float scale; /* of the first; 0: 1 */
} product;

/* g->room becomes [in, out]; returns out. */
static uint32_t gather(graph *g, const product *p, uint32_t *in)
{
    uint32_t total = 0, at = 0;
    for (uint32_t i = 0; i < p->count; i++) total += p->weight[i]->shape[0];
    *in = p->weight[0]->shape[1];
    for (uint32_t i = 0; i < p->count; i++) {
        float scale = i == 0 && p->scale != 0 ? p->scale : 1;
        for (uint32_t r = 0; r < p->weight[i]->shape[0]; r++, at++) {
            cpl_tensor_read_f32(p->weight[i], (size_t)r * *in, *in, g->column);
            for (uint32_t k = 0; k < *in; k++) g->room[(size_t)k * total + at] = g->column[k] * scale;
        }
    }
    return total;
}

static void put_bias(graph *g, const product *p, const char *name, uint32_t total)
{
    uint32_t at = 0;
    for (uint32_t i = 0; i < p->count; i++) {
        uint32_t n = p->bias[i]->shape[0];
        cpl_tensor_read_f32(p->bias[i], 0, n, g->column + at);
        for (uint32_t k = 0; k < n && i == 0 && p->scale != 0; k++) g->column[at + k] *= p->scale;
        at += n;
    }
    tensor(g, name, g->column, total, 0);
}

/* room [in, out] as int8 by column, and its scales. */
static void put_quantised(graph *g, const char *prefix, uint32_t in, uint32_t out)
{
    char name[NAME];
    const float top = g->options.seven_bits ? 63 : 127;
    for (uint32_t c = 0; c < out; c++) {
        float most = 0;
        for (uint32_t k = 0; k < in; k++) most = fmaxf(most, fabsf(g->room[(size_t)k * out + c]));
        g->column[c] = most > 0 ? most / top : 1;
    }
    snprintf(name, sizeof name, "%s.scale", prefix);
    tensor(g, name, g->column, out, 0);
    snprintf(name, sizeof name, "%s.weight", prefix);
    const int64_t dims[] = {in, out};
    size_t at = cpl_onnx_tensor(g->out, name, CPL_ONNX_I8, dims, 2, (size_t)in * out);
    for (size_t i = 0; i < (size_t)in * out; i++) {
        int8_t q = (int8_t)lrintf(g->room[i] / g->column[i % out]);
        cpl_buf_add(g->out, &q, 1);
    }
    cpl_onnx_end(g->out, at);
}

/* g->x W + b to "PREFIX"; in int8 where that is asked for. */
static void multiply(graph *g, const char *prefix, const product *p, bool quantise)
{
    char name[NAME];
    uint32_t in, out = gather(g, p, &in);
    if (quantise) {
        put_quantised(g, prefix, in, out);
        char outputs[WORDS];
        snprintf(outputs, sizeof outputs, "%s.q %s.step %s.zero", prefix, prefix, prefix);
        cpl_onnx_node(g->out, "DynamicQuantizeLinear", g->x, outputs, NULL, 0);
        op(g, "MatMulInteger", "%s.q %s.weight %s.zero %s.sums", prefix, prefix, prefix, prefix);
        snprintf(name, sizeof name, "%s.sums", prefix);
        snprintf(outputs, sizeof outputs, "%s.float", prefix);
        node_int(g, "Cast", name, outputs, "to", CPL_ONNX_FLOAT);
        op(g, "Mul", "%s.step %s.scale %s.steps", prefix, prefix, prefix);
        op(g, "Mul", "%s.float %s.steps %s.product", prefix, prefix, prefix);
    } else {
        snprintf(name, sizeof name, "%s.weight", prefix);
        tensor(g, name, g->room, in, out);
        op(g, "MatMul", "%s %s.weight %s.product", g->x, prefix, prefix);
    }
    snprintf(name, sizeof name, "%s.bias", prefix);
    put_bias(g, p, name, out);
    op(g, "Add", "%s.product %s.bias %s", prefix, prefix, prefix);
    set_x(g, prefix, "");
}

static bool is_int8(const graph *g) { return g->options.numbers == CPL_ONNX_INT8; }

static void norm(graph *g, const char *prefix, const cpl_tensor *weight, const cpl_tensor *bias)
{
    char name[NAME], inputs[WORDS];
    snprintf(name, sizeof name, "%s.gamma", prefix);
    stored(g, name, weight);
    snprintf(name, sizeof name, "%s.beta", prefix);
    stored(g, name, bias);
    const cpl_onnx_attribute a[] = {{.name = "axis", .kind = 'i', .i = -1},
                                    {.name = "epsilon", .kind = 'f', .f = g->model->arch.norm_epsilon}};
    snprintf(inputs, sizeof inputs, "%s %s.gamma %s.beta", g->x, prefix, prefix);
    cpl_onnx_node(g->out, "LayerNormalization", inputs, prefix, a, 2);
    set_x(g, prefix, "");
}

/* ---- the model --------------------------------------------------------------------------------------------------- */

static void constants(graph *g)
{
    const cpl_arch *a = &g->model->arch;
    const int64_t zero = 0, one = 1, middle[] = {1, 2}, heads[] = {0, 0, 3, a->heads, a->head_size};
    const int64_t merged[] = {0, 0, a->hidden};
    integers(g, "zero", &zero, 1, false);
    integers(g, "one", &one, 1, false);
    integers(g, "first", &zero, 1, true);
    integers(g, "second", &one, 1, true);
    const int64_t two = 2;
    integers(g, "third", &two, 1, true);
    integers(g, "middle", middle, 2, false);
    integers(g, "heads", heads, 5, false);
    integers(g, "merged", merged, 3, false);
    scalar(g, "1.0", 1);
    scalar(g, "out_of_sight", -10000);
    if (a->activation == CPL_ACTIVATION_GELU) scalar(g, "root_two", 1.4142135623730951f);
    if (a->activation != CPL_ACTIVATION_RELU) scalar(g, "half", 0.5f);
    if (a->activation == CPL_ACTIVATION_GELU_TANH) {
        scalar(g, "cubic", 0.044715f);
        scalar(g, "root_two_over_pi", 0.7978845608028654f);
    }
}

static void embed(graph *g)
{
    const cpl_weights_by_role *w = &g->model->weights;
    stored(g, "words", &w->word_embedding);
    stored(g, "positions", &w->position_embedding);
    stored(g, "types", &w->type_embedding);
    node(g, "Gather", "words " CPL_ONNX_IDS, "embed.words");
    node(g, "Gather", "types " CPL_ONNX_TYPES, "embed.types");
    node(g, "Shape", CPL_ONNX_IDS, "shape");
    node(g, "Slice", "shape one third_list zero", "length");
    node(g, "Slice", "positions zero length zero", "embed.positions");
    node(g, "Add", "embed.words embed.types", "embed.both");
    node(g, "Add", "embed.both embed.positions", "embed.sum");
    set_x(g, "embed.sum", "");
    norm(g, "embed", &w->embedding_norm_weight, &w->embedding_norm_bias);
    node_int(g, "Cast", CPL_ONNX_MASK, "mask", "to", type_of(g));
    node(g, "Sub", "1.0 mask", "mask.padding");
    node(g, "Mul", "mask.padding out_of_sight", "mask.flat");
    node(g, "Unsqueeze", "mask.flat middle", "mask.bias");
}

/* g->x, [batch, sequence, hidden], to the attention's context in the same shape; `rows` is what q is made of. */
static void attend(graph *g, const char *p, const cpl_layer *l, bool cls)
{
    static const int64_t whole[] = {2, 0, 3, 1, 4}, keys[] = {0, 1, 3, 2}, back[] = {0, 2, 1, 3};
    const float scale = 1.0f / sqrtf((float)g->model->arch.head_size);
    const product qkv = {{&l->q_weight, &l->k_weight, &l->v_weight}, {&l->q_bias, &l->k_bias, &l->v_bias}, 3, scale};
    char name[NAME], inputs[WORDS];
    snprintf(name, sizeof name, "%s.qkv", p);
    multiply(g, name, &qkv, is_int8(g));
    op(g, "Reshape", "%s heads %s.split", g->x, p);
    snprintf(inputs, sizeof inputs, "%s.split", p);
    snprintf(name, sizeof name, "%s.three", p);
    const cpl_onnx_attribute five = {.name = "perm", .kind = 'l', .list = whole, .n = 5};
    cpl_onnx_node(g->out, "Transpose", inputs, name, &five, 1);
    op(g, "Gather", "%s.three first %s.q", p, p); /* axis 0, a scalar index: [batch, heads, sequence, size] */
    op(g, "Gather", "%s.three second %s.k", p, p);
    op(g, "Gather", "%s.three third %s.v", p, p);
    if (cls) op(g, "Slice", "%s.q zero one two_list %s.q1", p, p);
    snprintf(inputs, sizeof inputs, "%s.k", p);
    snprintf(name, sizeof name, "%s.kt", p);
    transpose(g, inputs, name, keys);
    op(g, "MatMul", "%s.%s %s.kt %s.raw", p, cls ? "q1" : "q", p, p);
    op(g, "Add", "%s.raw mask.bias %s.scores", p, p);
    snprintf(inputs, sizeof inputs, "%s.scores", p);
    snprintf(name, sizeof name, "%s.weights", p);
    node_int(g, "Softmax", inputs, name, "axis", -1);
    op(g, "MatMul", "%s.weights %s.v %s.heads", p, p, p);
    snprintf(inputs, sizeof inputs, "%s.heads", p);
    snprintf(name, sizeof name, "%s.rows", p);
    transpose(g, inputs, name, back);
    op(g, "Reshape", "%s.rows merged %s.context", p, p);
    set_x(g, p, ".context");
}

static void activate(graph *g, const char *p)
{
    switch (g->model->arch.activation) {
    case CPL_ACTIVATION_RELU: op(g, "Relu", "%s %s.active", g->x, p); break;
    case CPL_ACTIVATION_GELU:
        op(g, "Div", "%s root_two %s.erf_in", g->x, p);
        op(g, "Erf", "%s.erf_in %s.erf", p, p);
        op(g, "Add", "%s.erf 1.0 %s.erf1", p, p);
        op(g, "Mul", "%s %s.erf1 %s.double", g->x, p, p);
        op(g, "Mul", "%s.double half %s.active", p, p);
        break;
    case CPL_ACTIVATION_GELU_TANH:
        op(g, "Mul", "%s %s %s.square", g->x, g->x, p);
        op(g, "Mul", "%s.square %s %s.cube", p, g->x, p);
        op(g, "Mul", "%s.cube cubic %s.bend", p, p);
        op(g, "Add", "%s %s.bend %s.inner", g->x, p, p);
        op(g, "Mul", "%s.inner root_two_over_pi %s.tanh_in", p, p);
        op(g, "Tanh", "%s.tanh_in %s.tanh", p, p);
        op(g, "Add", "%s.tanh 1.0 %s.tanh1", p, p);
        op(g, "Mul", "%s %s.tanh1 %s.double", g->x, p, p);
        op(g, "Mul", "%s.double half %s.active", p, p);
        break;
    }
    set_x(g, p, ".active");
}

static void layer(graph *g, uint32_t i)
{
    const cpl_layer *l = &g->model->weights.layers[i];
    const bool cls = g->cls_only && i + 1 == g->model->arch.layers;
    char p[NAME / 2], name[NAME], before[NAME];
    snprintf(p, sizeof p, "layer%u", i);
    snprintf(before, sizeof before, "%s", g->x);
    attend(g, p, l, cls);
    if (cls) {
        op(g, "Slice", "%s zero one one %s.cls", before, p);
        snprintf(before, sizeof before, "%s.cls", p);
    }
    snprintf(name, sizeof name, "%s.out", p);
    multiply(g, name, &(product){{&l->out_weight}, {&l->out_bias}, 1, 0}, is_int8(g));
    op(g, "Add", "%s %s %s.sum1", g->x, before, p);
    set_x(g, p, ".sum1");
    snprintf(name, sizeof name, "%s.norm1", p);
    norm(g, name, &l->attention_norm_weight, &l->attention_norm_bias);
    snprintf(before, sizeof before, "%s", g->x);
    snprintf(name, sizeof name, "%s.up", p);
    multiply(g, name, &(product){{&l->up_weight}, {&l->up_bias}, 1, 0}, is_int8(g));
    activate(g, p);
    snprintf(name, sizeof name, "%s.down", p);
    multiply(g, name, &(product){{&l->down_weight}, {&l->down_bias}, 1, 0}, is_int8(g));
    op(g, "Add", "%s %s %s.sum2", g->x, before, p);
    set_x(g, p, ".sum2");
    snprintf(name, sizeof name, "%s.norm2", p);
    norm(g, name, &l->output_norm_weight, &l->output_norm_bias);
}

/* Rows [batch, sequence or 1, hidden] to "rows.out" in the graph's type. */
static const char *finish(graph *g)
{
    const cpl_weights_by_role *w = &g->model->weights;
    const bool cross = g->model->task == CPL_TASK_CROSS_ENCODER;
    if (g->options.tokens) return CPL_ONNX_TOKENS;
    if (cross || g->model->pooling == CPL_POOLING_CLS) {
        char inputs[WORDS];
        snprintf(inputs, sizeof inputs, "%s first", g->x);
        node_int(g, "Gather", inputs, "cls", "axis", 1);
        set_x(g, "cls", "");
    } else if (g->model->pooling == CPL_POOLING_MEAN) {
        node(g, "Unsqueeze", "mask one", "mask.row"); /* [batch, 1, sequence] */
        op(g, "MatMul", "mask.row %s mean.sum", g->x);
        node_int(g, "ReduceSum", "mask.row third_list", "mean.count", "keepdims", 1);
        node(g, "Div", "mean.sum mean.count", "mean.rows");
        node(g, "Squeeze", "mean.rows one", "mean");
        set_x(g, "mean", "");
    } else {
        const int64_t axis = 1;
        const cpl_onnx_attribute a[] = {{.name = "axes", .kind = 'l', .list = &axis, .n = 1},
                                        {.name = "keepdims", .kind = 'i', .i = 0}};
        node(g, "Unsqueeze", "mask.flat third_list", "mask.column");
        op(g, "Add", "%s mask.column max.rows", g->x);
        cpl_onnx_node(g->out, "ReduceMax", "max.rows", "max", a, 2);
        set_x(g, "max", "");
    }
    if (!cross) return CPL_ONNX_POOLED;
    multiply(g, "pooler", &(product){{&w->pooler_weight}, {&w->pooler_bias}, 1, 0}, false);
    node(g, "Tanh", g->x, "pooler.tanh");
    set_x(g, "pooler.tanh", "");
    multiply(g, "classifier", &(product){{&w->classifier_weight}, {&w->classifier_bias}, 1, 0}, false);
    return CPL_ONNX_LOGITS;
}

static void write_graph(graph *g)
{
    const cpl_arch *a = &g->model->arch;
    size_t at = cpl_onnx_begin(g->out, 7); /* ModelProto.graph */
    cpl_onnx_text(g->out, 2, "couplet");
    const int64_t two = 2;
    integers(g, "third_list", &two, 1, false);
    integers(g, "two_list", &two, 1, false);
    constants(g);
    embed(g);
    for (uint32_t i = 0; i < a->layers; i++) layer(g, i);
    const char *name = finish(g);
    node_int(g, "Cast", g->x, name, "to", CPL_ONNX_FLOAT);
    const cpl_onnx_dim in[] = {{"batch", 0}, {"sequence", 0}};
    static const char *const inputs[] = {CPL_ONNX_IDS, CPL_ONNX_MASK, CPL_ONNX_TYPES};
    for (size_t i = 0; i < 3; i++) cpl_onnx_value(g->out, 11, inputs[i], CPL_ONNX_INT64, in, 2);
    cpl_onnx_dim out[] = {{"batch", 0}, {"sequence", 0}, {NULL, a->hidden}};
    if (!g->options.tokens)
        out[1] = (cpl_onnx_dim){NULL, g->model->task == CPL_TASK_CROSS_ENCODER ? a->labels : a->hidden};
    cpl_onnx_value(g->out, 12, name, CPL_ONNX_FLOAT, out, g->options.tokens ? 3 : 2);
    cpl_onnx_end(g->out, at);
}

static size_t room_of(const cpl_arch *a)
{
    size_t hidden = a->hidden, largest = 3 * hidden * hidden, ffn = hidden * a->intermediate;
    size_t labels = hidden * a->labels;
    if (ffn > largest) largest = ffn;
    return labels > largest ? labels : largest;
}

cpl_status cpl_onnx_write(cpl_buf *out, const cpl_model *model, const cpl_onnx_options *options, cpl_error *err)
{
    const cpl_arch *a = &model->arch;
    const size_t width = 3 * (size_t)a->hidden + a->intermediate + a->labels, room = room_of(a);
    if (model->parameters * (options->numbers == CPL_ONNX_FP16 ? 2 : 4) > BYTES_MAX)
        return cpl_fail(err, CPL_UNSUPPORTED, "model of %llu parameters is too large for one ONNX file of 2 GB",
                        (unsigned long long)model->parameters);
    const bool first_row = model->task == CPL_TASK_CROSS_ENCODER || model->pooling == CPL_POOLING_CLS;
    graph g = {.out = out, .model = model, .options = *options, .cls_only = first_row && !options->tokens};
    g.room = malloc(room * sizeof *g.room);
    g.column = malloc(width * sizeof *g.column);
    if (!g.room || !g.column) {
        free(g.room);
        free(g.column);
        return cpl_fail_memory(err, (room + width) * sizeof(float));
    }
    cpl_buf_reserve(out, model->parameters * (options->numbers == CPL_ONNX_FP16 ? 2 : 4) + (1 << 20));
    cpl_onnx_int(out, 1, IR_VERSION);
    cpl_onnx_text(out, 2, "couplet");
    cpl_onnx_text(out, 3, COUPLET_VERSION);
    write_graph(&g);
    size_t opset = cpl_onnx_begin(out, 8); /* ModelProto.opset_import, the standard domain */
    cpl_onnx_int(out, 2, OPSET);
    cpl_onnx_end(out, opset);
    free(g.room);
    free(g.column);
    return cpl_buf_status(out, err);
}
