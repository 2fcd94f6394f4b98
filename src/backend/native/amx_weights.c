/* SPDX-License-Identifier: Apache-2.0 */
/* amx_weights.c - load for the AMX path: every matrix packed once into panels of tiles, in one block on huge pages.
 *
 * The idea: whatever a kernel would have to do to each activation is done to the weights here. Columns and k lie in the
 * order that packs and unpacks leave (kernel/amx.h); the FFN's two matrices lie in parts that are needed together; Q
 * carries the softmax scale; the activation's output is stored with a shift that makes it unsigned, which the next bias
 * takes off again.
 *
 * Halves and 16-bit integers overflow where fp32 does not. So load proves that they can't: a layer norm's output is
 * bounded by its weights (no element of a row of mean 0 and variance 1 exceeds sqrt(n - 1)), so every sum behind it is,
 * by the columns' absolute sums. A model for which the proof fails is refused here and runs on the fp32 rows. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/native/amx.h"
#include "backend/native/fold.h"
#include "backend/native/words.h"
#include "base/error.h"
#include "base/log.h"

enum { BLOCK_ALIGN = 4096, STEP = 64 /* bytes of k in a tile */ };

const cpl_amx_tuning cpl_amx_tuned[2] = {
    {.tiles = 2, .split = 512, .rows = 64, .block_rows = 64, .ahead = 8, .batch_tokens = 512, .part = 512},
    {.tiles = 2, .split = 1024, .rows = 64, .block_rows = 64, .ahead = 8, .batch_tokens = 512, .part = 512},
};

/* What is being packed, and the bounds on the way. */
typedef struct packer {
    cpl_amx_weights *w;
    const cpl_weights_by_role *from;
    int int8;
    const cpl_fold *fold; /* int8 */
    int8_t *q;            /* int8: a column of the widest matrix */
    float *row;           /* of the widest matrix */
    float *reach;         /* largest magnitude of each element of the input at hand */
    float *gamma, *beta;  /* what makes that input of a normed row, where it comes from a norm */
    float stream;         /* largest magnitude of the residual stream */
    float *bound;         /* of each output column of the matrix packed last */
    float sum;            /* int8: largest sum of magnitudes of a column of it, quantised */
    const char *broken;   /* what can't be proved */
} packer;

/* ---- layout ----------------------------------------------------------------------------------------------------- */

static uint32_t element_of(const cpl_amx_weights *w) { return w->precision == CPL_PRECISION_INT8 ? 1 : 2; }

/* All but where its panels are. */
static void take_columns(const cpl_amx_weights *w, cpl_amx_matrix *m, cpl_native_bump *b, uint32_t n, uint32_t k,
                         int halves)
{
    m->n = n;
    m->k = k;
    m->steps = k * element_of(w) / STEP;
    m->parts = 1;
    m->part_panels = n / CPL_AMX_PANEL;
    m->part_steps = m->steps;
    m->scale = cpl_native_take(b, n);
    m->bias = cpl_native_take(b, n);
    if (!halves) return;
    m->scale16 = (uint16_t *)(void *)cpl_native_take(b, n / 2);
    m->bias16 = (uint16_t *)(void *)cpl_native_take(b, n / 2);
}

static char *take_bytes(cpl_native_bump *b, size_t bytes)
{
    return (char *)cpl_native_take(b, (bytes + sizeof(float) - 1) / sizeof(float));
}

static void take_matrix(const cpl_amx_weights *w, cpl_amx_matrix *m, cpl_native_bump *b, uint32_t n, uint32_t k,
                        int halves)
{
    m->b = take_bytes(b, (size_t)n * k * element_of(w));
    take_columns(w, m, b, n, k, halves);
}

/* Both matrices of the FFN, a part of the one and the part of the other that multiplies what comes of it in turn: they
 * are needed together, and fetched as one stretch. */
static void take_ffn(const cpl_amx_weights *w, cpl_amx_layer *y, cpl_native_bump *b)
{
    const uint32_t h = w->arch.hidden, f = w->arch.intermediate;
    const uint32_t part = w->tuning.part < f ? w->tuning.part : f, parts = (f + part - 1) / part;
    const size_t bytes = (size_t)part * h * element_of(w);
    const int halves = w->precision == CPL_PRECISION_INT8;
    y->up.b = take_bytes(b, 2 * parts * bytes);
    y->down.b = y->up.b ? y->up.b + bytes : NULL;
    take_columns(w, &y->up, b, f, h, halves);
    take_columns(w, &y->down, b, h, f, halves);
    y->up.part_panels = part / CPL_AMX_PANEL;
    y->down.part_steps = part * element_of(w) / STEP;
    y->up.parts = y->down.parts = parts;
    y->up.part_bytes = y->down.part_bytes = 2 * bytes;
}

static void take_norm(cpl_amx_norm_weights *norm, cpl_native_bump *b, uint32_t n)
{
    uint16_t **const all[] = {&norm->gamma, &norm->beta, &norm->q_gamma, &norm->q_beta};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) *all[i] = (uint16_t *)(void *)cpl_native_take(b, (n + 1) / 2);
}

static void take_fp32(const cpl_kernels *k, cpl_native_matrix *m, cpl_native_bump *b, uint32_t n, uint32_t kk)
{
    m->n = n;
    m->k = kk;
    m->b = cpl_native_take(b, cpl_gemm_f32_packed_count(k, n, kk));
    m->bias = cpl_native_take(b, (size_t)cpl_gemm_f32_panels(k, n) * k->nr);
}

static void lay_out(cpl_amx_weights *w, cpl_native_bump *b, const cpl_tensor *word)
{
    const cpl_arch *a = &w->arch;
    const uint32_t h = a->hidden;
    for (uint32_t l = 0; l < a->layers; l++) {
        cpl_amx_layer *y = &w->layers[l];
        take_matrix(w, &y->qkv, b, 3 * h, h, 0);
        take_matrix(w, &y->out, b, h, h, w->precision == CPL_PRECISION_INT8);
        take_norm(&y->attention_norm, b, h);
        take_ffn(w, y, b);
        take_norm(&y->output_norm, b, h);
    }
    take_norm(&w->embedding_norm, b, h);
    w->zeros = cpl_native_take(b, h);
    if (a->head == CPL_HEAD_POOLER_CLASSIFIER) {
        take_fp32(&w->kernels, &w->pooler, b, h, h);
        take_fp32(&w->kernels, &w->classifier, b, a->labels, h);
    }
    w->position = cpl_native_take(b, (size_t)a->positions * h);
    w->type = cpl_native_take(b, (size_t)a->types * h);
    cpl_native_words_take(&w->words, b, word, w->precision == CPL_PRECISION_INT8);
}

cpl_amx_matrix cpl_amx_part(const cpl_amx_weights *w, const cpl_amx_matrix *m, uint32_t i)
{
    const uint32_t all = m->n / CPL_AMX_PANEL;
    cpl_amx_matrix x = *m;
    x.b += i * m->part_bytes;
    if (m->part_panels < all) {
        const uint32_t first = i * m->part_panels, left = all - first, n = first * CPL_AMX_PANEL;
        x.n = (left < m->part_panels ? left : m->part_panels) * CPL_AMX_PANEL;
        x.scale += n;
        x.bias += n;
        if (x.scale16) x.scale16 += n;
        if (x.bias16) x.bias16 += n;
    } else if (m->part_steps < m->steps) {
        const uint32_t left = m->steps - i * m->part_steps;
        x.steps = left < m->part_steps ? left : m->part_steps;
        x.k = m->k / m->steps * x.steps;
        if (i) x.bias = w->zeros;
        if (i && x.bias16) x.bias16 = (uint16_t *)(void *)w->zeros;
    }
    return x;
}

static uint32_t within(uint32_t x, uint32_t least, uint32_t most) { return x < least ? least : x > most ? most : x; }

void cpl_amx_part_panels(const cpl_amx_matrix *m, uint32_t i, uint32_t *from, uint32_t *to)
{
    const uint32_t all = m->n / CPL_AMX_PANEL;
    const uint32_t before = m->part_panels < all ? i * m->part_panels : 0;
    const uint32_t behind = all - before < m->part_panels ? all : before + m->part_panels;
    *from = within(*from, before, behind) - before;
    *to = within(*to, before, behind) - before;
}

cpl_amx_rows cpl_amx_norm_rows(const cpl_amx_weights *w, const cpl_amx_norm_weights *norm, char *x, char *a,
                               float *scale, uint32_t *scale16, float input16)
{
    return (cpl_amx_rows){.kind = w->precision == CPL_PRECISION_INT8 ? CPL_AMX_INT8 : CPL_AMX_BF16,
                          .x = x,
                          .n = w->arch.hidden,
                          .gamma = norm->gamma,
                          .beta = norm->beta,
                          .q_gamma = norm->q_gamma,
                          .q_beta = norm->q_beta,
                          .epsilon = w->arch.norm_epsilon,
                          .down = norm->down,
                          .a = a,
                          .steps = w->layers[0].qkv.steps,
                          .row_scale = scale,
                          .row_scale16 = input16 > 0 ? scale16 : NULL,
                          .scale16 = input16};
}

/* ---- packing ---------------------------------------------------------------------------------------------------- */

static uint32_t float_bits(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* To nearest even, for finite x. */
static uint16_t to_bf16(float x)
{
    const uint32_t bits = float_bits(x);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* To nearest even, for 0 and normal halves; what is smaller than those becomes a multiple of 2^-24. */
static uint16_t to_half(float x)
{
    const uint16_t sign = (uint16_t)(float_bits(x) >> 16 & 0x8000);
    const float a = fabsf(x);
    if (a < 0x1p-14f) return (uint16_t)(sign | (uint16_t)lrintf(a * 0x1p24f));
    const uint32_t bits = float_bits(a) - (112u << 23);
    return (uint16_t)(sign | (uint16_t)((bits + 0xfff + (bits >> 13 & 1)) >> 13));
}

/* Orders of k by the kernel that writes the matrix's input. */
typedef enum k_order { FROM_NORM, FROM_CONTEXT, FROM_ACTIVATION } k_order;

/* The column of the input that lies at place p of the kernels' order. */
static uint32_t k_at(const packer *p, k_order order, uint32_t at)
{
    const uint32_t step = at / 64 * 64;
    if (p->int8) at = step + cpl_amx_order_halves(at % 64);
    return order == FROM_CONTEXT ? at / 32 * 32 + cpl_amx_order_context(at % 32) : at;
}

/* Where place `at` of k of a column of the matrix lies, in elements. */
static size_t place(const packer *p, const cpl_amx_matrix *m, uint32_t column, uint32_t at, int interleaved)
{
    const uint32_t panel = column / CPL_AMX_PANEL, in = column % CPL_AMX_PANEL, group = p->int8 ? 4 : 2;
    const uint32_t tile = interleaved ? in % 2 : in / 16, c = interleaved ? in / 2 : in % 16;
    const uint32_t step = STEP / 4 * group, s = at / step, row = at % step / group;
    const uint32_t part = panel / m->part_panels + s / m->part_steps, first = s / m->part_steps * m->part_steps;
    const uint32_t steps = m->steps - first < m->part_steps ? m->steps - first : m->part_steps;
    const size_t block = panel % m->part_panels * (size_t)steps + s - first;
    return part * (m->part_bytes / element_of(p->w)) + ((block * 2 + tile) * 16 + row) * 16 * group + c * group +
           at % group;
}

/* A matrix's columns in a layer's panels: where they begin, where they come from, what they are multiplied by. */
typedef struct source {
    cpl_fold_matrix matrix;
    uint32_t layer, first;
    const cpl_tensor *weight, *bias;
    k_order order;
    float by;
} source;

static float largest(const float *x, uint32_t n)
{
    float most = 0;
    for (uint32_t i = 0; i < n; i++)
        if (!(x[i] <= most)) most = x[i]; /* NaN too */
    return most;
}

/* How large an output gets: by its input's largest elements, or, behind a norm, by the length of a normed row, which is
 * the square root of n; then rounding that row's elements adds half a step each. */
typedef struct reach {
    float elements, squares, beta, sum;
} reach;

static void extend(const packer *p, reach *r, float w, uint32_t k)
{
    r->elements += fabsf(w) * p->reach[k];
    r->squares += w * p->gamma[k] * w * p->gamma[k];
    r->beta += w * p->beta[k];
    r->sum += fabsf(w);
}

/* Any sum of parts too, of inner rows with the shift that makes them unsigned. */
static float bound_of(const packer *p, const reach *r, const source *s, uint32_t n)
{
    if (s->order == FROM_ACTIVATION) return r->elements + p->w->shift * r->sum;
    if (s->order != FROM_NORM) return r->elements;
    const float most = largest(p->reach, n);
    return fminf(r->elements, sqrtf((float)n * r->squares) + fabsf(r->beta) + r->sum * most / 254);
}

static void pack_int8(packer *p, const cpl_amx_matrix *m, const source *s, uint32_t n)
{
    const uint32_t column = s->first + n;
    float scale, bias, sum[2] = {0};
    reach r = {0};
    cpl_fold_column(p->fold, s->layer, s->matrix, n, p->row, p->q, &scale, &bias);
    for (uint32_t at = 0; at < m->k; at++) {
        const uint32_t k = k_at(p, s->order, at);
        ((int8_t *)(void *)m->b)[place(p, m, column, at, m->scale16 != NULL)] = p->q[k];
        extend(p, &r, (float)p->q[k] * scale, k);
        sum[p->q[k] < 0] += fabsf((float)p->q[k]);
        if ((at + 1) % (m->part_steps * STEP) && at + 1 < m->k) continue;
        p->sum = fmaxf(p->sum, s->order == FROM_ACTIVATION ? 255 * fmaxf(sum[0], sum[1]) : 127 * (sum[0] + sum[1]));
        sum[0] = sum[1] = 0;
    }
    m->scale[column] = scale * s->by;
    m->bias[column] = bias * s->by;
    p->bound[column] = (bound_of(p, &r, s, m->k) + fabsf(bias)) * s->by;
}

static void pack_bf16(packer *p, const cpl_amx_matrix *m, const source *s, uint32_t n)
{
    const uint32_t column = s->first + n;
    float bias = 0;
    reach r = {0};
    cpl_tensor_read_f32(s->weight, (size_t)n * m->k, m->k, p->row);
    if (s->bias->data) cpl_tensor_read_f32(s->bias, n, 1, &bias);
    for (uint32_t at = 0; at < m->k; at++) {
        const uint32_t k = k_at(p, s->order, at);
        ((uint16_t *)(void *)m->b)[place(p, m, column, at, 0)] = to_bf16(p->row[k] * s->by);
        extend(p, &r, p->row[k], k);
    }
    m->bias[column] = bias * s->by;
    p->bound[column] = (bound_of(p, &r, s, m->k) + fabsf(bias)) * s->by;
}

static void pack_matrix(packer *p, const cpl_amx_matrix *m, const source *s)
{
    p->sum = 0;
    for (uint32_t n = 0; n < s->weight->shape[0]; n++) (p->int8 ? pack_int8 : pack_bf16)(p, m, s, n);
}

/* Halves may reach 65504; a tenth of it is left for what approximations and roundings add. */
#define HALF_MAX  58000.0f
#define SCORE_MAX 0x1p30f /* scores become int32 */

/* Of magnitudes that can be squared and added up in halves: a sum has 1 / 32 of a row's elements. */
#define SQUARE_MAX sqrtf(HALF_MAX * 32 / CPL_AMX_NORM_MAX)

static void demand(packer *p, float bound, float most, const char *what)
{
    if (!(bound <= most) && !p->broken) p->broken = what;
}

static void fill(float *to, const cpl_tensor *from) { cpl_tensor_read_f32(from, 0, cpl_tensor_count(from), to); }

/* The norm before products of `site` of `layer` (none after the last one), of rows no element of which exceeds `most`.
 * Leaves in p->reach how large the elements of their input can get. */
static void fill_norm(packer *p, cpl_amx_norm_weights *norm, const cpl_tensor *gamma, const cpl_tensor *beta,
                      uint32_t layer, cpl_fold_site site, float most)
{
    const uint32_t n = p->w->arch.hidden;
    const float length = sqrtf((float)n - 1);
    demand(p, most, HALF_MAX, "residual rows");
    for (norm->down = 0; ldexpf(most, -norm->down) > SQUARE_MAX && norm->down < 20;) norm->down++;
    fill(p->gamma, gamma);
    fill(p->beta, beta);
    p->stream = 0;
    for (uint32_t i = 0; i < n; i++) {
        norm->gamma[i] = norm->q_gamma[i] = to_half(p->gamma[i]);
        norm->beta[i] = norm->q_beta[i] = to_half(p->beta[i]);
        p->stream = fmaxf(p->stream, length * fabsf(p->gamma[i]) + fabsf(p->beta[i]));
    }
    if (p->int8 && layer < p->w->arch.layers) {
        float *const mul = p->row, *const add = p->row + n;
        cpl_fold_input(p->fold, layer, site, mul, add);
        for (uint32_t i = 0; i < n; i++) {
            p->beta[i] = p->beta[i] * mul[i] + add[i];
            p->gamma[i] *= mul[i];
            norm->q_gamma[i] = to_half(p->gamma[i]);
            norm->q_beta[i] = to_half(p->beta[i]);
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        p->reach[i] = length * fabsf(p->gamma[i]) + fabsf(p->beta[i]);
        demand(p, p->reach[i], HALF_MAX, "normed rows");
    }
}

/* ---- a layer ---------------------------------------------------------------------------------------------------- */

static const struct {
    uint16_t limit, factor[4];
} activations[] = {
    /* halves of the polynomial with the least error, times |x|, that is 1 at 1.618; of those near by that stay 1 there
     * in halves the one with the least error: 0.0037, roundings included */
    [CPL_ACTIVATION_GELU] = {0x3e79, {0xaba4, 0x4040, 0xbdbe, 0x3535}},
    [CPL_ACTIVATION_GELU_TANH] = {0x3e6f, {0xab88, 0x403c, 0xbdb4, 0x3528}},
    [CPL_ACTIVATION_RELU] = {0, {0, 0, 0, 0}},
};

static void choose_activation(const packer *p, cpl_amx_activation *out)
{
    const cpl_activation kind = p->w->arch.activation;
    *out = (cpl_amx_activation){.kind = kind == CPL_ACTIVATION_RELU        ? CPL_EPILOGUE_RELU
                                        : kind == CPL_ACTIVATION_GELU_TANH ? CPL_EPILOGUE_GELU_TANH
                                                                           : CPL_EPILOGUE_GELU,
                                .limit = activations[kind].limit};
    memcpy(out->factor, activations[kind].factor, sizeof out->factor);
}

/* A product's way into halves: sums lose `shift` bits to fit 16, and the scales share a power of two so that neither a
 * row's nor a sum times it leaves the halves. row_scale: the largest there is; by: of what is to come of y. */
static void choose_halves(packer *p, cpl_amx_matrix *m, float row_scale, float by)
{
    int shift = 0, exponent = 0;
    while (ldexpf(p->sum, -shift) > 32767.0f) shift++;
    while (32768.0f * row_scale * ldexpf(1, shift - exponent) > HALF_MAX / 2) exponent++;
    m->shift = (uint32_t)shift;
    m->input16 = ldexpf(1, shift - exponent);
    for (uint32_t n = 0; n < m->n; n++) {
        m->scale16[n] = to_half(ldexpf(m->scale[n] * by, exponent));
        m->bias16[n] = to_half(m->bias[n] * by);
        demand(p, ldexpf(m->scale[n], exponent), HALF_MAX, "scales");
        demand(p, fabsf(m->bias[n]), HALF_MAX, "biases");
    }
    demand(p, (float)shift, 16, "sums");
}

static void pack_attention(packer *p, cpl_amx_layer *y, const cpl_layer *s, uint32_t l)
{
    const cpl_arch *a = &p->w->arch;
    const uint32_t h = a->hidden;
    const float score = 128.0f * 1.44269504f / sqrtf((float)a->head_size);
    const source q = {CPL_FOLD_Q, l, 0, &s->q_weight, &s->q_bias, FROM_NORM, score};
    const source k = {CPL_FOLD_K, l, h, &s->k_weight, &s->k_bias, FROM_NORM, 1};
    const source v = {CPL_FOLD_V, l, 2 * h, &s->v_weight, &s->v_bias, FROM_NORM, 1};
    const source out = {CPL_FOLD_OUT, l, 0, &s->out_weight, &s->out_bias, FROM_CONTEXT, 1};
    pack_matrix(p, &y->qkv, &q);
    pack_matrix(p, &y->qkv, &k);
    pack_matrix(p, &y->qkv, &v);
    for (uint32_t head = 0; head < a->heads; head++) {
        float sum = 0;
        for (uint32_t i = head * a->head_size; i < (head + 1) * a->head_size; i++) sum += p->bound[i] * p->bound[h + i];
        demand(p, sum, SCORE_MAX, "attention scores");
    }
    memcpy(p->reach, p->bound + 2 * h, h * sizeof(float));
    const float input = largest(p->reach, h);
    demand(p, input, HALF_MAX, "values");
    pack_matrix(p, &y->out, &out);
    if (p->int8) choose_halves(p, &y->out, input / 127, 1);
}

static void pack_layer(packer *p, uint32_t l)
{
    const cpl_amx_weights *w = p->w;
    cpl_amx_layer *y = &w->layers[l];
    const cpl_layer *s = &p->from->layers[l];
    const source up = {CPL_FOLD_UP, l, 0, &s->up_weight, &s->up_bias, FROM_NORM, 1};
    const source down = {CPL_FOLD_DOWN, l, 0, &s->down_weight, &s->down_bias, FROM_ACTIVATION, 1};
    pack_attention(p, y, s, l);
    fill_norm(p, &y->attention_norm, &s->attention_norm_weight, &s->attention_norm_bias, l, CPL_FOLD_NORMED,
              p->stream + largest(p->bound, w->arch.hidden));
    const float input = largest(p->reach, w->arch.hidden);
    pack_matrix(p, &y->up, &up);
    const float inner = largest(p->bound, y->up.n);
    demand(p, inner, HALF_MAX, "inner rows of the FFN");
    choose_activation(p, &y->activation);
    if (p->int8) choose_halves(p, &y->up, input / 127, w->arch.activation == CPL_ACTIVATION_RELU ? 1 : 0.5f);
    memcpy(p->reach, p->bound, y->up.n * sizeof(float));
    pack_matrix(p, &y->down, &down);
    if (p->int8) choose_halves(p, &y->down, (inner + w->shift) / 255, 1);
    fill_norm(p, &y->output_norm, &s->output_norm_weight, &s->output_norm_bias, l + 1, CPL_FOLD_LAYER,
              p->stream + largest(p->bound, w->arch.hidden));
}

static void fill_fp32(const packer *p, cpl_native_matrix *m, const cpl_tensor *weight, const cpl_tensor *bias)
{
    const cpl_kernels *k = &p->w->kernels; /* the block came zeroed */
    for (uint32_t n = 0; n < m->n; n++) {
        cpl_tensor_read_f32(weight, (size_t)n * m->k, m->k, p->row);
        cpl_gemm_f32_pack(k, m->b, n, m->k, p->row);
    }
    if (bias->data) fill(m->bias, bias);
}

/* No element of a row of the embedding exceeds this. */
static float largest_embedding(const packer *p)
{
    const cpl_amx_weights *w = p->w;
    const cpl_tensor *word = &p->from->word_embedding;
    const uint32_t n = w->arch.hidden;
    float sum[3] = {0};
    for (uint32_t i = 0; i < word->shape[0]; i++) {
        if (w->words.q) {
            sum[0] = fmaxf(sum[0], 127 * w->words.scale[i]);
            continue;
        }
        cpl_tensor_read_f32(word, (size_t)i * n, n, p->row);
        for (uint32_t k = 0; k < n; k++) sum[0] = fmaxf(sum[0], fabsf(p->row[k]));
    }
    for (size_t i = 0; i < (size_t)w->arch.positions * n; i++) sum[1] = fmaxf(sum[1], fabsf(w->position[i]));
    for (size_t i = 0; i < (size_t)w->arch.types * n; i++) sum[2] = fmaxf(sum[2], fabsf(w->type[i]));
    return sum[0] + sum[1] + sum[2];
}

static void pack_all(packer *p)
{
    cpl_amx_weights *w = p->w;
    const cpl_weights_by_role *from = p->from;
    fill(w->position, &from->position_embedding);
    fill(w->type, &from->type_embedding);
    cpl_native_words_fill(&w->words, &w->kernels, &from->word_embedding, p->row);
    fill_norm(p, &w->embedding_norm, &from->embedding_norm_weight, &from->embedding_norm_bias, 0, CPL_FOLD_LAYER,
              largest_embedding(p));
    for (uint32_t l = 0; l < w->arch.layers; l++) pack_layer(p, l);
    if (w->arch.head == CPL_HEAD_POOLER_CLASSIFIER) {
        fill_fp32(p, &w->pooler, &from->pooler_weight, &from->pooler_bias);
        fill_fp32(p, &w->classifier, &from->classifier_weight, &from->classifier_bias);
    }
}

/* ---- load ------------------------------------------------------------------------------------------------------- */

int cpl_amx_fits(const cpl_model *model)
{
    const cpl_arch *a = &model->arch;
    return a->hidden % 64 == 0 && a->intermediate % 64 == 0 && (a->head_size == 32 || a->head_size == 64) &&
           a->hidden <= CPL_AMX_NORM_MAX && a->intermediate <= CPL_I8_K_MAX / 2;
}

static cpl_status fill_weights(cpl_amx_weights *w, const cpl_model *model, const cpl_fold *fold, cpl_error *err)
{
    cpl_native_bump count = {NULL, 0};
    lay_out(w, &count, &model->weights.word_embedding);
    w->block = w->host.allocate(count.used, BLOCK_ALIGN);
    if (!w->block) return cpl_fail_memory(err, count.used);
    w->block_bytes = count.used;
    const size_t widest = w->arch.intermediate > 3 * w->arch.hidden ? w->arch.intermediate : 3 * w->arch.hidden;
    float *room = calloc(1, 5 * widest * sizeof(float) + widest);
    if (!room) return cpl_fail_memory(err, 5 * widest * sizeof(float) + widest);
    cpl_native_bump take = {w->block, 0};
    lay_out(w, &take, &model->weights.word_embedding);
    packer p = {.w = w,
                .from = &model->weights,
                .int8 = w->precision == CPL_PRECISION_INT8,
                .fold = fold,
                .q = (int8_t *)(room + 5 * widest),
                .row = room,
                .reach = room + widest,
                .bound = room + 2 * widest,
                .gamma = room + 3 * widest,
                .beta = room + 4 * widest};
    pack_all(&p);
    free(room);
    if (!p.broken) return CPL_OK;
    cpl_log_write(w->host.log, CPL_LOG_INFO,
                  "amx is not used for this model: its %s could leave the range of its numbers", p.broken);
    return cpl_fail(err, CPL_UNSUPPORTED, "%s could leave the range of its numbers", p.broken);
}

cpl_status cpl_amx_load_with(cpl_weights **out, const cpl_model *model, const cpl_load_options *options,
                             const cpl_native_settings *settings, cpl_load_report *report, const cpl_host *host,
                             const cpl_amx_kernels *kernels, const cpl_amx_tuning *tuning, cpl_error *err)
{
    *out = NULL;
    cpl_amx_weights *w = calloc(1, sizeof *w);
    if (!w) return cpl_fail_memory(err, sizeof *w);
    w->head.path = &cpl_native_amx;
    w->host = *host;
    w->amx = kernels;
    cpl_kernels_choose(&w->kernels, settings->isa);
    w->precision = options->precision;
    w->tuning = *tuning;
    w->arch = model->arch;
    w->pooling = model->pooling;
    w->limits = cpl_native_limits_of(model, options);
    w->stages = settings->stages;
    cpl_fold *fold = NULL;
    w->layers = calloc(w->arch.layers, sizeof *w->layers);
    cpl_status st = w->layers ? CPL_OK : cpl_fail_memory(err, w->arch.layers * sizeof *w->layers);
    if (!st && w->precision == CPL_PRECISION_INT8) st = cpl_fold_open(&fold, model, &w->kernels, err);
    if (fold) w->shift = -cpl_fold_floor(fold);
    if (!st) st = fill_weights(w, model, fold, err);
    cpl_fold_close(fold);
    if (st) {
        cpl_amx_unload((cpl_weights *)(void *)w);
        return st;
    }
    report->weight_bytes = w->block_bytes;
    report->precision = w->precision;
    report->batch_tokens = w->tuning.batch_tokens;
    snprintf(report->kernels, sizeof report->kernels, "amx %s, the rest %s",
             w->precision == CPL_PRECISION_INT8 ? "int8" : "bf16", w->kernels.isa);
    *out = (cpl_weights *)(void *)w;
    return CPL_OK;
}

static int suits(const cpl_model *model, cpl_precision precision, const cpl_native_settings *settings,
                 const cpl_cpu *cpu)
{
    const uint32_t needs = CPL_CPU_AVX512_BF16 | CPL_CPU_AVX512_VBMI | CPL_CPU_AVX512_FP16;
    return settings->isa == CPL_ISA_AMX && (precision == CPL_PRECISION_INT8 || precision == CPL_PRECISION_BF16) &&
           (cpu->features & needs) == needs && cpl_amx_fits(model) && cpl_amx_permit();
}

static cpl_status load(cpl_weights **out, const cpl_model *model, const cpl_load_options *options,
                       const cpl_native_settings *settings, cpl_load_report *report, const cpl_host *host,
                       cpl_error *err)
{
    return cpl_amx_load_with(out, model, options, settings, report, host, &cpl_amx_table,
                             &cpl_amx_tuned[options->precision == CPL_PRECISION_BF16], err);
}

void cpl_amx_unload(cpl_weights *weights)
{
    cpl_amx_weights *w = (cpl_amx_weights *)(void *)weights;
    if (!w) return;
    if (w->block) w->host.release(w->block, w->block_bytes);
    free(w->layers);
    free(w);
}

const cpl_native_path cpl_native_amx = {
    .suits = suits,
    .load = load,
    .open = cpl_amx_open,
    .run = cpl_amx_run,
    .stages = cpl_amx_stages,
    .close = cpl_amx_close,
    .unload = cpl_amx_unload,
};
