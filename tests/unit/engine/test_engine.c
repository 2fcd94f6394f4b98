/* SPDX-License-Identifier: Apache-2.0 */
/* test_engine.c - what the engine answers: rows in their places, reducers, refusals, policies, ends of tasks. One thing
 * at a time; test_engine_load.c does many at once. */
#include "unit/engine/fixture.h"

/* ---- results ------------------------------------------------------------------------------------------------------
 */

static void score_once(const char *dir, cpl_score_form form, int32_t label, size_t n, uint32_t max_length,
                       uint32_t threads)
{
    cpl_engine_options o = {.workers = 2, .tokenizer_threads = threads, .inline_text_bytes = threads ? 1 : 0};
    cpl_engine *e = open_engine(dir, NULL, &o);
    cpl_tokenizer_scratch *scratch = open_scratch();
    call c;
    uint64_t seed = n;
    call_init(&c);
    call_fill(&c, CPL_OP_SCORE, n, &seed);
    c.spec.form = form;
    c.spec.label = label;
    c.spec.max_length = max_length;
    for (int again = 0; again < 3; again++) { /* a task is reused */
        assert_int_equal(cpl_engine_submit(e, c.task, &c.spec, scratch, NULL), CPL_OK);
        const cpl_task_result *r = call_wait(&c);
        check_rows(e, &c, scratch);
        assert_true(r->tokens >= n && r->passes >= 1);
    }
    call_deinit(&c);
    cpl_tokenizer_scratch_close(scratch);
    cpl_engine_close(e);
}

static void scores_land_in_their_places(void **state)
{
    (void)state;
    score_once(CROSS_ENCODER, CPL_SCORE_DEFAULT, CPL_LABEL_UNSET, 1, 0, 0);
    score_once(CROSS_ENCODER, CPL_SCORE_DEFAULT, CPL_LABEL_ALL, 200, 0, 0);
    score_once(CROSS_ENCODER, CPL_SCORE_RAW, 0, 77, 0, 0);
    score_once(CROSS_ENCODER, CPL_SCORE_DEFAULT, 0, 50, 9, 0); /* truncated */
    score_once(CROSS_ENCODER, CPL_SCORE_DEFAULT, 0, 300, 0, 3);
    score_once(THREE_LABELS, CPL_SCORE_DEFAULT, 2, 20, 0, 0);
    score_once(THREE_LABELS, CPL_SCORE_RAW, CPL_LABEL_ALL, 20, 0, 0);
}

static void embedder_encodes_a_query_once(void **state)
{
    (void)state;
    enum { N = 60, DISTINCT = 7 };
    cpl_engine *e = open_engine(EMBEDDER, NULL, NULL);
    cpl_tokenizer_scratch *scratch = open_scratch();
    call c;
    uint64_t seed = 4;
    call_init(&c);
    call_fill(&c, CPL_OP_SCORE, N, &seed);
    char copy[TEXT_BYTES];
    for (size_t i = DISTINCT; i < N; i++) c.pairs[i].query = c.pairs[i % DISTINCT].query;
    memcpy(copy, c.pairs[0].query.data, c.pairs[0].query.size); /* equal by content, not by address */
    c.pairs[N - 1].query = (cpl_text){copy, c.pairs[0].query.size};
    assert_int_equal(cpl_engine_submit(e, c.task, &c.spec, scratch, NULL), CPL_OK);
    call_wait(&c);
    check_rows(e, &c, scratch);
    cpl_engine_stats *s = malloc(sizeof *s);
    assert_non_null(s);
    cpl_engine_stats_get(e, s);
    assert_int_equal(s->sequences, N + DISTINCT);
    assert_int_equal(s->tasks_done, 1);
    assert_int_equal(s->tokens, cpl_task_get(c.task)->tokens);
    free(s);
    call_fill(&c, CPL_OP_EMBED, 30, &seed);
    assert_int_equal(cpl_engine_submit(e, c.task, &c.spec, scratch, NULL), CPL_OK);
    call_wait(&c);
    check_rows(e, &c, scratch);
    call_deinit(&c);
    cpl_tokenizer_scratch_close(scratch);
    cpl_engine_close(e);
}

static void ready_ids_give_raw_rows(void **state)
{
    (void)state;
    cpl_engine *e = open_engine(THREE_LABELS, NULL, NULL);
    int32_t ids[] = {1, 2, 3, 4, 5, 6, 7};
    uint8_t types[] = {0, 0, 0, 1, 0, 1, 1}, zeros[7] = {0};
    uint32_t cu[] = {0, 3, 4, 7}; /* also cut from the middle of a longer list */
    call c;
    call_init(&c);
    for (int with_types = 0; with_types < 2; with_types++) {
        const uint8_t *t = with_types ? types : zeros;
        cpl_ids in = {ids, with_types ? types : NULL, cu, 3};
        c.spec.op = CPL_OP_IDS;
        c.spec.ids = &in;
        c.spec.n = 3;
        assert_int_equal(cpl_engine_submit(e, c.task, &c.spec, NULL, NULL), CPL_OK);
        const cpl_task_result *r = call_wait(&c);
        assert_int_equal(r->width, 3);
        for (uint32_t i = 0; i < 3; i++) {
            uint64_t d = cpl_fake_digest(ids + cu[i], t + cu[i], cu[i + 1] - cu[i]);
            for (uint32_t k = 0; k < 3; k++) {
                float v = cpl_fake_value(d, k);
                assert_memory_equal(&v, &r->rows[3 * i + k], sizeof v);
            }
        }
    }
    cpl_ids part = {ids, types, cu + 1, 2};
    c.spec.ids = &part;
    c.spec.n = 2;
    assert_int_equal(cpl_engine_submit(e, c.task, &c.spec, NULL, NULL), CPL_OK);
    const cpl_task_result *r = call_wait(&c);
    for (uint32_t i = 0; i < 2; i++) {
        float v = cpl_fake_value(cpl_fake_digest(ids + cu[i + 1], types + cu[i + 1], cu[i + 2] - cu[i + 1]), 0);
        assert_memory_equal(&v, &r->rows[3 * i], sizeof v);
    }
    call_deinit(&c);
    cpl_engine_close(e);
}

/* ---- refusals -----------------------------------------------------------------------------------------------------
 */

static void expect_refusal(cpl_engine *e, call *c, cpl_tokenizer_scratch *scratch, cpl_status status, const char *words)
{
    cpl_error err = {0};
    assert_int_equal(cpl_engine_submit(e, c->task, &c->spec, scratch, &err), status);
    assert_int_equal(err.status, status);
    if (!strstr(err.what, words)) fail_msg("'%s' does not say '%s'", err.what, words);
    assert_false(call_is_done(c));
}

static void bad_requests_are_refused(void **state)
{
    (void)state;
    cpl_engine *e = open_engine(THREE_LABELS, NULL, NULL);
    cpl_tokenizer_scratch *scratch = open_scratch();
    call c;
    uint64_t seed = 9;
    call_init(&c);
    call_fill(&c, CPL_OP_SCORE, 5, &seed);
    c.spec.label = CPL_LABEL_UNSET;
    expect_refusal(e, &c, scratch, CPL_PRECONDITION, "model.score_label");
    c.spec.label = 3;
    expect_refusal(e, &c, scratch, CPL_INVALID, "label 3 is out of range");
    c.spec.label = -3;
    expect_refusal(e, &c, scratch, CPL_INVALID, "label -3");
    c.spec.label = 0;
    c.spec.n = 0;
    expect_refusal(e, &c, scratch, CPL_INVALID, "no pairs given");
    c.spec.n = 5;
    c.spec.model = 1;
    expect_refusal(e, &c, scratch, CPL_INVALID, "model 1");
    c.spec.model = 0;
    c.spec.priority = 8;
    expect_refusal(e, &c, scratch, CPL_INVALID, "priority 8");
    c.spec.priority = 0;
    c.spec.max_length = 100000;
    expect_refusal(e, &c, scratch, CPL_INVALID, "max_length 100000");
    c.spec.max_length = 2;
    expect_refusal(e, &c, scratch, CPL_INVALID, "pair 0");
    c.spec.max_length = 0;
    c.spec.deadline_ns = cpl_clock_ns();
    expect_refusal(e, &c, scratch, CPL_DEADLINE, "deadline");
    c.spec.deadline_ns = UINT64_MAX;
    c.pairs[3].document = (cpl_text){"seventeen bytes, \xff!", 19};
    expect_refusal(e, &c, scratch, CPL_INVALID, "pair 3: document is not valid UTF-8 at byte 17");
    c.pairs[3].query = (cpl_text){"\xed\xa0\x80", 3};
    expect_refusal(e, &c, scratch, CPL_INVALID, "pair 3: query is not valid UTF-8 at byte 0");
    c.spec.op = CPL_OP_EMBED;
    expect_refusal(e, &c, scratch, CPL_PRECONDITION, "cross-encoder");
    cpl_engine_stats *s = malloc(sizeof *s);
    assert_non_null(s);
    cpl_engine_stats_get(e, s);
    assert_int_equal(s->tasks_refused, 12);
    assert_int_equal(s->tasks_accepted, 0);
    assert_int_equal(s->in_flight_tasks, 0);
    free(s);
    call_deinit(&c);
    cpl_tokenizer_scratch_close(scratch);
    cpl_engine_close(e);
}

static void bad_ids_are_refused(void **state)
{
    (void)state;
    cpl_engine *e = open_engine(CROSS_ENCODER, NULL, NULL);
    const cpl_engine_model *m = cpl_engine_model_at(e, 0);
    int32_t ids[1024] = {0};
    uint8_t types[1024] = {0};
    uint32_t cu[] = {0, 3, 3};
    cpl_ids in = {ids, types, cu, 2};
    call c;
    call_init(&c);
    c.spec.op = CPL_OP_IDS;
    c.spec.ids = &in;
    c.spec.n = 2;
    expect_refusal(e, &c, NULL, CPL_INVALID, "sequence 1 is empty");
    cu[2] = 3 + m->max_length + 1;
    expect_refusal(e, &c, NULL, CPL_INVALID, "sequence 1 has");
    cu[2] = 5;
    ids[4] = (int32_t)m->model->arch.vocab;
    expect_refusal(e, &c, NULL, CPL_INVALID, "outside the vocabulary");
    ids[4] = -1;
    expect_refusal(e, &c, NULL, CPL_INVALID, "sequence 1: id -1 at token 1");
    ids[4] = 0;
    types[0] = 2;
    expect_refusal(e, &c, NULL, CPL_INVALID, "sequence 0: type id 2");
    types[0] = 0;
    cu[0] = 3; /* a part of a batch may start anywhere, but not behind its own end */
    expect_refusal(e, &c, NULL, CPL_INVALID, "sequence 0 is empty");
    call_deinit(&c);
    cpl_engine_close(e);
}

static void expect_open_fails(cpl_engine_model_options m, uint32_t n, cpl_status status, const char *words)
{
    cpl_engine_model_options models[2] = {m, m};
    cpl_engine_options o = {.models = models, .model_count = n, .workers = 2, .tokenizer_threads = 1};
    cpl_engine *e = (cpl_engine *)(void *)&o;
    cpl_error err = {0};
    assert_int_equal(cpl_engine_open(&e, &o, &err), status);
    assert_null(e);
    if (!strstr(err.what, words)) fail_msg("'%s' does not say '%s'", err.what, words);
}

static void failed_opens_leave_nothing(void **state)
{
    (void)state;
    const char *bad[] = {"speed=9", NULL}, *no_load[] = {"fail_load=1", NULL}, *no_open[] = {"fail_open=1", NULL};
    cpl_engine_model_options m = {.dir = CROSS_ENCODER, .backend = "fake"}, w;
    expect_open_fails(m, 0, CPL_INVALID, "no model given");
    expect_open_fails(m, 2, CPL_INVALID, "two models are called 'cross-encoder'");
    w = m, w.settings = bad, expect_open_fails(w, 1, CPL_INVALID, "unknown setting 'speed=9'");
    w = m, w.settings = no_load, expect_open_fails(w, 1, CPL_INTERNAL, "load fails");
    w = m, w.settings = no_open, expect_open_fails(w, 1, CPL_INTERNAL, "open fails");
    w = m, w.dir = "tests/golden/models/none", expect_open_fails(w, 1, CPL_NOT_FOUND, "none");
    w = m, w.dir = NULL, expect_open_fails(w, 1, CPL_INVALID, "no directory");
    w = m, w.backend = "none", expect_open_fails(w, 1, CPL_NOT_FOUND, "couplet-none.so");
    w = m, w.precision = CPL_PRECISION_FP16, expect_open_fails(w, 1, CPL_UNSUPPORTED, "fp16");
    w = m, w.max_length = 1 << 20, expect_open_fails(w, 1, CPL_INVALID, "max_length");
    w = m, w.max_length = 2, expect_open_fails(w, 1, CPL_INVALID, "special tokens");
}

static void models_are_described_and_found(void **state)
{
    (void)state;
    cpl_engine_model_options models[2] = {
        {.dir = CROSS_ENCODER "/", .backend = "fake", .precision = CPL_PRECISION_FP16, .fallback = true},
        {.name = "other", .dir = EMBEDDER, .backend = "fake", .precision = CPL_PRECISION_AUTO, .max_length = 16}};
    cpl_engine_options o = {.models = models, .model_count = 2, .workers = 3, .pin_workers = true};
    cpl_engine *e = NULL;
    cpl_error err = {0};
    assert_int_equal(cpl_engine_open(&e, &o, &err), CPL_OK);
    const cpl_engine_model *a = cpl_engine_model_at(e, 0), *b = cpl_engine_model_at(e, 1);
    assert_string_equal(a->name, "cross-encoder");
    assert_string_equal(a->backend, "fake");
    assert_int_equal(a->requested, CPL_PRECISION_FP16);
    assert_int_equal(a->effective, CPL_PRECISION_FP32);
    assert_non_null(strstr(a->reason, "fp16 requested, fp32 runs"));
    assert_int_equal(a->workers, 3);
    assert_int_equal(b->effective, CPL_PRECISION_FP32);
    assert_non_null(strstr(b->reason, "auto: fp32"));
    assert_int_equal(b->max_length, 16);
    uint32_t index = 9;
    assert_int_equal(cpl_engine_model_hold(e, "otherwise", 5, &index, NULL), CPL_OK);
    assert_int_equal(index, 1);
    cpl_engine_model_release(e, index);
    assert_int_equal(cpl_engine_model_hold(e, "other", 4, &index, &err), CPL_NOT_FOUND);
    assert_int_equal(cpl_engine_model_hold(e, NULL, 0, &index, &err), CPL_NOT_FOUND);
    assert_int_equal(cpl_engine_canary(e, &err), CPL_OK);
    cpl_engine_drain(e);
    assert_int_equal(cpl_engine_canary(e, &err), CPL_UNAVAILABLE);
    assert_non_null(strstr(err.what, "canary on model 'cross-encoder'"));
    cpl_engine_close(e);
    cpl_engine_close(NULL);
}

/* ---- ends -----------------------------------------------------------------------------------------------------------
 */

static void a_task_at_rest_keeps_little(void **state)
{
    (void)state;
    uint64_t seed = 11;
    cpl_engine *e = open_engine(EMBEDDER, NULL, NULL);
    cpl_tokenizer_scratch *scratch;
    assert_int_equal(cpl_tokenizer_scratch_open(&scratch, NULL), CPL_OK);
    call c;
    call_init(&c);
    for (size_t n = 1; n <= 20000; n *= 20000) { /* 20,000 texts need more than 4 MB */
        call_fill(&c, CPL_OP_EMBED, n, &seed);
        assert_int_equal(cpl_engine_submit(e, c.task, &c.spec, scratch, NULL), CPL_OK);
        assert_int_equal(call_wait(&c)->n, n);
        size_t kept = cpl_task_rest(c.task);
        assert_in_range(kept, 1, (1 << 20) + (1 << 14));
        assert_int_equal(cpl_task_get(c.task)->n, 0);
        assert_int_equal(cpl_task_rest(c.task), kept); /* at rest already */
    }
    call_deinit(&c);
    cpl_tokenizer_scratch_close(scratch);
    cpl_engine_close(e);
}

static void lost_model_refuses(void **state)
{
    (void)state;
    const char *lost[] = {"lose_after=2", NULL};
    cpl_engine_options o = {.workers = 1};
    cpl_engine *e = open_engine(CROSS_ENCODER, lost, &o);
    cpl_tokenizer_scratch *scratch = open_scratch();
    uint64_t seed = 5;
    char why[256];
    uint32_t fine = 0, refused = 0;
    for (int i = 0; i < 6; i++) {
        call c;
        call_init(&c);
        call_fill(&c, CPL_OP_SCORE, 1, &seed);
        cpl_error err = {0};
        cpl_status st = cpl_engine_submit(e, c.task, &c.spec, scratch, &err);
        if (st) {
            assert_int_equal(st, CPL_UNAVAILABLE);
            assert_non_null(strstr(err.what, "device lost"));
            refused++;
        } else {
            call_wait(&c);
            fine += cpl_task_get(c.task)->status == CPL_OK;
        }
        assert_int_equal(cpl_engine_alive(e, why, sizeof why), i < 2);
        assert_int_equal(cpl_engine_model_alive(e, 0, why, sizeof why), i < 2);
        if (i >= 2) assert_non_null(strstr(why, "device lost"));
        call_deinit(&c);
    }
    assert_int_equal(fine, 2);
    assert_int_equal(refused, 3); /* the one between met it */
    cpl_tokenizer_scratch_close(scratch);
    cpl_engine_close(e);
}

static void full_queue_refuses(void **state)
{
    (void)state;
    cpl_engine_options o = {.workers = 1, .policy = {.queue_requests_max = 3, .queue_tokens_max = 500}};
    cpl_engine *e = open_engine(CROSS_ENCODER, NULL, &o);
    cpl_tokenizer_scratch *scratch = open_scratch();
    gate g;
    call c[8];
    uint64_t seed = 3;
    gate_shut(&g, e, scratch);
    for (int i = 0; i < 8; i++) {
        cpl_error err = {0};
        call_init(&c[i]);
        call_fill(&c[i], CPL_OP_SCORE, 1, &seed);
        cpl_status st = cpl_engine_submit(e, c[i].task, &c[i].spec, scratch, &err);
        assert_int_equal(st, i < 3 ? CPL_OK : CPL_QUEUE_FULL);
        if (st) assert_non_null(strstr(err.what, "queue full"));
    }
    gate_open(&g);
    call big;
    call_init(&big);
    call_fill(&big, CPL_OP_SCORE, 100, &seed);
    cpl_engine_drain(e); /* accepted ones end */
    gate_deinit(&g);
    for (int i = 0; i < 8; i++) call_deinit(&c[i]);
    cpl_engine_close(e);
    e = open_engine(CROSS_ENCODER, NULL, &o);
    expect_refusal(e, &big, scratch, CPL_INVALID, "larger than the whole queue of 500");
    call_deinit(&big);
    cpl_tokenizer_scratch_close(scratch);
    cpl_engine_close(e);
}

static void deadlines_end_what_waits(void **state)
{
    (void)state;
    cpl_engine_options o = {.workers = 1};
    cpl_engine *e = open_engine(CROSS_ENCODER, NULL, &o);
    cpl_tokenizer_scratch *scratch = open_scratch();
    gate g;
    call late;
    uint64_t seed = 8;
    gate_shut(&g, e, scratch);
    call_init(&late);
    call_fill(&late, CPL_OP_SCORE, 3, &seed);
    late.spec.deadline_ns = cpl_clock_ns() + 2000000;
    cpl_status st = cpl_engine_submit(e, late.task, &late.spec, scratch, NULL);
    if (st == CPL_OK) {
        const cpl_task_result *r = call_wait(&late);
        assert_int_equal(r->status, CPL_DEADLINE);
        assert_null(r->rows);
        assert_int_equal(r->passes, 0);
    } else {
        assert_int_equal(st, CPL_DEADLINE); /* this machine was busy elsewhere for 2 ms */
    }
    gate_open(&g);
    gate_deinit(&g);
    call_deinit(&late);
    cpl_tokenizer_scratch_close(scratch);
    cpl_engine_close(e);
}

static gate closing_gate;

static void open_closing_gate(cpl_task *t, void *user)
{
    gate_open(&closing_gate);
    on_done(t, user);
}

static void cancelled_and_closing_tasks_end(void **state)
{
    (void)state;
    cpl_engine_options o = {.workers = 1};
    cpl_engine *e = open_engine(CROSS_ENCODER, NULL, &o);
    cpl_tokenizer_scratch *scratch = open_scratch();
    cpl_flow *flow = NULL;
    assert_int_equal(cpl_flow_open(&flow, e, NULL), CPL_OK);
    call c[4];
    uint64_t seed = 8;
    for (int i = 0; i < 4; i++) {
        if (i == 1) gate_shut(&closing_gate, e, scratch);
        call_init(&c[i]);
        call_fill(&c[i], CPL_OP_SCORE, i ? 200 : 5, &seed);
        c[i].spec.flow = flow;
        if (i == 3) c[i].spec.done = open_closing_gate; /* it can only end by the engine's closing */
        assert_int_equal(cpl_engine_submit(e, c[i].task, &c[i].spec, scratch, NULL), CPL_OK);
        if (i == 0) assert_int_equal(call_wait(&c[0])->status, CPL_OK);
    }
    cpl_flow_close(flow); /* its tasks go on */
    cpl_engine_cancel(e, c[1].task);
    cpl_engine_cancel(e, c[1].task);
    const cpl_task_result *r = call_wait(&c[1]);
    assert_int_equal(r->status, CPL_CANCELLED);
    cpl_engine_cancel(e, c[1].task); /* ended: nothing happens */
    cpl_engine_close(e);             /* 2 and 3 wait */
    for (int i = 2; i < 4; i++) {
        r = call_wait(&c[i]);
        assert_int_equal(r->status, CPL_UNAVAILABLE);
        assert_non_null(strstr(r->error.what, "closing"));
    }
    for (int i = 0; i < 4; i++) {
        assert_false(call_is_done(&c[i]));
        call_deinit(&c[i]);
    }
    gate_deinit(&closing_gate);
    cpl_tokenizer_scratch_close(scratch);
}

static void failing_passes_fail_their_tasks_only(void **state)
{
    (void)state;
    const char *faulty[] = {"fail_every=3", NULL};
    cpl_engine_options o = {.workers = 1, .policy = {.kind = CPL_BATCH_OFF}};
    cpl_engine *e = open_engine(CROSS_ENCODER, faulty, &o);
    cpl_tokenizer_scratch *scratch = open_scratch();
    call c;
    uint64_t seed = 2;
    call_init(&c);
    for (int i = 1; i <= 12; i++) { /* one pass each */
        call_fill(&c, CPL_OP_SCORE, 2, &seed);
        assert_int_equal(cpl_engine_submit(e, c.task, &c.spec, scratch, NULL), CPL_OK);
        const cpl_task_result *r = call_wait(&c);
        if (i % 3 == 0) {
            assert_int_equal(r->status, CPL_INTERNAL);
            assert_non_null(strstr(r->error.what, "model 'cross-encoder': fake: pass"));
            assert_null(r->rows);
        } else {
            check_rows(e, &c, scratch);
        }
    }
    call_deinit(&c);
    cpl_tokenizer_scratch_close(scratch);
    cpl_engine_close(e);
}

/* ---- policies -------------------------------------------------------------------------------------------------------
 */

/* Submits `tasks` tasks of one pair each and returns how many passes they took. */
static uint64_t passes_for(cpl_batch_policy policy, int tasks, uint32_t workers)
{
    cpl_engine_options o = {.workers = workers, .policy = policy};
    cpl_engine *e = open_engine(CROSS_ENCODER, NULL, &o);
    cpl_tokenizer_scratch *scratch = open_scratch();
    call c[16];
    uint64_t seed = 6;
    for (int i = 0; i < tasks; i++) {
        call_init(&c[i]);
        call_fill(&c[i], CPL_OP_SCORE, 1, &seed);
        c[i].pairs[0].query.size = c[i].pairs[0].document.size = 5;
        assert_int_equal(cpl_engine_submit(e, c[i].task, &c[i].spec, scratch, NULL), CPL_OK);
    }
    for (int i = 0; i < tasks; i++) {
        call_wait(&c[i]);
        check_rows(e, &c[i], scratch);
        call_deinit(&c[i]);
    }
    cpl_engine_stats *s = malloc(sizeof *s);
    assert_non_null(s);
    cpl_engine_stats_get(e, s);
    uint64_t passes = s->passes;
    assert_int_equal(s->pass_sequences.count, passes);
    assert_int_equal(s->queue_ns.count, tasks);
    assert_int_equal(s->sequences, tasks);
    free(s);
    cpl_tokenizer_scratch_close(scratch);
    cpl_engine_close(e);
    return passes;
}

static void policies_reach_the_workers(void **state)
{
    (void)state;
    uint64_t hour = 3600ull * 1000000000u;
    cpl_batch_policy timeout = {.kind = CPL_BATCH_TIMEOUT, .items_max = 8, .timeout_ns = hour};
    assert_int_equal(passes_for(timeout, 8, 1), 1);  /* the count releases them, all at once */
    assert_int_equal(passes_for(timeout, 16, 1), 2); /* in two groups: nothing runs before its group is full */
    timeout.timeout_ns = 1000000;
    assert_in_range(passes_for(timeout, 3, 1), 1, 3); /* the timer releases them */
    assert_int_equal(passes_for((cpl_batch_policy){.kind = CPL_BATCH_OFF}, 12, 2), 12);
    assert_in_range(passes_for((cpl_batch_policy){.kind = CPL_BATCH_GREEDY}, 12, 1), 1, 12);
}

/* A request larger than a group is released at once; what the group leaves behind must be waited for, by the timer,
 * which nothing had told of a wait until then. */
static void the_rest_of_a_group_is_timed(void **state)
{
    (void)state;
    cpl_engine_options o = {.workers = 1,
                            .policy = {.kind = CPL_BATCH_TIMEOUT, .items_max = 4, .timeout_ns = 20000000}};
    cpl_engine *e = open_engine(CROSS_ENCODER, NULL, &o);
    cpl_tokenizer_scratch *scratch = open_scratch();
    call c, more;
    uint64_t seed = 6;
    call_init(&c);
    call_init(&more);
    call_fill(&c, CPL_OP_SCORE, 6, &seed);
    assert_int_equal(cpl_engine_submit(e, c.task, &c.spec, scratch, NULL), CPL_OK);
    assert_int_equal(call_wait(&c)->passes, 2);
    check_rows(e, &c, scratch);
    call_fill(&c, CPL_OP_SCORE, 3, &seed); /* and when a cancelled request makes a full group one that must wait */
    call_fill(&more, CPL_OP_SCORE, 1, &seed);
    assert_int_equal(cpl_engine_submit(e, c.task, &c.spec, scratch, NULL), CPL_OK);
    assert_int_equal(cpl_engine_submit(e, more.task, &more.spec, scratch, NULL), CPL_OK);
    cpl_engine_cancel(e, more.task);
    call_wait(&more);
    assert_int_equal(call_wait(&c)->status, CPL_OK);
    call_deinit(&c);
    call_deinit(&more);
    cpl_tokenizer_scratch_close(scratch);
    cpl_engine_close(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scores_land_in_their_places),
        cmocka_unit_test(embedder_encodes_a_query_once),
        cmocka_unit_test(ready_ids_give_raw_rows),
        cmocka_unit_test(bad_requests_are_refused),
        cmocka_unit_test(bad_ids_are_refused),
        cmocka_unit_test(failed_opens_leave_nothing),
        cmocka_unit_test(models_are_described_and_found),
        cmocka_unit_test(a_task_at_rest_keeps_little),
        cmocka_unit_test(full_queue_refuses),
        cmocka_unit_test(lost_model_refuses),
        cmocka_unit_test(deadlines_end_what_waits),
        cmocka_unit_test(cancelled_and_closing_tasks_end),
        cmocka_unit_test(failing_passes_fail_their_tasks_only),
        cmocka_unit_test(policies_reach_the_workers),
        cmocka_unit_test(the_rest_of_a_group_is_timed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
