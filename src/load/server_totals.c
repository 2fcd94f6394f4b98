/* SPDX-License-Identifier: Apache-2.0 */
/* server_totals.c - reads a StatsReply and takes differences. The one idea: the server only ever adds up, and whoever
 * wants to know about an interval looks twice; so any number of observers see exact figures and none resets another's.
 * The reply is data from outside: bucket numbers are checked before they index anything. Threads: no state. */
#include "load/server_totals.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "proto/stats.pb-c.h"

static void copy_text(char *out, size_t cap, const char *text) { snprintf(out, cap, "%s", text ? text : ""); }

static bool decode_histogram(cpl_histogram *out, const Couplet__V1__StatsHistogram *in)
{
    memset(out, 0, sizeof *out);
    if (!in) return true;
    if (in->n_bucket != in->n_times) return false;
    out->count = in->count;
    out->sum = in->sum;
    out->min = in->min;
    out->max = in->max;
    for (size_t i = 0; i < in->n_bucket; i++) {
        if (in->bucket[i] >= CPL_HISTOGRAM_BUCKETS) return false;
        out->buckets[in->bucket[i]] = in->times[i];
    }
    return true;
}

static void decode_model(cpl_server_totals *out, const Couplet__V1__StatsModel *m)
{
    copy_text(out->model, sizeof out->model, *m->dir ? m->dir : m->name);
    copy_text(out->model_note, sizeof out->model_note, m->note);
    copy_text(out->architecture, sizeof out->architecture, m->architecture);
    copy_text(out->backend, sizeof out->backend, m->backend);
    copy_text(out->isa, sizeof out->isa, m->isa);
    copy_text(out->precision_requested, sizeof out->precision_requested, m->precision_requested);
    copy_text(out->precision_effective, sizeof out->precision_effective, m->precision_effective);
    copy_text(out->precision_reason, sizeof out->precision_reason, m->precision_reason);
    out->weight_bytes = m->weight_bytes;
    out->max_length = m->max_length;
    out->workers = m->workers;
    out->batch_tokens = m->batch_tokens;
}

static void decode_counters(cpl_server_totals *out, const Couplet__V1__StatsReply *r)
{
    copy_text(out->version, sizeof out->version, r->version);
    out->pid = r->pid;
    out->monotonic_ns = r->monotonic_ns;
    out->rss_bytes = r->rss_bytes;
    out->cpu_ns = r->cpu_ns;
    out->net_threads = r->net_threads;
    out->tasks_done = r->tasks_done;
    out->tasks_failed = r->tasks_failed;
    out->sequences = r->sequences;
    out->tokens = r->tokens;
    out->passes = r->passes;
    out->busy_ns = r->busy_ns;
    out->padding_tokens = r->padding_tokens;
    copy_text(out->mode, sizeof out->mode, r->mode);
    for (size_t i = 0; i < r->n_models; i++) out->ids_made += r->models[i]->ids_made;
}

cpl_status cpl_server_totals_decode(cpl_server_totals *out, const uint8_t *data, size_t size, cpl_error *err)
{
    memset(out, 0, sizeof *out);
    Couplet__V1__StatsReply *r = couplet__v1__stats_reply__unpack(NULL, size, data);
    if (!r) return cpl_fail(err, CPL_CORRUPT, "the server's statistics are not a StatsReply");
    decode_counters(out, r);
    bool good = decode_histogram(&out->pass_sequences, r->pass_sequences) &&
                decode_histogram(&out->pass_tokens, r->pass_tokens) && decode_histogram(&out->queue_ns, r->queue_ns) &&
                decode_histogram(&out->compute_ns, r->compute_ns) &&
                decode_histogram(&out->tokenize_ns, r->tokenize_ns);
    if (r->n_models) decode_model(out, r->models[0]);
    if (good && r->config && *r->config) out->config = strdup(r->config);
    couplet__v1__stats_reply__free_unpacked(r, NULL);
    if (!good) return cpl_fail(err, CPL_CORRUPT, "the server's statistics hold a histogram that isn't one");
    out->known = true;
    return CPL_OK;
}

void cpl_server_totals_deinit(cpl_server_totals *t)
{
    free(t->config);
    t->config = NULL;
}

/* min and max of the interval are not known exactly: the edges of its lowest and highest bucket stand for them. */
static void histogram_between(cpl_histogram *out, const cpl_histogram *before, const cpl_histogram *after)
{
    memset(out, 0, sizeof *out);
    out->sum = after->sum - before->sum;
    for (uint32_t i = 0; i < CPL_HISTOGRAM_BUCKETS; i++) {
        if (after->buckets[i] <= before->buckets[i]) continue;
        if (!out->count) out->min = i ? cpl_histogram_upper(i - 1) + 1 : 0;
        out->buckets[i] = after->buckets[i] - before->buckets[i];
        out->count += out->buckets[i];
        out->max = cpl_histogram_upper(i) < after->max ? cpl_histogram_upper(i) : after->max;
    }
}

void cpl_server_totals_between(cpl_server_totals *out, const cpl_server_totals *before, const cpl_server_totals *after)
{
    *out = *after;
    out->config = NULL;
    if (!before->known || !after->known || before->pid != after->pid || after->passes < before->passes) {
        out->known = false;
        copy_text(out->why, sizeof out->why,
                  !before->known  ? before->why
                  : !after->known ? after->why
                                  : "the server was started anew during the run");
        return;
    }
    out->monotonic_ns = after->monotonic_ns - before->monotonic_ns;
    out->cpu_ns = after->cpu_ns - before->cpu_ns;
    out->tasks_done = after->tasks_done - before->tasks_done;
    out->tasks_failed = after->tasks_failed - before->tasks_failed;
    out->sequences = after->sequences - before->sequences;
    out->tokens = after->tokens - before->tokens;
    out->passes = after->passes - before->passes;
    out->busy_ns = after->busy_ns - before->busy_ns;
    out->padding_tokens = after->padding_tokens - before->padding_tokens;
    out->ids_made = after->ids_made - before->ids_made;
    histogram_between(&out->pass_sequences, &before->pass_sequences, &after->pass_sequences);
    histogram_between(&out->pass_tokens, &before->pass_tokens, &after->pass_tokens);
    histogram_between(&out->queue_ns, &before->queue_ns, &after->queue_ns);
    histogram_between(&out->compute_ns, &before->compute_ns, &after->compute_ns);
    histogram_between(&out->tokenize_ns, &before->tokenize_ns, &after->tokenize_ns);
}

void cpl_server_totals_merge(cpl_server_totals *into, const cpl_server_totals *from)
{
    if (!from->known) return;
    if (!into->known) {
        *into = *from;
        into->config = NULL;
        return;
    }
    into->monotonic_ns += from->monotonic_ns;
    into->cpu_ns += from->cpu_ns;
    into->tasks_done += from->tasks_done;
    into->tasks_failed += from->tasks_failed;
    into->sequences += from->sequences;
    into->tokens += from->tokens;
    into->passes += from->passes;
    into->busy_ns += from->busy_ns;
    into->padding_tokens += from->padding_tokens;
    into->ids_made += from->ids_made;
    if (from->rss_bytes > into->rss_bytes) into->rss_bytes = from->rss_bytes;
    cpl_histogram_merge(&into->pass_sequences, &from->pass_sequences);
    cpl_histogram_merge(&into->pass_tokens, &from->pass_tokens);
    cpl_histogram_merge(&into->queue_ns, &from->queue_ns);
    cpl_histogram_merge(&into->compute_ns, &from->compute_ns);
    cpl_histogram_merge(&into->tokenize_ns, &from->tokenize_ns);
}
