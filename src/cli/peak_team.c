/* SPDX-License-Identifier: Apache-2.0 */
/* peak_team.c - the peak loops on several cores at once, in short probes.
 * The ideas: all threads start together, because one core's peak times n is not what n cores give. A probe is a few
 * blocks of some 40 us (longer where the loop asks for it) whose median counts, with the number of rounds found
 * beforehand: long enough to time, short enough to see the clock as the sample left it, and a thread that is
 * interrupted loses a block, not the probe. The L2 buffer is swept once untimed, since the sample's own data may have
 * pushed it out. Invariants: threads touch nothing but their own slot and, under the lock, the turn. Threads: one
 * caller at a time. Rejected: starting threads for each probe (a tenth of a millisecond in which the clock recovers);
 * one long block (after a few milliseconds it measures itself). */
#include "cli/peak_team.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/thread.h"

enum { BLOCKS = 7, CLOCK_BLOCKS = 3, L2_BLOCKS = 3, BLOCK_NS = 40000, CPUS_MAX = 1024 };

typedef struct member {
    cpl_peak_team *team;
    cpl_thread thread;
    float *data; /* of the L2 loop */
    uint64_t rounds, clock_rounds, loop_clock_rounds, l2_rounds;
    double ops_per_s, fastest, clock_hz, loop_clock_hz, l2_ops_per_s;
} member;

struct cpl_peak_team {
    cpl_peak_loop loop;
    cpl_isa isa;
    uint64_t floats;
    member *members;
    uint32_t count;

    pthread_mutex_t lock;
    pthread_cond_t go, done;
    uint64_t turn; /* rises with each probe */
    uint32_t running;
    bool stopping;
    cpl_peak_order order;
};

static int ascending(const void *x, const void *y)
{
    double a = *(const double *)x, b = *(const double *)y;
    return (a > b) - (a < b);
}

static double middle(double *v, size_t n)
{
    qsort(v, n, sizeof *v, ascending);
    return v[n / 2];
}

/* ---- one thread ----------------------------------------------------------------------------------------------------
 */

static double time_loop(const member *m, uint64_t rounds, uint64_t *ns)
{
    volatile float kept;
    float sink = 0;
    uint64_t start = cpl_clock_ns();
    double ops = m->team->loop.run(rounds, &sink);
    *ns = cpl_clock_ns() - start + 1;
    kept = sink;
    (void)kept;
    return ops * 1e9 / (double)*ns;
}

static double time_l2(const member *m, uint64_t rounds, uint64_t *ns)
{
    uint64_t start = cpl_clock_ns();
    double ops = cpl_peak_l2_rounds(m->team->isa, rounds, m->data, m->team->floats);
    *ns = cpl_clock_ns() - start + 1;
    return ops * 1e9 / (double)*ns;
}

static uint64_t clock_rounds_of(double (*clock)(uint64_t rounds))
{
    for (uint64_t rounds = 128;; rounds *= 2) {
        uint64_t start = cpl_clock_ns();
        clock(rounds);
        if (cpl_clock_ns() - start >= BLOCK_NS / 2) return rounds;
    }
}

/* Rounds that last about BLOCK_NS each. */
static void calibrate(member *m)
{
    const uint64_t block_ns = m->team->loop.block_us ? 1000ull * m->team->loop.block_us : BLOCK_NS;
    uint64_t ns = 0;
    for (m->rounds = 16;; m->rounds *= 2) {
        time_loop(m, m->rounds, &ns);
        if (ns >= block_ns / 2) break;
    }
    m->clock_rounds = clock_rounds_of(cpl_peak_clock_rounds);
    m->loop_clock_rounds = m->team->loop.clock ? clock_rounds_of(m->team->loop.clock) : 0;
    m->l2_rounds = 1;
    time_l2(m, 1, &ns);
    time_l2(m, 1, &ns);
    if (ns < BLOCK_NS) m->l2_rounds = BLOCK_NS / ns + 1;
}

/* Where the loop has a clock of its own it is taken behind each block, and that behind the fastest one counts: a
 * neighbour on the same core slows products, and with them the adds between. */
static void probe_peak(member *m)
{
    double v[BLOCKS];
    uint64_t ns;
    if (m->team->loop.block_us) time_loop(m, m->rounds, &ns);
    m->fastest = 0;
    for (int i = 0; i < BLOCKS; i++) {
        v[i] = time_loop(m, m->rounds, &ns);
        const double hz = m->team->loop.clock ? m->team->loop.clock(m->loop_clock_rounds) : 0;
        if (v[i] <= m->fastest) continue;
        m->fastest = v[i];
        m->loop_clock_hz = hz;
    }
    m->ops_per_s = middle(v, BLOCKS);
}

/* The clock as it is beside the L2 loop. */
static void probe_clock(member *m)
{
    double v[CLOCK_BLOCKS];
    for (int i = 0; i < CLOCK_BLOCKS; i++) v[i] = cpl_peak_clock_rounds(m->clock_rounds);
    m->clock_hz = middle(v, CLOCK_BLOCKS);
}

static void probe_l2(member *m)
{
    double v[L2_BLOCKS];
    uint64_t ns;
    time_l2(m, 1, &ns);
    for (int i = 0; i < L2_BLOCKS; i++) v[i] = time_l2(m, m->l2_rounds, &ns);
    m->l2_ops_per_s = middle(v, L2_BLOCKS);
}

static void member_main(void *arg)
{
    member *m = arg;
    cpl_peak_team *t = m->team;
    uint64_t seen = 0;
    calibrate(m);
    pthread_mutex_lock(&t->lock);
    for (;;) {
        if (--t->running == 0) pthread_cond_signal(&t->done);
        while (t->turn == seen && !t->stopping) pthread_cond_wait(&t->go, &t->lock);
        if (t->stopping) break;
        seen = t->turn;
        cpl_peak_order order = t->order;
        pthread_mutex_unlock(&t->lock);
        if (order == CPL_PEAK_FIRST) probe_peak(m);
        if (order == CPL_PEAK_LAST) probe_l2(m);
        probe_clock(m);
        if (order == CPL_PEAK_LAST) probe_peak(m);
        if (order == CPL_PEAK_FIRST) probe_l2(m);
        pthread_mutex_lock(&t->lock);
    }
    pthread_mutex_unlock(&t->lock);
}

/* ---- the team ------------------------------------------------------------------------------------------------------
 */

static void wait_for_all(cpl_peak_team *t)
{
    while (t->running) pthread_cond_wait(&t->done, &t->lock);
}

static double loop_clock_of(const member *m) { return m->team->loop.clock ? m->loop_clock_hz : m->clock_hz; }

static double per_cycle_of(const member *m)
{
    return (m->team->loop.clock ? m->fastest : m->ops_per_s) / m->team->loop.ops / loop_clock_of(m);
}

void cpl_peak_team_probe(cpl_peak_team *t, cpl_peak_order order, cpl_peak_probe *out)
{
    pthread_mutex_lock(&t->lock);
    t->order = order;
    t->running = t->count;
    t->turn++;
    pthread_cond_broadcast(&t->go);
    wait_for_all(t);
    pthread_mutex_unlock(&t->lock);
    *out = (cpl_peak_probe){0};
    const member *best = t->members;
    for (uint32_t i = 0; i < t->count; i++) {
        const member *m = &t->members[i];
        if (m->ops_per_s > best->ops_per_s) best = m;
        out->ops_per_s += m->ops_per_s;
        out->clock_hz += loop_clock_of(m) / t->count;
        out->l2_per_cycle += m->l2_ops_per_s / m->clock_hz / t->count;
    }
    out->per_cycle = per_cycle_of(best);
    for (uint32_t i = 0; i < t->count; i++)
        out->near += fabs(per_cycle_of(&t->members[i]) / out->per_cycle - 1) <= 0.03;
}

static cpl_status start_member(cpl_peak_team *t, member *m, int cpu, cpl_error *err)
{
    m->team = t;
    if (t->floats && posix_memalign((void **)&m->data, 4096, t->floats * sizeof(float)))
        return cpl_fail_memory(err, t->floats * sizeof(float));
    for (uint64_t i = 0; i < t->floats; i++) m->data[i] = 0.25f;
    pthread_mutex_lock(&t->lock);
    t->running++;
    pthread_mutex_unlock(&t->lock);
    return cpl_thread_start(&m->thread, "peak", cpu, member_main, m, err);
}

cpl_status cpl_peak_team_open(cpl_peak_team **out, cpl_peak_unit unit, const char *isa, uint32_t threads,
                              cpl_error *err)
{
    *out = NULL;
    cpl_cpu cpu;
    cpl_isa rung;
    cpl_cpu_detect(&cpu);
    cpl_status st = cpl_isa_choose(&rung, isa, &cpu, err);
    if (st) return st;
    int cpus[CPUS_MAX];
    uint32_t cpu_count = cpl_cpu_list(cpus, CPUS_MAX);
    cpl_peak_team *t = calloc(1, sizeof *t);
    if (!t) return cpl_fail_memory(err, sizeof *t);
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->go, NULL);
    pthread_cond_init(&t->done, NULL);
    t->isa = rung;
    t->floats = cpl_peak_l2_floats(cpu.l2_bytes);
    cpl_peak_choose(&t->loop, unit, rung, &cpu);
    t->members = calloc(threads ? threads : 1, sizeof *t->members);
    if (!t->members) st = cpl_fail_memory(err, threads * sizeof *t->members);
    for (uint32_t i = 0; i < threads && !st; i++) {
        st = start_member(t, &t->members[i], threads == cpu_count && i < CPUS_MAX ? cpus[i] : -1, err);
        t->count++;
    }
    if (st) {
        cpl_peak_team_close(t);
        return st;
    }
    pthread_mutex_lock(&t->lock);
    wait_for_all(t);
    pthread_mutex_unlock(&t->lock);
    *out = t;
    return CPL_OK;
}

void cpl_peak_team_close(cpl_peak_team *t)
{
    if (!t) return;
    pthread_mutex_lock(&t->lock);
    t->stopping = true;
    pthread_cond_broadcast(&t->go);
    pthread_mutex_unlock(&t->lock);
    for (uint32_t i = 0; i < t->count; i++) {
        cpl_thread_join(&t->members[i].thread);
        free(t->members[i].data);
    }
    pthread_cond_destroy(&t->done);
    pthread_cond_destroy(&t->go);
    pthread_mutex_destroy(&t->lock);
    free(t->members);
    free(t);
}

const cpl_peak_loop *cpl_peak_team_loop(const cpl_peak_team *t) { return &t->loop; }
