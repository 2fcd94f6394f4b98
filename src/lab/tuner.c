/* SPDX-License-Identifier: Apache-2.0 */
/* tuner.c - what tune.h's search needs of the world: which variants there are, what each costs in accuracy, and how
 * much a candidate answers within the objective. The ideas: accuracy is asked of the same server that is measured, over
 * the wire, so that what is judged is what would be served (fp32 of the first backend is the reference, the same pairs
 * for all); speed is the peak of load/peak.h, so a candidate's figure is a promise and not a closed loop's throughput.
 * A server that doesn't start is a candidate with nothing to offer and its reason. Invariant: one server at a time,
 * none left behind. Threads: the caller's. Rejected: comparing closed-loop throughputs (they prefer whatever waits
 * longest). */
#include "lab/tuner.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "lab/child.h"
#include "lab/machine.h"
#include "load/agreement.h"
#include "load/peak.h"
#include "load/server_totals.h"
#include "net/client.h"
#include "wire/infer_client.h"

enum { START_TIMEOUT_MS = 60000, STOP_GRACE_MS = 20000, ARGS_MAX = 64, CHUNK = 16, POOL_PAIRS = 8192 };

static void say(const cpl_tuner *t, const char *fmt, ...) CPL_PRINTF(2, 3);
static void say(const cpl_tuner *t, const char *fmt, ...)
{
    char line[400];
    va_list args;
    if (!t->options.progress) return;
    va_start(args, fmt);
    vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    t->options.progress(t->options.user, line);
}

/* ---- servers --------------------------------------------------------------------------------------------------- */

typedef struct served {
    cpl_child child;
    char texts[8][96];
    char program[1024];
    const char *argv[ARGS_MAX];
} served;

/* policy "timeout:2", workers and tokens as text; NULL: the server's defaults. */
static cpl_status start(served *s, cpl_tuner *t, const cpl_tuner_variant *v, const char *policy, const char *workers,
                        const char *tokens, cpl_error *err)
{
    const cpl_tuner_options *o = &t->options;
    const char *wait = policy ? strchr(policy, ':') : NULL;
    const ssize_t got = o->program ? 0 : readlink("/proc/self/exe", s->program, sizeof s->program - 1);
    size_t n = 0, k = 0;
    if (got < 0) return cpl_fail(err, CPL_IO, "can't tell which file this program is");
    s->program[got] = 0;
    const char *const fixed[] = {o->program ? o->program : s->program,
                                 "serve",
                                 "--model",
                                 o->model,
                                 "--backend",
                                 v->backend,
                                 "--precision",
                                 v->precision,
                                 "--listen",
                                 "127.0.0.1:0"};
    for (; n < sizeof fixed / sizeof *fixed; n++) s->argv[n] = fixed[n];
    if (policy) snprintf(s->texts[k++], sizeof s->texts[0], "batching.policy=%.*s", (int)strcspn(policy, ":"), policy);
    if (wait) snprintf(s->texts[k++], sizeof s->texts[0], "batching.timeout_ms=%.40s", wait + 1);
    if (workers) snprintf(s->texts[k++], sizeof s->texts[0], "workers=%.20s", workers);
    if (tokens) snprintf(s->texts[k++], sizeof s->texts[0], "batching.max_batch_tokens=%.20s", tokens);
    for (size_t i = 0; i < k; i++) {
        s->argv[n++] = "--set";
        s->argv[n++] = s->texts[i];
    }
    for (size_t i = 0; o->sets && o->sets[i]; i++) {
        if (n + 3 > ARGS_MAX) return cpl_fail(err, CPL_INVALID, "more than %d arguments for a server", ARGS_MAX);
        s->argv[n++] = "--set";
        s->argv[n++] = o->sets[i];
    }
    s->argv[n] = NULL;
    t->servers++;
    return cpl_child_start(&s->child, s->argv, START_TIMEOUT_MS, err);
}

static void stop(served *s) { cpl_child_stop(&s->child, STOP_GRACE_MS, NULL); }

/* ---- accuracy -------------------------------------------------------------------------------------------------- */

typedef struct chunk {
    float scores[CHUNK];
    size_t n;
    bool good;
    char why[160];
} chunk;

static void on_scores(void *user, const cpl_reply *reply)
{
    chunk *c = user;
    cpl_infer_reply r;
    cpl_error e;
    if (reply->code) {
        snprintf(c->why, sizeof c->why, "%s: %.120s", cpl_grpc_code_name(reply->code), reply->message);
    } else if (cpl_infer_reply_decode(&r, c->scores, CHUNK, reply->data, reply->size, &e)) {
        snprintf(c->why, sizeof c->why, "%.150s", e.what);
    } else {
        c->good = r.scores == c->n;
        if (!c->good) snprintf(c->why, sizeof c->why, "%zu scores for %zu pairs", r.scores, c->n);
    }
}

/* Raw scores of the pool's first n pairs. */
static cpl_status score_pairs(double *out, size_t n, const cpl_tuner *t, const char *address, cpl_error *err)
{
    static const char *const raw[] = {"x-raw-scores", "1", NULL};
    const cpl_client_options options = {.target = address, .log = t->options.log};
    cpl_client *client = NULL;
    cpl_buf request = {0};
    cpl_status st = cpl_client_open(&client, &options, err);
    for (size_t i = 0; !st && i < n; i += CHUNK) {
        chunk c = {.n = n - i < CHUNK ? n - i : CHUNK};
        cpl_buf_clear(&request);
        cpl_infer_request_encode(&request, cpl_pool_pairs(t->pool) + i, c.n);
        st = cpl_buf_status(&request, err);
        if (!st)
            st = cpl_client_call(client, 0, CPL_INFER_PATH, request.data, request.size, raw, 120000000000u, on_scores,
                                 &c, err);
        if (!st) cpl_client_run(client, UINT64_MAX, true);
        if (!st && !c.good) st = cpl_fail(err, CPL_CORRUPT, "the server's scores can't be compared: %s", c.why);
        for (size_t k = 0; !st && k < c.n; k++) out[i + k] = c.scores[k];
    }
    cpl_client_close(client);
    cpl_buf_deinit(&request);
    return st;
}

static void on_totals(void *user, const cpl_reply *reply)
{
    cpl_server_totals totals = {0};
    if (!reply->code && !cpl_server_totals_decode(&totals, reply->data, reply->size, NULL))
        *(uint32_t *)user = totals.batch_tokens;
    cpl_server_totals_deinit(&totals);
}

/* What a pass of the server holds at most when nothing is asked for: where the search of that begins. */
static uint32_t own_tokens(const cpl_tuner *t, const char *address)
{
    uint32_t tokens = 0;
    const cpl_client_options options = {.target = address, .log = t->options.log};
    cpl_client *client = NULL;
    if (!cpl_client_open(&client, &options, NULL) &&
        !cpl_client_call(client, 0, CPL_SERVER_TOTALS_PATH, "", 0, NULL, 10000000000u, on_totals, &tokens, NULL))
        cpl_client_run(client, UINT64_MAX, true);
    cpl_client_close(client);
    return tokens;
}

static cpl_status variant_scores(double *out, size_t n, cpl_tuner *t, cpl_tuner_variant *v, cpl_error *err)
{
    served *s = calloc(1, sizeof *s);
    if (!s) return cpl_fail_memory(err, sizeof *s);
    cpl_status st = start(s, t, v, NULL, NULL, NULL, err);
    if (!st) st = score_pairs(out, n, t, s->child.address, err);
    if (!st) v->own_tokens = own_tokens(t, s->child.address);
    stop(s);
    free(s);
    return st;
}

static void judge_variant(cpl_tuner *t, cpl_tuner_variant *v, const double *reference, const double *scores, size_t n)
{
    double rho = NAN;
    if (cpl_spearman(&rho, reference, scores, n, NULL)) rho = NAN;
    if (cpl_kendall(&v->kendall, reference, scores, n, NULL)) v->kendall = NAN;
    v->loss = 1 - rho;
    v->allowed = v->loss <= t->options.loss_max;
    if (!v->allowed)
        snprintf(v->why, sizeof v->why, "loses %.5f, more than the %g permitted", v->loss, t->options.loss_max);
}

/* What every variant loses against fp32 of the first backend. */
static cpl_status measure_losses(cpl_tuner *t, cpl_error *err)
{
    size_t n = t->options.quality_pairs;
    if (n > cpl_pool_size(t->pool)) n = cpl_pool_size(t->pool);
    double *reference = malloc(n * sizeof *reference), *scores = malloc(n * sizeof *scores);
    cpl_status st = reference && scores ? CPL_OK : cpl_fail_memory(err, n * sizeof *scores);
    cpl_tuner_variant first = {.precision = "fp32"};
    memcpy(first.backend, t->variants[0].backend, sizeof first.backend);
    if (!st) st = variant_scores(reference, n, t, &first, err);
    for (uint32_t i = 0; !st && i < t->variant_count; i++) {
        cpl_tuner_variant *v = &t->variants[i];
        cpl_error e;
        if (!strcmp(v->backend, first.backend) && !strcmp(v->precision, "fp32")) {
            v->allowed = true;
            v->loss = 0;
            v->kendall = 1;
            v->own_tokens = first.own_tokens;
        } else if (variant_scores(scores, n, t, v, &e)) {
            v->loss = v->kendall = NAN;
            snprintf(v->why, sizeof v->why, "%.199s", e.what);
        } else {
            judge_variant(t, v, reference, scores, n);
        }
        say(t, "%s %s: loss %.5f%s%s", v->backend, v->precision, v->loss, *v->why ? ": " : "", v->why);
        t->space.allowed[i] = v->allowed;
        t->space.tokens[i] = cpl_tuner_tokens_place(t, v->own_tokens);
    }
    free(reference);
    free(scores);
    return st;
}

/* ---- speed ----------------------------------------------------------------------------------------------------- */

static cpl_status peak_of(cpl_peak *peak, const cpl_tuner *t, const char *address, double guess, uint32_t round,
                          cpl_error *err)
{
    const cpl_tuner_options *o = &t->options;
    const cpl_load_run_options load = {.target = address,
                                       .slo = o->slo,
                                       .rate = guess,
                                       .seed = o->seed + 1000 * round,
                                       .warmup = 10,
                                       .requests = 4 * cpl_samples_needed(o->slo.part),
                                       .duration_s = o->seconds,
                                       .timeout_s = 30,
                                       .log = o->log};
    cpl_workload *w = NULL;
    cpl_status st = cpl_workload_open(&w, t->pool, &cpl_dialect_couplet_grpc, o->pairs_per_request, 0, err);
    if (!st) st = cpl_peak_run(peak, &load, w, NULL, NULL, err);
    cpl_workload_close(w);
    return st;
}

static cpl_status measure(void *user, cpl_tune_tried *tried, uint32_t round, cpl_error *err)
{
    cpl_tuner *t = user;
    const cpl_tuner_variant *v = &t->variants[tried->at[CPL_TUNE_VARIANT]];
    const char *policy = t->values[CPL_TUNE_POLICY][tried->at[CPL_TUNE_POLICY]],
               *workers = t->values[CPL_TUNE_WORKERS][tried->at[CPL_TUNE_WORKERS]],
               *tokens = t->values[CPL_TUNE_TOKENS][tried->at[CPL_TUNE_TOKENS]];
    const double before = tried->rate;
    served *s = calloc(1, sizeof *s);
    cpl_peak *peak = calloc(1, sizeof *peak);
    cpl_error e = {0};
    cpl_status st = s && peak ? CPL_OK : cpl_fail_memory(err, sizeof *s + sizeof *peak);
    if (st) {
        free(s);
        free(peak);
        return st;
    }
    tried->rate = 0;
    st = start(s, t, v, policy, workers, tokens, &e);
    if (!st) st = peak_of(peak, t, s->child.address, before * 0.8 / t->options.pairs_per_request, round, &e);
    stop(s);
    if (st) {
        snprintf(tried->why, sizeof tried->why, "%.199s", e.what);
    } else {
        tried->rate = peak->rate * t->options.pairs_per_request;
        for (uint32_t i = 0; i < peak->count; i++)
            if (peak->probes[i].rate == peak->rate) tried->latency_ms = peak->probes[i].latency_ms;
        if (!(tried->rate > 0)) snprintf(tried->why, sizeof tried->why, "the objective holds at no rate");
    }
    say(t, "%s%s %s, %s, %s threads, %s tokens: %.1f pairs/s%s%s", round ? "again: " : "", v->backend, v->precision,
        policy, workers, tokens, tried->rate, *tried->why ? ": " : "", tried->why);
    free(s);
    free(peak);
    return st == CPL_NO_MEMORY ? cpl_fail_memory(err, 0) : CPL_OK;
}

/* ---- the whole ------------------------------------------------------------------------------------------------- */

cpl_status cpl_tuner_run(cpl_tuner **out, const cpl_tuner_options *options, cpl_error *err)
{
    *out = NULL;
    const uint64_t start_ns = cpl_clock_ns();
    if (!(options->slo.part > 0))
        return cpl_fail(err, CPL_INVALID, "tuning needs an objective with a percentile, as p99=20ms");
    cpl_tuner *t = calloc(1, sizeof *t);
    if (!t) return cpl_fail_memory(err, sizeof *t);
    t->options = *options;
    t->search.best = -1;
    *out = t;
    cpl_status st = cpl_lab_result_open(&t->machine, err);
    if (!st) st = cpl_lab_capture(t->machine, err);
    if (!st) st = cpl_tuner_space(t, err);
    if (!st) st = cpl_pool_open_shaped(&t->pool, options->pairs, &options->shape, options->seed, POOL_PAIRS, err);
    if (!st) st = measure_losses(t, err);
    if (!st) st = cpl_tune_search(&t->search, &t->space, measure, t, err);
    t->seconds = (double)(cpl_clock_ns() - start_ns) / 1e9;
    return st;
}

void cpl_tuner_close(cpl_tuner *t)
{
    if (!t) return;
    cpl_pool_close(t->pool);
    cpl_lab_result_close(t->machine);
    free(t);
}
