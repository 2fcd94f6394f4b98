/* SPDX-License-Identifier: Apache-2.0 */
/* Experiment files into servers and rows; every file of experiments/ as it is committed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "lab/describe.h"
#include "lab/forecast.h"
#include "lab/plan.h"
#include "lab/runner.h"

static cpl_lab_plan *plan(const char *const *sets, bool quick)
{
    cpl_config *c;
    cpl_lab_plan *p;
    cpl_error err;
    if (cpl_config_load(&c, NULL, false, sets, &err)) fail_msg("%s", err.what);
    if (cpl_lab_plan_open(&p, c, "some/where/16x_name.yaml", quick, &err)) fail_msg("%s", err.what);
    cpl_config_close(c);
    return p;
}

static void sweeps_multiply(void **state)
{
    (void)state;
    const char *const sets[] = {"experiment.batch_sizes=[1, 8]", "experiment.concurrency_levels=[2, 4, 6]",
                                "experiment.sweep={batching.timeout_ms: [5, 10], workers: [1, 2, 3]}", NULL};
    cpl_lab_plan *p = plan(sets, false);
    assert_string_equal(p->name, "16x_name");
    assert_int_equal(p->server_count, 6);
    assert_int_equal(cpl_lab_plan_rows(p), 36);
    assert_string_equal(p->servers[0].label, "batching.timeout_ms=5, workers=1");
    assert_string_equal(p->servers[1].label, "batching.timeout_ms=5, workers=2");
    assert_string_equal(p->servers[5].label, "batching.timeout_ms=10, workers=3");
    assert_string_equal(p->servers[5].sets[0], "batching.timeout_ms=10");
    assert_string_equal(p->servers[5].sets[1], "workers=3");
    assert_null(p->servers[5].sets[2]);
    assert_int_equal(p->levels[2], 6);
    cpl_lab_plan_close(p);
}

static void without_a_sweep_one_server(void **state)
{
    (void)state;
    const char *const sets[] = {"experiment.benchmark_requests=1000", "experiment.repeats=3", "experiment.seed=9",
                                "experiment.name=given", NULL};
    cpl_lab_plan *p = plan(sets, false);
    assert_string_equal(p->name, "given");
    assert_int_equal(p->server_count, 1);
    assert_string_equal(p->servers[0].label, "");
    assert_null(p->servers[0].sets[0]);
    assert_int_equal(p->requests, 1000);
    assert_int_equal(p->rounds, 3);
    assert_int_equal(p->seed, 9);
    assert_true(p->duration_s == 15);
    cpl_lab_plan_close(p);
    p = plan(sets, true);
    assert_int_equal(p->requests, CPL_LAB_QUICK_REQUESTS);
    assert_int_equal(p->rounds, 1);
    assert_true(p->duration_s == CPL_LAB_QUICK_SECONDS);
    cpl_lab_plan_close(p);
}

/* --quick: first, middle and last of each list, and not more in flight than a quick row can drain. */
static void quick_has_few_rows(void **state)
{
    (void)state;
    const char *const sets[] = {"experiment.batch_sizes=[8, 16, 32, 64, 96]",
                                "experiment.concurrency_levels=[1, 2, 4, 8]",
                                "experiment.sweep={workers: [1, 2, 3, 4, 5]}", NULL};
    cpl_lab_plan *p = plan(sets, true);
    assert_int_equal(p->server_count, 3);
    assert_string_equal(p->servers[1].label, "workers=3");
    assert_string_equal(p->servers[2].label, "workers=5");
    assert_int_equal(p->batch_count, 3);
    assert_int_equal(p->batches[1], 32);
    assert_int_equal(p->batches[2], 96);
    assert_int_equal(p->level_count, 1); /* 96 x 4 would be too many pairs in flight */
    assert_int_equal(p->levels[0], 1);
    cpl_lab_plan_close(p);
}

static void too_many_rows(void **state)
{
    (void)state;
    char batches[400] = "experiment.batch_sizes=[1", levels[400] = "experiment.concurrency_levels=[1";
    for (int i = 2; i <= 40; i++) {
        snprintf(batches + strlen(batches), sizeof batches - strlen(batches), ", %d%s", i, i == 40 ? "]" : "");
        snprintf(levels + strlen(levels), sizeof levels - strlen(levels), ", %d%s", i, i == 40 ? "]" : "");
    }
    const char *const sets[] = {batches, levels, NULL};
    cpl_config *c;
    cpl_lab_plan *p;
    cpl_error err;
    assert_int_equal(cpl_config_load(&c, NULL, false, sets, NULL), CPL_OK);
    assert_int_equal(cpl_lab_plan_open(&p, c, "x", false, &err), CPL_INVALID);
    assert_null(p);
    assert_non_null(strstr(err.what, "1600 rows"));
    cpl_config_close(c);
}

static void related_names(void **state)
{
    (void)state;
    assert_true(cpl_lab_plan_related("16a_x", "16b_y"));
    assert_false(cpl_lab_plan_related("16a_x", "1_y"));
    assert_false(cpl_lab_plan_related("16a_x", "06a_y"));
    assert_false(cpl_lab_plan_related("a", "b"));
}

static void batching_in_words(void **state)
{
    (void)state;
    const char *const cases[][4] = {
        {"batching.enabled=false", NULL, NULL, "off"},
        {"batching.policy=greedy", NULL, NULL, "greedy"},
        {"batching.max_batch_size=96", "batching.timeout_ms=20", NULL, "up to 96 pairs, 20 ms"},
        {"batching.max_batch_size=128", "batching.length_aware=true", NULL, "up to 128 pairs, 10 ms, length-aware"},
    };
    for (size_t i = 0; i < 4; i++) {
        cpl_config *c;
        char text[128];
        assert_int_equal(cpl_config_load(&c, NULL, false, cases[i], NULL), CPL_OK);
        cpl_lab_batching_text(c, text, sizeof text);
        assert_string_equal(text, cases[i][3]);
        cpl_config_close(c);
    }
}

/* Every committed experiment, with its own settings and run on the native engine. */
static void committed_files(void **state)
{
    (void)state;
    char **files;
    cpl_error err;
    const char *const native[] = {"model.backend=native", NULL};
    if (!cpl_file_exists("experiments/base_config.yaml")) {
        print_message("skipped: not run from the source tree\n");
        skip();
    }
    if (cpl_lab_files_list(&files, "experiments", &err)) fail_msg("%s", err.what);
    size_t n = 0;
    for (; files[n]; n++) {
        if (cpl_lab_check(files[n], NULL, &err)) fail_msg("%s", err.what);
        if (cpl_lab_check(files[n], native, &err)) fail_msg("%s", err.what);
    }
    assert_true(n >= 20);
    cpl_lab_files_close(files);
    assert_int_equal(cpl_lab_files_list(&files, "src", &err), CPL_NOT_FOUND);
    assert_int_equal(cpl_lab_files_list(&files, "nowhere", &err), CPL_NOT_FOUND);
}

/* What rows take: as planned, or extended to hold several latencies. */
static void rows_hold_several_latencies(void **state)
{
    (void)state;
    const char *const sets[] = {"experiment.duration=2", "experiment.duration_max=12", NULL};
    cpl_lab_plan *p = plan(sets, false);
    assert_true(cpl_lab_plan_seconds(p, 64, 0) == 2); /* nothing is known yet */
    assert_true(cpl_lab_plan_seconds(p, 10, 100) == 2);
    assert_true(cpl_lab_plan_seconds(p, 100, 100) == CPL_LAB_LATENCIES);
    assert_true(cpl_lab_plan_seconds(p, 1000, 100) == 12);
    cpl_lab_plan_close(p);
    p = plan(sets, true);
    assert_true(cpl_lab_plan_seconds(p, 100, 100) == CPL_LAB_QUICK_SECONDS);
    cpl_lab_plan_close(p);
    p = plan((const char *const[]){"experiment.duration=2", NULL}, false);
    assert_true(cpl_lab_plan_seconds(p, 1000, 100) == 2);
    cpl_lab_plan_close(p);
}

/* The reference's rows, number by number; those of MLX have one of a single pair beside them, for CPUs. */
static void reference_rows(void **state)
{
    (void)state;
    static const struct {
        const char *file, *batching;
        int rows, requests, batch, first_level;
    } cases[] = {
        {"experiments/01_backend_pytorch.yaml", "off", 1, 200, 32, 1},
        {"experiments/05a_batch_size_mps.yaml", "off", 9, 150, 8, 1},
        {"experiments/06b_concurrency_mlx.yaml", "off", 14, 150, 96, 1},
        {"experiments/07a_multi_model_mps.yaml", "off", 8, 100, 32, 4},
        {"experiments/08b_dynamic_batch_mlx.yaml", "up to 96 pairs, 20 ms", 15, 200, 8, 2},
        {"experiments/16a_dynamic_batch_baseline.yaml", "off", 1, 1000, 32, 4},
        {"experiments/16b_dynamic_batch_enabled.yaml", "up to 256 pairs, 50 ms", 1, 1000, 32, 4},
        {"experiments/16c_dynamic_batch_timeout_sweep.yaml", "up to 64 pairs, 10 ms", 6, 1000, 32, 4},
        {"experiments/16d_dynamic_batch_high_concurrency.yaml", "up to 128 pairs, 5 ms, length-aware", 1, 1000, 16, 8},
    };
    if (!cpl_file_exists("experiments/base_config.yaml")) skip();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cpl_config *c;
        cpl_lab_plan *p;
        char text[128];
        assert_int_equal(cpl_config_load(&c, cases[i].file, true, NULL, NULL), CPL_OK);
        assert_int_equal(cpl_lab_plan_open(&p, c, cases[i].file, false, NULL), CPL_OK);
        cpl_lab_batching_text(c, text, sizeof text);
        assert_string_equal(text, cases[i].batching);
        assert_int_equal(cpl_lab_plan_rows(p), cases[i].rows);
        assert_int_equal(p->requests, cases[i].requests);
        bool found = false; /* the first, or the second where a single pair comes before it */
        for (size_t b = 0; b < p->batch_count && b < 2; b++) found |= p->batches[b] == (uint32_t)cases[i].batch;
        assert_true(found);
        assert_int_equal(p->levels[0], cases[i].first_level);
        cpl_lab_plan_close(p);
        cpl_config_close(c);
    }
}

/* A row ends at its requests where an older result says that they come first, else at its duration. */
static void time_is_foreseen(void **state)
{
    (void)state;
    cpl_config *c;
    cpl_lab_plan *p;
    cpl_error err;
    const char *const sets[] = {"experiment.batch_sizes=[10]",       "experiment.concurrency_levels=[1, 4]",
                                "experiment.benchmark_requests=100", "experiment.duration=15",
                                "experiment.warmup_iterations=0",    NULL};
    if (cpl_config_load(&c, NULL, false, sets, &err)) fail_msg("%s", err.what);
    if (cpl_lab_plan_open(&p, c, "99_x.yaml", false, &err)) fail_msg("%s", err.what);
    cpl_lab_forecast f = cpl_lab_forecast_of(p, NULL);
    assert_int_equal(f.rows, 2);
    assert_int_equal(f.known, 0);
    assert_true(f.most_s == 30 && f.expected_s > 30 && f.expected_s < 45);
    /* 1,000 pairs/s: 100 requests of 10 pairs take a second; the other row, at 10 pairs/s, would take 100. */
    cpl_lab_point points[2] = {{.server = "", .batch = 10, .concurrency = 1, .requests = 1, .throughput = 1000},
                               {.server = "", .batch = 10, .concurrency = 4, .requests = 1, .throughput = 10}};
    const cpl_lab_result old = {.points = points, .point_count = 2, .ready_ms_max = 700};
    f = cpl_lab_forecast_of(p, &old);
    assert_int_equal(f.known, 2);
    assert_true(f.expected_s > 1 + 15 + 8 && f.expected_s < 1 + 15 + 8 + 3);
    points[1].requests = 0; /* left out then, and so it will be */
    f = cpl_lab_forecast_of(p, &old);
    assert_true(f.expected_s > 1 && f.expected_s < 4);
    cpl_lab_plan_close(p);
    cpl_config_close(c);
}

static void wrong_files_are_named(void **state)
{
    (void)state;
    char path[256];
    const char *dir = getenv("TMPDIR");
    cpl_error err;
    snprintf(path, sizeof path, "%s/couplet-plan-%d.yaml", dir ? dir : P_tmpdir, (int)getpid());
    static const struct {
        const char *yaml, *says;
    } cases[] = {
        {"experiment: {bench_requests: 3}\n", "bench_requests"},
        {"experiment: {sweep: {batching.timeout_ms: [5, -1]}}\n", "timeout_ms"},
        {"experiment: {scenario: sometimes}\n", "offline"},
        {"experiment: {scenario: replay}\n", "experiment.trace"},
        {"experiment: {early_stop: true, slo_ms: 20}\n", "experiment.slo_percentile"},
        {"experiment: {slo_percentile: 99}\n", "experiment.slo_ms"},
        {"experiment: {dialect: soap}\n", "oip-grpc"},
        {"experiment: {scenario: poisson, rate: [0]}\n", "experiment.rate"},
        {"experiment: {sweep: {model.quantized: [true]}}\nmodel: {precision: fp32}\n", "with model.quantized=true"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(cpl_file_write(path, cases[i].yaml, strlen(cases[i].yaml), NULL), CPL_OK);
        assert_int_not_equal(cpl_lab_check(path, NULL, &err), CPL_OK);
        if (!strstr(err.what, cases[i].says)) fail_msg("'%s' isn't in: %s", cases[i].says, err.what);
    }
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sweeps_multiply),       cmocka_unit_test(without_a_sweep_one_server),
        cmocka_unit_test(quick_has_few_rows),    cmocka_unit_test(too_many_rows),
        cmocka_unit_test(related_names),         cmocka_unit_test(batching_in_words),
        cmocka_unit_test(committed_files),       cmocka_unit_test(rows_hold_several_latencies),
        cmocka_unit_test(reference_rows),        cmocka_unit_test(time_is_foreseen),
        cmocka_unit_test(wrong_files_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
