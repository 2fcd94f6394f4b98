/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_rank.c - `couplet rank`: asks a running server which of some passages answer a query best. The smallest client
 * there is: one call, one table. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/json.h"
#include "cli/options.h"
#include "net/client.h"
#include "base/records.h"
#include "wire/infer_client.h"

enum { PASSAGES_MAX = 100000, TIMEOUT_S = 60 };

typedef struct ranked {
    size_t index;
    float score;
} ranked;

typedef struct rank_job {
    cpl_buf text; /* all passages end to end */
    size_t *ends;
    size_t count, cap;
    cpl_pair *pairs;
    cpl_buf request;
    float *scores;
    ranked *order;
    cpl_infer_reply reply;
    cpl_status status;
    cpl_error error;
} rank_job;

static cpl_status read_passages(rank_job *j, const char *path, cpl_error *err)
{
    cpl_records *records;
    bool end = false;
    cpl_status st = cpl_records_open(&records, path, CPL_RECORDS_BY_NAME, false, err);
    if (st) return st;
    while (!st) {
        st = cpl_records_next(records, &j->text, NULL, &end, err);
        if (st || end) break;
        if (j->count == j->cap) {
            size_t cap = j->cap ? j->cap * 2 : 64;
            size_t *grown = realloc(j->ends, cap * sizeof *grown);
            if (!grown) st = cpl_fail_memory(err, cap * sizeof *grown);
            if (grown) j->ends = grown, j->cap = cap;
        }
        if (!st) j->ends[j->count++] = j->text.size;
        if (j->count > PASSAGES_MAX) st = cpl_fail(err, CPL_INVALID, "more than %d passages", PASSAGES_MAX);
    }
    cpl_records_close(records);
    if (!st && !j->count) st = cpl_fail(err, CPL_INVALID, "no passages: '%s' has no lines", path);
    return st;
}

static cpl_status make_request(rank_job *j, const char *query, cpl_error *err)
{
    j->pairs = calloc(j->count, sizeof *j->pairs);
    j->scores = calloc(j->count, sizeof *j->scores);
    j->order = calloc(j->count, sizeof *j->order);
    if (!j->pairs || !j->scores || !j->order) return cpl_fail_memory(err, j->count * sizeof *j->pairs);
    size_t at = 0;
    for (size_t i = 0; i < j->count; i++) {
        j->pairs[i] = (cpl_pair){cpl_text_of(query), {j->text.data ? j->text.data + at : "", j->ends[i] - at}};
        j->order[i].index = i;
        at = j->ends[i];
    }
    cpl_infer_request_encode(&j->request, j->pairs, j->count);
    return cpl_buf_status(&j->request, err);
}

static void on_reply(void *user, const cpl_reply *r)
{
    rank_job *j = user;
    if (r->code != CPL_GRPC_OK)
        j->status =
            cpl_fail(&j->error, CPL_UNAVAILABLE, "the server answered %s: %s", cpl_grpc_code_name(r->code), r->message);
    else
        j->status = cpl_infer_reply_decode(&j->reply, j->scores, j->count, r->data, r->size, &j->error);
    if (!j->status && j->reply.scores != j->count)
        j->status =
            cpl_fail(&j->error, CPL_CORRUPT, "the server sent %zu scores for %zu passages", j->reply.scores, j->count);
}

static cpl_status ask(rank_job *j, const cpl_args *a, cpl_error *err)
{
    cpl_client *client;
    cpl_client_options o = {.target = cpl_args_text(a, "target"), .connections = 1};
    const char *headers[5] = {NULL};
    size_t n = 0;
    if (cpl_args_switch(a, "raw-scores")) headers[n++] = "x-raw-scores", headers[n++] = "1";
    if (cpl_args_text(a, "model")) headers[n++] = "model", headers[n++] = cpl_args_text(a, "model");
    cpl_status st = cpl_client_open(&client, &o, err);
    if (st) return st;
    j->status = cpl_fail(&j->error, CPL_DEADLINE, "no answer within %d s", TIMEOUT_S);
    st = cpl_client_call(client, 0, CPL_INFER_PATH, j->request.data, j->request.size, n ? headers : NULL,
                         (uint64_t)TIMEOUT_S * 1000000000u, on_reply, j, err);
    if (!st) cpl_client_run(client, cpl_clock_ns() + (TIMEOUT_S + 1) * 1000000000ull, true);
    cpl_client_close(client);
    if (!st && j->status) *err = j->error;
    return st ? st : j->status;
}

/* Best first; equal scores in input order. */
static int by_score(const void *x, const void *y)
{
    const ranked *a = x, *b = y;
    if (a->score != b->score) return a->score > b->score ? -1 : 1;
    return a->index < b->index ? -1 : a->index > b->index;
}

static void print_table(const rank_job *j, size_t top)
{
    printf("rank   score   passage\n");
    for (size_t i = 0; i < top; i++) {
        size_t k = j->order[i].index;
        printf("%4zu  %7.4f  %.*s\n", i + 1, (double)j->scores[k], (int)j->pairs[k].document.size,
               j->pairs[k].document.data);
    }
}

static cpl_status print_json(const rank_job *j, size_t top, cpl_error *err)
{
    cpl_buf out = {0};
    cpl_json_writer w = {.out = &out};
    cpl_json_open(&w, NULL, '{');
    cpl_json_float(&w, "latency_ms", (double)j->reply.latency_ms);
    cpl_json_open(&w, "results", '[');
    for (size_t i = 0; i < top; i++) {
        cpl_json_open(&w, NULL, '{');
        cpl_json_int(&w, "index", (int64_t)j->order[i].index);
        cpl_json_float(&w, "score", (double)j->order[i].score);
        cpl_json_close(&w, '}');
    }
    cpl_json_close(&w, ']');
    cpl_json_close(&w, '}');
    cpl_status st = cpl_buf_status(&out, err);
    if (!st) printf("%s\n", out.data);
    cpl_buf_deinit(&out);
    return st;
}

static cpl_status rank(rank_job *j, const cpl_args *a, cpl_error *err)
{
    if (!cpl_args_text(a, "query")) return cpl_fail(err, CPL_INVALID, "'--query TEXT' is needed");
    cpl_status st = read_passages(j, cpl_args_text(a, "input"), err);
    if (!st) st = make_request(j, cpl_args_text(a, "query"), err);
    if (!st) st = ask(j, a, err);
    if (st) return st;
    for (size_t i = 0; i < j->count; i++) j->order[i].score = j->scores[i];
    qsort(j->order, j->count, sizeof *j->order, by_score);
    size_t top = (size_t)cpl_args_count(a, "top");
    if (!top || top > j->count) top = j->count;
    if (cpl_args_switch(a, "json")) return print_json(j, top, err);
    print_table(j, top);
    return CPL_OK;
}

static int run(const cpl_args *a)
{
    cpl_error err;
    rank_job j = {0};
    cpl_status st = rank(&j, a, &err);
    cpl_buf_deinit(&j.text);
    cpl_buf_deinit(&j.request);
    free(j.ends);
    free(j.pairs);
    free(j.scores);
    free(j.order);
    return st ? cpl_cli_fail(&err) : 0;
}

static const cpl_flag flags[] = {
    {"target", CPL_FLAG_TEXT, "HOST:PORT", "127.0.0.1:50051", "a running couplet server, or unix:PATH"},
    {"query", CPL_FLAG_TEXT, "TEXT", NULL, "what the passages should answer"},
    {"input", CPL_FLAG_TEXT, "FILE", "-", "passages: one a line, or JSON lines {\"text\":..}; - is stdin"},
    {"top", CPL_FLAG_COUNT, "N", "0", "print only the N best; 0: all"},
    {"model", CPL_FLAG_TEXT, "NAME", NULL, "which of the server's models"},
    {"raw-scores", CPL_FLAG_SWITCH, NULL, NULL, "logits instead of the model's activation"},
    {"json", CPL_FLAG_SWITCH, NULL, NULL, "one JSON document on stdout"},
    {0},
};

const cpl_command cpl_command_rank = {
    .name = "rank",
    .summary = "asks a running server which passages answer a query best",
    .flags = flags,
    .run = run,
};
