/* SPDX-License-Identifier: Apache-2.0 */
/* test_long.c - a whole pass over 8,192 tokens, a length later models have: a tiny random model made in memory, against
 * the same layer in double; the same bits alone, in a batch and with a team; memory that grows with the length and not
 * with its square. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "backend/registry.h"
#include "kernel/cpu.h"
#include "seed.h"

enum { LONG = 8192, HIDDEN = 32, HEADS = 1, INNER = 64, VOCAB = 50, SHORT = 40, ROWS = 24 };

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

static uint64_t seed;

static float uniform(uint64_t *state, float size)
{
    return ((float)(cpl_random_next(state) >> 40) * 0x1p-23f - 1) * size;
}

/* ---- the model --------------------------------------------------------------------------------------------------- */

static float *pool;
static size_t pool_used;

/* rows x columns around `middle`. */
static cpl_tensor tensor(uint64_t *state, uint32_t rows, uint32_t columns, float middle, float size)
{
    float *x = pool + pool_used;
    pool_used += (size_t)rows * columns;
    for (size_t i = 0; i < (size_t)rows * columns; i++) x[i] = middle + uniform(state, size);
    return (cpl_tensor){x, CPL_DTYPE_F32, columns > 1 ? 2 : 1, {rows, columns}};
}

static void make_layer(cpl_layer *y, uint64_t *s)
{
    const float w = 0.3f;
    *y = (cpl_layer){
        .q_weight = tensor(s, HIDDEN, HIDDEN, 0, w),
        .q_bias = tensor(s, HIDDEN, 1, 0, w),
        .k_weight = tensor(s, HIDDEN, HIDDEN, 0, w),
        .k_bias = tensor(s, HIDDEN, 1, 0, w),
        .v_weight = tensor(s, HIDDEN, HIDDEN, 0, w),
        .v_bias = tensor(s, HIDDEN, 1, 0, w),
        .out_weight = tensor(s, HIDDEN, HIDDEN, 0, w),
        .out_bias = tensor(s, HIDDEN, 1, 0, w),
        .attention_norm_weight = tensor(s, HIDDEN, 1, 1, w),
        .attention_norm_bias = tensor(s, HIDDEN, 1, 0, w),
        .up_weight = tensor(s, INNER, HIDDEN, 0, w),
        .up_bias = tensor(s, INNER, 1, 0, w),
        .down_weight = tensor(s, HIDDEN, INNER, 0, w),
        .down_bias = tensor(s, HIDDEN, 1, 0, w),
        .output_norm_weight = tensor(s, HIDDEN, 1, 1, w),
        .output_norm_bias = tensor(s, HIDDEN, 1, 0, w),
    };
}

static cpl_layer layers[2];

static cpl_model make_model(uint32_t layer_count)
{
    uint64_t s = seed;
    pool_used = 0;
    cpl_model m = {.task = CPL_TASK_EMBEDDER,
                   .arch = {.layers = layer_count,
                            .hidden = HIDDEN,
                            .heads = HEADS,
                            .head_size = HIDDEN / HEADS,
                            .intermediate = INNER,
                            .vocab = VOCAB,
                            .positions = LONG,
                            .types = 2,
                            .norm_epsilon = 1e-12f,
                            .norm_place = CPL_NORM_POST,
                            .position_scheme = CPL_POSITION_LEARNED,
                            .activation = CPL_ACTIVATION_GELU},
                   .pooling = CPL_POOLING_CLS,
                   .max_length = LONG};
    m.weights.word_embedding = tensor(&s, VOCAB, HIDDEN, 0, 1);
    m.weights.position_embedding = tensor(&s, LONG, HIDDEN, 0, 1);
    m.weights.type_embedding = tensor(&s, 2, HIDDEN, 0, 1);
    m.weights.embedding_norm_weight = tensor(&s, HIDDEN, 1, 1, 0.3f);
    m.weights.embedding_norm_bias = tensor(&s, HIDDEN, 1, 0, 0.3f);
    for (uint32_t l = 0; l < layer_count; l++) make_layer(&layers[l], &s);
    m.weights.layers = layers;
    return m;
}

/* ---- the same in double ------------------------------------------------------------------------------------------ */

static const float *at(const cpl_tensor *t) { return t->data; }

static void linear(double *y, const double *x, const cpl_tensor *w, const cpl_tensor *b)
{
    for (uint32_t i = 0; i < w->shape[0]; i++) {
        y[i] = at(b)[i];
        for (uint32_t j = 0; j < w->shape[1]; j++) y[i] += (double)at(w)[i * w->shape[1] + j] * x[j];
    }
}

static void normalise(double *x, const cpl_tensor *gamma, const cpl_tensor *beta)
{
    double mean = 0, square = 0;
    for (int i = 0; i < HIDDEN; i++) mean += x[i] / HIDDEN;
    for (int i = 0; i < HIDDEN; i++) square += (x[i] - mean) * (x[i] - mean) / HIDDEN;
    for (int i = 0; i < HIDDEN; i++) x[i] = (x[i] - mean) / sqrt(square + 1e-12) * at(gamma)[i] + at(beta)[i];
}

static void embed(const cpl_model *m, const int32_t *ids, uint32_t t, double *x)
{
    const cpl_weights_by_role *w = &m->weights;
    for (int i = 0; i < HIDDEN; i++)
        x[i] = (double)at(&w->word_embedding)[ids[t] * HIDDEN + i] +
               at(&w->position_embedding)[t * HIDDEN + (uint32_t)i] + at(&w->type_embedding)[i];
    normalise(x, &w->embedding_norm_weight, &w->embedding_norm_bias);
}

/* Row t of a model of one layer: keys and values of all tokens given. */
static void one_row(const cpl_model *m, const int32_t *ids, uint32_t t, const double *k, const double *v, double *x)
{
    const cpl_layer *y = &m->weights.layers[0];
    double q[HIDDEN], context[HIDDEN] = {0}, more[HIDDEN], inner[INNER], *p = malloc(LONG * sizeof *p), max = -1e300,
                      sum = 0;
    embed(m, ids, t, x);
    linear(q, x, &y->q_weight, &y->q_bias);
    for (size_t j = 0; j < LONG; j++) {
        p[j] = 0;
        for (size_t i = 0; i < HIDDEN; i++) p[j] += q[i] * k[j * HIDDEN + i] / sqrt(HIDDEN);
        max = fmax(max, p[j]);
    }
    for (size_t j = 0; j < LONG; j++) sum += p[j] = exp(p[j] - max);
    for (size_t j = 0; j < LONG; j++)
        for (size_t i = 0; i < HIDDEN; i++) context[i] += p[j] / sum * v[j * HIDDEN + i];
    free(p);
    linear(more, context, &y->out_weight, &y->out_bias);
    for (int i = 0; i < HIDDEN; i++) x[i] += more[i];
    normalise(x, &y->attention_norm_weight, &y->attention_norm_bias);
    linear(inner, x, &y->up_weight, &y->up_bias);
    for (int i = 0; i < INNER; i++) inner[i] *= 0.5 * erfc(-inner[i] / sqrt(2));
    linear(more, inner, &y->down_weight, &y->down_bias);
    for (int i = 0; i < HIDDEN; i++) x[i] += more[i];
    normalise(x, &y->output_norm_weight, &y->output_norm_bias);
}

/* ---- running ----------------------------------------------------------------------------------------------------- */

static size_t allocated; /* through the host, since it was last set to 0 */
static void *(*host_allocate)(size_t size, size_t align);

static void *counting_allocate(size_t size, size_t align)
{
    allocated += size;
    return host_allocate(size, align);
}

typedef struct loaded {
    cpl_weights *weights;
    cpl_session *session;
    size_t session_bytes;
} loaded;

static loaded load(const cpl_model *m, cpl_precision precision)
{
    loaded l = {0};
    cpl_host host;
    cpl_error err;
    cpl_load_report report = {0};
    const cpl_load_options o = {.size = sizeof o, .precision = precision, .batch_tokens_max = 512};
    cpl_host_init(&host, NULL);
    host_allocate = host.allocate;
    host.allocate = counting_allocate;
    if (cpl_backend_native.load(&l.weights, m, &o, &report, &host, &err)) fail_msg("%s", err.what);
    allocated = 0;
    if (cpl_backend_native.open(&l.session, l.weights, &err)) fail_msg("%s", err.what);
    l.session_bytes = allocated;
    return l;
}

static void unload(loaded *l)
{
    cpl_backend_native.close(l->session);
    cpl_backend_native.unload(l->weights);
}

static void run(const loaded *l, const int32_t *ids, const uint32_t *cu, uint32_t n, cpl_want want, cpl_team *team,
                float *rows)
{
    static const uint8_t types[LONG];
    cpl_error err;
    const cpl_batch b = {ids, types, cu, n, LONG, want};
    if (cpl_backend_native.run(l->session, &b, team, rows, &err)) fail_msg("%s", err.what);
}

static void parallel_in_turn(cpl_team *team, void (*fn)(void *, uint32_t), void *arg)
{
    for (uint32_t i = team->size; i-- > 0;) fn(arg, i);
}

/* ---- tests ------------------------------------------------------------------------------------------------------- */

static int32_t *make_ids(size_t n)
{
    uint64_t s = seed + 1;
    int32_t *ids = malloc(n * sizeof *ids);
    for (size_t i = 0; i < n; i++) ids[i] = (int32_t)(cpl_random_next(&s) % VOCAB);
    return ids;
}

static const struct {
    cpl_precision precision;
    double allowed; /* of an element, which is about 1 in size */
} precisions[] = {{CPL_PRECISION_FP32, 1e-4}, {CPL_PRECISION_BF16, 0.1}, {CPL_PRECISION_INT8, 0.2}};

static void matches_double(void **state)
{
    (void)state;
    const cpl_model m = make_model(1);
    int32_t *ids = make_ids(LONG);
    double *k = malloc(sizeof(double) * LONG * HIDDEN), *v = malloc(sizeof(double) * LONG * HIDDEN), x[HIDDEN];
    float *rows = malloc(sizeof(float) * LONG * HIDDEN);
    const uint32_t cu[] = {0, LONG};
    for (uint32_t t = 0; t < LONG; t++) {
        embed(&m, ids, t, x);
        linear(k + t * HIDDEN, x, &layers[0].k_weight, &layers[0].k_bias);
        linear(v + t * HIDDEN, x, &layers[0].v_weight, &layers[0].v_bias);
    }
    for (size_t p = 0; p < sizeof precisions / sizeof *precisions; p++) {
        loaded l = load(&m, precisions[p].precision);
        double worst = 0;
        run(&l, ids, cu, 1, CPL_WANT_TOKENS, NULL, rows);
        for (uint32_t i = 0; i < ROWS; i++) {
            const uint32_t t = i + 1 < ROWS ? i * (LONG / ROWS) : LONG - 1;
            one_row(&m, ids, t, k, v, x);
            for (int j = 0; j < HIDDEN; j++) {
                const double off = fabs(rows[t * HIDDEN + (uint32_t)j] - x[j]);
                if (!(off <= worst)) worst = off;
            }
        }
        print_message("%d tokens, precision %d: max abs %.2e\n", LONG, (int)precisions[p].precision, worst);
        assert_true(worst <= precisions[p].allowed);
        unload(&l);
    }
    free(rows);
    free(k);
    free(v);
    free(ids);
}

/* Two layers, the second for the first row only: everything of the first is behind it. */
static void same_bits_in_company(void **state)
{
    (void)state;
    const cpl_model m = make_model(2);
    int32_t *ids = make_ids(LONG);
    const uint32_t whole[] = {0, LONG}, alone[] = {0, LONG - SHORT}, both[] = {0, SHORT, LONG};
    cpl_team team = {.size = 3, .parallel = parallel_in_turn};
    for (size_t p = 0; p < sizeof precisions / sizeof *precisions; p++) {
        loaded l = load(&m, precisions[p].precision);
        float one[HIDDEN], by_team[HIDDEN], two[2 * HIDDEN];
        run(&l, ids, whole, 1, CPL_WANT_POOLED, NULL, one);
        run(&l, ids, whole, 1, CPL_WANT_POOLED, &team, by_team);
        assert_memory_equal(one, by_team, sizeof one);
        run(&l, ids + SHORT, alone, 1, CPL_WANT_POOLED, NULL, one); /* a pass holds 8,192 tokens in all */
        run(&l, ids, both, 2, CPL_WANT_POOLED, NULL, two);
        assert_memory_equal(one, two + HIDDEN, sizeof one);
        run(&l, ids, both, 2, CPL_WANT_POOLED, &team, two);
        assert_memory_equal(one, two + HIDDEN, sizeof one);
        unload(&l);
    }
    free(ids);
}

static void memory_grows_with_the_length(void **state)
{
    (void)state;
    cpl_model m = make_model(1);
    for (size_t p = 0; p < sizeof precisions / sizeof *precisions; p++) {
        loaded whole = load(&m, precisions[p].precision);
        m.max_length = LONG / 2;
        loaded half = load(&m, precisions[p].precision);
        m.max_length = LONG;
        print_message("a session for %d tokens: %.1f MB, for %d: %.1f MB\n", LONG, (double)whole.session_bytes * 1e-6,
                      LONG / 2, (double)half.session_bytes * 1e-6);
        assert_true(whole.session_bytes <= 2 * half.session_bytes);
        assert_true(whole.session_bytes < (size_t)LONG * LONG); /* a byte for each score would be more */
        unload(&whole);
        unload(&half);
    }
}

int main(void)
{
    cpl_cpu cpu;
    seed = test_seed();
    cpl_cpu_detect(&cpu);
    if (SANITIZED || cpl_isa_best(&cpu) == CPL_ISA_REF) {
        printf("skipped: 8,192 x 8,192 scores take minutes without vectors or with every load checked\n");
        return 77;
    }
    pool = malloc(sizeof(float) *
                  ((size_t)(LONG + VOCAB + 8) * HIDDEN + 2 * (4 * HIDDEN + 2 * INNER + 16) * HIDDEN + 1024));
    const struct CMUnitTest tests[] = {cmocka_unit_test(matches_double), cmocka_unit_test(same_bits_in_company),
                                       cmocka_unit_test(memory_grows_with_the_length)};
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    free(pool);
    return failed;
}
