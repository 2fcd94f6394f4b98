/* SPDX-License-Identifier: Apache-2.0 */
/* fake.c - a backend without a model: rows are a hash of the ids, time and faults are what the test asks for.
 *
 * Rows depend on nothing but the sequence, so a test can tell whether the engine scattered every row to its place, and
 * the determinism the contract asks for holds by construction. This file calls the host table and libc only: the same
 * source is built in and made into couplet-fake.so (plugin_fake.c), and the path of plug-ins is tested by both giving
 * the same bits.
 *
 * Threads: weights are read-only but for the atomic pass counter; a session is its thread's. */
#include "backend/fake/fake.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backend/rectangle.h"
#include "backend/registry.h"

enum { BATCH_TOKENS = 512 };

typedef struct settings {
    unsigned long long fixed_us, per_token_ns, spin, fail_every, lose_after, fail_load, fail_open, rectangles, wants,
        batch_tokens, team_stages, stall_every, stall_us, int8_percent, int8_noise;
} settings;

struct cpl_weights {
    cpl_host host;
    settings set;
    uint32_t labels, hidden, batch_tokens, batch_tokens_max, batch_sequences_max, max_length;
    atomic_ullong passes;
};

struct cpl_session {
    cpl_weights *weights;
    cpl_rectangle_plan plan;
    cpl_rectangle_tensors tensors;
    size_t cells; /* of each tensor */
    uint64_t padding;
};

uint64_t cpl_fake_digest(const int32_t *ids, const uint8_t *type_ids, size_t n)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++) h = (h ^ ((uint64_t)(uint32_t)ids[i] << 8 | type_ids[i])) * 0x100000001b3u;
    return h;
}

float cpl_fake_value(uint64_t digest, uint32_t column)
{
    uint64_t x = digest + (uint64_t)(column + 1) * 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    x ^= x >> 31;
    return (float)(int32_t)(x >> 40) / (float)(1 << 21) - 4.0f;
}

static cpl_status probe(cpl_caps *out, const cpl_host *host, cpl_error *err)
{
    (void)host, (void)err;
    *out = (cpl_caps){.precisions = 1u << CPL_PRECISION_FP32 | 1u << CPL_PRECISION_INT8,
                      .wants = 1u << CPL_WANT_LOGITS | 1u << CPL_WANT_POOLED | 1u << CPL_WANT_TOKENS,
                      .devices = 1,
                      .batch_tokens = BATCH_TOKENS,
                      .numa = 1,
                      .teams = 1,
                      .isa = "fake",
                      .device = "nothing: rows are hashes"};
    for (int p = 0; p < CPL_PRECISION_COUNT; p++)
        if (!(out->precisions >> p & 1)) snprintf(out->reason[p], sizeof out->reason[p], "fake has fp32 and int8 only");
    return CPL_OK;
}

static cpl_status parse_setting(settings *s, const char *text, const cpl_host *host, cpl_error *err)
{
    const struct {
        const char *key;
        unsigned long long *value;
    } keys[] = {
        {"fixed_us", &s->fixed_us},         {"per_token_ns", &s->per_token_ns}, {"spin", &s->spin},
        {"fail_every", &s->fail_every},     {"lose_after", &s->lose_after},     {"fail_load", &s->fail_load},
        {"fail_open", &s->fail_open},       {"rectangles", &s->rectangles},     {"wants", &s->wants},
        {"batch_tokens", &s->batch_tokens}, {"team_stages", &s->team_stages},   {"stall_every", &s->stall_every},
        {"stall_us", &s->stall_us},         {"int8_percent", &s->int8_percent}, {"int8_noise", &s->int8_noise}};
    size_t n = strcspn(text, "=");
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        if (strlen(keys[i].key) != n || strncmp(text, keys[i].key, n) != 0) continue;
        char *end = NULL;
        errno = 0;
        if (text[n] == '=' && text[n + 1] >= '0' && text[n + 1] <= '9')
            *keys[i].value = strtoull(text + n + 1, &end, 10);
        if (!end || *end || errno) return host->fail(err, CPL_INVALID, "fake: setting '%s' is not KEY=NUMBER", text);
        return CPL_OK;
    }
    return host->fail(
        err, CPL_INVALID,
        "fake: unknown setting '%s': fixed_us, per_token_ns, spin, fail_every, lose_after, fail_load, fail_open, "
        "rectangles, wants, batch_tokens, team_stages, stall_every, stall_us, int8_percent and "
        "int8_noise are known",
        text);
}

static void unload(cpl_weights *w)
{
    if (w) {
        cpl_host host = w->host;
        host.release(w, sizeof *w);
    }
}

static cpl_status load(cpl_weights **out, const cpl_model *model, const cpl_load_options *o, cpl_load_report *report,
                       const cpl_host *host, cpl_error *err)
{
    *out = NULL;
    settings set = {.int8_percent = 100,
                    .wants = 1u << CPL_WANT_LOGITS | 1u << CPL_WANT_POOLED | 1u << CPL_WANT_TOKENS};
    for (const char *const *s = o->settings; s && *s; s++) {
        cpl_status st = parse_setting(&set, *s, host, err);
        if (st) return st;
    }
    if (set.fail_load) return host->fail(err, CPL_INTERNAL, "fake: load fails, as fail_load asked for");
    if (o->precision != CPL_PRECISION_FP32 && o->precision != CPL_PRECISION_INT8)
        return host->fail(err, CPL_UNSUPPORTED, "fake: fp32 and int8 only");
    cpl_weights *w = host->allocate(sizeof *w, 64);
    if (!w) return host->fail(err, CPL_NO_MEMORY, "out of memory: fake needs %zu bytes", sizeof *w);
    w->host = *host;
    if (o->precision == CPL_PRECISION_INT8) {
        set.fixed_us = set.fixed_us * set.int8_percent / 100;
        set.per_token_ns = set.per_token_ns * set.int8_percent / 100;
    } else {
        set.int8_noise = 0;
    }
    w->set = set;
    w->batch_tokens = set.batch_tokens ? (uint32_t)set.batch_tokens : BATCH_TOKENS;
    w->labels = model->arch.labels;
    w->hidden = model->arch.hidden;
    w->max_length = model->max_length;
    w->batch_tokens_max = o->batch_tokens_max;
    w->batch_sequences_max = o->batch_sequences_max;
    atomic_init(&w->passes, 0);
    *report = (cpl_load_report){.weight_bytes = sizeof *w, .precision = o->precision, .batch_tokens = w->batch_tokens};
    snprintf(report->kernels, sizeof report->kernels, "hash");
    *out = w;
    return CPL_OK;
}

static void close_session(cpl_session *s)
{
    if (!s) return;
    const cpl_host *host = &s->weights->host;
    size_t n = s->weights->batch_sequences_max;
    host->release(s->plan.order, n * sizeof *s->plan.order);
    host->release(s->plan.rectangles, n * sizeof *s->plan.rectangles);
    host->release(s->tensors.ids, s->cells * sizeof(int64_t));
    host->release(s->tensors.type_ids, s->cells * sizeof(int64_t));
    host->release(s->tensors.mask, s->cells * sizeof(int64_t));
    host->release(s, sizeof *s);
}

static cpl_status open_session(cpl_session **out, cpl_weights *w, cpl_error *err)
{
    const cpl_host *host = &w->host;
    *out = NULL;
    if (w->set.fail_open) return host->fail(err, CPL_INTERNAL, "fake: open fails, as fail_open asked for");
    cpl_session *s = host->allocate(sizeof *s, 64);
    if (!s) return host->fail(err, CPL_NO_MEMORY, "out of memory: fake needs %zu bytes", sizeof *s);
    s->weights = w;
    if (w->set.rectangles) {
        size_t n = w->batch_sequences_max;
        s->cells = w->batch_tokens_max > w->max_length ? w->batch_tokens_max : w->max_length;
        s->plan.n_max = (uint32_t)n;
        s->plan.order = host->allocate(n * sizeof *s->plan.order, 64);
        s->plan.rectangles = host->allocate(n * sizeof *s->plan.rectangles, 64);
        s->tensors.ids = host->allocate(s->cells * sizeof(int64_t), 64);
        s->tensors.type_ids = host->allocate(s->cells * sizeof(int64_t), 64);
        s->tensors.mask = host->allocate(s->cells * sizeof(int64_t), 64);
        if (!s->plan.order || !s->plan.rectangles || !s->tensors.ids || !s->tensors.type_ids || !s->tensors.mask) {
            close_session(s);
            return host->fail(err, CPL_NO_MEMORY, "out of memory: fake needs %zu cells", s->cells);
        }
    }
    *out = s;
    return CPL_OK;
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void spend_ns(const settings *s, uint64_t ns)
{
    if (!ns) return;
    if (s->spin) {
        for (uint64_t end = now_ns() + ns; now_ns() < end;) {
        }
        return;
    }
    struct timespec t = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
    while (nanosleep(&t, &t) && errno == EINTR) {
    }
}

static void spend(const settings *s, uint64_t tokens) { spend_ns(s, s->fixed_us * 1000 + s->per_token_ns * tokens); }

/* The contract's side of the engine: what it promised about batches holds. */
static cpl_status check_batch(const cpl_weights *w, const cpl_batch *b, cpl_error *err)
{
    const cpl_host *host = &w->host;
    if (!(w->set.wants >> b->want & 1))
        return host->fail(err, CPL_UNSUPPORTED, "fake: want %d is not offered", b->want);
    if (b->want == CPL_WANT_LOGITS && !w->labels) return host->fail(err, CPL_UNSUPPORTED, "fake: model has no labels");
    if (!b->n || b->cu_seqlens[0]) return host->fail(err, CPL_INVALID, "fake: batch is empty or starts behind 0");
    uint32_t longest = 0;
    for (uint32_t i = 0; i < b->n; i++) {
        if (b->cu_seqlens[i + 1] <= b->cu_seqlens[i])
            return host->fail(err, CPL_INVALID, "fake: cu_seqlens don't rise");
        uint32_t n = b->cu_seqlens[i + 1] - b->cu_seqlens[i];
        if (n > longest) longest = n;
    }
    if (longest != b->max_len) return host->fail(err, CPL_INVALID, "fake: max_len is %u, not %u", b->max_len, longest);
    if (longest > w->max_length) return host->fail(err, CPL_INVALID, "fake: sequence of %u tokens", longest);
    if (b->n > w->batch_sequences_max) return host->fail(err, CPL_INVALID, "fake: %u sequences in a pass", b->n);
    if (b->n > 1 && b->cu_seqlens[b->n] > w->batch_tokens_max)
        return host->fail(err, CPL_INVALID, "fake: %u tokens in a pass", b->cu_seqlens[b->n]);
    return CPL_OK;
}

static void write_rows(const cpl_weights *w, const int32_t *ids, const uint8_t *types, uint32_t n, cpl_want want,
                       float *rows)
{
    uint32_t width = want == CPL_WANT_LOGITS ? w->labels : w->hidden;
    for (uint32_t k = want == CPL_WANT_TOKENS ? 1 : n; k <= n; k++, rows += width) {
        uint64_t digest = cpl_fake_digest(ids, types, k);
        for (uint32_t c = 0; c < width; c++) {
            rows[c] = cpl_fake_value(digest, c);
            if (w->set.int8_noise) rows[c] += cpl_fake_value(digest, c + width) * (float)w->set.int8_noise / 1000;
        }
    }
}

/* Reads every sequence back out of its padded rectangle: what padding code got wrong shows in the rows. */
static cpl_status run_rectangles(cpl_session *s, const cpl_batch *b, float *rows, cpl_error *err)
{
    const cpl_weights *w = s->weights;
    const cpl_rectangle_helper *helper = w->host.rectangles;
    cpl_rectangle_limits limits = {.tokens_max = (uint32_t)s->cells, .launch_tokens = 64};
    cpl_status st = helper->make(&s->plan, b, &limits, err);
    if (st) return st;
    s->padding += s->plan.tokens_padding;
    uint32_t width = b->want == CPL_WANT_LOGITS ? w->labels : w->hidden;
    for (uint32_t i = 0; i < s->plan.count; i++) {
        const cpl_rectangle *r = &s->plan.rectangles[i];
        helper->fill(&s->plan, i, b, 0, &s->tensors);
        for (uint32_t row = 0; row < r->rows; row++) {
            uint32_t sequence = s->plan.order[r->first + row];
            size_t at = (size_t)row * r->width, to = b->want == CPL_WANT_TOKENS ? b->cu_seqlens[sequence] : sequence;
            uint64_t h = 0xcbf29ce484222325u;
            for (uint32_t k = 0; k < r->width && s->tensors.mask[at + k]; k++) {
                int32_t id = (int32_t)s->tensors.ids[at + k];
                h = (h ^ ((uint64_t)(uint32_t)id << 8 | (uint8_t)s->tensors.type_ids[at + k])) * 0x100000001b3u;
                if (b->want == CPL_WANT_TOKENS)
                    for (uint32_t c = 0; c < width; c++) rows[(to + k) * width + c] = cpl_fake_value(h, c);
            }
            if (b->want == CPL_WANT_TOKENS) continue;
            for (uint32_t c = 0; c < width; c++) rows[to * width + c] = cpl_fake_value(h, c);
        }
    }
    return CPL_OK;
}

/* One stage of a team: each member's share is the sequences of its turn, and what a stage costs. */
typedef struct stage {
    const cpl_weights *weights;
    const cpl_batch *batch;
    float *rows;
    uint32_t members;
    uint32_t *shares; /* times each member's share was done */
} stage;

static void do_share(void *arg, uint32_t member)
{
    const stage *t = arg;
    const cpl_batch *b = t->batch;
    uint32_t width = b->want == CPL_WANT_LOGITS ? t->weights->labels : t->weights->hidden;
    spend(&t->weights->set, b->cu_seqlens[b->n] / t->members);
    for (uint32_t i = member; i < b->n; i += t->members) {
        size_t from = b->cu_seqlens[i], to = b->want == CPL_WANT_TOKENS ? from : i;
        write_rows(t->weights, b->ids + from, b->type_ids + from, b->cu_seqlens[i + 1] - b->cu_seqlens[i], b->want,
                   t->rows + to * width);
    }
    t->shares[member]++;
}

/* All rows in each of the stages; a share left out or done twice is found. */
static cpl_status run_team(const cpl_weights *w, const cpl_batch *b, cpl_team *team, float *rows, cpl_error *err)
{
    enum { MEMBERS_MAX = 64 };
    uint32_t shares[MEMBERS_MAX] = {0};
    if (team->size < 2 || team->size > MEMBERS_MAX)
        return w->host.fail(err, CPL_INVALID, "fake: a team of %u", team->size);
    stage t = {w, b, rows, team->size, shares};
    for (uint32_t k = 1; k <= w->set.team_stages; k++) {
        team->parallel(team, do_share, &t);
        for (uint32_t i = 0; i < team->size; i++)
            if (shares[i] != k)
                return w->host.fail(err, CPL_INTERNAL, "fake: share %u was done %u times in %u stages", i, shares[i],
                                    k);
    }
    return CPL_OK;
}

static cpl_status run(cpl_session *s, const cpl_batch *b, cpl_team *team, float *rows, cpl_error *err)
{
    cpl_weights *w = s->weights;
    cpl_status st = check_batch(w, b, err);
    if (st) return st;
    uint64_t pass = atomic_fetch_add(&w->passes, 1) + 1;
    if (w->set.stall_every && pass % w->set.stall_every == 0) spend_ns(&w->set, w->set.stall_us * 1000);
    bool shared = team && w->set.team_stages && !w->set.rectangles;
    if (!shared) spend(&w->set, b->cu_seqlens[b->n]);
    if (w->set.fail_every && pass % w->set.fail_every == 0)
        return w->host.fail(err, CPL_INTERNAL, "fake: pass %llu fails, as fail_every asked for",
                            (unsigned long long)pass);
    if (w->set.lose_after && pass > w->set.lose_after)
        return w->host.fail(err, CPL_UNAVAILABLE, "fake: device lost, as lose_after asked for");
    if (w->set.rectangles) return run_rectangles(s, b, rows, err);
    if (shared) return run_team(w, b, team, rows, err);
    uint32_t width = b->want == CPL_WANT_LOGITS ? w->labels : w->hidden;
    for (uint32_t i = 0; i < b->n; i++) {
        size_t from = b->cu_seqlens[i], to = b->want == CPL_WANT_TOKENS ? from : i;
        write_rows(w, b->ids + from, b->type_ids + from, b->cu_seqlens[i + 1] - b->cu_seqlens[i], b->want,
                   rows + to * width);
    }
    return CPL_OK;
}

static uint64_t padding(const cpl_session *s) { return s->padding; }

const cpl_backend cpl_backend_fake = {.abi = CPL_BACKEND_ABI,
                                      .size = sizeof(cpl_backend),
                                      .name = "fake",
                                      .summary =
                                          "no model: rows are hashes of the ids, with programmable cost and faults",
                                      .probe = probe,
                                      .load = load,
                                      .open = open_session,
                                      .run = run,
                                      .padding = padding,
                                      .close = close_session,
                                      .unload = unload};
