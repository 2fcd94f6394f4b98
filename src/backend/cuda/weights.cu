/* SPDX-License-Identifier: Apache-2.0 */
/* weights.cu - load: every tensor converted on the host into one block laid out as the device will hold it, one copy.
 *
 * As in the native backend the layout is written once (lay_out) and walked twice: to count, then to hand out the
 * pieces; a third walk over host memory fills them. Q, K and V are one matrix. Heads that are not of 32 or 64 columns
 * are padded with rows of zeros, which is exact. With 16-bit types the output projection has its columns in the order
 * in which attention leaves them (cpl_cuda_context_column). Norms, biases, position and type tables, pooler and
 * classifier stay fp32.
 *
 * With e4m3 operands each row of a matrix has a scale of its own, so that its largest element is e4m3's largest, 448;
 * the FFN's second matrix has its columns in the order in which the first one's results lie (cpl_cuda_middle_column).
 *
 * int8 is fold.h's, as on the CPU: channels recentred and rescaled by a calibration of the model by itself. Q, K, V and
 * FFN up are multiplied as int8, by activations that the norms quantise row by row; what the other two multiply has no
 * scale a row that a kernel could know in time, so their int8 values are stored as bf16 and multiplied so. With int4
 * the second FFN matrix stays in 4 bits in memory and becomes bf16 in a session's buffer, a layer at a time.
 *
 * Settings: graphs=auto|on|off (launch captured passes; auto: up to 8,192 tokens), wait=auto|block|spin (how run waits;
 * auto: spins for passes of up to 2,048 tokens), gemm=auto|mma (mma: the kernels that need no Hopper), tile=auto|NAME
 * (one tiling of the Hopper products wherever it can be used; for measuring, results are the same bits),
 * small=auto|off (auto: passes of up to 32 tokens in one kernel where the model has MiniLM's shape, on Hopper),
 * overlap=auto|off (kernels brought in while the one before them finishes, from Hopper on). */
#include "backend/cuda/cuda.cuh"
#include "backend/cuda/device.cuh"

extern "C" {
#include "backend/cuda/eight.h"
#include "backend/precision.h"
}

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGN = 256 };

void *cpl_cuda_take(cpl_cuda_bump *b, size_t bytes)
{
    void *p = b->base ? b->base + b->used : NULL;
    b->used += (bytes + ALIGN - 1) / ALIGN * ALIGN;
    return p;
}

cpl_status cpl_cuda_allocate(void **out, size_t bytes, const char *what, const cpl_host *host, cpl_error *err)
{
    const cudaError_t e = cudaMalloc(out, bytes);
    if (!e) return CPL_OK;
    *out = NULL;
    if (e != cudaErrorMemoryAllocation) return cpl_cuda_fail(host, err, e, what);
    size_t free_bytes = 0, total = 0;
    cudaGetLastError();
    if (cudaMemGetInfo(&free_bytes, &total)) cudaGetLastError();
    return host->fail(err, CPL_NO_MEMORY, "out of device memory: %s needs %zu MiB, %zu of %zu MiB are free", what,
                      (bytes >> 20) + 1, free_bytes >> 20, total >> 20);
}

/* ---- layout ---------------------------------------------------------------------------------------------------------
 */

static void take_matrix(cpl_cuda_matrix *m, cpl_cuda_bump *b, cpl_cuda_type type, uint32_t n, uint32_t k)
{
    const size_t padded = (size_t)(n + 2 * CPL_CUDA_COLUMNS) * sizeof(float);
    m->n = n;
    m->k = k;
    m->w = cpl_cuda_take(b, cpl_cuda_element_bytes(type) * n * k);
    m->bias = (float *)cpl_cuda_take(b, padded);
    m->scale = type == CPL_CUDA_FP8 || type == CPL_CUDA_INT8 ? (float *)cpl_cuda_take(b, padded) : NULL;
}

/* Of 4 bits. */
static void take_four(cpl_cuda_matrix *m, cpl_cuda_bump *b, uint32_t n, uint32_t k)
{
    const size_t padded = (size_t)(n + 2 * CPL_CUDA_COLUMNS) * sizeof(float);
    m->n = n;
    m->k = k;
    m->w = cpl_cuda_take(b, (size_t)n * k / 2);
    m->bias = (float *)cpl_cuda_take(b, padded);
    m->scale = (float *)cpl_cuda_take(b, padded);
    m->groups = (uint8_t *)cpl_cuda_take(b, (size_t)n * cpl_cuda_four_groups(k) * 2);
}

static void take_norm(cpl_cuda_norm *n, cpl_cuda_bump *b, uint32_t hidden, float epsilon)
{
    n->weight = (const float *)cpl_cuda_take(b, hidden * sizeof(float));
    n->bias = (const float *)cpl_cuda_take(b, hidden * sizeof(float));
    n->epsilon = epsilon;
}

static void lay_out(cpl_weights *w, cpl_cuda_bump *b)
{
    const cpl_arch *a = &w->arch;
    const size_t element = cpl_cuda_element_bytes(w->type);
    for (uint32_t l = 0; l < a->layers; l++) {
        cpl_cuda_layer *y = &w->layers[l];
        take_matrix(&y->qkv, b, w->operand, 3 * w->width, a->hidden);
        take_matrix(&y->out, b, w->inner, a->hidden, w->width);
        take_norm(&y->attention_norm, b, a->hidden, a->norm_epsilon);
        take_matrix(&y->up, b, w->operand, a->intermediate, a->hidden);
        if (w->four_bits)
            take_four(&y->down, b, a->hidden, a->intermediate);
        else
            take_matrix(&y->down, b, w->inner, a->hidden, a->intermediate);
        take_norm(&y->output_norm, b, a->hidden, a->norm_epsilon);
        for (int i = 0; w->operand == CPL_CUDA_INT8 && i < 4; i++)
            y->fold[i] = (float *)cpl_cuda_take(b, a->hidden * sizeof(float));
    }
    if (a->head == CPL_HEAD_POOLER_CLASSIFIER) {
        take_matrix(&w->pooler, b, CPL_CUDA_FP32, a->hidden, a->hidden);
        take_matrix(&w->classifier, b, CPL_CUDA_FP32, a->labels, a->hidden);
    }
    take_norm(&w->embedding_norm, b, a->hidden, a->norm_epsilon);
    w->position = (float *)cpl_cuda_take(b, (size_t)a->positions * a->hidden * sizeof(float));
    w->type_table = (float *)cpl_cuda_take(b, (size_t)a->types * a->hidden * sizeof(float));
    w->word = cpl_cuda_take(b, element * a->vocab * a->hidden);
}

/* ---- filling (the pieces point into host memory here)
 * ------------------------------------------------------------------ */

static uint16_t to_bf16(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    if ((u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

static void put(void *to, size_t at, const float *from, size_t n, cpl_cuda_type type)
{
    if (type == CPL_CUDA_FP32) {
        memcpy((float *)to + at, from, n * sizeof(float));
        return;
    }
    uint16_t *p = (uint16_t *)to + at;
    for (size_t i = 0; i < n; i++) {
        if (type == CPL_CUDA_BF16) {
            p[i] = to_bf16(from[i]);
        } else {
            const __half h = __float2half_rn(from[i]);
            memcpy(&p[i], &h, sizeof h);
        }
    }
}

/* Row n of a matrix. */
static void put_row(cpl_cuda_matrix *m, uint32_t n, const float *from, cpl_cuda_type type)
{
    if (type != CPL_CUDA_FP8) {
        put(m->w, (size_t)n * m->k, from, m->k, type);
        return;
    }
    uint8_t *to = (uint8_t *)m->w + (size_t)n * m->k;
    float most = 0;
    for (uint32_t i = 0; i < m->k; i++) most = fmaxf(most, fabsf(from[i]));
    const float scale = most > 0 ? most / 448.0f : 1.0f;
    for (uint32_t i = 0; i < m->k; i++) to[i] = __nv_cvt_float_to_fp8(from[i] / scale, __NV_SATFINITE, __NV_E4M3);
    m->scale[n] = scale / CPL_CUDA_FP8_SCALE;
}

static void fill(const float *to, const cpl_tensor *from)
{
    if (from->data) cpl_tensor_read_f32(from, 0, cpl_tensor_count(from), (float *)to);
}

/* scratch: room for the widest row. */
static void fill_matrix(cpl_cuda_matrix *m, const cpl_tensor *weight, const cpl_tensor *bias, cpl_cuda_type type,
                        float *scratch)
{
    fill(m->bias, bias);
    for (uint32_t n = 0; n < m->n; n++) {
        cpl_tensor_read_f32(weight, (size_t)n * m->k, m->k, scratch);
        put_row(m, n, scratch, type);
    }
}

/* scratch: room for two of the widest rows. */
static void fill_down(cpl_cuda_matrix *m, const cpl_tensor *weight, const cpl_tensor *bias, cpl_cuda_type type,
                      float *scratch)
{
    if (type != CPL_CUDA_FP8) {
        fill_matrix(m, weight, bias, type, scratch);
        return;
    }
    float *row = scratch + m->k;
    fill(m->bias, bias);
    for (uint32_t n = 0; n < m->n; n++) {
        cpl_tensor_read_f32(weight, (size_t)n * m->k, m->k, scratch);
        for (uint32_t k = 0; k < m->k; k++) row[k] = scratch[k / 16 * 16 + cpl_cuda_middle_column(k % 16)];
        put_row(m, n, row, type);
    }
}

/* Where row n of q, k or v (part 0, 1, 2) lies: part x width + head x padded head size. */
static uint32_t head_row(const cpl_weights *w, uint32_t part, uint32_t n)
{
    return part * w->width + n / w->arch.head_size * w->head_size + n % w->arch.head_size;
}

static void fill_heads(const cpl_weights *w, cpl_cuda_matrix *m, uint32_t part, const cpl_tensor *weight,
                       const cpl_tensor *bias, float *scratch)
{
    const uint32_t hidden = w->arch.hidden;
    for (uint32_t n = 0; n < hidden; n++) {
        const uint32_t row = head_row(w, part, n);
        cpl_tensor_read_f32(weight, (size_t)n * hidden, hidden, scratch);
        put_row(m, row, scratch, w->operand);
        if (bias->data) cpl_tensor_read_f32(bias, n, 1, m->bias + row);
    }
}

/* A row of the output projection, its columns in the order of the context's. */
static void put_output_row(const cpl_weights *w, cpl_cuda_matrix *m, uint32_t n, const float *from, float *row)
{
    const uint32_t d = w->arch.head_size;
    for (uint32_t c = 0; c < w->width; c++) {
        const uint32_t head = c / w->head_size, inner = c % w->head_size;
        const uint32_t at = w->type == CPL_CUDA_FP32 ? inner : inner / 32 * 32 + cpl_cuda_context_column(inner % 32);
        row[c] = at < d ? from[head * d + at] : 0.0f;
    }
    put_row(m, n, row, w->inner);
}

static void fill_output(const cpl_weights *w, cpl_cuda_matrix *m, const cpl_tensor *weight, const cpl_tensor *bias,
                        float *scratch)
{
    const uint32_t hidden = w->arch.hidden;
    fill(m->bias, bias);
    for (uint32_t n = 0; n < hidden; n++) {
        cpl_tensor_read_f32(weight, (size_t)n * hidden, hidden, scratch);
        put_output_row(w, m, n, scratch, scratch + hidden);
    }
}

/* ---- int8 and int4 ------------------------------------------------------------------------------------------------
 */

/* Row `row` of m from output column n of a layer's folded matrix; scratch: room for four of the widest rows. */
static void fill_folded_row(const cpl_weights *w, cpl_cuda_matrix *m, uint32_t row, const cpl_cuda_fold *fold,
                            uint32_t layer, cpl_fold_matrix which, uint32_t n, float *scratch)
{
    const uint32_t k = which == CPL_FOLD_DOWN ? w->arch.intermediate : w->arch.hidden;
    float *values = scratch + k, *ordered = scratch + 3 * k, scale;
    int8_t *q = (int8_t *)(values + k);
    cpl_cuda_fold_column(fold, layer, which, n, q, &scale, &m->bias[row], scratch);
    if (m->scale) m->scale[row] = scale;
    if (m->groups)
        cpl_cuda_pack_four(q, k, (uint8_t *)m->w + (size_t)row * k / 2,
                           m->groups + (size_t)row * cpl_cuda_four_groups(k) * 2);
    else if (m->scale)
        memcpy((int8_t *)m->w + (size_t)row * k, q, k);
    if (m->scale) return;
    for (uint32_t i = 0; i < k; i++) values[i] = (float)q[i] * scale;
    if (which == CPL_FOLD_OUT)
        put_output_row(w, m, row, values, ordered);
    else
        put_row(m, row, values, w->inner);
}

static void fill_folded_layer(const cpl_weights *w, uint32_t l, const cpl_cuda_fold *fold, float *scratch)
{
    cpl_cuda_layer *y = &w->layers[l];
    cpl_cuda_fold_input(fold, l, CPL_FOLD_LAYER, y->fold[0], y->fold[1]);
    cpl_cuda_fold_input(fold, l, CPL_FOLD_NORMED, y->fold[2], y->fold[3]);
    for (uint32_t n = 0; n < w->arch.hidden; n++) {
        fill_folded_row(w, &y->qkv, head_row(w, 0, n), fold, l, CPL_FOLD_Q, n, scratch);
        fill_folded_row(w, &y->qkv, head_row(w, 1, n), fold, l, CPL_FOLD_K, n, scratch);
        fill_folded_row(w, &y->qkv, head_row(w, 2, n), fold, l, CPL_FOLD_V, n, scratch);
        fill_folded_row(w, &y->out, n, fold, l, CPL_FOLD_OUT, n, scratch);
        fill_folded_row(w, &y->down, n, fold, l, CPL_FOLD_DOWN, n, scratch);
    }
    for (uint32_t n = 0; n < w->arch.intermediate; n++) fill_folded_row(w, &y->up, n, fold, l, CPL_FOLD_UP, n, scratch);
}

/* ---- everything ---------------------------------------------------------------------------------------------------
 */

static void fill_layer(const cpl_weights *w, uint32_t l, const cpl_layer *s, float *scratch)
{
    cpl_cuda_layer *y = &w->layers[l];
    fill_heads(w, &y->qkv, 0, &s->q_weight, &s->q_bias, scratch);
    fill_heads(w, &y->qkv, 1, &s->k_weight, &s->k_bias, scratch);
    fill_heads(w, &y->qkv, 2, &s->v_weight, &s->v_bias, scratch);
    fill_output(w, &y->out, &s->out_weight, &s->out_bias, scratch);
    fill_matrix(&y->up, &s->up_weight, &s->up_bias, w->operand, scratch);
    fill_down(&y->down, &s->down_weight, &s->down_bias, w->inner, scratch);
}

/* fold: of int8 and int4, else NULL. */
static void fill_all(cpl_weights *w, const cpl_weights_by_role *from, const cpl_cuda_fold *fold, float *scratch)
{
    for (uint32_t l = 0; l < w->arch.layers; l++) {
        const cpl_layer *s = &from->layers[l];
        cpl_cuda_layer *y = &w->layers[l];
        if (fold)
            fill_folded_layer(w, l, fold, scratch);
        else
            fill_layer(w, l, s, scratch);
        fill(y->attention_norm.weight, &s->attention_norm_weight);
        fill(y->attention_norm.bias, &s->attention_norm_bias);
        fill(y->output_norm.weight, &s->output_norm_weight);
        fill(y->output_norm.bias, &s->output_norm_bias);
    }
    if (w->arch.head == CPL_HEAD_POOLER_CLASSIFIER) {
        fill_matrix(&w->pooler, &from->pooler_weight, &from->pooler_bias, CPL_CUDA_FP32, scratch);
        fill_matrix(&w->classifier, &from->classifier_weight, &from->classifier_bias, CPL_CUDA_FP32, scratch);
    }
    fill(w->embedding_norm.weight, &from->embedding_norm_weight);
    fill(w->embedding_norm.bias, &from->embedding_norm_bias);
    fill(w->position, &from->position_embedding);
    fill(w->type_table, &from->type_embedding);
    for (uint32_t i = 0; i < w->arch.vocab; i++) {
        cpl_tensor_read_f32(&from->word_embedding, (size_t)i * w->arch.hidden, w->arch.hidden, scratch);
        put(w->word, (size_t)i * w->arch.hidden, scratch, w->arch.hidden, w->type);
    }
}

static cpl_status fill_weights(cpl_weights *w, const cpl_model *model, cpl_error *err)
{
    cpl_cuda_bump count = {NULL, 0};
    lay_out(w, &count);
    const uint32_t widest = w->arch.intermediate > w->width ? w->arch.intermediate : w->width;
    const size_t scratch_bytes = 4 * ((size_t)w->arch.hidden + widest) * sizeof(float);
    void *host = w->host.allocate(count.used, 4096);
    float *scratch = (float *)malloc(scratch_bytes);
    cpl_status st = CPL_OK;
    if (!host || !scratch)
        st = w->host.fail(err, CPL_NO_MEMORY, "out of memory: %zu bytes wanted to convert the weights", count.used);
    cpl_cuda_fold *fold = NULL;
    if (!st && w->operand == CPL_CUDA_INT8) st = cpl_cuda_fold_open(&fold, model, w->four_bits, err);
    if (!st) st = cpl_cuda_allocate(&w->block, count.used, "the model's weights", &w->host, err);
    if (!st) {
        cpl_cuda_bump fill_walk = {(char *)host, 0}, device_walk = {(char *)w->block, 0};
        lay_out(w, &fill_walk);
        fill_all(w, &model->weights, fold, scratch);
        lay_out(w, &device_walk);
        w->block_bytes = count.used;
        const cudaError_t e = cudaMemcpy(w->block, host, count.used, cudaMemcpyHostToDevice);
        if (e) st = cpl_cuda_fail(&w->host, err, e, "copying the weights");
    }
    cpl_cuda_fold_close(fold);
    free(scratch);
    if (host) w->host.release(host, count.used);
    return st;
}

/* ---- load
 * ------------------------------------------------------------------------------------------------------------- */

/* The number kernels.cuh's variants go by, or -1. */
static int tile_of(const char *name)
{
    static const char *const names[] = {"auto", "256x192", "128x192", "128x64", "resident", "resident2", "resident4"};
    for (int i = 0; i < (int)(sizeof names / sizeof *names); i++)
        if (!strcmp(names[i], name)) return i;
    return -1;
}

static cpl_status read_setting(cpl_weights *w, const char *s, cpl_error *err)
{
    if (!strcmp(s, "graphs=auto"))
        w->graphs = CPL_CUDA_AUTO;
    else if (!strcmp(s, "graphs=on"))
        w->graphs = CPL_CUDA_ON;
    else if (!strcmp(s, "graphs=off"))
        w->graphs = CPL_CUDA_OFF;
    else if (!strcmp(s, "wait=auto"))
        w->spin = CPL_CUDA_AUTO;
    else if (!strcmp(s, "wait=spin"))
        w->spin = CPL_CUDA_ON;
    else if (!strcmp(s, "wait=block"))
        w->spin = CPL_CUDA_OFF;
    else if (!strcmp(s, "gemm=mma"))
        w->device.wgmma = 0;
    else if (!strcmp(s, "small=auto") || !strcmp(s, "small=off"))
        w->small = s[6] == 'a';
    else if (!strcmp(s, "overlap=off"))
        w->device.early = 0;
    else if (!strncmp(s, "tile=", 5) && tile_of(s + 5) >= 0)
        w->variant = tile_of(s + 5);
    else if (strcmp(s, "gemm=auto") != 0 && strcmp(s, "overlap=auto") != 0)
        return w->host.fail(err, CPL_INVALID,
                            "unknown setting \"%s\" of the cuda backend: it knows graphs=auto|on|off, "
                            "wait=auto|block|spin, gemm=auto|mma, small=auto|off, "
                            "overlap=auto|off and "
                            "tile=auto|256x192|128x192|128x64|resident|resident2|resident4",
                            s);
    return CPL_OK;
}

static cpl_status check_shape(const cpl_weights *w, cpl_error *err)
{
    const cpl_arch *a = &w->arch;
    if (a->norm_place != CPL_NORM_POST || a->position_scheme != CPL_POSITION_LEARNED)
        return w->host.fail(err, CPL_UNSUPPORTED,
                            "the cuda backend runs BERT-like models only: norm after the residual, learned positions");
    if (!a->layers || !a->hidden || a->heads * a->head_size != a->hidden || a->head_size > 64)
        return w->host.fail(err, CPL_UNSUPPORTED,
                            "the cuda backend can't run %u heads of size %u over hidden size %u: it takes heads of up "
                            "to 64",
                            a->heads, a->head_size, a->hidden);
    if (a->hidden % 8 || a->intermediate % 8 || a->hidden > 1024)
        return w->host.fail(err, CPL_UNSUPPORTED,
                            "the cuda backend can't run hidden size %u with intermediate size %u: both must be "
                            "multiples of 8, and hidden size at most 1024",
                            a->hidden, a->intermediate);
    if (w->operand != w->type && (a->hidden % 16 || a->intermediate % 16))
        return w->host.fail(err, CPL_UNSUPPORTED,
                            "the cuda backend can't run hidden size %u with intermediate size %u in fp8, int8 or int4: "
                            "they must be multiples of 16",
                            a->hidden, a->intermediate);
    if (w->max_length > UINT16_MAX || a->types > UINT16_MAX)
        return w->host.fail(err, CPL_UNSUPPORTED, "the cuda backend can't run %u positions or %u types", a->positions,
                            a->types);
    return CPL_OK;
}

static cpl_status choose_device(cpl_weights *w, const cpl_load_options *options, cpl_error *err)
{
    int count = 0;
    cudaError_t e = cudaGetDeviceCount(&count);
    if (e) return cpl_cuda_fail(&w->host, err, e, "counting devices");
    if (options->device >= (uint32_t)count)
        return w->host.fail(err, CPL_INVALID, "no device %u: this machine has %d", options->device, count);
    cudaDeviceProp p;
    e = cudaGetDeviceProperties(&p, (int)options->device);
    if (!e) e = cudaSetDevice((int)options->device);
    if (e) return cpl_cuda_fail(&w->host, err, e, "opening the device");
    w->device = {(int)options->device, p.multiProcessorCount, p.major == 9 && p.minor == 0, p.major >= 9,
                 10 * p.major + p.minor >= 89};
    return CPL_OK;
}

static int activation(const cpl_arch *a)
{
    switch (a->activation) {
    case CPL_ACTIVATION_GELU: return EPILOGUE_GELU;
    case CPL_ACTIVATION_GELU_TANH: return EPILOGUE_GELU_TANH;
    case CPL_ACTIVATION_RELU: return EPILOGUE_RELU;
    }
    return EPILOGUE_GELU;
}

static void set_shape(cpl_weights *w, const cpl_model *model, const cpl_load_options *options)
{
    w->arch = model->arch;
    w->pooling = model->pooling;
    w->max_length = model->max_length;
    w->tokens_max = options->batch_tokens_max > model->max_length ? options->batch_tokens_max : model->max_length;
    w->sequences_max = options->batch_sequences_max && options->batch_sequences_max < w->tokens_max
                           ? options->batch_sequences_max
                           : w->tokens_max;
    w->type = options->precision == CPL_PRECISION_FP32   ? CPL_CUDA_FP32
              : options->precision == CPL_PRECISION_FP16 ? CPL_CUDA_FP16
                                                         : CPL_CUDA_BF16;
    w->four_bits = options->precision == CPL_PRECISION_INT4;
    w->operand = options->precision == CPL_PRECISION_FP8                    ? CPL_CUDA_FP8
                 : options->precision == CPL_PRECISION_INT8 || w->four_bits ? CPL_CUDA_INT8
                                                                            : w->type;
    w->inner = w->operand == CPL_CUDA_FP8 ? CPL_CUDA_FP8 : w->type;
    w->head_size = w->arch.head_size > 32 ? 64 : 32;
    w->width = w->arch.heads * w->head_size;
    w->epilogue = activation(&w->arch);
    w->small = 1;
    w->scale = 1.0f / sqrtf((float)w->arch.head_size);
}

static cpl_status prepare(cpl_weights *w, const cpl_model *model, const cpl_load_options *options, cpl_error *err)
{
    cpl_status st = check_shape(w, err);
    if (!st) st = choose_device(w, options, err);
    for (const char *const *s = options->settings; !st && s && *s; s++) st = read_setting(w, *s, err);
    if (st) return st;
    cudaError_t e = cpl_cuda_kernels_prepare(&w->device);
    if (e) return cpl_cuda_fail(&w->host, err, e, "loading the kernels");
    if (w->operand == CPL_CUDA_FP8 && !w->device.fp8)
        return w->host.fail(err, CPL_UNSUPPORTED, "fp8 needs compute capability 8.9, device %u has less",
                            options->device);
    w->small = w->small && cpl_cuda_small_fits(w->operand, w->arch.hidden, w->width, w->head_size, w->arch.intermediate,
                                               w->epilogue, &w->device);
    w->layers = (cpl_cuda_layer *)calloc(w->arch.layers, sizeof *w->layers);
    if (!w->layers) return w->host.fail(err, CPL_NO_MEMORY, "out of memory: a table of %u layers", w->arch.layers);
    return fill_weights(w, model, err);
}

cpl_status cpl_cuda_load(cpl_weights **out, const cpl_model *model, const cpl_load_options *options,
                         cpl_load_report *report, const cpl_host *host, cpl_error *err)
{
    *out = NULL;
    if (options->size != sizeof(cpl_load_options))
        return host->fail(err, CPL_INVALID, "load options are of another size (%u, expected %zu): rebuild the caller",
                          options->size, sizeof(cpl_load_options));
    if (options->precision >= CPL_PRECISION_COUNT)
        return host->fail(err, CPL_INVALID, "precision %d is none that the cuda backend knows",
                          (int)options->precision);
    cpl_weights *w = (cpl_weights *)calloc(1, sizeof *w);
    if (!w) return host->fail(err, CPL_NO_MEMORY, "out of memory: %zu bytes wanted", sizeof *w);
    w->host = *host;
    pthread_mutex_init(&w->turn, NULL);
    set_shape(w, model, options);
    const cpl_status st = prepare(w, model, options, err);
    if (st) {
        cpl_cuda_unload(w);
        return st;
    }
    report->weight_bytes = w->block_bytes;
    report->precision = options->precision;
    report->batch_tokens = CPL_CUDA_BATCH_TOKENS;
    const char *on = w->device.wgmma ? "wgmma" : "mma", *arch = w->device.wgmma ? "sm_90a" : "sm_80";
    if (w->type == CPL_CUDA_FP32)
        snprintf(report->kernels, sizeof report->kernels, "fma");
    else if (w->operand == CPL_CUDA_FP8)
        snprintf(report->kernels, sizeof report->kernels, "%s e4m3 %s", on, w->device.wgmma ? arch : "sm_89");
    else if (w->operand == CPL_CUDA_INT8)
        snprintf(report->kernels, sizeof report->kernels, "%s int8 %s, %s", on, arch,
                 w->four_bits ? "ffn down int4/64 widened to bf16" : "second products bf16");
    else
        snprintf(report->kernels, sizeof report->kernels, "%s %s", on, arch);
    *out = w;
    return CPL_OK;
}

void cpl_cuda_unload(cpl_weights *w)
{
    if (!w) return;
    if (w->block) {
        cudaSetDevice(w->device.index);
        cudaFree(w->block);
    }
    pthread_mutex_destroy(&w->turn);
    free(w->layers);
    free(w);
}
