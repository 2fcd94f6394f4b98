/* SPDX-License-Identifier: Apache-2.0 */
/* Pages from committed results with round numbers: what must be said, and what must not. */
#include <dirent.h>
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
#include "lab/findings.h"
#include "lab/markdown.h"
#include "lab/page.h"
#include "lab/summary.h"

#define DIR_RESULTS "tests/unit/lab/results"

static cpl_lab_results all;

static int load(void **state)
{
    (void)state;
    cpl_error err;
    if (!cpl_file_exists(DIR_RESULTS)) return 0;
    if (!cpl_lab_results_load(&all, DIR_RESULTS, &err)) return 0;
    print_error("%s\n", err.what);
    return -1;
}

static int unload(void **state)
{
    (void)state;
    cpl_lab_results_deinit(&all);
    return 0;
}

static void need_results(void)
{
    if (all.count) return;
    print_message("skipped: not run from the source tree\n");
    skip();
}

static const cpl_lab_result *result(const char *name)
{
    for (size_t i = 0; i < all.count; i++)
        if (!strcmp(all.at[i]->name, name)) return all.at[i];
    fail_msg("no result '%s'", name);
    return NULL;
}

static void says(const cpl_buf *b, const char *what)
{
    if (!strstr(b->data, what)) fail_msg("'%s' isn't said in:\n%s", what, b->data);
}

static void silent(const cpl_buf *b, const char *what)
{
    if (strstr(b->data, what)) fail_msg("'%s' is said in:\n%s", what, b->data);
}

static void results_are_read(void **state)
{
    (void)state;
    need_results();
    assert_int_equal(all.count, 5); /* and other.json left alone */
    assert_string_equal(all.at[0]->name, "01_backend_native");
    assert_string_equal(all.at[4]->name, "16f_one_pair_greedy");
    const cpl_lab_result *r = result("16f_one_pair_greedy");
    assert_int_equal(r->point_count, 2);
    assert_true(r->points[0].round_throughput[1] == 88.0);
    assert_string_equal(r->machine.cpu, "Test CPU");
    assert_int_equal(r->probe_count, 2);
    assert_false(r->probes[1].available);
}

/* Writing what was read gives the same document again. */
static void written_is_read(void **state)
{
    (void)state;
    need_results();
    for (size_t i = 0; i < all.count; i++) {
        cpl_buf first = {0}, second = {0};
        cpl_lab_result *again;
        cpl_error err;
        cpl_lab_result_write(all.at[i], &first);
        if (cpl_lab_result_parse(&again, "x", first.data, first.size, &err)) fail_msg("%s", err.what);
        cpl_lab_result_write(again, &second);
        assert_string_equal(first.data, second.data);
        cpl_lab_result_close(again);
        cpl_buf_deinit(&first);
        cpl_buf_deinit(&second);
    }
}

static void broken_results(void **state)
{
    (void)state;
    static const struct {
        const char *json, *says;
        cpl_status status;
    } cases[] = {
        {"{}", "not a result", CPL_NOT_FOUND},
        {"[", "not valid JSON", CPL_CORRUPT},
        {"{\"kind\": \"couplet experiment\", \"format\": 9}", "another version", CPL_UNSUPPORTED},
        {"{\"kind\": \"couplet experiment\", \"format\": 1, \"name\": 5}", "'name' has the wrong type", CPL_CORRUPT},
        {"{\"kind\": \"couplet experiment\", \"format\": 1, \"points\": [{\"rounds\": 3, \"round_throughput\": []}]}",
         "doesn't hold its 3 rounds", CPL_CORRUPT},
        {"{\"kind\": \"couplet experiment\", \"format\": 1, \"points\": [{\"rounds\": -3}]}", "'rounds' has the wrong",
         CPL_CORRUPT},
        {"{\"kind\": \"couplet experiment\", \"format\": 1, \"points\": [{\"rounds\": 99999999}]}",
         "doesn't hold its 99999999 rounds", CPL_CORRUPT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cpl_lab_result *r;
        cpl_error err;
        assert_int_equal(cpl_lab_result_parse(&r, "f.json", cases[i].json, strlen(cases[i].json), &err),
                         cases[i].status);
        assert_null(r);
        if (!strstr(err.what, cases[i].says)) fail_msg("'%s' isn't in: %s", cases[i].says, err.what);
    }
    /* Nothing but the kind: every page can be made of it all the same. */
    const char *bare = "{\"kind\": \"couplet experiment\", \"format\": 1, \"points\": [{}]}";
    cpl_lab_result *r;
    cpl_buf page = {0};
    cpl_lab_results one = {0};
    assert_int_equal(cpl_lab_result_parse(&r, "f.json", bare, strlen(bare), NULL), CPL_OK);
    cpl_lab_page(r, "", &page);
    assert_int_equal(cpl_lab_results_add(&one, r, NULL), CPL_OK);
    cpl_lab_summary(&one, &page);
    cpl_lab_progression(&one, "..", &page);
    says(&page, "No row was measured");
    cpl_buf_deinit(&page);
    cpl_lab_results_deinit(&one);
}

static void findings_of_a_sweep_of_batches(void **state)
{
    (void)state;
    need_results();
    cpl_buf b = {0};
    cpl_lab_findings(result("05a_batch_size_mps"), false, &b);
    says(&b, "- Most throughput: 110.0 (109.0 to 111.0) pairs/s at batch 64, concurrency 1");
    says(&b, "1 of the other 2 rows are comparable");
    says(&b, "- Least latency: 88.9 ms mean");
    /* 110.5/90 with 109.5/91 and 111.5/89 at the edges */
    says(&b, "- Batch 8 to 256 at concurrency 1: throughput times 1.228 (1.203 to 1.253) (faster)");
    says(&b, "from 64 on nothing is gained beyond the interval");
    says(&b, "requests were joined in 0 of 3 rows, cut in 3");
    says(&b, "most cut: 2.5 sequences (206 tokens) a pass for requests of 256 pairs");
    says(&b, "- Requests failed in 1 of 3 rows");
    says(&b, "- 1 of 3 rows are INVALID");
    says(&b, "- Time ended 1 of 3 rows");
    says(&b, "- In 1 of 3 rows the pool of pairs was used up");
    silent(&b, "Concurrency 1");
    silent(&b, "swept");
    cpl_buf_deinit(&b);
}

/* The machine was noisier than the difference, but in every round greedy was 10 % ahead: only pairing sees it. */
static void interleaved_rounds_are_paired(void **state)
{
    (void)state;
    need_results();
    const cpl_lab_result *off = result("16e_one_pair_off"), *greedy = result("16f_one_pair_greedy");
    assert_true(cpl_lab_interleaved(off, greedy));
    assert_ptr_equal(cpl_lab_counterpart(&all, greedy), off);
    assert_null(cpl_lab_counterpart(&all, off));
    cpl_interval paired = cpl_lab_compare(&off->points[0], &greedy->points[0], true);
    assert_string_equal(cpl_lab_ratio_word(&paired), "faster");
    cpl_interval apart = cpl_lab_compare(&off->points[0], &greedy->points[0], false);
    assert_string_equal(cpl_lab_ratio_word(&apart), "comparable");
    cpl_interval same = cpl_lab_compare(&off->points[1], &greedy->points[1], true);
    assert_string_equal(cpl_lab_ratio_word(&same), "comparable");
    cpl_interval unknown = {1.5, 1.5, 1.5, false};
    assert_string_equal(cpl_lab_ratio_word(&unknown), "interval not known");
}

static void page_of_one(void **state)
{
    (void)state;
    need_results();
    cpl_buf b = {0};
    cpl_lab_page(result("05a_batch_size_mps"), "", &b);
    says(&b, "| Batch | Conc | Pairs | Time (s) | Lat Avg | P95 | P99 | TP Avg | TP P95 |");
    says(&b, "(`mps` asked for, `native` ran) with an override: `--set model.backend=native`");
    says(&b, "**Model:** the seeded cross-encoder stands in.");
    says(&b, "| 256 | 1 | 1.00 (1) | 1000 of 1200 | 3 |");
    says(&b, "UNAVAILABLE x 3: draining \\| now");
    says(&b, "12 pairs had been sent before");
    says(&b, "couplet experiment run experiments/05a_batch_size_mps.yaml");
    says(&b, "<details><summary>Effective configuration</summary>\n\n```yaml\nmodel:\n  backend: native\n```");
    cpl_buf_clear(&b);
    cpl_lab_page(result("01_backend_pytorch"), "", &b);
    says(&b, "Status: not run: backend 'pytorch' is not installed: no couplet-pytorch.so.");
    silent(&b, "## Results");
    cpl_buf_deinit(&b);
}

static void summary_of_all(void **state)
{
    (void)state;
    need_results();
    cpl_buf b = {0};
    cpl_lab_summary(&all, &b);
    says(&b, "Highest throughput: 110.0 (109.0 to 111.0) pairs/s, [05a_batch_size_mps]");
    says(&b,
         "| [01_backend_pytorch](01_backend_pytorch.md) | pytorch | - | - | - | - | not run: backend 'pytorch' is not "
         "installed |");
    says(&b,
         "**Greedy batching against none, 2 rows:** faster in 1, comparable in 1, slower in 0, interval not known in "
         "0. It is never below `off` beyond the interval.");
    says(&b, "against 16e_one_pair_off (off)**, rounds alternated");
    says(&b, "times 1.100 (1.100 to 1.100), faster; sequences a pass 1.6 against 1.0");
    says(&b, "| 01_backend_native | batch 32, concurrency 1 | 100.0 (99.0 to 101.0) | 102.0 | 1 | baseline |");
    says(&b, "| 05a_batch_size_mps | batch 64, concurrency 1 | 110.0 (109.0 to 111.0) |");
    says(&b, "| native (2 cores of Test CPU) | **ran** | no: no bf16 kernels in this version |");
    says(&b, "| pytorch (not here) | - |");
    says(&b, "- For most throughput: backend `native`, precision fp32, batching off; 64 pairs a request, 1 in flight");
    says(&b, "- For least latency: backend `native`, precision fp32, batching greedy; 1 pairs a request, 4 in flight");
    says(&b, "- Repeat 05a_batch_size_mps on a quieter machine: 1 of 3 rows are INVALID.");
    says(&b, "- Run 4 experiments again with the real cross-encoder's weights.");
    cpl_buf_deinit(&b);
}

static void progression_by_phase(void **state)
{
    (void)state;
    need_results();
    cpl_buf b = {0};
    cpl_lab_progression(&all, "../docs/experiments", &b);
    says(&b, "## 1 backends");
    says(&b, "| 01 | [01_backend_native](../docs/experiments/01_backend_native.md) | what it is for | 100.0 (99.0 to "
             "101.0) pairs/s at batch 32, concurrency 1 | **winner** |");
    says(&b, "| 16f | ");
    says(&b, "## 6 aggregation");
    says(&b, "| comparable |"); /* 16e beside 16f */
    cpl_buf_deinit(&b);
}

/* cpl_lab_report over a copy of the committed results. */
static void report_writes_every_page(void **state)
{
    (void)state;
    need_results();
    char dir[256], out[300], path[600];
    const char *base = getenv("TMPDIR");
    cpl_error err;
    size_t count;
    const char *plots;
    const cpl_lab_report_options options = {dir, out, {0.5, "EUR"}};
    snprintf(dir, sizeof dir, "%s/couplet-report-XXXXXX", base ? base : P_tmpdir);
    assert_non_null(mkdtemp(dir));
    snprintf(out, sizeof out, "%s/experiments", dir);
    for (size_t i = 0; i < all.count; i++) {
        cpl_buf b = {0};
        cpl_lab_result_write(all.at[i], &b);
        snprintf(path, sizeof path, "%s/%s.json", dir, all.at[i]->name);
        assert_int_equal(cpl_file_write(path, b.data, b.size, NULL), CPL_OK);
        cpl_buf_deinit(&b);
    }
    if (cpl_lab_report(&options, &count, &plots, &err)) fail_msg("%s", err.what);
    assert_int_equal(count, 5);
    const char *const pages[] = {"summary.md",
                                 "01_backend_native.md",
                                 "16f_one_pair_greedy.md",
                                 "experiments/README.md",
                                 "index.html",
                                 "rows.csv",
                                 "rows.json"};
    for (size_t i = 0; i < sizeof pages / sizeof *pages; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, pages[i]);
        assert_true(cpl_file_exists(path));
    }
    snprintf(path, sizeof path, "rm -rf '%s'", dir);
    assert_int_equal(system(path), 0);
    assert_int_equal(cpl_lab_report(&options, &count, &plots, &err), CPL_NOT_FOUND);
}

/* One page, nothing to load, every section that the results have something for. */
static void page_over_everything(void **state)
{
    (void)state;
    need_results();
    cpl_buf b = {0};
    const cpl_lab_index_options options = {3.6, "EUR"};
    cpl_lab_index(&all, &options, &b);
    static const char *const loads[] = {"src=",    "url(",     "@import", "<script", "<link",
                                        "http://", "https://", "nan",     "inf"};
    for (size_t i = 0; i < sizeof loads / sizeof *loads; i++) silent(&b, loads[i]);
    static const char *const has[] = {
        "id=\"batching\"",           "id=\"batch\"",    "id=\"platform\"", "id=\"cost\"", "id=\"all\"", "id=\"origin\"",
        "prefers-color-scheme:dark", "EUR 3.6 an hour", "Not run here"};
    for (size_t i = 0; i < sizeof has / sizeof *has; i++) says(&b, has[i]);
    /* 110 pairs/s: a million take 2.53 hours, 9.09 of a currency at 3.6 an hour */
    says(&b, "2.53<td class=r>9.09");
    cpl_buf_deinit(&b);
    cpl_lab_results none = {0};
    cpl_lab_index(&none, &options, &b);
    assert_int_equal(b.size, 0);
}

/* Texts of a result are somebody else's: they can't become markup, nor break a line of the table. */
static void hostile_texts(void **state)
{
    (void)state;
    const char *json = "{\"kind\": \"couplet experiment\", \"format\": 1, \"name\": \"x\", \"status\": \"ran\", "
                       "\"description\": \"<b>&\\\"\", \"points\": [{\"server\": \"a=\\\"<i>,\\n\", \"requests\": 5, "
                       "\"throughput\": 3, \"concurrency\": 1, \"reasons\": \"a, \\\"b\\\"\"}]}";
    cpl_lab_results one = {0};
    cpl_lab_result *r;
    cpl_buf b = {0};
    const cpl_lab_index_options options = {0};
    assert_int_equal(cpl_lab_result_parse(&r, "x", json, strlen(json), NULL), CPL_OK);
    assert_int_equal(cpl_lab_results_add(&one, r, NULL), CPL_OK);
    cpl_lab_index(&one, &options, &b);
    says(&b, "&lt;b&gt;&amp;&quot;");
    silent(&b, "<b>&");
    silent(&b, "<i>");
    cpl_buf_clear(&b);
    cpl_lab_rows_csv(&one, &b);
    says(&b, "\"a=\"\"<i>,\n\"");
    says(&b, "\"a, \"\"b\"\"\"");
    cpl_buf_deinit(&b);
    cpl_lab_results_deinit(&one);
}

/* A test backend of 20 ms a pass and 40 us a token, seen through noise: the fit gives both back. */
static void pass_cost_is_found(void **state)
{
    (void)state;
    cpl_lab_point points[4] = {0};
    const cpl_lab_result r = {.points = points, .point_count = 4};
    const double tokens[] = {100, 210, 400, 820}, noise[] = {1.002, 0.999, 1.001, 0.9995};
    cpl_lab_pass_cost c;
    for (size_t i = 0; i < 4; i++)
        points[i] = (cpl_lab_point){.server = "",
                                    .passes = 50,
                                    .pass_tokens_mean = tokens[i],
                                    .pass_mean_ms = (20 + 0.04 * tokens[i]) * noise[i]};
    assert_true(cpl_lab_pass_cost_of(&r, &c));
    assert_float_equal(c.fixed_ms, 20, 0.4);
    assert_float_equal(c.per_token_us, 40, 0.8);
    assert_true(c.miss < 0.005);
    points[3].passes = points[2].passes = 0; /* two rows make any line */
    assert_false(cpl_lab_pass_cost_of(&r, &c));
}

static void numbers_in_words(void **state)
{
    (void)state;
    static const struct {
        double v;
        const char *text;
    } cases[] = {{1234.5, "1234"}, {999.94, "999.9"}, {10, "10.0"}, {9.876, "9.88"}, {0.0123, "0.012"}, {0, "0.00"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cpl_buf b = {0};
        cpl_md_number(&b, cases[i].v);
        assert_string_equal(b.data, cases[i].text);
        cpl_buf_deinit(&b);
    }
    cpl_buf b = {0};
    cpl_md_sure(&b, 5, false);
    cpl_md_cell(&b, "a|b\nc");
    assert_string_equal(b.data, "~5.00a\\|b c");
    cpl_buf_deinit(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(results_are_read),
        cmocka_unit_test(written_is_read),
        cmocka_unit_test(broken_results),
        cmocka_unit_test(findings_of_a_sweep_of_batches),
        cmocka_unit_test(interleaved_rounds_are_paired),
        cmocka_unit_test(page_of_one),
        cmocka_unit_test(summary_of_all),
        cmocka_unit_test(progression_by_phase),
        cmocka_unit_test(report_writes_every_page),
        cmocka_unit_test(page_over_everything),
        cmocka_unit_test(hostile_texts),
        cmocka_unit_test(pass_cost_is_found),
        cmocka_unit_test(numbers_in_words),
    };
    return cmocka_run_group_tests(tests, load, unload);
}
