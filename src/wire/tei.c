/* SPDX-License-Identifier: Apache-2.0 */
/* tei.c - /rerank and /embed as text-embeddings-inference has them, so that its clients work unchanged.
 *
 * The idea: one small reader of JSON fields, which says what is wrong with which field, and the rest is op.c's. Ranks
 * are sorted by logits in fp32, before the sigmoid, which saturates and would make ties of them; equal logits keep the
 * order of the request. Fields that TEI ignores are ignored.
 *
 * Like TEI with auto_truncate, a text that is too long is cut; "truncate": false is honoured by counting first.
 * What we don't have (truncating from the left, prompts) is refused by name. The scores' form is named in the header
 * x-score-activation. Threads: the call's network thread. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/error.h"
#include "wire/op.h"

static const char content_json[] = "application/json";

/* ---- errors -------------------------------------------------------------------------------------------------- */

static const char *error_type(int http_status)
{
    switch (http_status) {
    case 400:
    case 405:
    case 413:
    case 415:
    case 422: return "Validation";
    case 404: return "NotFound";
    case 429: return "Overloaded";
    case 503: return "Unhealthy";
    default: return "Backend";
    }
}

void cpl_tei_error_body(cpl_buf *out, int http_status, const char *message)
{
    cpl_json_writer w = {.out = out};
    cpl_json_open(&w, NULL, '{');
    cpl_json_text(&w, "error", message);
    cpl_json_text(&w, "error_type", error_type(http_status));
    cpl_json_close(&w, '}');
}

static int http_status_of(cpl_status st)
{
    switch (st) {
    case CPL_INVALID: return 422;
    case CPL_CORRUPT: return 400; /* the body's JSON */
    case CPL_NOT_FOUND: return 404;
    case CPL_QUEUE_FULL:
    case CPL_NO_MEMORY: return 429;
    case CPL_UNAVAILABLE: return 503;
    case CPL_DEADLINE: return 504;
    default: return 424;
    }
}

static void fail(cpl_call *call, const cpl_error *err)
{
    cpl_wire_check_loss(call, err->status);
    cpl_call_fail(call, http_status_of(err->status), err->what);
}

/* ---- fields -------------------------------------------------------------------------------------------------- */

static cpl_status read_bool(bool *out, const json_t *body, const char *key, bool otherwise, cpl_error *err)
{
    const json_t *v = json_object_get(body, key);
    *out = v && !json_is_null(v) ? json_is_true(v) : otherwise;
    if (!v || json_is_null(v) || json_is_boolean(v)) return CPL_OK;
    return cpl_fail(err, CPL_INVALID, "'%s' must be true or false", key);
}

/* index: the text's place in the list `key`; SIZE_MAX: it is no list. */
static cpl_status check_text(cpl_text *out, const json_t *v, const cpl_wire *w, const char *key, size_t index,
                             cpl_error *err)
{
    char place[32] = "";
    if (index < SIZE_MAX) snprintf(place, sizeof place, "[%zu]", index);
    if (!json_is_string(v))
        return cpl_fail(err, CPL_INVALID, "'%s%s' is not a string (token ids are not taken)", key, place);
    *out = (cpl_text){json_string_value(v), json_string_length(v)};
    if (out->size <= w->options.limits.text_bytes_max) return CPL_OK;
    return cpl_fail(err, CPL_INVALID, "'%s%s' has %zu bytes, more than the limit of %u", key, place, out->size,
                    w->options.limits.text_bytes_max);
}

/* A string, or with `many` a list of 1 to pairs_max of them, into op->texts. */
static cpl_status read_texts(cpl_wire_op *op, size_t *n, const cpl_wire *w, const char *key, cpl_error *err)
{
    const json_t *v = json_object_get(op->body, key);
    if (!v) return cpl_fail(err, CPL_INVALID, "missing field '%s'", key);
    const size_t count = json_is_array(v) ? json_array_size(v) : 1;
    if (count == 0) return cpl_fail(err, CPL_INVALID, "'%s' is empty", key);
    if (count > w->options.limits.pairs_max)
        return cpl_fail(err, CPL_INVALID, "'%s' has %zu entries, more than the limit of %u", key, count,
                        w->options.limits.pairs_max);
    if (count > op->texts_cap) {
        cpl_text *grown = realloc(op->texts, count * sizeof *grown);
        if (!grown) return cpl_fail_memory(err, count * sizeof *grown);
        op->texts = grown;
        op->texts_cap = count;
    }
    *n = count;
    if (!json_is_array(v)) return check_text(&op->texts[0], v, w, key, SIZE_MAX, err);
    cpl_status st = CPL_OK;
    for (size_t i = 0; i < count && !st; i++) st = check_text(&op->texts[i], json_array_get(v, i), w, key, i, err);
    return st;
}

/* The texts' pair of fields, as in both requests. *cut: may texts be cut? */
static cpl_status read_truncation(bool *cut, const json_t *body, cpl_error *err)
{
    const json_t *side = json_object_get(body, "truncation_direction");
    cpl_status st = read_bool(cut, body, "truncate", true, err);
    if (st || !side || json_is_null(side)) return st;
    const char *s = json_string_value(side);
    if (s && (!strcmp(s, "Right") || !strcmp(s, "right"))) return CPL_OK;
    if (s && (!strcmp(s, "Left") || !strcmp(s, "left")))
        return cpl_fail(err, CPL_INVALID, "'truncation_direction' Left is not supported: texts are cut at their end");
    return cpl_fail(err, CPL_INVALID, "'truncation_direction' must be Left or Right");
}

/* With "truncate": false, a sequence of more tokens than the model takes is an error. */
static cpl_status check_length(cpl_wire_op *op, const cpl_engine_model *m, cpl_text a, const cpl_text *b,
                               cpl_error *err)
{
    size_t count = 0, more = 0;
    cpl_status st = cpl_tokenizer_count(m->tokenizer, op->home->scratch, a, &count, err);
    if (!st && b) st = cpl_tokenizer_count(m->tokenizer, op->home->scratch, *b, &more, err);
    if (st) return st;
    count += more + cpl_tokenizer_added(m->tokenizer, b != NULL);
    if (count <= m->max_length) return CPL_OK;
    return cpl_fail(err, CPL_INVALID, "inputs must have at most %u tokens, and one has %zu ('truncate' is false)",
                    m->max_length, count);
}

static cpl_status parse(cpl_wire_op *op, const uint8_t *data, size_t n, cpl_error *err)
{
    cpl_status st = cpl_json_parse(&op->body, "request body", (const char *)data, n, err);
    if (!st && !json_is_object(op->body)) st = cpl_fail(err, CPL_INVALID, "the request's body must be a JSON object");
    return st;
}

/* The one that the field `model` names; the only one whatever it says: some clients must send a name. */
static cpl_status find_model(cpl_wire_op *op, cpl_error *err)
{
    const json_t *v = json_object_get(op->body, "model");
    cpl_status st = cpl_wire_op_hold(op, json_string_value(v), json_string_length(v), err);
    return st == CPL_NOT_FOUND && !cpl_wire_op_hold(op, NULL, 0, NULL) ? CPL_OK : st;
}

/* ---- /rerank ------------------------------------------------------------------------------------------------- */

typedef struct rank {
    float raw;
    uint32_t index;
} rank;

static int by_score(const void *a, const void *b)
{
    const rank *x = a, *y = b;
    if (x->raw != y->raw && !isnan(x->raw) && !isnan(y->raw)) return x->raw < y->raw ? 1 : -1;
    if (isnan(x->raw) != isnan(y->raw)) return isnan(x->raw) ? 1 : -1;
    return x->index < y->index ? -1 : 1;
}

/* In place of ranks or vectors, an object where clients expect an array: nobody takes it for a result. */
static void reply_tokenized(cpl_wire_op *op, const cpl_task_result *r, size_t items)
{
    cpl_buf *out = &op->home->out;
    cpl_json_writer w = {.out = out};
    cpl_buf_clear(out);
    cpl_json_open(&w, NULL, '{');
    cpl_json_text(&w, "mode", cpl_wire_mode_name(CPL_MODE_TOKENIZE));
    cpl_json_int(&w, "items", (int64_t)items);
    cpl_json_int(&w, "tokens", (int64_t)r->tokens);
    cpl_json_close(&w, '}');
    cpl_wire_op_latency_ns(op, items);
    cpl_wire_respond(op->call, 200, content_json, out);
}

static void reply_ranks(cpl_wire_op *op, const cpl_task_result *r)
{
    cpl_buf *out = &op->home->out;
    cpl_json_writer w = {.out = out};
    if (cpl_wire_op_tokenized(op)) {
        reply_tokenized(op, r, op->list.count);
        return;
    }
    rank *ranks = malloc(r->n * sizeof *ranks);
    if (!ranks) {
        cpl_call_finish(op->call, CPL_GRPC_RESOURCE_EXHAUSTED, "out of memory");
        return;
    }
    for (size_t i = 0; i < r->n; i++) ranks[i] = (rank){r->rows[i], (uint32_t)i};
    qsort(ranks, r->n, sizeof *ranks, by_score);
    cpl_buf_clear(out);
    cpl_json_open(&w, NULL, '[');
    for (size_t i = 0; i < r->n; i++) {
        const double raw = ranks[i].raw;
        const cpl_text text = op->list.pairs[ranks[i].index].document;
        cpl_json_open(&w, NULL, '{');
        cpl_json_int(&w, "index", ranks[i].index);
        if (op->return_text) cpl_json_bytes(&w, "text", text.data, text.size);
        cpl_json_float(&w, "score", op->squash == CPL_SCORE_SIGMOID ? 1 / (1 + exp(-raw)) : raw);
        cpl_json_close(&w, '}');
    }
    cpl_json_close(&w, ']');
    free(ranks);
    cpl_wire_op_latency_ns(op, r->n);
    cpl_call_header(op->call, "x-score-activation", op->activation);
    cpl_wire_respond(op->call, 200, content_json, out);
}

static cpl_status reserve_pairs(cpl_pair_list *list, size_t n, cpl_error *err)
{
    list->count = n;
    if (n <= list->cap) return CPL_OK;
    cpl_pair *grown = realloc(list->pairs, n * sizeof *grown);
    if (!grown) return cpl_fail_memory(err, n * sizeof *grown);
    list->pairs = grown;
    list->cap = n;
    return CPL_OK;
}

static cpl_status start_rerank(cpl_wire_op *op, cpl_call *call, const uint8_t *data, size_t n, cpl_wire *w,
                               cpl_error *err)
{
    cpl_task_spec spec = {.op = CPL_OP_SCORE, .form = CPL_SCORE_RAW};
    bool raw = false, cut = true;
    size_t count = 0;
    cpl_text query = {0};
    cpl_status st = parse(op, data, n, err);
    if (!st && !json_object_get(op->body, "query")) st = cpl_fail(err, CPL_INVALID, "missing field 'query'");
    if (!st) st = check_text(&query, json_object_get(op->body, "query"), w, "query", SIZE_MAX, err);
    if (!st) st = read_texts(op, &count, w, "texts", err);
    if (!st) st = read_bool(&raw, op->body, "raw_scores", false, err);
    if (!st) st = read_bool(&op->return_text, op->body, "return_text", false, err);
    if (!st) st = read_truncation(&cut, op->body, err);
    if (!st) st = find_model(op, err);
    if (!st) st = cpl_wire_choose_label(&spec, op, err);
    if (!st) st = reserve_pairs(&op->list, count, err);
    if (st) return st;
    const cpl_engine_model *m = cpl_wire_op_model(op);
    for (size_t i = 0; i < count && !st; i++) {
        op->list.pairs[i] = (cpl_pair){query, op->texts[i]};
        if (!cut && m->model->task == CPL_TASK_CROSS_ENCODER) st = check_length(op, m, query, &op->texts[i], err);
        if (!cut && m->model->task == CPL_TASK_EMBEDDER) st = check_length(op, m, op->texts[i], NULL, err);
    }
    if (st) return st;
    /* TEI's default is the sigmoid whatever the model's own is. */
    const bool logits = m->model->task == CPL_TASK_CROSS_ENCODER;
    op->squash = logits && !raw ? CPL_SCORE_SIGMOID : CPL_SCORE_IDENTITY;
    op->activation = !logits ? "cosine" : raw ? "identity" : "sigmoid";
    op->reply = reply_ranks;
    op->fail = fail;
    spec.pairs = op->list.pairs;
    spec.n = count;
    return cpl_wire_op_submit(op, call, &spec, err);
}

typedef cpl_status start_fn(cpl_wire_op *op, cpl_call *call, const uint8_t *data, size_t n, cpl_wire *w,
                            cpl_error *err);

static void begin(cpl_call *call, const uint8_t *data, size_t n, cpl_wire *w, start_fn *start)
{
    cpl_error err = {0};
    cpl_wire_op *op = cpl_wire_op_take(cpl_wire_loop_of(call), &err);
    cpl_status st = op ? start(op, call, data, n, w, &err) : err.status;
    if (!st) return;
    if (op) cpl_wire_op_give(op);
    fail(call, &err);
}

void cpl_tei_rerank(cpl_call *call, const uint8_t *data, size_t n, void *wire)
{
    begin(call, data, n, wire, start_rerank);
}

/* ---- /embed -------------------------------------------------------------------------------------------------- */

static void reply_vectors(cpl_wire_op *op, const cpl_task_result *r)
{
    cpl_buf *out = &op->home->out;
    cpl_json_writer w = {.out = out};
    const size_t width = op->dimensions ? op->dimensions : r->width;
    if (cpl_wire_op_tokenized(op)) {
        reply_tokenized(op, r, op->texts_count);
        return;
    }
    cpl_buf_clear(out);
    cpl_json_open(&w, NULL, '[');
    for (size_t i = 0; i < r->n; i++) {
        const float *row = r->rows + i * r->width;
        double sum = 0;
        for (size_t k = 0; k < width; k++) sum += (double)row[k] * row[k];
        const double by = op->normalize && sum > 0 ? 1 / sqrt(sum) : 1;
        cpl_json_open(&w, NULL, '[');
        for (size_t k = 0; k < width; k++) cpl_json_float(&w, NULL, row[k] * by);
        cpl_json_close(&w, ']');
    }
    cpl_json_close(&w, ']');
    cpl_wire_op_latency_ns(op, r->n);
    cpl_wire_respond(op->call, 200, content_json, out);
}

static cpl_status read_dimensions(cpl_wire_op *op, const cpl_engine_model *m, cpl_error *err)
{
    const json_t *v = json_object_get(op->body, "dimensions");
    const json_int_t d = json_integer_value(v);
    op->dimensions = 0;
    if (!v || json_is_null(v)) return CPL_OK;
    if (!json_is_integer(v) || d < 1 || d > (json_int_t)m->model->arch.hidden)
        return cpl_fail(err, CPL_INVALID, "'dimensions' must be a number from 1 to %u", m->model->arch.hidden);
    op->dimensions = (uint32_t)d;
    return CPL_OK;
}

static cpl_status start_embed(cpl_wire_op *op, cpl_call *call, const uint8_t *data, size_t n, cpl_wire *w,
                              cpl_error *err)
{
    cpl_task_spec spec = {.op = CPL_OP_EMBED, .form = CPL_SCORE_RAW};
    bool cut = true;
    size_t count = 0;
    cpl_status st = parse(op, data, n, err);
    if (!st) st = read_texts(op, &count, w, "inputs", err);
    if (!st) st = read_bool(&op->normalize, op->body, "normalize", true, err);
    if (!st) st = read_truncation(&cut, op->body, err);
    if (!st) st = find_model(op, err);
    if (st) return st;
    const cpl_engine_model *m = cpl_wire_op_model(op);
    const json_t *prompt = json_object_get(op->body, "prompt_name");
    if (prompt && !json_is_null(prompt))
        return cpl_fail(err, CPL_INVALID, "'prompt_name' is not supported: put the prompt in front of the text");
    st = read_dimensions(op, m, err);
    for (size_t i = 0; i < count && !st && !cut; i++) st = check_length(op, m, op->texts[i], NULL, err);
    if (st) return st;
    op->reply = reply_vectors;
    op->texts_count = count;
    op->fail = fail;
    spec.texts = op->texts;
    spec.n = count;
    return cpl_wire_op_submit(op, call, &spec, err);
}

void cpl_tei_embed(cpl_call *call, const uint8_t *data, size_t n, void *wire)
{
    begin(call, data, n, wire, start_embed);
}
