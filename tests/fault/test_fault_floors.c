/* SPDX-License-Identifier: Apache-2.0 */
/* test_fault_floors.c - what opens, reads and writes on every floor, while the nth allocation, mapping, thread start,
 * open, read, write, sync or rename fails, for every n until nothing fails any more; once with that one failing and
 * once with all from there on. Every time: it worked, or there is a status and one line; nothing crashes or leaks (the
 * leak sanitizer says so at the end). What must not fail for lack of memory at all (texts that are built before they
 * are written) keeps the fact until it is asked. */
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>
#include <unistd.h>

#include <cmocka.h>

/* What the build wraps (cmake/tests.cmake reads these lines). */
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
int __wrap_posix_memalign(void **out, size_t align, size_t size);
void *__wrap_mmap(void *at, size_t size, int protection, int flags, int file, off_t offset);
int __wrap_pthread_create(pthread_t *out, const pthread_attr_t *attr, void *(*fn)(void *), void *arg);
int __wrap_open(const char *path, int flags, ...);
ssize_t __wrap_read(int fd, void *to, size_t n);
ssize_t __wrap_write(int fd, const void *from, size_t n);
int __wrap_fsync(int fd);
int __wrap_rename(const char *from, const char *to);

#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/records.h"
#include "couplet.h"
#include "fault/fault.h"
#include "lab/compare.h"
#include "lab/plan.h"
#include "lab/summary.h"
#include "load/schedule.h"
#include "load/workload.h"
#include "model/onnx.h"
#include "net/client.h"
#include "serve/service.h"

#define CROSS_ENCODER "tests/golden/models/cross-encoder"
#define EMBEDDER      "tests/golden/models/embedder-mean"
#define RESULT        "tests/fuzz/corpus/result/rounds"
#define SCRATCH       "test_fault_floors.out"
#define PAIRS         "test_fault_floors.jsonl"

int __real_open(const char *path, int flags, ...);
ssize_t __real_read(int fd, void *to, size_t n);
ssize_t __real_write(int fd, const void *from, size_t n);
int __real_fsync(int fd);
int __real_rename(const char *from, const char *to);

int __wrap_open(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    const int mode = flags & O_CREAT ? va_arg(args, int) : 0;
    va_end(args);
    if (!cpl_fault_here()) return __real_open(path, flags, mode);
    errno = EMFILE;
    return -1;
}

ssize_t __wrap_read(int fd, void *to, size_t n)
{
    if (!cpl_fault_here()) return __real_read(fd, to, n);
    errno = EIO;
    return -1;
}

ssize_t __wrap_write(int fd, const void *from, size_t n)
{
    if (!cpl_fault_here()) return __real_write(fd, from, n);
    errno = ENOSPC;
    return -1;
}

int __wrap_fsync(int fd)
{
    if (!cpl_fault_here()) return __real_fsync(fd);
    errno = EIO;
    return -1;
}

int __wrap_rename(const char *from, const char *to)
{
    if (!cpl_fault_here()) return __real_rename(from, to);
    errno = EACCES;
    return -1;
}

/* ---- what is done -------------------------------------------------------------------------------------------- */

static cpl_status configure(cpl_error *err)
{
    static const char *const sets[] = {"models=[{name: a}, {name: b/c, replicas: 2}]",
                                       "experiment.sweep={workers: [1, 2]}", NULL};
    static const char entry[] = "{\"name\": \"x\", \"precision\": \"int8\"}";
    cpl_config *c = NULL, *model = NULL;
    cpl_lab_plan *plan = NULL;
    cpl_buf text = {0};
    cpl_status st = cpl_config_load(&c, "experiments/16b_dynamic_batch_enabled.yaml", true, sets, err);
    if (!st) st = cpl_config_model_parse(&model, c, entry, sizeof entry - 1, err);
    cpl_config_close(model);
    if (!st) st = cpl_lab_plan_open(&plan, c, "experiments/16b.yaml", false, err);
    cpl_lab_plan_close(plan);
    if (!st) {
        cpl_config_print(c, &text);
        st = cpl_buf_status(&text, err);
    }
    cpl_buf_deinit(&text);
    cpl_config_close(c);
    return st;
}

static cpl_status export_graph(cpl_error *err)
{
    static const cpl_onnx_options options = {.numbers = CPL_ONNX_INT8};
    cpl_model *model = NULL;
    cpl_buf graph = {0};
    cpl_status st = cpl_model_open(&model, EMBEDDER, err);
    if (!st) st = cpl_onnx_write(&graph, model, &options, err);
    if (!st) st = cpl_file_write(SCRATCH, graph.data, graph.size, err);
    cpl_buf_deinit(&graph);
    cpl_model_close(model);
    return st;
}

static cpl_status read_records(cpl_error *err)
{
    cpl_records *r = NULL;
    cpl_buf first = {0}, second = {0};
    bool end = false;
    cpl_status st = cpl_records_open(&r, PAIRS, CPL_RECORDS_JSONL, true, err);
    while (!st && !end) {
        cpl_buf_clear(&first);
        cpl_buf_clear(&second);
        st = cpl_records_next(r, &first, &second, &end, err);
    }
    cpl_records_close(r);
    cpl_buf_deinit(&first);
    cpl_buf_deinit(&second);
    return st;
}

static cpl_status make_workload(cpl_error *err)
{
    const cpl_dialect *dialect;
    cpl_pool *pool = NULL;
    cpl_workload *w = NULL;
    cpl_shape shape;
    cpl_status st = cpl_dialect_find(&dialect, "tei", err);
    if (!st) st = cpl_shape_parse(&shape, "16-32", 4, 0.1, err);
    if (!st) st = cpl_pool_open_shaped(&pool, NULL, &shape, 1, 64, err);
    if (!st) st = cpl_workload_open(&w, pool, dialect, 4, 16, err);
    cpl_workload_close(w);
    cpl_pool_close(pool);
    return st;
}

static cpl_status read_trace(cpl_error *err)
{
    cpl_trace t;
    cpl_status st = cpl_trace_load(&t, "tests/fuzz/corpus/arrivals/jsonl", err);
    if (!st) cpl_trace_deinit(&t);
    return st;
}

/* Pages of a result and the result against itself. */
static cpl_status report(cpl_error *err)
{
    static const cpl_lab_index_options options = {.price_per_hour = 1, .currency = "USD"};
    cpl_lab_results all = {0};
    cpl_lab_result *r = NULL;
    cpl_lab_comparisons c = {0};
    cpl_buf text = {0};
    cpl_status st = cpl_file_read(&text, RESULT, 1 << 20, err);
    if (!st) st = cpl_lab_result_parse(&r, RESULT, text.data, text.size, err);
    if (!st) st = cpl_lab_results_add(&all, r, err);
    cpl_buf_clear(&text);
    if (!st) {
        cpl_lab_summary(&all, &text);
        cpl_lab_index(&all, &options, &text);
        st = cpl_buf_status(&text, err);
    }
    cpl_buf_clear(&text);
    if (!st) st = cpl_lab_comparisons_make(&c, &all, &all, 0, err);
    if (!st) {
        cpl_lab_comparisons_json(&c, &text);
        st = cpl_buf_status(&text, err);
    }
    if (!st) st = cpl_file_write(SCRATCH, text.data, text.size, err);
    cpl_lab_comparisons_deinit(&c);
    cpl_lab_results_deinit(&all);
    cpl_buf_deinit(&text);
    return st;
}

/* The public library, from its door to a score. */
static cpl_status score(cpl_error *err)
{
    static const cpl_pair pairs[] = {{{"a", 1}, {"b", 1}}, {{"how tall", 8}, {"very", 4}}};
    cpl_open_options o = CPL_OPTIONS(cpl_open_options);
    cpl_scorer *s = NULL;
    float scores[2];
    o.threads = 1;
    o.backend = "fake";
    cpl_status st = cpl_scorer_open(&s, CROSS_ENCODER, &o, err);
    if (!st) st = cpl_scorer_score(s, pairs, 2, NULL, scores, err);
    cpl_scorer_close(s);
    return st;
}

static void on_reply(void *user, const cpl_reply *reply)
{
    cpl_error *err = user;
    if (reply->code) cpl_fail(err, CPL_UNAVAILABLE, "answered with %d: %s", reply->code, reply->message);
}

/* Each path once, over HTTP/1.1; every call that was started is answered. */
static cpl_status ask(const char *target, cpl_error *err)
{
    static const char *const asked[][2] = {{"/rerank", "{\"model\":\"a\",\"query\":\"a\",\"texts\":[\"b\",\"c\"]}"},
                                           {"/embed", "{\"model\":\"b\",\"inputs\":[\"a\",\"b\"]}"},
                                           {"/models/load", "{\"name\":\"a\"}"}};
    static const char *const headers[] = {"content-type", "application/json", "traceparent",
                                          "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", NULL};
    const cpl_client_options options = {.target = target, .http1 = true};
    cpl_client *c = NULL;
    cpl_status st = cpl_client_open(&c, &options, err);
    for (size_t i = 0; i < 3 && !st; i++) {
        const char *body = asked[i][1];
        st = cpl_client_call(c, 0, asked[i][0], body, strlen(body), headers, 20000000000, on_reply, err, err);
        if (st) break;
        cpl_client_run(c, cpl_clock_ns() + 60000000000, true);
        st = err->status;
    }
    cpl_client_close(c);
    return st;
}

/* A whole server with two models, an exporter of spans and its admin thread, opened, asked and closed. */
static cpl_status serve(cpl_error *err)
{
    static const char *const sets[] = {"models=[{name: a, path: " CROSS_ENCODER "}, {name: b, path: " EMBEDDER "}]",
                                       "model.backend=fake",
                                       "workers=1",
                                       "server.listen=[\"127.0.0.1:0\"]",
                                       "server.otlp.endpoint=http://127.0.0.1:1",
                                       "tokenizer_pool.num_workers=1",
                                       NULL};
    cpl_config *c = NULL;
    cpl_service *s = NULL;
    cpl_status st = cpl_config_load(&c, NULL, false, sets, err);
    if (!st) st = cpl_service_open(&s, c, false, NULL, err);
    if (!st) st = ask(cpl_service_address(s, 0), err);
    cpl_service_close(s);
    cpl_config_close(c);
    return st;
}

/* ---- faults -------------------------------------------------------------------------------------------------- */

static void every_fault(void **state)
{
    cpl_status (*const *run)(cpl_error * err) = *state;
    long places = 0;
    for (int forever = 0; forever < 2; forever++) {
        long hits = 1;
        for (long n = -1; hits || n <= 0; n++) { /* first without a failure */
            cpl_error err = {0};
            cpl_fault_arm(n, forever);
            const cpl_status st = (*run)(&err);
            hits = cpl_fault_disarm();
            if (st && !hits) fail_msg("without a failure: %s", err.what);
            if (st && (err.status != st || !err.what[0] || strpbrk(err.what, "\r\n")))
                fail_msg("fault %ld: status %d, '%s'", n, st, err.what);
            places += hits > 0;
        }
    }
    print_message("%ld faults\n", places);
    assert_true(places > 4);
}

int main(void)
{
    static cpl_status (*const run[])(cpl_error *) = {configure,  export_graph, read_records, make_workload,
                                                     read_trace, report,       score,        serve};
    static const char *const names[] = {"a configuration and its plan",
                                        "a graph for other runtimes",
                                        "a file of pairs",
                                        "a workload",
                                        "a file of arrival times",
                                        "a report and a comparison",
                                        "the library's scorer",
                                        "a server with two models"};
    struct CMUnitTest tests[sizeof run / sizeof *run];
    for (size_t i = 0; i < sizeof run / sizeof *run; i++)
        tests[i] = (struct CMUnitTest){.name = names[i], .test_func = every_fault, .initial_state = (void *)&run[i]};
    static const char pairs[] =
        "{\"query\":\"a\",\"document\":\"\xff\"}\n{\"document\":\"b\",\"query\":\"a\",\"x\":[]}\n";
    if (cpl_file_write(PAIRS, pairs, sizeof pairs - 1, NULL)) return 1;
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(SCRATCH);
    unlink(PAIRS);
    return failed;
}
