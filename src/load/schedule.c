/* SPDX-License-Identifier: Apache-2.0 */
/* schedule.c - arrival times. The one idea: each is the sum of all gaps before it, in double seconds from the start, so
 * no error of a timer or of the sender adds up, and the mean rate is the one asked for.
 * No state but the caller's. Rejected: sleeping one gap after each send (the field's tools do, and drift low). */
#include "load/schedule.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/lines.h"
#include "base/random.h"
#include "load/shape.h"

#define TRACE_S_MAX 1e8 /* three years: in ns, over and over, it stays far from 64 bits */

void cpl_schedule_init(cpl_schedule *s, cpl_arrivals kind, double rate, uint64_t seed, const cpl_trace *trace)
{
    *s = (cpl_schedule){.kind = kind, .rate = trace ? cpl_trace_rate(trace) : rate, .trace = trace};
    s->state = cpl_seed_for(seed, CPL_SEED_ARRIVALS);
}

uint64_t cpl_schedule_next(cpl_schedule *s)
{
    const uint64_t i = s->count++;
    switch (s->kind) {
    case CPL_ARRIVALS_POISSON:
        if (i) s->at_s -= log(((double)(cpl_random_next(&s->state) >> 11) + 0.5) * 0x1p-53) / s->rate;
        break;
    case CPL_ARRIVALS_CONSTANT: s->at_s = (double)i / s->rate; break;
    case CPL_ARRIVALS_REPLAY: {
        const cpl_trace *t = s->trace;
        const double round_s = (double)t->count / s->rate;
        s->at_s = (double)(i / t->count) * round_s + t->at_s[i % t->count];
        break;
    }
    }
    return (uint64_t)(s->at_s * 1e9);
}

/* ---- traces -------------------------------------------------------------------------------------------------- */

double cpl_trace_rate(const cpl_trace *t)
{
    const double length = t->at_s[t->count - 1];
    return length > 0 ? (double)(t->count - 1) / length : 1e9;
}

void cpl_trace_deinit(cpl_trace *t)
{
    free(t->at_s);
    *t = (cpl_trace){0};
}

static cpl_status read_time(double *out, const char *path, uint64_t number, const char *line, size_t n, cpl_error *err)
{
    char text[64], *end = text;
    if (n && *line == '{') {
        json_t *o = NULL;
        cpl_status st = cpl_json_parse(&o, path, line, n, err);
        const json_t *v = json_object_get(o, "at_s");
        *out = json_number_value(v);
        if (!st && !json_is_number(v))
            st = cpl_fail_line(err, CPL_INVALID, path, number, 0, "at_s",
                               "'at_s' must be there and a number of seconds");
        json_decref(o);
        return st;
    }
    if (n < sizeof text) {
        memcpy(text, line, n);
        text[n] = 0;
        *out = strtod(text, &end);
    }
    if (end != text && *end == 0 && isfinite(*out)) return CPL_OK;
    return cpl_fail_line(err, CPL_INVALID, path, number, 0, NULL, "not a number of seconds: '%.*s'",
                         n < 40 ? (int)n : 40, line);
}

static cpl_status add_time(cpl_trace *t, size_t *cap, double at_s, cpl_error *err)
{
    if (t->count == *cap) {
        const size_t more = *cap ? *cap * 2 : 1024;
        double *grown = realloc(t->at_s, more * sizeof *grown);
        if (!grown) return cpl_fail_memory(err, more * sizeof *grown);
        t->at_s = grown;
        *cap = more;
    }
    t->at_s[t->count++] = at_s;
    return CPL_OK;
}

cpl_status cpl_trace_load(cpl_trace *out, const char *path, cpl_error *err)
{
    *out = (cpl_trace){0};
    cpl_lines *lines = NULL;
    size_t cap = 0, n;
    const char *line;
    double at_s = 0, first = 0, last = 0;
    bool end = false;
    cpl_status st = cpl_lines_open(&lines, path, err);
    while (!st && !(st = cpl_lines_next(lines, &line, &n, &end, err)) && !end) {
        if (!n || *line == '#') continue;
        const uint64_t number = cpl_lines_number(lines);
        st = read_time(&at_s, path, number, line, n, err);
        if (!out->count) first = last = at_s;
        if (!st && at_s < last)
            st = cpl_fail_line(err, CPL_INVALID, path, number, 0, NULL, "earlier than the line before: sort the trace");
        if (!st && !(at_s - first <= TRACE_S_MAX))
            st = cpl_fail_line(err, CPL_INVALID, path, number, 0, NULL, "more than %g s after the first", TRACE_S_MAX);
        last = at_s;
        if (!st) st = add_time(out, &cap, at_s - first, err);
    }
    cpl_lines_close(lines);
    if (!st && out->count < 2) st = cpl_fail_file(err, CPL_INVALID, path, "holds fewer than two arrivals");
    if (st) cpl_trace_deinit(out);
    return st;
}
