/* SPDX-License-Identifier: Apache-2.0 */
/* test_teams.c - idle workers lent to a pass: every share of every stage done once, whoever comes late, leaves or never
 * comes; who is lent comes back for work that arrives; nobody spins when nothing is to be done. Meant for the thread
 * sanitizer as much as for its assertions. */
#include <sched.h>
#include <sys/resource.h>

#include "base/thread.h"
#include "engine/crew.h"
#include "unit/engine/fixture.h"

/* ---- a crew alone ------------------------------------------------------------------------------------------------ */

enum { SEATS = 4, PASSES = 300 };

typedef struct member {
    cpl_crew *crew;
    cpl_thread thread;
    uint32_t seat;
    atomic_ullong *pass; /* the one that runs, times 8, and its seats */
    atomic_bool *over;
    atomic_bool recalled;
} member;

static void member_main(void *arg)
{
    member *m = arg;
    uint64_t served = 0, state = m->seat;
    while (!atomic_load(m->over)) {
        uint64_t pass = atomic_load(m->pass);
        if (pass == served) {
            sched_yield();
            continue;
        }
        if (test_below(&state, 4) == 0) cpl_clock_sleep_until_ns(cpl_clock_ns() + test_below(&state, 300000));
        served = pass;
        if (m->seat < pass % 8)
            cpl_crew_serve(m->crew, pass / 8, m->seat, &m->recalled); /* the pass may be over long since */
        atomic_store(&m->recalled, false);
    }
}

typedef struct count {
    uint32_t times[SEATS]; /* plain: a share done twice at once is a race that the sanitizer sees */
    uint64_t spin_ns;
} count;

static void count_share(void *arg, uint32_t seat)
{
    count *c = arg;
    c->times[seat]++;
    if (c->spin_ns && seat == 1) cpl_clock_sleep_until_ns(cpl_clock_ns() + c->spin_ns);
}

static void every_share_is_done_once(void **state)
{
    (void)state;
    cpl_crew *crew = NULL;
    static member members[SEATS];
    atomic_ullong pass = 0;
    atomic_bool over = false;
    uint64_t seed = 7, late = 0, shares = 0;
    assert_int_equal(cpl_crew_open(&crew, NULL), CPL_OK);
    for (uint32_t i = 1; i < SEATS; i++) {
        members[i] = (member){.crew = crew, .seat = i, .pass = &pass, .over = &over};
        assert_int_equal(cpl_thread_start(&members[i].thread, "member", -1, member_main, &members[i], NULL), CPL_OK);
    }
    for (int k = 0; k < PASSES; k++) {
        uint32_t seats = 2 + test_below(&seed, SEATS - 1), stages = test_below(&seed, 60);
        atomic_store(&pass, cpl_crew_begin(crew, seats) * 8 + seats);
        count c = {0};
        for (uint32_t i = 1; i <= stages; i++) {
            c.spin_ns = test_below(&seed, 50) ? 0 : 200000; /* longer than anybody spins: members and leader sleep */
            crew->team.parallel(&crew->team, count_share, &c);
            for (uint32_t seat = 0; seat < seats; seat++) assert_int_equal(c.times[seat], i);
            if (test_below(&seed, 40) == 0) {
                atomic_store(&members[1 + test_below(&seed, SEATS - 1)].recalled, true);
                cpl_crew_nudge(crew);
            }
        }
        late += cpl_crew_end(crew);
        shares += (uint64_t)stages * (seats - 1);
    }
    atomic_store(&over, true);
    atomic_store(&pass, UINT64_MAX); /* no pass: they return and see it */
    for (uint32_t i = 1; i < SEATS; i++) cpl_thread_join(&members[i].thread);
    print_message("%llu of %llu shares of members were done by the leader\n", (unsigned long long)late,
                  (unsigned long long)shares);
    assert_true(late < shares);
    cpl_crew_close(crew);
}

/* ---- in an engine ------------------------------------------------------------------------------------------------ */

/* n single pairs, one after the other, each with its row. Returns passes run by teams. */
static uint64_t score_singly(const char *const *settings, cpl_engine_options *o, const char *backend, int n)
{
    cpl_engine_model_options model = {.dir = CROSS_ENCODER, .backend = backend, .settings = settings};
    cpl_engine *e = NULL;
    cpl_error err = {0};
    o->models = &model;
    o->model_count = 1;
    if (cpl_engine_open(&e, o, &err)) fail_msg("%s", err.what);
    cpl_tokenizer_scratch *scratch = open_scratch();
    cpl_engine_stats *s = malloc(sizeof *s);
    assert_non_null(s);
    call c;
    uint64_t seed = 11;
    call_init(&c);
    cpl_engine_stats_get(e, s);
    for (int i = 0; i < n || (n < 0 && !s->team_passes && i < -n); i++) {
        call_fill(&c, CPL_OP_SCORE, 1 + test_below(&seed, 3), &seed);
        assert_int_equal(cpl_engine_submit(e, c.task, &c.spec, scratch, NULL), CPL_OK);
        call_wait(&c);
        check_rows(e, &c, scratch);
        cpl_engine_stats_get(e, s);
    }
    uint64_t passes = s->team_passes, members = s->team_members, workers = cpl_engine_model_at(e, 0)->workers;
    assert_true(members >= 2 * passes && members <= passes * workers);
    free(s);
    call_deinit(&c);
    cpl_tokenizer_scratch_close(scratch);
    cpl_engine_close(e);
    return passes;
}

static void single_pairs_get_teams(void **state)
{
    (void)state;
    const char *staged[] = {"team_stages=40", "fixed_us=20", NULL};
    cpl_engine_options o = {.workers = 4};
    assert_true(score_singly(staged, &o, "fake", -2000) > 0); /* at the first try on an idle machine */
    o.policy.team_max = 1;
    assert_int_equal(score_singly(staged, &o, "fake", 50), 0);
    o = (cpl_engine_options){.workers = 1};
    assert_int_equal(score_singly(staged, &o, "fake", 50), 0);
    const char *build = getenv("COUPLET_BUILD");
    if (!build) return;
    char dir[512];
    snprintf(dir, sizeof dir, "%s/test-plugins", build);
    o = (cpl_engine_options){.workers = 4, .plugin_dir = dir};
    assert_int_equal(score_singly(staged, &o, "solo", 50), 0); /* has threads of its own */
}

/* A long pass that the other worker is lent to: a second pair is dispatched before the first is done. True when that
 * was seen, which a machine busy enough to keep this thread from looking can prevent. */
static bool second_pair_runs_beside(int round)
{
    const char *staged[] = {"team_stages=600", "fixed_us=1000", NULL};
    cpl_engine_options o = {.workers = 2};
    cpl_engine *e = open_engine(CROSS_ENCODER, staged, &o);
    cpl_tokenizer_scratch *scratch = open_scratch();
    cpl_engine_stats *s = malloc(sizeof *s);
    assert_non_null(s);
    call a, b;
    uint64_t seed = (uint64_t)round;
    call_init(&a);
    call_init(&b);
    call_fill(&a, CPL_OP_SCORE, 1, &seed); /* too little to be cut in two */
    call_fill(&b, CPL_OP_SCORE, 1, &seed);
    /* A team is made of who is idle when the pass begins: both workers have to have come that far after the start. */
    cpl_clock_sleep_until_ns(cpl_clock_ns() + 50000000);
    assert_int_equal(cpl_engine_submit(e, a.task, &a.spec, scratch, NULL), CPL_OK);
    cpl_clock_sleep_until_ns(cpl_clock_ns() + 100000000);
    assert_int_equal(cpl_engine_submit(e, b.task, &b.spec, scratch, NULL), CPL_OK);
    bool beside = false;
    while (!beside && !call_is_done(&a)) {
        cpl_engine_stats_get(e, s);
        beside = s->passes == 2 && !call_is_done(&a);
        cpl_clock_sleep_until_ns(cpl_clock_ns() + 1000000);
    }
    call_wait(&a);
    call_wait(&b);
    check_rows(e, &a, scratch);
    check_rows(e, &b, scratch);
    cpl_engine_stats_get(e, s);
    beside = beside && s->team_passes > 0; /* it had been lent */
    free(s);
    call_deinit(&a);
    call_deinit(&b);
    cpl_tokenizer_scratch_close(scratch);
    cpl_engine_close(e);
    return beside;
}

static void lent_workers_are_called_back(void **state)
{
    (void)state;
    int round = 0;
    while (round < 10 && !second_pair_runs_beside(round)) round++;
    assert_true(round < 10);
}

/* Cancelled, drained and closed while workers are lent. */
static void ends_while_lent(void **state)
{
    (void)state;
    const char *staged[] = {"team_stages=100", "fixed_us=200", NULL};
    for (int round = 0; round < 30; round++) {
        cpl_engine_options o = {.workers = 3};
        cpl_engine *e = open_engine(CROSS_ENCODER, staged, &o);
        cpl_tokenizer_scratch *scratch = open_scratch();
        call c;
        uint64_t seed = (uint64_t)round;
        call_init(&c);
        call_fill(&c, CPL_OP_SCORE, 1 + (size_t)round % 3, &seed);
        assert_int_equal(cpl_engine_submit(e, c.task, &c.spec, scratch, NULL), CPL_OK);
        cpl_clock_sleep_until_ns(cpl_clock_ns() + (uint64_t)round * 100000);
        if (round % 3 == 0) cpl_engine_cancel(e, c.task);
        if (round % 3 == 1) cpl_engine_drain(e);
        cpl_engine_close(e);
        cpl_status st = call_wait(&c)->status;
        assert_true(st == CPL_OK || st == CPL_CANCELLED || st == CPL_UNAVAILABLE);
        call_deinit(&c);
        cpl_tokenizer_scratch_close(scratch);
    }
}

/* Closed the moment a pass is done, when those lent to it may still be on their way out. */
static void closes_behind_a_team(void **state)
{
    (void)state;
    const char *staged[] = {"team_stages=30", NULL};
    cpl_tokenizer_scratch *scratch = open_scratch();
    for (int round = 0; round < 150; round++) {
        cpl_engine_options o = {.workers = 4};
        cpl_engine *e = open_engine(CROSS_ENCODER, staged, &o);
        call c;
        uint64_t seed = (uint64_t)round;
        call_init(&c);
        call_fill(&c, CPL_OP_SCORE, 3, &seed);
        assert_int_equal(cpl_engine_submit(e, c.task, &c.spec, scratch, NULL), CPL_OK);
        assert_int_equal(call_wait(&c)->status, CPL_OK);
        cpl_engine_close(e);
        call_deinit(&c);
    }
    cpl_tokenizer_scratch_close(scratch);
}

/* ---- nodes ---------------------------------------------------------------------------------------------------------
 */

/* A made-up machine of `nodes` nodes with two CPUs each, on the CPUs that are really here. */
static void make_nodes(cpl_topology *t, uint32_t nodes)
{
    int here[CPL_TOPOLOGY_CPUS], cpus[8];
    uint16_t of[8];
    uint32_t n = cpl_cpu_list(here, CPL_TOPOLOGY_CPUS);
    for (uint32_t i = 0; i < 2 * nodes; i++) {
        cpus[i] = here[i % n];
        of[i] = (uint16_t)(i / 2);
    }
    cpl_topology_make(t, cpus, of, 2 * nodes);
}

/* A copy of the weights for each node that has workers; every worker takes from the one queue; teams stay on a node. */
static void weights_and_teams_keep_to_their_node(void **state)
{
    (void)state;
    static cpl_topology two;
    make_nodes(&two, 2);
    const char *staged[] = {"team_stages=40", "fixed_us=20", NULL};
    cpl_tokenizer_scratch *scratch = open_scratch();
    cpl_engine_stats *s = malloc(sizeof *s);
    assert_non_null(s);
    uint64_t one_copy = 0;
    for (uint32_t workers = 1; workers <= 5; workers++) {
        cpl_engine_options o = {.workers = workers, .topology = &two, .pin_workers = workers % 2};
        cpl_engine *e = open_engine(CROSS_ENCODER, staged, &o);
        const cpl_engine_model *m = cpl_engine_model_at(e, 0);
        if (workers == 1) one_copy = m->weight_bytes;
        assert_int_equal(m->devices, workers > 2 ? 2 : 1);
        assert_int_equal(m->weight_bytes, m->devices * one_copy);
        call c;
        uint64_t seed = workers;
        call_init(&c);
        for (int i = 0; i < 100; i++) {
            call_fill(&c, CPL_OP_SCORE, i % 10 ? 1 : 60, &seed);
            assert_int_equal(cpl_engine_submit(e, c.task, &c.spec, scratch, NULL), CPL_OK);
            call_wait(&c);
            check_rows(e, &c, scratch);
        }
        cpl_engine_stats_get(e, s);
        assert_true(s->team_members <= s->team_passes * (workers == 5 ? 3 : 2));
        call_deinit(&c);
        cpl_engine_close(e);
    }
    free(s);
    cpl_tokenizer_scratch_close(scratch);
}

static uint64_t cpu_ns(void)
{
    struct rusage r;
    getrusage(RUSAGE_SELF, &r);
    return ((uint64_t)r.ru_utime.tv_sec + (uint64_t)r.ru_stime.tv_sec) * 1000000000u +
           ((uint64_t)r.ru_utime.tv_usec + (uint64_t)r.ru_stime.tv_usec) * 1000u;
}

/* CPU time of this process, which neighbours can't add to: a worker that spun through the pause would use it whole. */
static void nobody_spins_at_rest(void **state)
{
    (void)state;
    const char *staged[] = {"team_stages=40", NULL};
    cpl_engine_options o = {.workers = 4};
    cpl_engine *e = open_engine(CROSS_ENCODER, staged, &o);
    cpl_tokenizer_scratch *scratch = open_scratch();
    call c;
    uint64_t seed = 5;
    call_init(&c);
    for (int i = 0; i < 100; i++) {
        call_fill(&c, CPL_OP_SCORE, 1, &seed);
        assert_int_equal(cpl_engine_submit(e, c.task, &c.spec, scratch, NULL), CPL_OK);
        call_wait(&c);
    }
    cpl_clock_sleep_until_ns(cpl_clock_ns() + 20000000);
    uint64_t before = cpu_ns();
    cpl_clock_sleep_until_ns(cpl_clock_ns() + 400000000);
    uint64_t used = cpu_ns() - before;
    print_message("%.3f ms of CPU time in 400 ms at rest\n", (double)used / 1e6);
    assert_true(used < 40000000);
    call_deinit(&c);
    cpl_tokenizer_scratch_close(scratch);
    cpl_engine_close(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_share_is_done_once),
        cmocka_unit_test(single_pairs_get_teams),
        cmocka_unit_test(lent_workers_are_called_back),
        cmocka_unit_test(ends_while_lent),
        cmocka_unit_test(nobody_spins_at_rest),
        cmocka_unit_test(closes_behind_a_team),
        cmocka_unit_test(weights_and_teams_keep_to_their_node),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
