/* SPDX-License-Identifier: Apache-2.0 */
/* crew.c - stages handed out to lent workers, at the price of a few cache misses each.
 *
 * A pass has some fifty stages of 5 to 100 us, so handing one out must cost well under a microsecond: the leader
 * stores a stage's number, members spin on it, claim their share with one compare-and-swap and say done in a line of
 * their own. Spinning is bounded by SPIN_NS; then a member (or the leader, waiting for a share that was begun) sleeps
 * in the kernel. Whoever has news looks at the count of sleepers after publishing it, and a sleeper counts itself
 * before it looks for news again, both sequentially consistent, so one of the two sees the other.
 *
 * Invariants: fn and arg are written before the stage is published and read only after a share of it was claimed; the
 * leader leaves a stage when all its shares are done, so nobody reads them late. A claim of a stage that is over fails,
 * since the seat's number has moved on. Threads: begin, end and parallel the leader's; serve one thread a seat.
 *
 * Rejected: a barrier that counts everybody in (waits for a member that is still waking up: 5 to 50 us, as much as the
 * stage); handing out finer shares from one counter (the best split of a matrix is by panels, and known). */
#include "engine/crew.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/thread.h"

enum { STAGE_BITS = 24, SPIN_NS = 30000, PAUSES = 16 };

static const uint64_t over = (1u << STAGE_BITS) - 1; /* stage number that ends a pass */

static bool claim(cpl_crew_seat *seat, unsigned long long stage)
{
    unsigned long long last = atomic_load_explicit(&seat->claimed, memory_order_relaxed);
    return last < stage && atomic_compare_exchange_strong_explicit(&seat->claimed, &last, stage, memory_order_acq_rel,
                                                                   memory_order_relaxed);
}

/* How long somebody has been looking at a word; zeroed to begin. */
typedef struct spin {
    uint64_t since_ns;
    uint32_t looks;
} spin;

/* One pause; true once SPIN_NS of them have gone by. The clock is read now and then, so that news is seen at once. */
static bool spun_enough(spin *s)
{
    cpl_pause();
    if (++s->looks % PAUSES) return false;
    uint64_t now = cpl_clock_ns();
    if (!s->since_ns) s->since_ns = now;
    return now - s->since_ns > SPIN_NS;
}

static void publish(cpl_crew *c, unsigned long long stage)
{
    atomic_store(&c->stage, stage);
    cpl_crew_nudge(c);
}

void cpl_crew_nudge(cpl_crew *c)
{
    if (!atomic_load(&c->sleepers)) return;
    atomic_fetch_add(&c->gate, 1);
    cpl_wake_all(&c->gate);
}

/* ---- the leader ------------------------------------------------------------------------------------------------- */

static void wait_done(cpl_crew *c, const cpl_crew_seat *seat, unsigned long long stage)
{
    spin s = {0};
    while (atomic_load_explicit(&seat->done, memory_order_acquire) != stage) {
        if (!spun_enough(&s)) continue;
        atomic_store(&c->leader_sleeps, 1);
        unsigned gate = atomic_load(&c->done_gate);
        if (atomic_load(&seat->done) != stage) cpl_wait(&c->done_gate, gate);
        atomic_store(&c->leader_sleeps, 0);
    }
}

static void parallel(cpl_team *team, void (*fn)(void *arg, uint32_t member), void *arg)
{
    cpl_crew *c = team->state;
    uint32_t mine = 1; /* bit i: seat i's share is the leader's */
    c->fn = fn;
    c->arg = arg;
    CPL_ASSERT((c->at & over) + 1 < over);
    publish(c, ++c->at);
    fn(arg, 0);
    for (uint32_t i = 1; i < team->size; i++) {
        if (!claim(&c->seats[i], c->at)) continue;
        fn(arg, i);
        mine |= 1u << i;
        c->taken_over++;
    }
    for (uint32_t i = 1; i < team->size; i++)
        if (!(mine >> i & 1)) wait_done(c, &c->seats[i], c->at);
}

cpl_status cpl_crew_open(cpl_crew **out, cpl_error *err)
{
    void *p = NULL;
    *out = NULL;
    if (posix_memalign(&p, _Alignof(cpl_crew), sizeof(cpl_crew))) return cpl_fail_memory(err, sizeof(cpl_crew));
    memset(p, 0, sizeof(cpl_crew));
    cpl_crew *c = *out = p;
    c->team.parallel = parallel;
    c->team.state = c;
    return CPL_OK;
}

void cpl_crew_close(cpl_crew *c) { free(c); }

uint64_t cpl_crew_begin(cpl_crew *c, uint32_t seats)
{
    c->team.size = seats;
    c->taken_over = 0;
    c->at = ++c->pass << STAGE_BITS;
    atomic_store(&c->stage, c->at);
    return c->pass;
}

uint64_t cpl_crew_end(cpl_crew *c)
{
    publish(c, c->at | over);
    return c->taken_over;
}

/* ---- a member --------------------------------------------------------------------------------------------------- */

static void do_share(cpl_crew *c, uint32_t seat, unsigned long long stage)
{
    c->fn(c->arg, seat);
    atomic_store(&c->seats[seat].done, stage);
    if (!atomic_load(&c->leader_sleeps)) return;
    atomic_fetch_add(&c->done_gate, 1);
    cpl_wake_all(&c->done_gate);
}

/* Until the stage moves on, or a nudge. */
static void sleep_through(cpl_crew *c, unsigned long long stage, const atomic_bool *recalled)
{
    atomic_fetch_add(&c->sleepers, 1);
    unsigned gate = atomic_load(&c->gate);
    if (atomic_load(&c->stage) == stage && !atomic_load(recalled)) cpl_wait(&c->gate, gate);
    atomic_fetch_sub(&c->sleepers, 1);
}

void cpl_crew_serve(cpl_crew *c, uint64_t pass, uint32_t seat, const atomic_bool *recalled)
{
    spin s = {0};
    while (!atomic_load_explicit(recalled, memory_order_relaxed)) {
        unsigned long long stage = atomic_load_explicit(&c->stage, memory_order_acquire);
        if (stage >> STAGE_BITS != pass || (stage & over) == over) return;
        if ((stage & over) && claim(&c->seats[seat], stage)) {
            do_share(c, seat, stage);
            s = (spin){0};
        } else if (spun_enough(&s)) {
            sleep_through(c, stage, recalled);
        }
    }
}
