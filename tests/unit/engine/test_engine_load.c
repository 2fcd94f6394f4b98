/* SPDX-License-Identifier: Apache-2.0 */
/* test_engine_load.c - many tasks from many threads at once: every row in its place, done exactly once, whatever is
 * cancelled, expires, fails or closes in between. Meant for the thread sanitizer as much as for its assertions. The
 * seed is printed; COUPLET_SEED sets it. */
#include "unit/engine/fixture.h"

static uint64_t base_seed;

/* ---- clients
 * --------------------------------------------------------------------------------------------------------- */

typedef struct client {
    cpl_engine *engine;
    pthread_t thread;
    uint64_t seed;
    int rounds;
    bool cancels, deadlines, faults;
    uint32_t ok, failed, refused, cancelled, expired, closed;
} client;

/* A few tasks in flight; some are cancelled from here while workers finish them. */
static void *client_main(void *arg)
{
    enum { IN_FLIGHT = 4 };
    client *me = arg;
    cpl_tokenizer_scratch *scratch = open_scratch();
    cpl_flow *flow = NULL;
    assert_int_equal(cpl_flow_open(&flow, me->engine, NULL), CPL_OK);
    call calls[IN_FLIGHT];
    for (int i = 0; i < IN_FLIGHT; i++) call_init(&calls[i]);
    for (int round = 0; round < me->rounds; round++) {
        bool sent[IN_FLIGHT];
        for (int i = 0; i < IN_FLIGHT; i++) {
            call *c = &calls[i];
            uint32_t model = test_below(&me->seed, cpl_engine_model_count(me->engine));
            bool embedder = cpl_engine_model_at(me->engine, model)->model->task == CPL_TASK_EMBEDDER;
            call_fill(c, embedder && test_below(&me->seed, 2) ? CPL_OP_EMBED : CPL_OP_SCORE,
                      1 + test_below(&me->seed, test_below(&me->seed, 4) ? 8 : 80), &me->seed);
            c->spec.model = model;
            c->spec.flow = test_below(&me->seed, 4) ? flow : NULL;
            c->spec.priority = (uint8_t)test_below(&me->seed, 3);
            c->spec.deadline_ns = UINT64_MAX;
            if (me->deadlines && test_below(&me->seed, 3) == 0)
                c->spec.deadline_ns = cpl_clock_ns() + test_below(&me->seed, 2000000);
            cpl_error err = {0};
            sent[i] = cpl_engine_submit(me->engine, c->task, &c->spec, scratch, &err) == CPL_OK;
            if (!sent[i]) {
                assert_true(err.status == CPL_QUEUE_FULL || err.status == CPL_DEADLINE ||
                            err.status == CPL_UNAVAILABLE);
                me->refused++;
            }
        }
        for (int i = 0; me->cancels && i < IN_FLIGHT; i++)
            if (sent[i] && test_below(&me->seed, 2)) cpl_engine_cancel(me->engine, calls[i].task);
        for (int i = 0; i < IN_FLIGHT; i++) {
            if (!sent[i]) continue;
            switch (call_wait(&calls[i])->status) {
            case CPL_OK:
                check_rows(me->engine, &calls[i], scratch);
                me->ok++;
                break;
            case CPL_CANCELLED: me->cancelled++; break;
            case CPL_DEADLINE: me->expired++; break;
            case CPL_INTERNAL: me->failed++; break;
            case CPL_UNAVAILABLE: me->closed++; break;
            case CPL_QUEUE_FULL: me->refused++; break; /* met by what was tokenized on the pool */
            default: fail_msg("%s", cpl_task_get(calls[i].task)->error.what);
            }
        }
    }
    for (int i = 0; i < IN_FLIGHT; i++) call_deinit(&calls[i]);
    cpl_flow_close(flow);
    cpl_tokenizer_scratch_close(scratch);
    return NULL;
}

static cpl_engine *open_two(const char *const *settings, cpl_batch_policy policy, uint32_t workers, uint32_t pool)
{
    cpl_engine_model_options models[2] = {{.dir = CROSS_ENCODER, .backend = "fake", .settings = settings},
                                          {.dir = EMBEDDER, .backend = "fake", .settings = settings}};
    cpl_engine_options o = {.models = models,
                            .model_count = 2,
                            .workers = workers,
                            .tokenizer_threads = pool,
                            .inline_text_bytes = 400,
                            .policy = policy};
    cpl_engine *e = NULL;
    cpl_error err = {0};
    if (cpl_engine_open(&e, &o, &err)) fail_msg("%s", err.what);
    return e;
}

enum { CLIENTS = 6 };

static client run_clients(const char *const *settings, cpl_batch_policy policy, uint32_t workers, uint32_t pool,
                          client kind)
{
    cpl_engine *e = open_two(settings, policy, workers, pool);
    client clients[CLIENTS], sum = {0};
    for (int i = 0; i < CLIENTS; i++) {
        clients[i] = kind;
        clients[i].engine = e;
        clients[i].seed = base_seed * 1000 + (uint64_t)i;
        assert_int_equal(pthread_create(&clients[i].thread, NULL, client_main, &clients[i]), 0);
    }
    for (int i = 0; i < CLIENTS; i++) {
        pthread_join(clients[i].thread, NULL);
        sum.ok += clients[i].ok;
        sum.failed += clients[i].failed;
        sum.refused += clients[i].refused;
        sum.cancelled += clients[i].cancelled;
        sum.expired += clients[i].expired;
        sum.closed += clients[i].closed;
    }
    cpl_engine_stats *s = malloc(sizeof *s);
    assert_non_null(s);
    cpl_engine_drain(e);
    cpl_engine_stats_get(e, s);
    assert_int_equal(s->in_flight_tasks, 0);
    assert_int_equal(s->queued_tokens, 0);
    assert_int_equal(s->queued_requests, 0);
    assert_int_equal(s->tasks_done, sum.ok);
    assert_int_equal(s->tasks_accepted, s->tasks_done + s->tasks_failed + s->tasks_cancelled + s->tasks_expired);
    free(s);
    cpl_engine_close(e);
    return sum;
}

static void many_threads_get_their_rows(void **state)
{
    (void)state;
    for (uint32_t pool = 0; pool < 3; pool++) {
        client sum = run_clients(NULL, (cpl_batch_policy){0}, 3, pool, (client){.rounds = 20});
        assert_int_equal(sum.ok, CLIENTS * 20 * 4);
    }
    const char *rectangles[] = {"rectangles=1", NULL};
    client sum = run_clients(rectangles, (cpl_batch_policy){.length_aware = true}, 2, 1, (client){.rounds = 10});
    assert_int_equal(sum.ok, CLIENTS * 10 * 4);
    cpl_batch_policy timeout = {.kind = CPL_BATCH_TIMEOUT, .items_max = 16, .timeout_ns = 200000};
    sum = run_clients(NULL, timeout, 2, 0, (client){.rounds = 10});
    assert_int_equal(sum.ok, CLIENTS * 10 * 4);
    sum = run_clients(NULL, (cpl_batch_policy){.kind = CPL_BATCH_OFF}, 2, 0, (client){.rounds = 10});
    assert_int_equal(sum.ok, CLIENTS * 10 * 4);
}

static void cancellation_and_deadlines_race(void **state)
{
    (void)state;
    const char *slow[] = {"fixed_us=100", "per_token_ns=200", NULL};
    for (uint32_t pool = 0; pool < 2; pool++) {
        client kind = {.rounds = 30, .cancels = true, .deadlines = true};
        client sum = run_clients(slow, (cpl_batch_policy){0}, 2, pool, kind);
        print_message("pool %u: %u ok, %u cancelled, %u expired, %u refused\n", pool, sum.ok, sum.cancelled,
                      sum.expired, sum.refused);
        assert_true(sum.ok > 0 && sum.cancelled > 0);
        assert_int_equal(sum.failed + sum.closed, 0);
    }
}

static void faults_and_a_small_queue(void **state)
{
    (void)state;
    const char *faulty[] = {"fail_every=7", "fixed_us=50", "team_stages=5", NULL};
    cpl_batch_policy small = {.queue_requests_max = 6, .queue_tokens_max = 9000, .tokens_max = 300};
    client sum = run_clients(faulty, small, 2, 1, (client){.rounds = 30, .cancels = true});
    print_message("%u ok, %u failed, %u cancelled, %u refused\n", sum.ok, sum.failed, sum.cancelled, sum.refused);
    assert_true(sum.ok > 0 && sum.failed > 0);
}

/* Closing while clients are at work: everything accepted ends, everything else is refused. */
static void *closer_main(void *arg)
{
    cpl_engine *e = arg;
    cpl_clock_sleep_until_ns(cpl_clock_ns() + 3000000);
    cpl_engine_drain(e);
    return NULL;
}

static void drain_beside_clients(void **state)
{
    (void)state;
    cpl_engine *e = open_two(NULL, (cpl_batch_policy){0}, 2, 1);
    client clients[CLIENTS];
    pthread_t closer;
    assert_int_equal(pthread_create(&closer, NULL, closer_main, e), 0);
    for (int i = 0; i < CLIENTS; i++) {
        clients[i] = (client){.engine = e, .rounds = 40, .seed = base_seed + (uint64_t)i};
        assert_int_equal(pthread_create(&clients[i].thread, NULL, client_main, &clients[i]), 0);
    }
    for (int i = 0; i < CLIENTS; i++) {
        pthread_join(clients[i].thread, NULL);
        assert_int_equal(clients[i].ok + clients[i].refused, 40 * 4); /* nothing accepted was lost */
    }
    pthread_join(closer, NULL);
    cpl_engine_close(e);
}

/* Two models, of which one has fewer sessions than there are workers, on two devices: nothing waits for a worker that
 * can't run it, and both get their rows. */
static void a_backend_with_few_sessions(void **state)
{
    (void)state;
    const char *build = getenv("COUPLET_BUILD");
    char dir[512];
    if (!build) {
        print_message("skipped: COUPLET_BUILD names no build directory\n");
        skip();
    }
    snprintf(dir, sizeof dir, "%s/test-plugins", build);
    cpl_engine_model_options models[2] = {{.dir = EMBEDDER, .backend = "solo"},
                                          {.dir = CROSS_ENCODER, .backend = "fake"}};
    cpl_engine_options o = {.models = models, .model_count = 2, .workers = 5, .plugin_dir = dir};
    cpl_engine *e = NULL;
    cpl_error err = {0};
    if (cpl_engine_open(&e, &o, &err)) fail_msg("%s", err.what);
    assert_int_equal(cpl_engine_model_at(e, 0)->workers, 2);
    assert_int_equal(cpl_engine_model_at(e, 1)->workers, 5);
    client clients[CLIENTS];
    for (int i = 0; i < CLIENTS; i++) {
        clients[i] = (client){.engine = e, .rounds = 25, .seed = base_seed + (uint64_t)i};
        assert_int_equal(pthread_create(&clients[i].thread, NULL, client_main, &clients[i]), 0);
    }
    for (int i = 0; i < CLIENTS; i++) {
        pthread_join(clients[i].thread, NULL);
        assert_int_equal(clients[i].ok, 25 * 4);
    }
    cpl_engine_close(e);
    o.model_count = 1; /* alone it cuts the workers */
    if (cpl_engine_open(&e, &o, &err)) fail_msg("%s", err.what);
    assert_int_equal(cpl_engine_model_at(e, 0)->workers, 2);
    assert_int_equal(cpl_engine_canary(e, &err), CPL_OK);
    cpl_engine_close(e);
}

/* ---- a large request beside small ones ------------------------------------------------------------------------------
 */

typedef struct small_call {
    call c;
    call *large;
    cpl_engine *engine;
    uint64_t passes, waiting; /* when it was done */
    bool large_done;
} small_call;

/* On the only worker, so what it sees stands still. */
static void on_small_done(cpl_task *t, void *user)
{
    small_call *s = user;
    cpl_engine_stats *now = malloc(sizeof *now);
    if (now) {
        cpl_engine_stats_get(s->engine, now);
        s->passes = now->passes;
        s->waiting = now->queued_tokens;
    }
    s->large_done = call_is_done(s->large);
    free(now);
    on_done(t, &s->c);
}

/* Small requests behind one of 1,000 pairs, of another connection or of its own, each wait for a few passes only. */
static void single_pairs_pass_a_large_request(void **state)
{
    (void)state;
    enum { SMALL = 6 };
    cpl_engine_options o = {.workers = 1, .policy = {.tokens_max = 256}};
    cpl_engine *e = open_engine(CROSS_ENCODER, NULL, &o);
    cpl_tokenizer_scratch *scratch = open_scratch();
    cpl_flow *other = NULL;
    assert_int_equal(cpl_flow_open(&other, e, NULL), CPL_OK);
    gate g;
    call large;
    small_call small[SMALL];
    uint64_t seed = base_seed;
    gate_shut(&g, e, scratch);
    call_init(&large);
    call_fill(&large, CPL_OP_SCORE, 1000, &seed);
    assert_int_equal(cpl_engine_submit(e, large.task, &large.spec, scratch, NULL), CPL_OK);
    for (int i = 0; i < SMALL; i++) {
        small[i] = (small_call){.large = &large, .engine = e};
        call_init(&small[i].c);
        call_fill(&small[i].c, CPL_OP_SCORE, 1, &seed);
        small[i].c.spec.flow = i % 2 ? other : NULL; /* its own connection, or the large one's */
        small[i].c.spec.done = on_small_done;
        small[i].c.spec.user = &small[i];
        assert_int_equal(cpl_engine_submit(e, small[i].c.task, &small[i].c.spec, scratch, NULL), CPL_OK);
    }
    gate_open(&g);
    for (int i = 0; i < SMALL; i++) {
        call_wait(&small[i].c);
        check_rows(e, &small[i].c, scratch);
        print_message("done after %u passes, %u tokens waiting\n", (unsigned)small[i].passes,
                      (unsigned)small[i].waiting);
        assert_false(small[i].large_done);
        assert_true(small[i].waiting > 0); /* the large one still waits for its turn */
        assert_in_range(small[i].passes, 1, 1 + 2 * SMALL);
        call_deinit(&small[i].c);
    }
    call_wait(&large);
    check_rows(e, &large, scratch);
    gate_deinit(&g);
    call_deinit(&large);
    cpl_flow_close(other);
    cpl_tokenizer_scratch_close(scratch);
    cpl_engine_close(e);
}

/* One request alone uses all workers: with a pass of fixed length, more than one is seen at work. */
static void one_request_uses_idle_workers(void **state)
{
    (void)state;
    const char *slow[] = {"fixed_us=20000", NULL};
    cpl_engine_options o = {.workers = 4, .policy = {.tokens_max = 4096}};
    cpl_engine *e = open_engine(CROSS_ENCODER, slow, &o);
    cpl_tokenizer_scratch *scratch = open_scratch();
    call c;
    uint64_t seed = base_seed;
    call_init(&c);
    call_fill(&c, CPL_OP_SCORE, 40, &seed);
    uint64_t passes = 0;
    for (int i = 0; i < 50 && passes < 3; i++) { /* once all workers sleep: on a busy machine not at the first try */
        assert_int_equal(cpl_engine_submit(e, c.task, &c.spec, scratch, NULL), CPL_OK);
        const cpl_task_result *r = call_wait(&c);
        assert_true(r->tokens < 4096); /* one pass could have held it */
        check_rows(e, &c, scratch);
        passes = r->passes;
    }
    assert_in_range(passes, 3, 5);
    call_deinit(&c);
    cpl_tokenizer_scratch_close(scratch);
    cpl_engine_close(e);
}

int main(void)
{
    base_seed = test_seed();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_threads_get_their_rows),       cmocka_unit_test(cancellation_and_deadlines_race),
        cmocka_unit_test(faults_and_a_small_queue),          cmocka_unit_test(drain_beside_clients),
        cmocka_unit_test(single_pairs_pass_a_large_request), cmocka_unit_test(one_request_uses_idle_workers),
        cmocka_unit_test(a_backend_with_few_sessions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
