/* SPDX-License-Identifier: Apache-2.0 */
/* bench_amx.c - times the AMX path on a cross-encoder of MiniLM's shape with random weights, its parts, and variants of
 * how the work is cut, each beside the tile peak on the same threads.
 *
 *     bench_amx [threads=1,2] [lengths=32,64,128] [bf16=0,1] [tiles=2] [split=512] [rows=64]
 *               [block=64] [inner=0] [ahead=8] [tokens=512] [part=512] [same=0,1,2] [samples=15] [stages=1]
 *               [team=2,4] [apart=1] [rung=0,8,4]
 *
 * Every combination of the lists is one line. A sample is a burst of tile products, some passes, and a burst again, on
 * all threads at once; useful operations over time over the mean of the two bursts is its fraction, the median of the
 * samples is printed, with the least and the greatest, and the same of those threads and samples whose control loop,
 * a small product fed from L1, took no more than twice its tiles' time right before and after: it notices who shares
 * the core, where products alone hardly do.
 *
 * With team, one sequence instead is shared by as many threads that never sleep, on CPUs `apart` apart: the median and
 * the least time of 1,000 passes, and what the same threads take to read as many bytes as a pass has
 * weights, each its share, to read a part of it that stays in their L2, and to meet. rung=8 and rung=4 run int8 and
 * int4 on the row kernels of AVX-512 there. */
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/native/amx.h"
#include "backend/registry.h"
#include "base/clock.h"
#include "base/thread.h"
#include "cuda/random_model.h"
#include "kernel/peak.h"

enum { VALUES = 12, THREADS_MAX = 64, SAMPLES_MAX = 200, PASS_TOKENS_MAX = 2048 };

typedef struct list {
    const char *name;
    uint32_t n, v[VALUES];
} list;

enum {
    THREADS,
    LENGTHS,
    PRECISIONS,
    TILES,
    SPLIT,
    ROWS,
    BLOCK,
    INNER,
    AHEAD,
    TOKENS,
    PART,
    SAME,
    SAMPLES,
    STAGES,
    TEAM,
    APART,
    RUNG,
    LISTS
};

static list lists[LISTS] = {
    [THREADS] = {"threads", 1, {1}}, [LENGTHS] = {"lengths", 3, {32, 64, 128}},
    [PRECISIONS] = {"bf16", 1, {0}}, [TILES] = {"tiles", 1, {2}},
    [SPLIT] = {"split", 1, {512}},   [ROWS] = {"rows", 1, {64}},
    [BLOCK] = {"block", 1, {64}},    [INNER] = {"inner", 1, {0}},
    [AHEAD] = {"ahead", 1, {8}},     [TOKENS] = {"tokens", 1, {512}},
    [PART] = {"part", 1, {512}},     [SAMPLES] = {"samples", 1, {15}},
    [SAME] = {"same", 1, {0}},       [STAGES] = {"stages", 1, {0}},
    [TEAM] = {"team", 1, {0}},       [APART] = {"apart", 1, {1}},
    [RUNG] = {"rung", 1, {0}},
};

static int cpus[THREADS_MAX]; /* read before this thread is put on one of them */
static uint32_t allowed;

typedef struct run {
    cpl_random_model *model;
    cpl_weights *weights;
    uint32_t threads, length, bf16, passes, samples;
    cpl_batch batch;
    _Atomic uint32_t arrived;
    double ops;
    double time[THREADS_MAX], before[THREADS_MAX], after[THREADS_MAX];
    int quiet[THREADS_MAX];
    double fraction[SAMPLES_MAX], us[SAMPLES_MAX], peak[SAMPLES_MAX];
    double quiet_fraction[SAMPLES_MAX * THREADS_MAX], quiet_us[SAMPLES_MAX * THREADS_MAX];
    uint32_t quiet_count;
} run;

typedef struct worker {
    run *r;
    uint32_t index;
    cpl_thread thread;
} worker;

/* Spinning: a thread that sleeps here would start its burst alone. Everyone calls it equally often. */
static void meet(run *r, uint32_t *round)
{
    const uint32_t all = ++*round * r->threads;
    r->arrived++;
    while (r->arrived < all) __builtin_ia32_pause();
}

static double peak_of(const run *r)
{
    float sink = 0;
    const uint64_t start = cpl_clock_ns();
    const double ops =
        r->bf16 ? cpl_peak_block_amx_bf16(20000, &sink) : cpl_peak_block_amx_int8(20000, &sink); /* 2 ms */
    return ops / (double)(cpl_clock_ns() - start);
}

/* Operations a ns of a product of 32 rows, 64 columns and 384 of K, all in L1. */
static double control(void)
{
    enum { STEPS = 6, PANELS = 2, TIMES = 100 };
    static _Thread_local char room[2 * STEPS * 1024 + PANELS * STEPS * 2048 + 4096 + PANELS * 2048]
        __attribute__((aligned(64)));
    static _Thread_local float scales[PANELS * CPL_AMX_PANEL];
    char *const b = room + 2 * STEPS * 1024, *const scratch = b + PANELS * STEPS * 2048;
    const cpl_amx_gemm g = {.kind = CPL_AMX_INT8,
                            .what = CPL_AMX_ROWS,
                            .a = room,
                            .b = b,
                            .scale = scales,
                            .bias = scales,
                            .row_scale = scales,
                            .tiles = 2,
                            .blocks = 1,
                            .steps = STEPS,
                            .split = STEPS,
                            .panel_end = PANELS,
                            .out = scratch + 4096,
                            .out_panel = 2048,
                            .scratch = scratch};
    cpl_amx_table.begin();
    cpl_amx_table.gemm(&g);
    const uint64_t start = cpl_clock_ns();
    for (int i = 0; i < TIMES; i++) cpl_amx_table.gemm(&g);
    const double ns = (double)(cpl_clock_ns() - start);
    cpl_amx_table.end();
    return 2.0 * 32 * PANELS * CPL_AMX_PANEL * STEPS * 64 * TIMES / ns;
}

static double sequence_ops(const cpl_arch *m, double s)
{
    const double h = m->hidden, i = m->intermediate;
    const double layer = s * (4 * h * h + 2 * h * i) + 2 * s * s * h;
    const double last = s * 2 * h * h + 2 * h * h + 2 * s * h + 2 * h * i;
    return 2 * ((m->layers - 1) * layer + last + h * h + h * m->labels);
}

static void gather(run *r, uint32_t sample)
{
    double rate = 0, peak = 0, slowest = 0;
    for (uint32_t i = 0; i < r->threads; i++) {
        rate += r->ops / r->time[i];
        peak += (r->before[i] + r->after[i]) / 2;
        if (r->time[i] > slowest) slowest = r->time[i];
        if (!r->quiet[i]) continue;
        r->quiet_fraction[r->quiet_count] = r->ops / r->time[i] / ((r->before[i] + r->after[i]) / 2);
        r->quiet_us[r->quiet_count++] = r->time[i] / 1e3 / (r->passes * (double)r->batch.cu_seqlens[r->batch.n]);
    }
    r->fraction[sample] = rate / peak;
    r->peak[sample] = peak / r->threads;
    r->us[sample] = slowest / 1e3 / (r->passes * (double)r->batch.cu_seqlens[r->batch.n]);
}

static void work(void *arg)
{
    worker *me = arg;
    run *r = me->r;
    cpl_session *s = NULL;
    cpl_error err;
    float *rows = malloc(PASS_TOKENS_MAX * sizeof *rows);
    uint32_t round = 0;
    if (!rows || cpl_native_amx.open(&s, r->weights, &err)) abort();
    for (uint32_t i = 0; i <= r->samples; i++) {
        meet(r, &round);
        const double calm = control();
        r->before[me->index] = peak_of(r);
        meet(r, &round);
        const uint64_t start = cpl_clock_ns();
        for (uint32_t k = 0; k < r->passes; k++)
            if (cpl_native_amx.run(s, &r->batch, NULL, rows, &err)) abort();
        r->time[me->index] = (double)(cpl_clock_ns() - start);
        meet(r, &round);
        r->after[me->index] = peak_of(r);
        const double alone = (r->bf16 ? 2 : 1) * (r->before[me->index] + r->after[me->index]) / 4;
        r->quiet[me->index] = calm > alone && control() > alone;
        meet(r, &round);
        if (!me->index && i) gather(r, i - 1); /* the first one warms up */
    }
    cpl_native_amx.close(s);
    free(rows);
}

static int ascending(const void *x, const void *y)
{
    const double a = *(const double *)x, b = *(const double *)y;
    return a < b ? -1 : a > b;
}

static double middle(double *v, uint32_t n)
{
    qsort(v, n, sizeof *v, ascending);
    return v[n / 2];
}

static void print_log(void *user, cpl_log_level level, const char *line)
{
    (void)user;
    (void)level;
    printf("    %s\n", line);
}

static void make_batch(run *r, uint32_t tokens)
{
    static int32_t ids[PASS_TOKENS_MAX];
    static uint8_t types[PASS_TOKENS_MAX];
    static uint32_t cu[PASS_TOKENS_MAX + 1];
    uint64_t state = r->length;
    r->batch = (cpl_batch){ids, types, cu, tokens / r->length, r->length, CPL_WANT_LOGITS};
    for (uint32_t i = 0; i < tokens; i++) ids[i] = (int32_t)cpl_random_below(&state, r->model->model.arch.vocab);
    for (uint32_t i = 0; i <= r->batch.n; i++) cu[i] = i * r->length;
}

/* ---- one sequence, many threads --------------------------------------------------------------------------------- */

enum { PASSES = 1000 };

typedef struct crew {
    cpl_team team; /* first: what parallel gets */
    _Atomic uint32_t turn, finished, leave;
    void (*fn)(void *arg, uint32_t member);
    void *arg;
    cpl_thread thread[THREADS_MAX];
    struct hand {
        struct crew *crew;
        uint32_t member;
    } hand[THREADS_MAX];
} crew;

static void lend(void *arg)
{
    const struct hand *h = arg;
    crew *c = h->crew;
    for (uint32_t turn = 0; !c->leave;) {
        if (c->turn == turn) {
            __builtin_ia32_pause();
            continue;
        }
        turn = c->turn;
        c->fn(c->arg, h->member);
        c->finished++;
    }
}

static void share_out(cpl_team *team, void (*fn)(void *arg, uint32_t member), void *arg)
{
    crew *c = (crew *)(void *)team;
    c->fn = fn;
    c->arg = arg;
    c->finished = 0;
    c->turn++;
    fn(arg, 0);
    while (c->finished + 1 < team->size) __builtin_ia32_pause();
}

/* What a pass streams, MiniLM's six layers in int8, and a part of it that the L2 of any member holds. */
enum { STREAM_BYTES = 6 * 12 * 384 * 384, NEAR_BYTES = 1 << 20 };

typedef struct reading {
    const char *at;
    size_t bytes; /* a member's */
    uint32_t times;
    size_t ahead; /* bytes that are fetched into L2 ahead, 0: what the CPU fetches by itself */
    volatile int sink;
} reading;

static void read_share(void *arg, uint32_t member)
{
    reading *x = arg;
    const char *const from = x->at + member * x->bytes;
    int sum = 0;
    for (uint32_t i = 0; i < x->times; i++) {
        for (size_t at = 0; at < x->bytes; at += 64) {
            if (x->ahead) __builtin_prefetch(from + at + x->ahead, 0, 2);
            sum += from[at];
        }
    }
    x->sink = sum;
}

static void nothing(void *arg, uint32_t member)
{
    (void)arg;
    (void)member;
}

static void take_turn(crew *c, uint32_t size, void (*fn)(void *, uint32_t), void *arg)
{
    if (size > 1)
        share_out(&c->team, fn, arg);
    else
        fn(arg, 0);
}

/* The least of some times of fn on all members, in us. */
static double least(crew *c, uint32_t size, void (*fn)(void *, uint32_t), void *arg)
{
    double us = INFINITY;
    for (int i = 0; i < 50; i++) {
        const uint64_t start = cpl_clock_ns();
        take_turn(c, size, fn, arg);
        us = fmin(us, (double)(cpl_clock_ns() - start) / 1e3);
    }
    return us;
}

static void print_bounds(crew *c, uint32_t size, const cpl_host *host)
{
    char *const room = host->allocate(STREAM_BYTES, 4096);
    if (!room) abort();
    memset(room, 1, STREAM_BYTES);
    reading far = {.at = room, .bytes = STREAM_BYTES / size / 64 * 64, .times = 1};
    reading near = {.at = room, .bytes = NEAR_BYTES / size / 64 * 64, .times = 10};
    const double alone = least(c, size, read_share, &far), part = least(c, size, read_share, &near) / 10;
    far.ahead = 4096;
    const double ahead = least(c, size, read_share, &far);
    printf(
        "    its bytes of weights read: %.0f us, fetched ahead %.0f (%.1f GB/s a member); from L2 %.1f GB/s a member; "
        "meeting %.2f us\n",
        alone, ahead, (double)far.bytes / ahead / 1e3, (double)near.bytes / part / 1e3, least(c, size, nothing, NULL));
    host->release(room, STREAM_BYTES);
}

static void measure_team(run *r, const cpl_native_path *path, const uint32_t *v, const char *name, const cpl_host *host)
{
    static crew c;
    static double us[PASSES];
    const uint32_t size = v[TEAM];
    cpl_session *s = NULL;
    cpl_error err;
    float rows[8];
    memset(&c, 0, sizeof c);
    c.team = (cpl_team){.size = size, .parallel = share_out};
    if (path->open(&s, r->weights, &err) || cpl_thread_pin(cpus[0], &err)) abort();
    for (uint32_t i = 1; i < size; i++) {
        c.hand[i] = (struct hand){&c, i};
        if (cpl_thread_start(&c.thread[i], "hand", cpus[i * v[APART] % allowed], lend, &c.hand[i], &err)) abort();
    }
    for (int i = 0; i < PASSES; i++) {
        const uint64_t start = cpl_clock_ns();
        if (path->run(s, &r->batch, size > 1 ? &c.team : NULL, rows, &err)) abort();
        us[i] = (double)(cpl_clock_ns() - start) / 1e3;
    }
    const double median = middle(us, PASSES);
    printf("%s, one sequence of %u, team of %u, apart %u, ahead %u: %.0f us (least %.0f, tenth %.0f)\n", name,
           r->length, size, v[APART], v[AHEAD], median, us[0], us[PASSES / 10]);
    print_bounds(&c, size, host);
    c.leave = 1;
    for (uint32_t i = 1; i < size; i++) cpl_thread_join(&c.thread[i]);
    path->close(s);
    fflush(stdout);
}

/* One sequence, its team, on the row kernels of AVX-512 (rung: 8 or 4 bits) or on tiles. */
static void measure_rows(run *r, const uint32_t *v, cpl_load_options o, const cpl_host *host)
{
    const cpl_native_settings settings = {.isa = CPL_ISA_AVX512, .stages = (int)v[STAGES], .group_size = 32};
    cpl_load_report report;
    cpl_error err;
    o.precision = v[RUNG] == 4 ? CPL_PRECISION_INT4 : CPL_PRECISION_INT8;
    if (cpl_native_rows.load(&r->weights, &r->model->model, &o, &settings, &report, host, &err)) {
        printf("%s\n", err.what);
        exit(1);
    }
    make_batch(r, r->length);
    measure_team(r, &cpl_native_rows, v, v[RUNG] == 4 ? "int4 of avx512" : "int8 of avx512", host);
    cpl_native_rows.unload(r->weights);
}

/* All layers multiply the first one's panels, or, with 2, its first part: what is left is what streaming costs. */
static void share_weights(cpl_amx_weights *w, uint32_t same)
{
    for (uint32_t l = 0; l < w->arch.layers && same; l++) {
        cpl_amx_layer *y = &w->layers[l];
        y->qkv.b = w->layers[0].qkv.b;
        y->out.b = w->layers[0].out.b;
        y->up.b = w->layers[0].up.b;
        y->down.b = w->layers[0].down.b;
        if (same > 1) y->up.part_bytes = y->down.part_bytes = 0;
    }
}

static void measure(run *r, const uint32_t *v, const cpl_host *host)
{
    const cpl_amx_tuning tuning = {v[TILES], v[SPLIT], v[ROWS], v[BLOCK], v[INNER], v[AHEAD], v[TOKENS], v[PART]};
    const cpl_load_options o = {.size = sizeof o,
                                .precision = r->bf16 ? CPL_PRECISION_BF16 : CPL_PRECISION_INT8,
                                .batch_tokens_max = v[TOKENS],
                                .batch_sequences_max = v[TOKENS]};
    const cpl_native_settings settings = {.isa = CPL_ISA_AMX, .stages = (int)v[STAGES]};
    cpl_load_report report;
    cpl_error err;
    static worker workers[THREADS_MAX];
    if (v[RUNG]) {
        measure_rows(r, v, o, host);
        return;
    }
    if (cpl_amx_load_with(&r->weights, &r->model->model, &o, &settings, &report, host, &cpl_amx_table, &tuning, &err)) {
        printf("%s\n", err.what);
        exit(1);
    }
    share_weights((cpl_amx_weights *)(void *)r->weights, v[SAME]);
    make_batch(r, v[TEAM] ? r->length : v[TOKENS]);
    if (v[TEAM]) {
        measure_team(r, &cpl_native_amx, v, r->bf16 ? "bf16" : "int8", host);
        cpl_native_amx.unload(r->weights);
        return;
    }
    r->ops = 0;
    for (uint32_t i = 0; i < r->batch.n; i++) r->ops += sequence_ops(&r->model->model.arch, r->length);
    r->passes = 1 + 8192 / v[TOKENS]; /* some 60 ms */
    r->ops *= r->passes;
    r->arrived = 0;
    r->quiet_count = 0;
    for (uint32_t i = 0; i < r->threads; i++) {
        workers[i] = (worker){.r = r, .index = i};
        if (cpl_thread_start(&workers[i].thread, "bench", cpus[i % allowed], work, &workers[i], &err)) abort();
    }
    for (uint32_t i = 0; i < r->threads; i++) cpl_thread_join(&workers[i].thread);
    const double fraction = middle(r->fraction, r->samples), us = middle(r->us, r->samples);
    printf("%s x%-2u S=%-3u T=%-4u tiles %u split %-4u rows %-3u block %-3u inner %-3u ahead %u part %-4u same %u %.3f "
           "(%.3f-%.3f)  %.2f us/token  peak %.2f",
           r->bf16 ? "bf16" : "int8", r->threads, r->length, v[TOKENS], v[TILES], v[SPLIT], v[ROWS], v[BLOCK], v[INNER],
           v[AHEAD], v[PART], v[SAME], fraction, r->fraction[0], r->fraction[r->samples - 1], us,
           middle(r->peak, r->samples) / 1e3);
    if (r->quiet_count)
        printf("  quiet %u of %u: %.3f, %.2f us", r->quiet_count, r->samples * r->threads,
               middle(r->quiet_fraction, r->quiet_count), middle(r->quiet_us, r->quiet_count));
    printf("\n");
    fflush(stdout);
    cpl_native_amx.unload(r->weights);
}

static void every(run *r, uint32_t *v, uint32_t at, const cpl_host *host)
{
    if (at < LISTS) {
        for (uint32_t i = 0; i < lists[at].n; i++) {
            v[at] = lists[at].v[i];
            every(r, v, at + 1, host);
        }
        return;
    }
    r->threads = v[THREADS];
    r->length = v[LENGTHS];
    r->bf16 = v[PRECISIONS];
    r->samples = v[SAMPLES];
    if (r->threads && r->threads <= THREADS_MAX && r->samples && r->samples <= SAMPLES_MAX &&
        v[TOKENS] <= PASS_TOKENS_MAX && r->length && r->length <= v[TOKENS])
        measure(r, v, host);
}

static int read_list(const char *text)
{
    for (int i = 0; i < LISTS; i++) {
        const size_t n = strlen(lists[i].name);
        if (strncmp(text, lists[i].name, n) || text[n] != '=') continue;
        lists[i].n = 0;
        for (const char *at = text + n; *at && lists[i].n < VALUES;) {
            char *end;
            lists[i].v[lists[i].n++] = (uint32_t)strtoul(at + 1, &end, 0);
            at = end;
        }
        return 1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    static cpl_random_model model;
    static run r;
    cpl_cpu cpu;
    cpl_host host;
    const cpl_log log = {.level = CPL_LOG_INFO, .write = print_log};
    uint32_t v[LISTS];
    const cpl_arch arch = cpl_minilm_arch(1);
    for (int i = 1; i < argc; i++) {
        if (read_list(argv[i])) continue;
        fprintf(stderr, "bench_amx: '%s'? it takes NAME=N,N,... of", argv[i]);
        for (int k = 0; k < LISTS; k++) fprintf(stderr, " %s", lists[k].name);
        fprintf(stderr, "\n");
        return 2;
    }
    cpl_cpu_detect(&cpu);
    allowed = cpl_cpu_list(cpus, THREADS_MAX);
    if (!cpl_isa_runs(CPL_ISA_AMX, &cpu) || !cpl_amx_permit()) {
        printf("no AMX here\n");
        return 77;
    }
    cpl_host_init(&host, &log);
    if (!cpl_random_model_make(&model, &arch, 512, 1)) return 1;
    r.model = &model;
    every(&r, v, 0, &host);
    cpl_random_model_free(&model);
    return 0;
}
