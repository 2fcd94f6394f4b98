/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_load.c - `couplet load`: one run of the load generator against a server that is up, and what came of it as a
 * table or as JSON. Threads: the main one. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/json.h"
#include "cli/options.h"
#include "cli/progress.h"
#include "load/load.h"
#include "load/peak.h"
#include "load/selftest.h"
#include "load/verdict.h"

static const cpl_flag flags[] = {
    {"target", CPL_FLAG_TEXT, "ADDRESS", "127.0.0.1:50051", "HOST:PORT or unix:PATH of the server"},
    {"dialect", CPL_FLAG_TEXT, "NAME", "couplet-grpc",
     "API the server speaks: couplet-grpc, tei, tei-grpc, cohere, jina, openai, vllm, oip, oip-grpc or infinity"},
    {"model", CPL_FLAG_TEXT, "NAME", NULL, "model's name in requests; vllm, openai and oip need it"},
    {"header", CPL_FLAG_LIST, "NAME: VALUE", NULL, "send this header with every request, as 'authorization: Bearer X'"},
    {"path", CPL_FLAG_TEXT, "PATH", NULL, "send requests to this path instead of the dialect's"},
    {"scenario", CPL_FLAG_TEXT, "NAME", "closed",
     "when requests go out: closed keeps --concurrency in flight; poisson and constant send --rate a second whatever "
     "the server does, replay as --trace says; offline sends all at once"},
    {"concurrency", CPL_FLAG_COUNT, "N", "1", "closed: requests in flight"},
    {"rate", CPL_FLAG_NUMBER, "N", NULL, "poisson, constant: requests a second"},
    {"trace", CPL_FLAG_TEXT, "FILE", NULL,
     "replay: arrivals, one a line, in seconds or as {\"at_s\": seconds}; its end is followed by its start"},
    {"slo", CPL_FLAG_TEXT, "OBJECTIVE", NULL,
     "latency objective: 200 (milliseconds), 20ms or p99=20ms; also count what was answered within it (goodput)"},
    {"early-stop", CPL_FLAG_SWITCH, NULL, NULL,
     "end the measurement as soon as an --slo with a percentile holds, or fails, with 99 % confidence"},
    {"search-peak", CPL_FLAG_SWITCH, NULL, NULL,
     "find the highest rate (poisson or constant) at which an --slo with a percentile holds; --rate is where to begin"},
    {"connections", CPL_FLAG_COUNT, "N", NULL, "connections they share; not given: one each, at most 8"},
    {"pairs-per-request", CPL_FLAG_COUNT, "N", "1", "pairs in one request"},
    {"pairs", CPL_FLAG_TEXT, "FILE", NULL,
     "TSV or JSON lines of pairs to send; not given: the file COUPLET_DATA names, else generated from the seed"},
    {"lengths", CPL_FLAG_TEXT, "TOKENS", NULL,
     "generate pairs of so many tokens: 32, 16-128, lognormal:MEDIAN,SIGMA, or fit:FILE, a log-normal fitted to a "
     "file's pairs"},
    {"documents-per-query", CPL_FLAG_COUNT, "N", NULL,
     "so many pairs in a row have the same query; not given: 1, or --pairs-per-request where the API has one query a "
     "request"},
    {"duplicates", CPL_FLAG_NUMBER, "PART", "0",
     "part of the pairs that repeat earlier ones; with --documents-per-query, of the queries"},
    {"requests", CPL_FLAG_COUNT, "N", NULL, "requests to measure; not given with --duration: no limit, else 1000"},
    {"warmup", CPL_FLAG_COUNT, "N", NULL, "requests before them, not measured; not given: 10, at least --concurrency"},
    {"warmup-stable", CPL_FLAG_SWITCH, NULL, NULL,
     "warm up until latency has settled besides: three quarter seconds within 10 %, at most 10 s"},
    {"duration", CPL_FLAG_NUMBER, "SECONDS", NULL, "end the measurement after this long"},
    {"timeout", CPL_FLAG_NUMBER, "SECONDS", "120", "give a request up after this long"},
    {"seed", CPL_FLAG_COUNT, "N", "1", "seed of generated texts and of the order of those of a file"},
    {"json", CPL_FLAG_SWITCH, NULL, NULL, "print one JSON document"},
    {NULL, CPL_FLAG_SWITCH, NULL, NULL, NULL},
};

static double ms(double ns) { return ns / 1e6; }

static void write_latency(cpl_json_writer *w, const cpl_histogram *h)
{
    cpl_json_open(w, "latency_ms", '{');
    cpl_json_double(w, "mean", ms(cpl_histogram_mean(h)));
    cpl_json_double(w, "p50", ms((double)cpl_histogram_at(h, 0.5)));
    cpl_json_double(w, "p95", ms((double)cpl_histogram_at(h, 0.95)));
    cpl_json_double(w, "p99", ms((double)cpl_histogram_at(h, 0.99)));
    if (h->count >= cpl_samples_needed(0.999)) cpl_json_double(w, "p99.9", ms((double)cpl_histogram_at(h, 0.999)));
    if (h->count >= cpl_samples_needed(0.9999)) cpl_json_double(w, "p99.99", ms((double)cpl_histogram_at(h, 0.9999)));
    cpl_json_double(w, "max", ms(h->count ? (double)h->max : 0));
    cpl_json_close(w, '}');
}

static void write_server(cpl_json_writer *w, const cpl_server_totals *s)
{
    cpl_json_open(w, "server", '{');
    cpl_json_bool(w, "known", s->known);
    if (s->known) {
        double seconds = (double)s->monotonic_ns / 1e9;
        cpl_json_text(w, "model", s->model);
        cpl_json_text(w, "model_note", s->model_note);
        cpl_json_text(w, "backend", s->backend);
        cpl_json_text(w, "isa", s->isa);
        cpl_json_open(w, "precision", '{');
        cpl_json_text(w, "requested", s->precision_requested);
        cpl_json_text(w, "effective", s->precision_effective);
        cpl_json_text(w, "reason", s->precision_reason);
        cpl_json_close(w, '}');
        cpl_json_int(w, "passes", (int64_t)s->passes);
        cpl_json_int(w, "sequences", (int64_t)s->sequences);
        cpl_json_int(w, "tokens", (int64_t)s->tokens);
        cpl_json_double(w, "queue_ms_mean", ms(cpl_histogram_mean(&s->queue_ns)));
        cpl_json_double(w, "compute_ms_mean", ms(cpl_histogram_mean(&s->compute_ns)));
        cpl_json_double(w, "cpu_cores", seconds > 0 ? (double)s->cpu_ns / 1e9 / seconds : 0);
        cpl_json_double(w, "busy_cores", seconds > 0 ? (double)s->busy_ns / 1e9 / seconds : 0);
        cpl_json_int(w, "rss_bytes", (int64_t)s->rss_bytes);
    } else {
        cpl_json_text(w, "why", s->why);
    }
    cpl_json_close(w, '}');
}

static void write_selftest(cpl_json_writer *w, const cpl_selftest *t)
{
    if (!t->ran) return;
    cpl_json_open(w, "selftest", '{');
    cpl_json_double(w, "requests_per_s", t->requests_per_s);
    cpl_json_double(w, "cpu_us_per_request", t->cpu_us);
    if (t->open) {
        cpl_json_double(w, "schedule_kept", t->achieved);
        cpl_json_double(w, "lag_ms_p50", t->lag_p50_ms);
        cpl_json_double(w, "lag_ms_p99", t->lag_p99_ms);
    }
    cpl_json_close(w, '}');
}

/* Each by itself, with what stands against it. */
static void write_percentiles(cpl_json_writer *w, const cpl_load_result *r, const cpl_verdict *v)
{
    static const double list[] = {0.5, 0.9, 0.95, 0.99, 0.999, 0.9999};
    char why[CPL_PERCENTILE_WHY];
    cpl_json_open(w, "percentiles", '[');
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        cpl_json_open(w, NULL, '{');
        cpl_json_double(w, "percentile", list[i] * 100);
        cpl_json_double(w, "ms", ms((double)cpl_histogram_at(&r->measure.latency_ns, list[i])));
        cpl_json_bool(w, "valid", cpl_verdict_percentile(v, list[i], r->measure.requests, why));
        if (*why) cpl_json_text(w, "why", why);
        cpl_json_close(w, '}');
    }
    cpl_json_close(w, ']');
    cpl_json_double(w, "percentile_supported", v->highest * 100);
}

static void write_json(cpl_buf *out, const cpl_load_result *r, const cpl_verdict *v, const char *source)
{
    const cpl_measure *m = &r->measure;
    char name[32];
    cpl_json_writer w = {.out = out, .pretty = true};
    cpl_json_open(&w, NULL, '{');
    cpl_json_text(&w, "scenario", r->scenario);
    cpl_json_int(&w, "concurrency", r->concurrency);
    cpl_json_int(&w, "connections", r->connections);
    cpl_json_int(&w, "pairs_per_request", r->pairs_per_request);
    cpl_json_text(&w, "pairs_source", source);
    cpl_json_int(&w, "requests_asked", (int64_t)r->asked);
    cpl_json_int(&w, "requests", (int64_t)m->requests);
    cpl_json_int(&w, "failed", (int64_t)m->failed);
    cpl_json_bool(&w, "cut_by_time", r->cut_by_time);
    cpl_json_int(&w, "warmup_requests", (int64_t)r->warmup);
    cpl_json_double(&w, "warmup_s", r->warmup_s);
    cpl_json_int(&w, "repeated_pairs", (int64_t)r->repeats);
    cpl_json_double(&w, "seconds", m->seconds);
    cpl_json_double(&w, "pairs_per_s", m->pairs_per_s);
    cpl_json_open(&w, "pairs_per_s_interval", '[');
    cpl_json_double(&w, NULL, m->throughput.low);
    cpl_json_double(&w, NULL, m->throughput.high);
    cpl_json_close(&w, ']');
    cpl_json_double(&w, "pairs_per_s_window_p95", m->window_p95);
    cpl_json_double(&w, "window_s", m->window_s);
    write_latency(&w, &m->latency_ns);
    if (r->open) {
        cpl_json_double(&w, "offered_per_s", r->offered);
        cpl_json_double(&w, "lag_ms_p50", ms((double)cpl_histogram_at(&r->lag_ns, 0.5)));
        cpl_json_double(&w, "lag_ms_p99", ms((double)cpl_histogram_at(&r->lag_ns, 0.99)));
    }
    if (r->slo.ms > 0) {
        static const char *const verdicts[] = {"open", "holds", "fails"};
        cpl_json_double(&w, "slo_ms", r->slo.ms);
        if (r->slo.part > 0) cpl_json_double(&w, "slo_percentile", r->slo.part * 100);
        if (r->slo.part > 0) cpl_json_text(&w, "slo_early_stop", verdicts[r->slo_verdict]);
        cpl_json_double(&w, "goodput_pairs_per_s", r->goodput);
        cpl_json_double(&w, "within_slo", r->within_slo);
    }
    cpl_json_double(&w, "in_flight_mean", m->in_flight_mean);
    cpl_json_int(&w, "in_flight_max", m->in_flight_max);
    cpl_json_double(&w, "client_cpu_cores", r->client_cpu_cores);
    cpl_json_text(&w, "client_priority", r->priority);
    write_selftest(&w, &r->selftest);
    cpl_json_open(&w, "errors", '[');
    for (uint32_t i = 0; i < r->error_kinds; i++) {
        cpl_json_open(&w, NULL, '{');
        cpl_json_text(&w, "code", cpl_load_error_name(&r->errors[i], name));
        cpl_json_int(&w, "count", (int64_t)r->errors[i].count);
        cpl_json_text(&w, "first", r->errors[i].message);
        cpl_json_close(&w, '}');
    }
    cpl_json_close(&w, ']');
    cpl_json_bool(&w, "valid", v->valid);
    cpl_json_text(&w, "reasons", v->reasons);
    cpl_json_bool(&w, "beyond_capacity", v->beyond);
    cpl_json_text(&w, "note", v->note);
    write_percentiles(&w, r, v);
    write_server(&w, &r->server);
    cpl_json_close(&w, '}');
    cpl_buf_text(out, "\n");
}

static void print_server(const cpl_server_totals *s)
{
    if (!s->known) {
        printf("server       not known: %s\n", s->why);
        return;
    }
    double seconds = (double)s->monotonic_ns / 1e9;
    printf("server       %s on %s %s, %s%s%s\n", s->model, s->backend, s->isa, s->precision_effective,
           *s->precision_reason ? ": " : "", s->precision_reason);
    if (*s->model_note) printf("             %s\n", s->model_note);
    printf("batches      %.1f sequences, %.0f tokens a pass; %.1f tokens a sequence\n",
           s->passes ? (double)s->sequences / (double)s->passes : 0.0,
           s->passes ? (double)s->tokens / (double)s->passes : 0.0,
           s->sequences ? (double)s->tokens / (double)s->sequences : 0.0);
    printf("time         queue %.2f ms, compute %.2f ms, tokenize %.3f ms a request\n",
           ms(cpl_histogram_mean(&s->queue_ns)), ms(cpl_histogram_mean(&s->compute_ns)),
           ms(cpl_histogram_mean(&s->tokenize_ns)));
    if (seconds > 0)
        printf("cores        server %.2f (computing %.2f), memory %.0f MB\n", (double)s->cpu_ns / 1e9 / seconds,
               (double)s->busy_ns / 1e9 / seconds, (double)s->rss_bytes / 1e6);
}

static void print_table(const cpl_load_result *r, const cpl_verdict *v, const char *source)
{
    const cpl_measure *m = &r->measure;
    const cpl_histogram *h = &m->latency_ns;
    char name[32];
    if (r->open)
        printf("load         open loop (%s), %.1f requests/s offered over %u connections, %u pairs a request\n",
               r->scenario, r->offered, r->connections, r->pairs_per_request);
    else if (r->at_once)
        printf("load         offline, all at once over %u connections, %u pairs a request: latency means nothing\n",
               r->connections, r->pairs_per_request);
    else
        printf("load         closed loop, %u in flight over %u connections, %u pairs a request\n", r->concurrency,
               r->connections, r->pairs_per_request);
    printf("pairs        %s", source);
    if (r->repeats) printf("; %llu had been sent before", (unsigned long long)r->repeats);
    printf("\nrequests     %llu", (unsigned long long)(m->requests + m->failed));
    if (r->cut_by_time) printf(" of %llu (time was up)", (unsigned long long)r->asked);
    printf(" in %.2f s, %llu failed\n", m->seconds, (unsigned long long)m->failed);
    printf("throughput   %.1f pairs/s", m->pairs_per_s);
    if (m->throughput.known) printf(" (95 %%: %.1f to %.1f)", m->throughput.low, m->throughput.high);
    printf(", %.1f requests/s; TP P95 %.1f over windows of %.3g s\n", m->pairs_per_s / r->pairs_per_request,
           m->window_p95, m->window_s);
    printf("latency ms   mean %.2f  p50 %.2f%s  p95 %.2f%s  p99 %.2f%s  max %.2f\n", ms(cpl_histogram_mean(h)),
           ms((double)cpl_histogram_at(h, 0.5)), v->p50 && !v->beyond ? "" : "~", ms((double)cpl_histogram_at(h, 0.95)),
           v->p95 && !v->beyond ? "" : "~", ms((double)cpl_histogram_at(h, 0.99)), v->p99 && !v->beyond ? "" : "~",
           ms(h->count ? (double)h->max : 0));
    if (v->highest > 0.99)
        printf("             p%g %.2f\n", v->highest * 100, ms((double)cpl_histogram_at(h, v->highest)));
    if (r->open)
        printf("sent late    p50 %.3f  p99 %.3f ms by the generator, which is part of the latency\n",
               ms((double)cpl_histogram_at(&r->lag_ns, 0.5)), ms((double)cpl_histogram_at(&r->lag_ns, 0.99)));
    if (r->slo.ms > 0)
        printf("goodput      %.1f pairs/s within %g ms, %.2f %% of the requests%s\n", r->goodput, r->slo.ms,
               r->within_slo * 100,
               r->slo_verdict == CPL_SLO_HOLDS   ? ": the objective holds"
               : r->slo_verdict == CPL_SLO_FAILS ? ": the objective fails"
                                                 : "");
    printf("in flight    %.2f on average, %u at most; generator used %.3f cores at %s priority\n", m->in_flight_mean,
           m->in_flight_max, r->client_cpu_cores, r->priority);
    if (r->selftest.ran)
        printf("self-test    against a null server %.0f requests/s, %.2f us of CPU each", r->selftest.requests_per_s,
               r->selftest.cpu_us);
    if (r->selftest.open) printf("; sent late p50 %.3f p99 %.3f ms", r->selftest.lag_p50_ms, r->selftest.lag_p99_ms);
    if (r->selftest.ran) printf("\n");
    print_server(&r->server);
    for (uint32_t i = 0; i < r->error_kinds; i++)
        printf("error        %s x %llu, first: %s\n", cpl_load_error_name(&r->errors[i], name),
               (unsigned long long)r->errors[i].count, r->errors[i].message);
    printf("verdict      %s%s%s\n", v->valid ? "VALID" : "INVALID", *v->reasons ? ": " : "", v->reasons);
    if (*v->note) printf("             %s\n", v->note);
    if (v->beyond)
        printf("             ~ INVALID: percentiles beyond capacity grow with the length of the run\n");
    else if (*v->percentiles)
        printf("             ~ INVALID by itself: %s; highest supported: p%g\n", v->percentiles, v->highest * 100);
}

static void on_progress(void *user, uint64_t measured, uint64_t asked)
{
    (void)asked;
    cpl_progress_update(user, measured);
}

static cpl_status read_options(cpl_load_run_options *o, const cpl_args *args, const cpl_dialect **dialect,
                               cpl_error *err)
{
    *o = (cpl_load_run_options){.target = cpl_args_text(args, "target"),
                                .concurrency = (uint32_t)cpl_args_count(args, "concurrency"),
                                .connections = (uint32_t)cpl_args_count(args, "connections"),
                                .requests = cpl_args_count(args, "requests"),
                                .warmup = cpl_args_count(args, "warmup"),
                                .duration_s = cpl_args_number(args, "duration"),
                                .timeout_s = cpl_args_number(args, "timeout"),
                                .rate = cpl_args_number(args, "rate"),
                                .trace = cpl_args_text(args, "trace"),
                                .early_stop = cpl_args_switch(args, "early-stop"),
                                .warmup_stable = cpl_args_switch(args, "warmup-stable"),
                                .seed = cpl_args_count(args, "seed"),
                                .progress = on_progress};
    const bool search = cpl_args_switch(args, "search-peak");
    const char *slo = cpl_args_text(args, "slo");
    if (!o->requests && o->duration_s <= 0 && !search) o->requests = 1000;
    if (!cpl_args_given(args, "warmup")) o->warmup = o->concurrency > 10 ? o->concurrency : 10;
    cpl_status st = cpl_dialect_find(dialect, cpl_args_text(args, "dialect"), err);
    if (!st) st = cpl_scenario_find(&o->scenario, cpl_args_text(args, "scenario"), err);
    if (!st && slo) st = cpl_slo_parse(&o->slo, slo, err);
    if (st) return st;
    if ((o->early_stop || search) && !(o->slo.part > 0))
        return cpl_fail(err, CPL_INVALID, "--%s needs --slo with a percentile, as p99=20ms",
                        search ? "search-peak" : "early-stop");
    if (search && !o->scenario->open) st = cpl_scenario_find(&o->scenario, "poisson", err);
    if (st) return st;
    const bool replay = !strcmp(o->scenario->name, "replay");
    const bool closed = !o->scenario->open && !o->scenario->at_once;
    if (!closed && cpl_args_given(args, "concurrency"))
        return cpl_fail(err, CPL_INVALID, "--concurrency is of the closed loop, not of scenario '%s'",
                        o->scenario->name);
    if (!closed) o->concurrency = 0;
    if (search && replay) return cpl_fail(err, CPL_INVALID, "--search-peak needs a rate to vary: not scenario replay");
    if ((replay || !o->scenario->open) && cpl_args_given(args, "rate"))
        return cpl_fail(err, CPL_INVALID, "--rate is of scenarios poisson and constant");
    if (!replay && o->trace) return cpl_fail(err, CPL_INVALID, "--trace is of scenario replay");
    if (o->scenario->open && !replay && !(search && !cpl_args_given(args, "rate")) && !(o->rate > 0 && o->rate <= 1e7))
        return cpl_fail(err, CPL_INVALID, "scenario '%s' needs --rate: requests a second, up to 10 million",
                        o->scenario->name);
    return CPL_OK;
}

/* "name: value" as {name, value, ..., NULL}; the texts are in *store. */
static cpl_status read_headers(const char **out, cpl_buf *store, const cpl_args *args, cpl_error *err)
{
    size_t n = 0, from = 0;
    const char *const *given = cpl_args_list(args, "header");
    for (size_t i = 0; given[i]; i++) {
        const char *colon = strchr(given[i], ':');
        if (!colon || colon == given[i] || i == CPL_LOAD_HEADERS_MAX)
            return cpl_fail(err, CPL_INVALID, "--header '%.80s': give at most %d of NAME: VALUE", given[i],
                            CPL_LOAD_HEADERS_MAX);
        cpl_buf_add(store, given[i], (size_t)(colon - given[i]));
        cpl_buf_add(store, "", 1);
        cpl_buf_text(store, colon + 1 + strspn(colon + 1, " "));
        cpl_buf_add(store, "", 1);
    }
    for (; store->data && from < store->size; from += strlen(store->data + from) + 1) {
        for (char *c = store->data + from; n % 2 == 0 && *c; c++)
            if (*c >= 'A' && *c <= 'Z') *c += 'a' - 'A';
        out[n++] = store->data + from;
    }
    out[n] = NULL;
    return cpl_buf_status(store, err);
}

static cpl_status open_workload(cpl_workload **w, cpl_pool **pool, const cpl_load_run_options *o,
                                const cpl_dialect *dialect, const cpl_args *args, cpl_error *err)
{
    uint64_t each = cpl_args_count(args, "pairs-per-request");
    uint64_t requests = o->requests ? o->requests + o->warmup + 4 * (uint64_t)o->concurrency : 0;
    const char *path = cpl_args_text(args, "pairs");
    cpl_shape shape;
    uint64_t shared = cpl_args_count(args, "documents-per-query");
    if (!cpl_args_given(args, "documents-per-query") && dialect->one_query) shared = each;
    if (shared > CPL_POOL_PAIRS_MAX) shared = CPL_POOL_PAIRS_MAX + 1; /* refused by name below */
    cpl_status st = cpl_shape_parse(&shape, cpl_args_text(args, "lengths"), (uint32_t)shared,
                                    cpl_args_number(args, "duplicates"), err);
    if (st) return st;
    if (!path && shape.lengths == CPL_LENGTHS_GIVEN) path = getenv("COUPLET_DATA");
    if (each > CPL_POOL_PAIRS_MAX)
        return cpl_fail(err, CPL_INVALID, "--pairs-per-request %llu: at most %d", (unsigned long long)each,
                        CPL_POOL_PAIRS_MAX);
    uint64_t pairs = requests && requests * each < CPL_POOL_PAIRS_MAX ? requests * each : CPL_POOL_PAIRS_MAX;
    st = cpl_pool_open_shaped(pool, path && *path ? path : NULL, &shape, cpl_args_count(args, "seed"), (size_t)pairs,
                              err);
    return st ? st
              : cpl_workload_open_model(w, *pool, dialect, cpl_args_text(args, "model"), (uint32_t)each, requests, err);
}

/* ---- --search-peak ------------------------------------------------------------------------------------------- */

static const char *const answers[] = {"holds", "fails", "INVALID"};

static void on_probe(void *user, const cpl_peak_trial *p)
{
    if (*(const bool *)user) return;
    printf("%10.1f/s  %-7s  %8.2f ms  %6llu requests%s%s\n", p->rate, answers[p->answer], p->latency_ms,
           (unsigned long long)p->requests, *p->why ? "  " : "", p->why);
    fflush(stdout);
}

static void write_peak(cpl_buf *out, const cpl_peak *peak, const cpl_load_run_options *o, uint32_t pairs,
                       const char *source)
{
    cpl_json_writer w = {.out = out, .pretty = true};
    cpl_json_open(&w, NULL, '{');
    cpl_json_text(&w, "pairs_source", source);
    cpl_json_double(&w, "slo_ms", o->slo.ms);
    cpl_json_double(&w, "slo_percentile", o->slo.part * 100);
    cpl_json_double(&w, "peak_requests_per_s", peak->rate);
    cpl_json_double(&w, "peak_pairs_per_s", peak->rate * pairs);
    cpl_json_double(&w, "fails_at_requests_per_s", peak->next);
    cpl_json_open(&w, "probes", '[');
    for (uint32_t i = 0; i < peak->count; i++) {
        const cpl_peak_trial *p = &peak->probes[i];
        cpl_json_open(&w, NULL, '{');
        cpl_json_double(&w, "rate", p->rate);
        cpl_json_text(&w, "answer", answers[p->answer]);
        cpl_json_double(&w, "latency_ms", p->latency_ms);
        cpl_json_int(&w, "requests", (int64_t)p->requests);
        cpl_json_text(&w, "why", p->why);
        cpl_json_close(&w, '}');
    }
    cpl_json_close(&w, ']');
    cpl_json_close(&w, '}');
    cpl_buf_text(out, "\n");
}

/* *held: did the objective hold at any rate? */
static cpl_status search_peak(const cpl_load_run_options *options, const cpl_workload *w, const char *source, bool json,
                              bool *held, cpl_error *err)
{
    cpl_peak peak;
    cpl_buf text = {0};
    cpl_load_run_options o = *options;
    const uint32_t pairs = cpl_workload_pairs_per_request(w);
    o.progress = NULL;
    cpl_status st = cpl_peak_run(&peak, &o, w, on_probe, &json, err);
    if (st) return st;
    *held = peak.rate > 0;
    if (json) {
        write_peak(&text, &peak, &o, pairs, source);
        st = cpl_buf_status(&text, err);
        if (!st) fwrite(text.data, 1, text.size, stdout);
    } else {
        printf("peak       %.1f requests/s, %.1f pairs/s: p%g within %g ms", peak.rate, peak.rate * pairs,
               o.slo.part * 100, o.slo.ms);
        if (peak.next > 0) printf("; not at %.1f", peak.next);
        printf("\n");
    }
    cpl_buf_deinit(&text);
    return st;
}

/* ---- the command --------------------------------------------------------------------------------------------- */

/* One run, written out; *answered: was any request? */
static cpl_status run_load(const cpl_load_run_options *o, const cpl_workload *w, const char *source, bool json,
                           bool *answered, cpl_error *err)
{
    cpl_load_result *r = NULL;
    cpl_verdict v;
    cpl_buf text = {0};
    cpl_status st = cpl_load_run(&r, o, w, err);
    cpl_progress_finish(o->user);
    if (st) return st;
    cpl_verdict_of(&v, r);
    *answered = r->measure.requests > 0;
    if (json) {
        write_json(&text, r, &v, source);
        st = cpl_buf_status(&text, err);
        if (!st) fwrite(text.data, 1, text.size, stdout);
    } else {
        print_table(r, &v, source);
    }
    cpl_buf_deinit(&text);
    cpl_load_result_close(r);
    return st;
}

static int run(const cpl_args *args)
{
    cpl_error err;
    cpl_log storage;
    cpl_load_run_options o;
    cpl_pool *pool = NULL;
    cpl_workload *w = NULL;
    cpl_progress bar;
    cpl_buf header_texts = {0};
    const char *headers[2 * CPL_LOAD_HEADERS_MAX + 1];
    const cpl_dialect *dialect;
    cpl_status st = read_options(&o, args, &dialect, &err);
    if (!st) st = read_headers(headers, &header_texts, args, &err);
    o.headers = headers;
    o.path = cpl_args_text(args, "path");
    o.log = cpl_cli_log(&storage, NULL);
    o.user = &bar;
    if (!st) st = open_workload(&w, &pool, &o, dialect, args, &err);
    cpl_progress_init(&bar, "requests", o.requests);
    cpl_selftest selftest;
    if (!st) st = cpl_selftest_run(&selftest, &o, w, &err);
    o.selftest = &selftest;
    const bool json = cpl_args_switch(args, "json");
    bool good = false;
    if (!st && cpl_args_switch(args, "search-peak"))
        st = search_peak(&o, w, cpl_pool_source(pool), json, &good, &err);
    else if (!st)
        st = run_load(&o, w, cpl_pool_source(pool), json, &good, &err);
    cpl_workload_close(w);
    cpl_pool_close(pool);
    cpl_buf_deinit(&header_texts);
    return st ? cpl_cli_fail(&err) : good ? 0 : 1;
}

const cpl_command cpl_command_load = {
    .name = "load",
    .summary = "drive a server with load and measure it",
    .flags = flags,
    .details =
        "Keeps --concurrency requests in flight, measures --requests of them (or for --duration seconds, whichever "
        "ends first) after a warm-up, and keeps the load up until the last measured one is answered. Pairs are not "
        "repeated before all have been sent once. Exit status 1 when no request was answered.\n\n"
        "With --scenario poisson, constant or replay requests go out by a schedule that is fixed by rate and seed, and "
        "latency counts from the moment a request was due. Such a run is VALID when the requests went out on time (the "
        "generator's 99th percentile of delay is at most 1 ms, or a tenth of the median latency) and the last third of "
        "them took at most 1.5 times as long as the first.\n\n"
        "A run is VALID when at most 1 request in 1,000 failed, the fastest third ran at most 10 % faster than the "
        "slowest, at least 90 % of the concurrency was really in flight and the generator used at most 90 % of its "
        "core. A percentile q needs ln 0.01 / ln q samples (459 for p99); ~ marks one that has fewer.",
    .run = run,
};
