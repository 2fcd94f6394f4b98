/* SPDX-License-Identifier: Apache-2.0 */
/* batcher.c - decides which waiting sequences run together.
 *
 * The one idea: deficit round robin in its surplus form. Whose turn it is gets a quantum of tokens and is served while
 * the account is above zero; a sequence may overdraw it, and the debt is paid in later turns. So a turn costs O(1), no
 * sequence is too long for it, and nobody is ahead of another by more than a quantum and one sequence. The same rule
 * runs twice: between the lanes (flow x priority) of a level and between the requests of a lane.
 *
 * What a batch passes over (another `want`; with length_aware another length) is where the next batch starts, so
 * nothing starves behind a preference.
 *
 * Invariants: a request is in its lane's ring, its level's arrival list and (with a deadline) the heap, or in none; an
 * empty lane is in no ring; waiting_* are exact. An account is at most a quantum. Threads: the caller's lock.
 *
 * Rejected: looking past the first sequence that doesn't fit (better packing by a few percent, but long sequences would
 * starve behind short ones or need an aging rule of their own); one heap by virtual finish time (fair queueing proper):
 * O(log n) a sequence for a tighter bound than anyone would notice. */
#include "engine/batcher.h"

#include "base/error.h"

enum { LOOK_AHEAD = 64 }; /* requests of a lane that length_aware passes over at most in one search */

void cpl_batch_policy_complete(cpl_batch_policy *p, uint32_t batch_tokens)
{
    if (!p->tokens_max) p->tokens_max = batch_tokens ? batch_tokens : 512;
    if (!p->sequences_max) {
        p->sequences_max = p->tokens_max / 4;
        if (p->sequences_max < 32) p->sequences_max = 32;
        if (p->sequences_max > 1024) p->sequences_max = 1024;
    }
    if (!p->items_max) p->items_max = p->sequences_max;
    if (!p->queue_tokens_max) p->queue_tokens_max = 1U << 21;
    if (!p->queue_requests_max) p->queue_requests_max = 8192;
    if (!p->quantum_tokens) p->quantum_tokens = p->tokens_max / 4;
    if (!p->quantum_tokens) p->quantum_tokens = 1;
    if (!p->weight_milli) p->weight_milli = 1000;
    if (!p->team_max || p->team_max > CPL_BATCH_TEAM_MAX) p->team_max = CPL_BATCH_TEAM_MAX;
}

void cpl_batcher_init(cpl_batcher *b, const cpl_batch_policy *policy)
{
    CPL_ASSERT(policy->tokens_max && policy->sequences_max && policy->items_max && policy->quantum_tokens);
    CPL_ASSERT(policy->weight_milli);
    *b = (cpl_batcher){.policy = *policy, .cost_ps = 100 * 1000 * 1000}; /* 100 us a token until a pass was seen */
}

/* ---- queueing ---------------------------------------------------------------------------------------------- */

/* The request that `deadline` lives in. */
static cpl_batch_request *of_deadline(cpl_due *d)
{
    return (cpl_batch_request *)(void *)((char *)d - offsetof(cpl_batch_request, deadline));
}

static cpl_status check(const cpl_batcher *b, cpl_batch_request *r, uint64_t now_ns, cpl_error *err)
{
    const cpl_batch_policy *p = &b->policy;
    CPL_ASSERT(!r->lane);
    if (!r->count) return cpl_fail(err, CPL_INVALID, "request is empty");
    if (r->priority >= CPL_BATCH_PRIORITIES)
        return cpl_fail(err, CPL_INVALID, "priority %u is out of range: 0 to %d are valid", r->priority,
                        CPL_BATCH_PRIORITIES - 1);
    r->tokens_left = 0;
    for (uint32_t i = 0; i < r->count; i++) {
        if (!r->lengths[i]) return cpl_fail(err, CPL_INVALID, "sequence %u has no tokens", i);
        r->tokens_left += r->lengths[i];
    }
    if (r->tokens_left > p->queue_tokens_max)
        return cpl_fail(err, CPL_INVALID,
                        "request of %llu tokens is larger than the whole queue of %u: send less at once",
                        (unsigned long long)r->tokens_left, p->queue_tokens_max);
    if (r->deadline_ns <= now_ns) return cpl_fail(err, CPL_DEADLINE, "deadline passed before the request was queued");
    if (b->waiting_requests >= p->queue_requests_max)
        return cpl_fail(err, CPL_QUEUE_FULL, "queue full: %u requests wait", b->waiting_requests);
    if (b->waiting_tokens + r->tokens_left > p->queue_tokens_max)
        return cpl_fail(err, CPL_QUEUE_FULL, "queue full: %llu of %u tokens wait",
                        (unsigned long long)b->waiting_tokens, p->queue_tokens_max);
    return CPL_OK;
}

/* A newcomer goes last: in front of whose turn it is. */
static void enter_ring(cpl_batch_level *level, cpl_batch_lane *lane, cpl_batch_request *r)
{
    if (!lane->current) {
        lane->deficit = 0;
        lane->skipped = NULL;
        if (level->current) {
            lane->ring_next = level->current;
            lane->ring_prev = level->current->ring_prev;
            lane->ring_prev->ring_next = lane->ring_next->ring_prev = lane;
        } else {
            level->current = lane->ring_next = lane->ring_prev = lane;
        }
        level->lanes++;
        lane->current = r->ring_next = r->ring_prev = r;
    } else {
        r->ring_next = lane->current;
        r->ring_prev = lane->current->ring_prev;
        r->ring_prev->ring_next = r->ring_next->ring_prev = r;
    }
    lane->requests++;
}

cpl_status cpl_batcher_add(cpl_batcher *b, cpl_batch_flow *flow, cpl_batch_request *r, uint64_t now_ns, cpl_error *err)
{
    cpl_status st = check(b, r, now_ns, err);
    if (st) return st;
    cpl_batch_level *level = &b->levels[r->priority];
    r->lane = &flow->lanes[r->priority];
    r->next = 0;
    r->deficit = 0;
    r->arrived_ns = now_ns;
    enter_ring(level, r->lane, r);
    r->arrival_next = NULL;
    r->arrival_prev = level->newest;
    if (level->newest)
        level->newest->arrival_next = r;
    else
        level->oldest = r;
    level->newest = r;
    if (r->deadline_ns != UINT64_MAX) {
        r->deadline.at_ns = r->deadline_ns;
        cpl_due_add(&b->deadlines, &r->deadline);
    }
    if (!b->waiting_requests) b->woke = true;
    b->waiting_requests++;
    b->waiting_sequences += r->count;
    b->waiting_tokens += r->tokens_left;
    return CPL_OK;
}

static void leave_level(cpl_batch_level *level, cpl_batch_lane *lane)
{
    cpl_batch_lane *next = lane->ring_next == lane ? NULL : lane->ring_next;
    if (level->current == lane) level->current = next;
    if (level->skipped == lane) level->skipped = next;
    lane->ring_prev->ring_next = lane->ring_next;
    lane->ring_next->ring_prev = lane->ring_prev;
    lane->ring_next = lane->ring_prev = NULL;
    level->lanes--;
}

/* Takes r out of every list. Its undispatched sequences must be off the counts already, or be taken off by the caller.
 */
static void unlink_request(cpl_batcher *b, cpl_batch_request *r)
{
    cpl_batch_level *level = &b->levels[r->priority];
    cpl_batch_lane *lane = r->lane;
    cpl_batch_request *next = r->ring_next == r ? NULL : r->ring_next;
    if (lane->current == r) lane->current = next;
    if (lane->skipped == r) lane->skipped = next;
    r->ring_prev->ring_next = r->ring_next;
    r->ring_next->ring_prev = r->ring_prev;
    r->ring_next = r->ring_prev = NULL;
    if (!--lane->requests) leave_level(level, lane);
    if (r->arrival_prev)
        r->arrival_prev->arrival_next = r->arrival_next;
    else
        level->oldest = r->arrival_next;
    if (r->arrival_next)
        r->arrival_next->arrival_prev = r->arrival_prev;
    else
        level->newest = r->arrival_prev;
    if (r->deadline_ns != UINT64_MAX) cpl_due_remove(&b->deadlines, &r->deadline);
    r->lane = NULL;
    b->waiting_requests--;
}

uint32_t cpl_batcher_remove(cpl_batcher *b, cpl_batch_request *r)
{
    if (!r->lane) return 0;
    uint32_t left = r->count - r->next;
    unlink_request(b, r);
    b->waiting_sequences -= left;
    b->waiting_tokens -= r->tokens_left;
    if (b->released > b->waiting_sequences) b->released = b->waiting_sequences;
    return left;
}

cpl_batch_request *cpl_batcher_expire(cpl_batcher *b, uint64_t now_ns)
{
    cpl_batch_request *list = NULL;
    while (b->deadlines && b->deadlines->at_ns <= now_ns) {
        cpl_batch_request *r = of_deadline(b->deadlines);
        cpl_batcher_remove(b, r);
        r->ring_next = list;
        list = r;
    }
    return list;
}

/* ---- time -------------------------------------------------------------------------------------------------- */

static uint64_t oldest_arrival(const cpl_batcher *b)
{
    uint64_t oldest = UINT64_MAX;
    for (int i = 0; i < CPL_BATCH_PRIORITIES; i++)
        if (b->levels[i].oldest && b->levels[i].oldest->arrived_ns < oldest) oldest = b->levels[i].oldest->arrived_ns;
    return oldest;
}

static uint64_t wait_ends(const cpl_batcher *b)
{
    uint64_t oldest = oldest_arrival(b);
    return oldest > UINT64_MAX - b->policy.timeout_ns ? UINT64_MAX : oldest + b->policy.timeout_ns;
}

bool cpl_batcher_ready(const cpl_batcher *b, uint64_t now_ns)
{
    if (!b->waiting_requests) return false;
    if (b->policy.kind != CPL_BATCH_TIMEOUT || b->released) return true;
    return b->waiting_sequences >= b->policy.items_max || now_ns >= wait_ends(b);
}

uint64_t cpl_batcher_next_event(const cpl_batcher *b, uint64_t now_ns)
{
    uint64_t at = b->deadlines ? b->deadlines->at_ns : UINT64_MAX;
    if (b->policy.kind == CPL_BATCH_TIMEOUT && b->waiting_requests && !cpl_batcher_ready(b, now_ns)) {
        uint64_t ends = wait_ends(b);
        if (ends < at) at = ends;
    }
    return at;
}

uint32_t cpl_batcher_share(const cpl_batcher *b, uint32_t idle)
{
    const cpl_batch_policy *p = &b->policy;
    if (p->kind == CPL_BATCH_OFF || idle < 2) return p->tokens_max;
    uint64_t share = (b->waiting_tokens + idle - 1) / idle;
    if (share < CPL_BATCH_SHARE_TOKENS_MIN) share = CPL_BATCH_SHARE_TOKENS_MIN;
    return share < p->tokens_max ? (uint32_t)share : p->tokens_max;
}

uint32_t cpl_batch_team(const cpl_batch_policy *p, uint64_t tokens, uint32_t idle)
{
    uint64_t by_tokens = (tokens + CPL_BATCH_TEAM_TOKENS - 1) / CPL_BATCH_TEAM_TOKENS;
    uint32_t members = idle < p->team_max ? idle + 1 : p->team_max;
    return by_tokens < members ? (uint32_t)by_tokens : members;
}

/* ---- taking ------------------------------------------------------------------------------------------------- */

/* A batch being filled. */
typedef struct filling {
    cpl_batcher *b;
    cpl_batch_take *out;
    uint32_t share;         /* aim; tokens_max is the limit */
    uint32_t sequences_max; /* the limit, or what TIMEOUT released */
    uint32_t anchor;        /* length of the first sequence; 0 while empty */
    bool similar;           /* take only lengths near the anchor */
    bool full;
} filling;

static bool near_anchor(const filling *f, uint32_t length)
{
    uint32_t slack = f->anchor / 4 > 8 ? f->anchor / 4 : 8;
    return length <= f->anchor + slack && length + slack >= f->anchor;
}

static bool eligible(const filling *f, const cpl_batch_request *r)
{
    if (!f->out->sequences) return true;
    if (r->want != f->out->want) return false;
    return !f->similar || near_anchor(f, r->lengths[r->next]);
}

/* Would the next sequence of r go over a limit? Towards the share, to the nearest. */
static bool fits(const filling *f, const cpl_batch_request *r)
{
    const cpl_batch_take *out = f->out;
    uint64_t length = r->lengths[r->next];
    if (!out->sequences) return true;
    if (out->sequences >= f->sequences_max) return false;
    return out->tokens + length <= f->b->policy.tokens_max && out->tokens + length / 2 <= f->share;
}

/* Moves the next sequence of r into the batch; r leaves the queue with its last one. */
static void serve(filling *f, cpl_batch_request *r)
{
    cpl_batcher *b = f->b;
    cpl_batch_take *out = f->out;
    uint32_t length = r->lengths[r->next];
    cpl_batch_slice *last = out->slice_count ? &out->slices[out->slice_count - 1] : NULL;
    if (last && last->request == r && last->first + last->count == r->next)
        last->count++;
    else
        out->slices[out->slice_count++] = (cpl_batch_slice){r, r->next, 1};
    if (!out->sequences) {
        out->want = r->want;
        f->anchor = length;
    }
    out->sequences++;
    out->tokens += length;
    if (length > out->length_max) out->length_max = length;
    r->next++;
    r->tokens_left -= length;
    r->deficit -= length;
    r->lane->deficit -= length;
    b->waiting_sequences--;
    b->waiting_tokens -= length;
    if (b->released) b->released--;
    if (r->next == r->count) unlink_request(b, r);
}

/* The request of the lane whose turn it is among the eligible, its account above zero; NULL when none is eligible. */
static cpl_batch_request *turn_in_lane(filling *f, cpl_batch_lane *lane)
{
    if (lane->skipped && lane->skipped_at != f->b->takes) {
        lane->current = lane->skipped;
        lane->skipped = NULL;
    }
    uint32_t passed = 0;
    while (passed < lane->requests && passed < LOOK_AHEAD) {
        cpl_batch_request *r = lane->current;
        if (!eligible(f, r)) {
            if (!lane->skipped) {
                lane->skipped = r;
                lane->skipped_at = f->b->takes;
            }
            passed++;
        } else {
            if (r->deficit <= 0) r->deficit += f->b->policy.quantum_tokens;
            if (r->deficit > 0) return r;
            passed = 0;
        }
        lane->current = r->ring_next;
    }
    return NULL;
}

/* One visit: serves the lane while its account lasts. False when it had nothing eligible. */
static bool visit_lane(filling *f, cpl_batch_level *level, cpl_batch_lane *lane)
{
    cpl_batch_request *r = turn_in_lane(f, lane);
    if (!r) return false;
    if (lane->deficit <= 0) lane->deficit += f->b->policy.quantum_tokens;
    while (r && lane->deficit > 0) {
        if (!fits(f, r)) {
            f->full = true;
            return true;
        }
        serve(f, r);
        if (!lane->current) return true; /* served empty: already out of the ring */
        if (r->lane && r->deficit <= 0) lane->current = r->ring_next;
        r = turn_in_lane(f, lane);
    }
    if (level->current == lane) level->current = lane->ring_next;
    return true;
}

static void fill_level(filling *f, cpl_batch_level *level)
{
    if (level->skipped && level->skipped_at != f->b->takes) {
        level->current = level->skipped;
        level->skipped = NULL;
    }
    uint32_t passed = 0;
    while (!f->full && level->current && passed < level->lanes) {
        cpl_batch_lane *lane = level->current;
        if (visit_lane(f, level, lane)) {
            passed = 0;
            continue;
        }
        if (!level->skipped) {
            level->skipped = lane;
            level->skipped_at = f->b->takes;
        }
        passed++;
        level->current = lane->ring_next;
    }
}

/* OFF: the oldest request of the highest priority, as much of it as fits. */
static void fill_off(filling *f)
{
    for (int i = CPL_BATCH_PRIORITIES - 1; i >= 0; i--) {
        cpl_batch_request *r = f->b->levels[i].oldest;
        if (!r) continue;
        while (r->lane && fits(f, r)) serve(f, r);
        return;
    }
}

/* Time over weight. */
static uint64_t share_of(const cpl_batcher *b, uint64_t ns) { return ns * 1000 / b->policy.weight_milli; }

bool cpl_batcher_take(cpl_batcher *b, uint64_t now_ns, uint32_t idle, cpl_batch_take *out)
{
    const cpl_batch_policy *p = &b->policy;
    *out = (cpl_batch_take){.slices = out->slices, .expired = cpl_batcher_expire(b, now_ns)};
    if (!cpl_batcher_ready(b, now_ns)) return false;
    filling f = {b, out, cpl_batcher_share(b, idle), p->sequences_max, 0, p->length_aware, false};
    b->takes++;
    if (p->kind == CPL_BATCH_TIMEOUT) {
        if (!b->released) b->released = b->waiting_sequences < p->items_max ? b->waiting_sequences : p->items_max;
        if (f.sequences_max > b->released) f.sequences_max = b->released;
    }
    if (p->kind == CPL_BATCH_OFF) {
        fill_off(&f);
    } else {
        for (int sweep = f.similar ? 0 : 1; sweep < 2 && !f.full; sweep++) {
            f.similar = sweep == 0;
            for (int i = CPL_BATCH_PRIORITIES - 1; i >= 0 && !f.full; i--) fill_level(&f, &b->levels[i]);
        }
    }
    out->charged_ns = share_of(b, out->tokens * b->cost_ps / 1000);
    b->virtual_ns += out->charged_ns;
    return true;
}

/* ---- several models ----------------------------------------------------------------------------------------- */

static int top_priority(const cpl_batcher *b)
{
    int i = CPL_BATCH_PRIORITIES - 1;
    while (i > 0 && !b->levels[i].oldest) i--;
    return i;
}

/* How far ahead of the one given least a queue may be to go first by its deadline: a pass of its own. */
static uint64_t head_start(const cpl_batcher *b) { return share_of(b, b->policy.tokens_max * b->cost_ps / 1000); }

/* Does a go before c, both within their head start? */
static bool goes_before(const cpl_batcher *a, const cpl_batcher *c)
{
    uint64_t da = a->deadlines ? a->deadlines->at_ns : UINT64_MAX, dc = c->deadlines ? c->deadlines->at_ns : UINT64_MAX;
    if (da != dc) return da < dc;
    if (a->virtual_ns != c->virtual_ns) return a->virtual_ns < c->virtual_ns;
    return oldest_arrival(a) < oldest_arrival(c);
}

uint32_t cpl_batch_pick(cpl_batch_picker *p, cpl_batcher *const *queues, uint32_t n, uint64_t now_ns)
{
    uint32_t best = n;
    int top = -1;
    uint64_t least = UINT64_MAX;
    for (uint32_t i = 0; i < n; i++) {
        cpl_batcher *b = queues[i];
        if (!b || !cpl_batcher_ready(b, now_ns)) continue;
        if (b->woke) { /* an idle queue saves up nothing */
            if (b->virtual_ns < p->virtual_ns) b->virtual_ns = p->virtual_ns;
            b->woke = false;
        }
        int priority = top_priority(b);
        if (priority > top) {
            top = priority;
            least = b->virtual_ns;
        } else if (priority == top && b->virtual_ns < least) {
            least = b->virtual_ns;
        }
    }
    for (uint32_t i = 0; i < n && top >= 0; i++) {
        cpl_batcher *b = queues[i];
        if (!b || !cpl_batcher_ready(b, now_ns) || top_priority(b) != top) continue;
        if (b->virtual_ns - least > head_start(b)) continue;
        if (best == n || goes_before(b, queues[best])) best = i;
    }
    if (best < n && least > p->virtual_ns) p->virtual_ns = least;
    return best;
}

void cpl_batcher_settle(cpl_batcher *b, const cpl_batch_take *take, uint64_t ns)
{
    uint64_t taken = share_of(b, ns);
    cpl_batcher_learn(b, take->tokens, ns);
    if (taken >= take->charged_ns)
        b->virtual_ns += taken - take->charged_ns;
    else
        b->virtual_ns -= take->charged_ns - taken;
}

void cpl_batcher_learn(cpl_batcher *b, uint64_t tokens, uint64_t ns)
{
    if (!tokens) return;
    uint64_t seen = ns / tokens > 1000000000 ? 1000000000000 : ns * 1000 / tokens; /* a second a token at most */
    b->cost_ps = b->cost_ps - b->cost_ps / 8 + seen / 8;
    if (!b->cost_ps) b->cost_ps = 1;
}
