/* SPDX-License-Identifier: Apache-2.0 */
/* test_batcher.c - the batching policy against simulated time, a few thousand random worlds, each from one seed.
 *
 * The simulator is its own second opinion: it keeps its own books of what waits, since when and for how long, and holds
 * every batch to them. Time jumps from event to event and the policy is only asked when it said it wants to be
 * (next_event), so a wrong wake-up time shows as a worker idle beside something due.
 *
 * COUPLET_SEED=N replays one world. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/batcher.h"
#include "seed.h"

enum { FLOWS = 6, REQUESTS = 120, WORKERS = 5, SEQUENCES = 64, WORLDS = 3000, LENGTH_MAX = 300 };

static uint64_t random_state;

static uint32_t below(uint32_t n) { return test_below(&random_state, n); }

typedef enum fate { TO_COME, WAITING, GONE, EXPIRED, CANCELLED, REFUSED } fate;

typedef struct request {
    cpl_batch_request batch; /* first */
    uint32_t lengths[SEQUENCES];
    uint32_t flow, dispatched;
    uint64_t tokens_left, arrives_at, cancel_at;
    fate fate;
} request;

typedef struct worker {
    bool busy;
    uint64_t until;
} worker;

typedef struct world {
    uint64_t seed, now;
    cpl_batcher batcher;
    cpl_batch_flow flows[FLOWS];
    request requests[REQUESTS];
    uint32_t request_count, worker_count;
    worker workers[WORKERS];
    uint32_t released; /* TIMEOUT, our own books */
    uint64_t cost_ns;  /* a token */
    bool idle_before;  /* a worker was idle when the last event ended */
    cpl_batch_slice slices[1024];
} world;

#define CHECK(w, condition)                                                                                            \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "seed %llu at %llu ns: %s\n", (unsigned long long)(w)->seed, (unsigned long long)(w)->now, \
                    #condition);                                                                                       \
            fail();                                                                                                    \
        }                                                                                                              \
    } while (0)

/* ---- our own books ---------------------------------------------------------------------------------------------- */

typedef struct books {
    uint32_t requests, sequences;
    uint64_t tokens, oldest, deadline;
    int priority; /* highest waiting, -1: none */
} books;

static books count(const world *w)
{
    books b = {.oldest = UINT64_MAX, .deadline = UINT64_MAX, .priority = -1};
    for (uint32_t i = 0; i < w->request_count; i++) {
        const request *r = &w->requests[i];
        if (r->fate != WAITING) continue;
        b.requests++;
        b.sequences += r->batch.count - r->dispatched;
        b.tokens += r->tokens_left;
        if (r->arrives_at < b.oldest) b.oldest = r->arrives_at;
        if (r->batch.deadline_ns < b.deadline) b.deadline = r->batch.deadline_ns;
        if (r->batch.priority > b.priority) b.priority = r->batch.priority;
    }
    return b;
}

/* When what waits may go at the latest, by the policy's own words. */
static uint64_t due_at(const world *w, const books *b)
{
    const cpl_batch_policy *p = &w->batcher.policy;
    if (!b->requests) return UINT64_MAX;
    if (p->kind != CPL_BATCH_TIMEOUT || w->released || b->sequences >= p->items_max) return 0;
    return b->oldest + p->timeout_ns;
}

static void check_books(world *w)
{
    books b = count(w);
    CHECK(w, b.requests == w->batcher.waiting_requests);
    CHECK(w, b.sequences == w->batcher.waiting_sequences);
    CHECK(w, b.tokens == w->batcher.waiting_tokens);
    CHECK(w, b.tokens <= w->batcher.policy.queue_tokens_max);
    CHECK(w, b.requests <= w->batcher.policy.queue_requests_max);
    CHECK(w, w->released == w->batcher.released);
}

/* It wakes for the earliest deadline or the end of the wait, neither sooner nor later. */
static void check_times(world *w, const books *b)
{
    uint64_t due = due_at(w, b), at = b->deadline;
    if (due > w->now && due != UINT64_MAX) {
        if (due < at) at = due;
        CHECK(w, !cpl_batcher_ready(&w->batcher, due - 1));
        CHECK(w, cpl_batcher_ready(&w->batcher, due));
    }
    CHECK(w, cpl_batcher_next_event(&w->batcher, w->now) == at);
}

static void trim_released(world *w)
{
    books b = count(w);
    if (w->released > b.sequences) w->released = b.sequences;
}

/* ---- events ------------------------------------------------------------------------------------------------------ */

static void take_expired(world *w, cpl_batch_request *list)
{
    while (list) {
        request *r = (request *)(void *)list;
        list = list->ring_next;
        r->batch.ring_next = NULL;
        CHECK(w, r->fate == WAITING);
        CHECK(w, r->batch.deadline_ns <= w->now);
        r->fate = EXPIRED;
    }
    for (uint32_t i = 0; i < w->request_count; i++) /* none was left behind */
        CHECK(w, w->requests[i].fate != WAITING || w->requests[i].batch.deadline_ns > w->now);
    trim_released(w);
}

static void arrive(world *w, request *r)
{
    books b = count(w);
    const cpl_batch_policy *p = &w->batcher.policy;
    cpl_error err;
    cpl_status st = cpl_batcher_add(&w->batcher, &w->flows[r->flow], &r->batch, w->now, &err);
    cpl_status expect = CPL_OK;
    if (r->tokens_left > p->queue_tokens_max)
        expect = CPL_INVALID;
    else if (r->batch.deadline_ns <= w->now)
        expect = CPL_DEADLINE;
    else if (b.requests >= p->queue_requests_max || b.tokens + r->tokens_left > p->queue_tokens_max)
        expect = CPL_QUEUE_FULL;
    CHECK(w, st == expect);
    r->fate = st ? REFUSED : WAITING;
}

static void cancel(world *w, request *r)
{
    uint32_t left = cpl_batcher_remove(&w->batcher, &r->batch);
    CHECK(w, left == (r->fate == WAITING ? r->batch.count - r->dispatched : 0));
    if (r->fate == WAITING) r->fate = CANCELLED;
    trim_released(w);
}

static void check_slice(world *w, const cpl_batch_take *take, const cpl_batch_slice *s, uint64_t *tokens)
{
    request *r = (request *)(void *)s->request;
    CHECK(w, r->fate == WAITING);
    CHECK(w, r->batch.deadline_ns > w->now);
    CHECK(w, r->batch.want == take->want);
    CHECK(w, s->count > 0 && s->first == r->dispatched); /* first come first served inside a request */
    CHECK(w, s->first + s->count <= r->batch.count);
    for (uint32_t k = s->first; k < s->first + s->count; k++) {
        *tokens += r->lengths[k];
        r->tokens_left -= r->lengths[k];
        CHECK(w, r->lengths[k] <= take->length_max);
    }
    r->dispatched += s->count;
    if (r->dispatched == r->batch.count) r->fate = GONE;
}

/* OFF: nothing older of that priority was left waiting. */
static void check_off(world *w, const cpl_batch_take *take)
{
    CHECK(w, take->slice_count == 1);
    const request *r = (const request *)(const void *)take->slices[0].request;
    for (uint32_t i = 0; i < w->request_count; i++)
        CHECK(w, w->requests[i].fate != WAITING || w->requests[i].batch.priority < r->batch.priority ||
                     w->requests[i].arrives_at >= r->arrives_at);
}

/* One worker asks; false when it gets nothing. */
static bool dispatch(world *w, worker *me, uint32_t idle)
{
    const cpl_batch_policy *p = &w->batcher.policy;
    cpl_batch_take take = {.slices = w->slices};
    bool taken = cpl_batcher_take(&w->batcher, w->now, idle, &take);
    take_expired(w, take.expired);
    books b = count(w);
    CHECK(w, taken == (due_at(w, &b) <= w->now && b.requests > 0));
    if (!taken) {
        CHECK(w, !take.sequences && !take.slice_count);
        return false;
    }
    if (p->kind == CPL_BATCH_TIMEOUT && !w->released)
        w->released = b.sequences < p->items_max ? b.sequences : p->items_max;
    uint32_t released = w->released;
    CHECK(w, take.slice_count && ((request *)(void *)take.slices[0].request)->batch.priority == b.priority);
    uint64_t tokens = 0, last = 0;
    uint32_t sequences = 0;
    for (uint32_t i = 0; i < take.slice_count; i++) {
        check_slice(w, &take, &take.slices[i], &tokens);
        sequences += take.slices[i].count;
        last = take.slices[i].request->lengths[take.slices[i].first + take.slices[i].count - 1];
    }
    CHECK(w, tokens == take.tokens && sequences == take.sequences);
    CHECK(w, sequences <= p->sequences_max);
    CHECK(w, sequences == 1 || tokens <= p->tokens_max);
    if (p->kind == CPL_BATCH_TIMEOUT) {
        CHECK(w, sequences <= released);
        w->released -= sequences;
    }
    if (p->kind == CPL_BATCH_OFF) {
        check_off(w, &take);
    } else { /* no more than a fair share while others idle */
        uint64_t share = (b.tokens + idle - 1) / idle;
        if (share < CPL_BATCH_SHARE_TOKENS_MIN) share = CPL_BATCH_SHARE_TOKENS_MIN;
        CHECK(w, idle < 2 || sequences == 1 || tokens <= share + (last + 1) / 2);
    }
    me->busy = true;
    me->until = w->now + 1 + tokens * w->cost_ns;
    return true;
}

static void event(world *w)
{
    books before = count(w);
    CHECK(w, !w->idle_before || due_at(w, &before) == UINT64_MAX || due_at(w, &before) >= w->now);
    for (uint32_t i = 0; i < w->worker_count; i++)
        if (w->workers[i].busy && w->workers[i].until <= w->now) w->workers[i].busy = false;
    for (uint32_t i = 0; i < w->request_count; i++) {
        request *r = &w->requests[i];
        if (r->fate == TO_COME && r->arrives_at <= w->now) arrive(w, r);
        if (r->cancel_at <= w->now && r->fate != TO_COME) cancel(w, r);
    }
    if (below(2)) take_expired(w, cpl_batcher_expire(&w->batcher, w->now)); /* the timer may or may not be first */
    uint32_t idle = 0;
    for (uint32_t i = 0; i < w->worker_count; i++) idle += !w->workers[i].busy;
    w->idle_before = false;
    for (uint32_t i = 0; i < w->worker_count; i++) {
        if (w->workers[i].busy) continue;
        if (dispatch(w, &w->workers[i], idle))
            idle--;
        else
            w->idle_before = true;
    }
    if (!w->idle_before) take_expired(w, cpl_batcher_expire(&w->batcher, w->now));
    books after = count(w);
    CHECK(w, !w->idle_before || due_at(w, &after) > w->now); /* no worker idles beside what is due */
    check_books(w);
    check_times(w, &after);
}

/* The next point in time anybody has an interest in; the policy's own comes from it alone. */
static uint64_t next_event(const world *w)
{
    uint64_t at = cpl_batcher_next_event(&w->batcher, w->now);
    for (uint32_t i = 0; i < w->worker_count; i++)
        if (w->workers[i].busy && w->workers[i].until < at) at = w->workers[i].until;
    for (uint32_t i = 0; i < w->request_count; i++) {
        const request *r = &w->requests[i];
        if (r->fate == TO_COME && r->arrives_at < at) at = r->arrives_at;
        if (r->fate != TO_COME && r->cancel_at > w->now && r->cancel_at < at) at = r->cancel_at;
    }
    return at;
}

/* ---- worlds ------------------------------------------------------------------------------------------------------ */

static void make_policy(world *w, cpl_batch_kind kind)
{
    cpl_batch_policy p = {.kind = kind,
                          .tokens_max = 64 + below(600),
                          .sequences_max = 1 + below(40),
                          .items_max = 1 + below(60),
                          .timeout_ns = below(4) ? below(200000) : 0,
                          .length_aware = below(3) == 0,
                          .queue_tokens_max = below(4) ? 1u << 20 : 2000 + below(8000),
                          .queue_requests_max = below(4) ? 1000 : 1 + below(20),
                          .quantum_tokens = below(3) ? 0 : 1 + below(400)};
    cpl_batch_policy_complete(&p, 512);
    cpl_batcher_init(&w->batcher, &p);
}

static void make_world(world *w, uint64_t seed, cpl_batch_kind kind)
{
    memset(w, 0, sizeof *w);
    w->seed = seed;
    random_state = seed;
    make_policy(w, kind);
    w->worker_count = 1 + below(WORKERS);
    w->request_count = 1 + below(REQUESTS);
    w->cost_ns = 1 + below(200);
    uint64_t at = 0, pace = 1 + below(40000);
    uint32_t size = 1 + below(SEQUENCES), length = 2 + below(LENGTH_MAX - 2);
    bool deadlines = below(2), cancels = below(3) == 0, priorities = below(3) == 0, wants = below(4) == 0;
    for (uint32_t i = 0; i < w->request_count; i++) {
        request *r = &w->requests[i];
        at += below(4) ? 1 + below((uint32_t)pace) : 1;
        r->arrives_at = at;
        r->flow = below(FLOWS);
        r->cancel_at = cancels && below(4) == 0 ? at + below(300000) : UINT64_MAX;
        r->batch = (cpl_batch_request){.lengths = r->lengths, .count = 1 + below(size)};
        r->batch.want = wants ? (cpl_want)below(3) : CPL_WANT_LOGITS;
        r->batch.priority = (uint8_t)(priorities ? below(CPL_BATCH_PRIORITIES) : 0);
        r->batch.deadline_ns = deadlines && below(2) ? at + below(400000) : UINT64_MAX;
        for (uint32_t k = 0; k < r->batch.count; k++) r->tokens_left += r->lengths[k] = 1 + below(length);
    }
}

static void run_world(world *w)
{
    for (uint64_t at; (at = next_event(w)) != UINT64_MAX;) {
        CHECK(w, at >= w->now);
        w->now = at > w->now ? at : w->now + 1;
        event(w);
    }
    for (uint32_t i = 0; i < w->request_count; i++) { /* conservation; nothing starves once arrivals stop */
        const request *r = &w->requests[i];
        CHECK(w, r->fate != WAITING && r->fate != TO_COME);
        CHECK(w, r->fate != GONE || r->dispatched == r->batch.count);
        CHECK(w, !r->batch.lane);
    }
    CHECK(w, !w->batcher.waiting_requests && !w->batcher.deadlines);
}

static void run_worlds(cpl_batch_kind kind)
{
    world *w = malloc(sizeof *w);
    assert_non_null(w);
    const char *replay = getenv("COUPLET_SEED");
    uint64_t from = replay ? strtoull(replay, NULL, 10) : 1, to = replay ? from + 1 : 1 + WORLDS;
    for (uint64_t seed = from; seed < to; seed++) {
        make_world(w, seed, kind);
        run_world(w);
    }
    free(w);
}

static void greedy_worlds(void **state)
{
    (void)state;
    run_worlds(CPL_BATCH_GREEDY);
}

static void timeout_worlds(void **state)
{
    (void)state;
    run_worlds(CPL_BATCH_TIMEOUT);
}

static void off_worlds(void **state)
{
    (void)state;
    run_worlds(CPL_BATCH_OFF);
}

/* ---- fairness ---------------------------------------------------------------------------------------------------- */

enum { BIG = 1000 };

typedef struct big_request {
    cpl_batch_request batch;
    uint32_t lengths[BIG];
} big_request;

static void make_big(big_request *r, uint32_t length_max)
{
    r->batch = (cpl_batch_request){.lengths = r->lengths, .count = BIG, .deadline_ns = UINT64_MAX};
    for (uint32_t i = 0; i < BIG; i++) r->lengths[i] = 1 + below(length_max);
}

typedef struct wait_case {
    uint32_t others;      /* 1,000-document requests ahead */
    bool same_connection; /* as those; else each has its own */
    bool length_aware;
    uint32_t workers;
} wait_case;

/* Time until a single pair that arrives in the middle of `others` requests of 1,000 documents is dispatched. */
static uint64_t wait_of_single(uint64_t seed, const wait_case *c, uint64_t cost_ns, cpl_batch_policy *policy)
{
    static big_request big[8];
    static cpl_batch_flow flows[9];
    static cpl_batch_slice slices[1024];
    uint32_t length_max = 512, single_length = 0;
    uint64_t now = 0, until[4] = {0}, arrived = 0;
    bool queued = false;
    random_state = seed;
    memset(flows, 0, sizeof flows);
    cpl_batcher b;
    *policy = (cpl_batch_policy){.length_aware = c->length_aware};
    cpl_batch_policy_complete(policy, 512);
    cpl_batcher_init(&b, policy);
    for (uint32_t i = 0; i < c->others; i++) {
        make_big(&big[i], length_max);
        assert_int_equal(cpl_batcher_add(&b, &flows[c->same_connection ? 0 : i], &big[i].batch, 0, NULL), CPL_OK);
    }
    cpl_batch_request single = {.lengths = &single_length, .count = 1, .deadline_ns = UINT64_MAX};
    single_length = 1 + below(length_max);
    uint64_t when = cost_ns * (1000 + below(40000));
    for (;;) {
        uint32_t me = 0;
        for (uint32_t i = 1; i < c->workers; i++)
            if (until[i] < until[me]) me = i;
        now = until[me];
        if (!queued && now >= when) {
            arrived = when;
            queued = true;
            assert_int_equal(cpl_batcher_add(&b, &flows[c->same_connection ? 0 : 8], &single, when, NULL), CPL_OK);
        }
        cpl_batch_take take = {.slices = slices};
        assert_true(cpl_batcher_take(&b, now, 1, &take));
        if (queued && !single.lane) break;
        until[me] = now + take.tokens * cost_ns;
    }
    for (uint32_t i = 0; i < c->others; i++) cpl_batcher_remove(&b, &big[i].batch);
    return now - arrived;
}

/* The bound promised: the pass in progress, a turn (a quantum and at most one sequence beyond it) of everybody else,
 * and with length_aware one more pass for having been passed over. Inside a connection the turns are its own requests',
 * stretched by nobody else here. */
static void single_pair_waits_bounded(void **state)
{
    (void)state;
    uint64_t worst = 0, cost_ns = 100;
    for (uint64_t seed = 1; seed <= 2000; seed++) {
        random_state = seed * 77;
        wait_case c = {1 + below(8), below(2), below(2), 1 + below(4)};
        cpl_batch_policy p;
        uint64_t wait = wait_of_single(seed, &c, cost_ns, &p);
        uint64_t pass = p.tokens_max, turn = p.quantum_tokens + 512;
        uint64_t bound = cost_ns * (pass + c.others * turn + (c.length_aware ? 2 * pass : 0));
        if (wait > bound) {
            fprintf(stderr, "seed %llu: waited %llu ns, bound %llu (%u others, same connection %d, length aware %d)\n",
                    (unsigned long long)seed, (unsigned long long)wait, (unsigned long long)bound, c.others,
                    c.same_connection, c.length_aware);
            fail();
        }
        if (wait > worst) worst = wait;
    }
    print_message("worst wait beside 1 to 8 requests of 1,000 documents: %.0f tokens of service\n",
                  (double)worst / (double)cost_ns);
}

/* Backlogged flows, one with many requests, one with few, get equal tokens; so do requests inside a flow. */
static void backlogged_share_equally(void **state)
{
    (void)state;
    static big_request big[6];
    static cpl_batch_slice slices[1024];
    for (uint64_t seed = 1; seed <= 300; seed++) {
        random_state = seed;
        cpl_batch_flow flows[3] = {0};
        uint64_t served[6] = {0};
        cpl_batcher b;
        cpl_batch_policy p = {.tokens_max = 200 + below(800), .sequences_max = 4 + below(60)};
        cpl_batch_policy_complete(&p, 0);
        cpl_batcher_init(&b, &p);
        for (uint32_t i = 0; i < 6; i++) { /* flow 0: 1 request, flow 1: 2, flow 2: 3 */
            make_big(&big[i], i % 2 ? 500 : 60);
            assert_int_equal(cpl_batcher_add(&b, &flows[i < 1 ? 0 : i < 3 ? 1 : 2], &big[i].batch, 0, NULL), CPL_OK);
        }
        for (uint64_t total = 0; total < 20000;) {
            cpl_batch_take take = {.slices = slices};
            assert_true(cpl_batcher_take(&b, 0, 1, &take));
            total += take.tokens;
            for (uint32_t i = 0; i < take.slice_count; i++) {
                big_request *r = (big_request *)(void *)take.slices[i].request;
                for (uint32_t k = 0; k < take.slices[i].count; k++)
                    served[r - big] += r->lengths[take.slices[i].first + k];
            }
        }
        uint64_t flow[3] = {served[0], served[1] + served[2], served[3] + served[4] + served[5]};
        uint64_t slack = 2 * (p.quantum_tokens + 500);
        for (int i = 0; i < 3; i++)
            for (int j = 0; j < 3; j++)
                if (flow[i] > flow[j] + slack) fail_msg("seed %d: flow %d is ahead of %d", (int)seed, i, j);
        for (int i = 3; i < 6; i++)
            for (int j = 3; j < 6; j++)
                if (served[i] > served[j] + slack) fail_msg("seed %d: request %d is ahead of %d", (int)seed, i, j);
        for (uint32_t i = 0; i < 6; i++) cpl_batcher_remove(&b, &big[i].batch);
    }
}

/* Connections that come and go with one pair each fill every pass; whoever waited before them still goes first. */
static void newcomers_wait_their_turn(void **state)
{
    (void)state;
    enum { ROUNDS = 50, A_ROUND = 12 };
    static cpl_batch_slice slices[64];
    static cpl_batch_request newcomers[ROUNDS * A_ROUND];
    static cpl_batch_flow flows[ROUNDS * A_ROUND];
    uint32_t length = 100;
    cpl_batch_flow old_flow = {0};
    cpl_batch_request old = {.lengths = &length, .count = 1, .deadline_ns = UINT64_MAX};
    cpl_batcher b;
    cpl_batch_policy p = {.tokens_max = 500, .sequences_max = 64};
    cpl_batch_policy_complete(&p, 0);
    cpl_batcher_init(&b, &p);
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = round * A_ROUND; i < (round + 1) * A_ROUND; i++) {
            if (i == 30) assert_int_equal(cpl_batcher_add(&b, &old_flow, &old, 0, NULL), CPL_OK);
            newcomers[i] = (cpl_batch_request){.lengths = &length, .count = 1, .deadline_ns = UINT64_MAX};
            assert_int_equal(cpl_batcher_add(&b, &flows[i], &newcomers[i], 0, NULL), CPL_OK);
        }
        cpl_batch_take take = {.slices = slices};
        assert_true(cpl_batcher_take(&b, 0, 1, &take));
        assert_int_equal(take.sequences, 5);
        if (round == 2 + 30 / 5) assert_null(old.lane); /* 30 were before it, 5 a pass */
    }
}

/* Strict priorities, as documented: the higher goes first and whole, the lower gets the room it leaves. */
static void priorities_are_strict(void **state)
{
    (void)state;
    static cpl_batch_slice slices[64];
    uint32_t lengths[20];
    for (int i = 0; i < 20; i++) lengths[i] = 100;
    cpl_batch_flow flow = {0};
    cpl_batcher b;
    cpl_batch_policy p = {.tokens_max = 500, .sequences_max = 64};
    cpl_batch_policy_complete(&p, 0);
    cpl_batcher_init(&b, &p);
    cpl_batch_request low = {.lengths = lengths, .count = 20, .deadline_ns = UINT64_MAX}, high = low, bad = low;
    high.priority = 3;
    high.count = 7;
    bad.priority = CPL_BATCH_PRIORITIES;
    assert_int_equal(cpl_batcher_add(&b, &flow, &low, 0, NULL), CPL_OK);
    assert_int_equal(cpl_batcher_add(&b, &flow, &high, 0, NULL), CPL_OK);
    assert_int_equal(cpl_batcher_add(&b, &flow, &bad, 0, NULL), CPL_INVALID);
    cpl_batch_take take = {.slices = slices};
    assert_true(cpl_batcher_take(&b, 0, 1, &take));
    assert_true(take.slice_count == 1 && take.slices[0].request == &high && take.slices[0].count == 5);
    assert_true(cpl_batcher_take(&b, 0, 1, &take));
    assert_true(take.slices[0].request == &high && take.slices[0].count == 2 && take.tokens == 500);
    assert_true(take.slices[take.slice_count - 1].request == &low);
}

/* Idle workers get even parts of one request instead of one getting all. */
static void idle_workers_share(void **state)
{
    (void)state;
    static cpl_batch_slice slices[64];
    uint32_t lengths[10], idle = 4;
    for (int i = 0; i < 10; i++) lengths[i] = 100;
    cpl_batch_flow flow = {0};
    cpl_batcher b;
    cpl_batch_policy p = {.tokens_max = 4096, .sequences_max = 64};
    cpl_batch_policy_complete(&p, 0);
    cpl_batcher_init(&b, &p);
    cpl_batch_request r = {.lengths = lengths, .count = 10, .deadline_ns = UINT64_MAX};
    assert_int_equal(cpl_batcher_add(&b, &flow, &r, 0, NULL), CPL_OK);
    for (; idle; idle--) {
        cpl_batch_take take = {.slices = slices};
        assert_true(cpl_batcher_take(&b, 0, idle, &take));
        assert_in_range(take.sequences, 2, 3);
    }
    assert_int_equal(b.waiting_requests, 0);
}

/* The rule for teams: never more than there are idle ones and the pass's own, never above the setting, one for eight
 * tokens; more idle workers or tokens never make it smaller. */
static void teams_follow_their_rule(void **state)
{
    (void)state;
    for (uint32_t setting = 0; setting <= 12; setting++) {
        cpl_batch_policy p = {.team_max = setting};
        cpl_batch_policy_complete(&p, 0);
        assert_in_range(p.team_max, 1, CPL_BATCH_TEAM_MAX);
        for (uint32_t idle = 0; idle < 20; idle++) {
            uint32_t before = 1;
            for (uint64_t tokens = 1; tokens < 700; tokens++) {
                uint32_t members = cpl_batch_team(&p, tokens, idle);
                assert_in_range(members, before, idle + 1);
                assert_true(members <= p.team_max && (uint64_t)(members - 1) * CPL_BATCH_TEAM_TOKENS < tokens);
                assert_true(cpl_batch_team(&p, tokens, idle + 1) >= members);
                before = members;
            }
            uint32_t most = setting && setting < CPL_BATCH_TEAM_MAX ? setting : CPL_BATCH_TEAM_MAX;
            assert_int_equal(before, idle + 1 < most ? idle + 1 : most);
        }
    }
}

/* ---- several models ---------------------------------------------------------------------------------------------- */

/* Equal estimated cost for both, whatever a token costs; an idle queue saves nothing up; a higher priority goes first.
 */
static void picker_shares_by_cost(void **state)
{
    (void)state;
    static big_request big[2];
    static cpl_batch_slice slices[1024];
    cpl_batch_flow flows[2] = {0};
    cpl_batcher b[2];
    cpl_batcher *queues[3] = {&b[0], NULL, &b[1]};
    cpl_batch_picker picker = {0};
    random_state = 5;
    cpl_batch_policy p = {0};
    cpl_batch_policy_complete(&p, 256);
    for (int i = 0; i < 2; i++) {
        make_big(&big[i], 200);
        cpl_batcher_init(&b[i], &p);
        for (int k = 0; k < 100; k++) cpl_batcher_learn(&b[i], 1000, i ? 4000000 : 1000000); /* 1 and 4 us a token */
    }
    assert_int_equal(cpl_batch_pick(&picker, queues, 3, 0), 3);
    assert_int_equal(cpl_batcher_add(&b[0], &flows[0], &big[0].batch, 0, NULL), CPL_OK);
    uint64_t cost[2] = {0};
    for (int i = 0; i < 40; i++) { /* alone at first */
        cpl_batch_take take = {.slices = slices};
        assert_int_equal(cpl_batch_pick(&picker, queues, 3, 0), 0);
        assert_true(cpl_batcher_take(&b[0], 0, 1, &take));
    }
    assert_int_equal(cpl_batcher_add(&b[1], &flows[1], &big[1].batch, 0, NULL), CPL_OK);
    for (int i = 0; i < 100; i++) {
        cpl_batch_take take = {.slices = slices};
        uint32_t at = cpl_batch_pick(&picker, queues, 3, 0);
        assert_true(at == 0 || at == 2);
        assert_true(cpl_batcher_take(queues[at], 0, 1, &take));
        cost[at / 2] += take.tokens * (at ? 4 : 1);
    }
    uint64_t apart = cost[0] > cost[1] ? cost[0] - cost[1] : cost[1] - cost[0];
    assert_true(apart <= 2 * 4 * 256 + 8);
    uint32_t length = 10;
    cpl_batch_request urgent = {.lengths = &length, .count = 1, .priority = 1, .deadline_ns = UINT64_MAX};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(cpl_batcher_add(&b[i], &flows[i], &urgent, 0, NULL), CPL_OK);
        assert_int_equal(cpl_batch_pick(&picker, queues, 3, 0), i ? 2 : 0);
        cpl_batcher_remove(&b[i], &urgent);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_worlds),
        cmocka_unit_test(timeout_worlds),
        cmocka_unit_test(off_worlds),
        cmocka_unit_test(single_pair_waits_bounded),
        cmocka_unit_test(backlogged_share_equally),
        cmocka_unit_test(priorities_are_strict),
        cmocka_unit_test(idle_workers_share),
        cmocka_unit_test(teams_follow_their_rule),
        cmocka_unit_test(picker_shares_by_cost),
        cmocka_unit_test(newcomers_wait_their_turn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
