/* SPDX-License-Identifier: Apache-2.0 */
/* test_trace.c - traceparent read and written, stage times as text, spans as JSON, collectors' addresses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "wire/otlp.h"

#define GOOD "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

static void traceparents(void **state)
{
    (void)state;
    cpl_trace_context c;
    char text[CPL_TRACE_PARENT_CAP];
    assert_true(cpl_trace_context_parse(&c, cpl_text_of(GOOD)));
    assert_int_equal(c.trace[0], 0x0a);
    assert_int_equal(c.trace[15], 0x9c);
    assert_int_equal(c.span[7], 0x31);
    assert_int_equal(c.flags, 1);
    cpl_trace_context_print(&c, text);
    assert_string_equal(text, GOOD);
    /* a later version may have more behind it */
    assert_true(cpl_trace_context_parse(&c, cpl_text_of("01"
                                                        "-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00-x")));
    static const char *const bad[] = {"",
                                      "00",
                                      "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0",
                                      "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
                                      "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-012",
                                      "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01x",
                                      "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                                      "00-00000000000000000000000000000000-b7ad6b7169203331-01",
                                      "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
                                      "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                                      "00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                                      "00-0af7651916cd43dd8448eb211c80319cb7ad6b7169203331--01",
                                      "00-0af7651916cd43dd8448eb211c80319g-b7ad6b7169203331-01"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (cpl_trace_context_parse(&c, cpl_text_of(bad[i]))) fail_msg("taken: '%s'", bad[i]);
    }
}

static void times_as_text(void **state)
{
    (void)state;
    char text[CPL_TRACE_TIMES_CAP];
    cpl_trace_times t = {.ns = {1499, 0, 12345678, 999999999, 500}};
    cpl_trace_times_print(&t, text);
    assert_string_equal(text, "read;dur=0.001, tokenize;dur=0.000, queue;dur=12.346, compute;dur=1000.000, "
                              "reply;dur=0.001, total;dur=1012.348");
    for (int i = 0; i < CPL_TRACE_STAGES; i++) t.ns[i] = UINT64_MAX / 8;
    cpl_trace_times_print(&t, text);
    assert_true(strlen(text) < CPL_TRACE_TIMES_CAP);
    assert_non_null(strstr(text, "total;dur=86400000.000"));
}

static const json_t *at(const json_t *v, const char *key, size_t i)
{
    return json_array_get(json_object_get(v, key), i);
}

static const char *text_of(const json_t *v, const char *key) { return json_string_value(json_object_get(v, key)); }

static void spans_as_json(void **state)
{
    (void)state;
    cpl_otlp_record r[2] = {{.method = "/rerank",
                             .model = "a \"model\"",
                             .items = 3,
                             .tokens = 1ull << 60,
                             .times = {.began_ns = 100, .ns = {10, 20, 30, 40, 50}}},
                            {.method = "/embed", .grpc_status = 4, .error = "late", .times = {.ns = {0, 0, 7, 0, 0}}}};
    cpl_trace_context_parse(&r[0].context, cpl_text_of(GOOD));
    r[0].parent[3] = 9;
    r[1].context = r[0].context;
    cpl_buf out = {0};
    cpl_error err = {0};
    json_t *body = NULL;
    cpl_otlp_encode(&out, r, 2, "here", 1000000);
    if (cpl_json_parse(&body, "spans", out.data, out.size, &err)) fail_msg("%s", err.what);
    const json_t *resource = at(body, "resourceSpans", 0), *scope = at(resource, "scopeSpans", 0);
    const json_t *name = at(json_object_get(resource, "resource"), "attributes", 0);
    assert_string_equal(text_of(json_object_get(name, "value"), "stringValue"), "here");
    assert_int_equal(json_array_size(json_object_get(scope, "spans")), 1 + 5 + 1 + 1);
    const json_t *root = at(scope, "spans", 0), *queue = at(scope, "spans", 3), *late = at(scope, "spans", 6);
    assert_string_equal(text_of(root, "traceId"), "0af7651916cd43dd8448eb211c80319c");
    assert_string_equal(text_of(root, "spanId"), "b7ad6b7169203331");
    assert_string_equal(text_of(root, "parentSpanId"), "0000000900000000");
    assert_string_equal(text_of(root, "name"), "/rerank");
    assert_string_equal(text_of(root, "startTimeUnixNano"), "1000100");
    assert_string_equal(text_of(root, "endTimeUnixNano"), "1000250");
    assert_null(json_object_get(root, "status"));
    assert_string_equal(text_of(queue, "name"), "queue");
    assert_string_equal(text_of(queue, "parentSpanId"), "b7ad6b7169203331");
    assert_string_not_equal(text_of(queue, "spanId"), text_of(root, "spanId"));
    assert_string_equal(text_of(queue, "startTimeUnixNano"), "1000130");
    assert_string_equal(text_of(queue, "endTimeUnixNano"), "1000160");
    assert_null(json_object_get(late, "parentSpanId"));
    assert_string_equal(text_of(json_object_get(late, "status"), "message"), "late");
    json_decref(body);
    cpl_buf_deinit(&out);
}

static void collectors(void **state)
{
    (void)state;
    static const struct {
        const char *endpoint, *host, *path;
    } good[] = {{"http://127.0.0.1:4318", "127.0.0.1:4318", "/v1/traces"},
                {"http://collector", "collector:4318", "/v1/traces"},
                {"http://collector/", "collector:4318", "/v1/traces"},
                {"http://[::1]:99/otel/v1/traces", "[::1]:99", "/otel/v1/traces"},
                {"http://[::1]", "[::1]:4318", "/v1/traces"}};
    static const char *const bad[] = {"", "collector:4318", "https://collector", "http://", "http:///x", "http://a b"};
    cpl_otlp_target t;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(cpl_otlp_target_parse(&t, good[i].endpoint, NULL), CPL_OK);
        assert_string_equal(t.host, good[i].host);
        assert_string_equal(t.path, good[i].path);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_not_equal(cpl_otlp_target_parse(&t, bad[i], NULL), CPL_OK);
}

/* Nobody listens: the queue fills, the rest is dropped, closing says how many were lost. */
static void a_full_queue_drops(void **state)
{
    (void)state;
    cpl_otlp *o = NULL;
    cpl_otlp_options options = {
        .endpoint = "http://127.0.0.1:1", .service = "x", .queue_max = 16, .batch_max = 4, .interval_ms = 10};
    assert_int_equal(cpl_otlp_open(&o, &options, NULL), CPL_OK);
    cpl_otlp_record r = {.method = "/x"};
    for (int i = 0; i < 100; i++) cpl_otlp_record_add(o, &r);
    cpl_otlp_counts c;
    cpl_otlp_count(o, &c);
    assert_int_equal(c.dropped, 84);
    assert_int_equal(c.sent, 0);
    cpl_otlp_close(o);
    cpl_otlp_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(traceparents), cmocka_unit_test(times_as_text),      cmocka_unit_test(spans_as_json),
        cmocka_unit_test(collectors),   cmocka_unit_test(a_full_queue_drops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
