/* SPDX-License-Identifier: Apache-2.0 */
/* test_http1.c - HTTP/1.1 on the same port: requests by hand over a raw socket, whole, in pieces, pipelined, broken,
 * too large, abandoned; and what the server's limits and its drain do to them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "unit/net/echo_service.h"
#include "unit/net/raw_socket.h"

/* One reply: status, the head, the body that Content-Length promises (none where `no_body`). What follows stays in
 * r->in. status 0: the connection ended before a whole one. */
typedef struct reply {
    int status;
    char head[2000];
    char body[70000];
    size_t size;
} reply;

static int receive_more(raw *r)
{
    char piece[4096];
    const ssize_t n = recv(r->fd, piece, sizeof piece, 0);
    if (n <= 0) return 0;
    cpl_buf_add(&r->in, piece, (size_t)n);
    return 1;
}

static void read_reply(raw *r, reply *out, int no_body)
{
    const char *end = NULL;
    *out = (reply){0};
    while (!r->in.size || !(end = strstr(r->in.data, "\r\n\r\n")))
        if (!receive_more(r)) return;
    const size_t head = (size_t)(end - r->in.data) + 4;
    assert_true(head < sizeof out->head);
    memcpy(out->head, r->in.data, head);
    const char *length = strstr(out->head, "Content-Length: ");
    out->size = length && !no_body ? strtoul(length + 16, NULL, 10) : 0;
    assert_true(out->size < sizeof out->body);
    while (r->in.size < head + out->size)
        if (!receive_more(r)) return;
    memcpy(out->body, r->in.data + head, out->size);
    memmove(r->in.data, r->in.data + head + out->size, r->in.size - head - out->size + 1);
    r->in.size -= head + out->size;
    assert_int_equal(sscanf(out->head, "HTTP/1.1 %d ", &out->status), 1);
}

static void say(raw *r, const char *text) { raw_send(r, text, strlen(text)); }

static int is_over(raw *r) { return r->in.size == 0 && !receive_more(r); }

/* ---- requests -------------------------------------------------------------------------------------------------- */

static void what_is_asked_decides(void **state)
{
    (void)state;
    static const struct {
        const char *request;
        int status, ends;
        const char *in_head, *body;
    } cases[] = {
        {"POST /plain/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", 200, 0, "x-seen: yes", "hello"},
        {"POST /plain/echo?q=1 HTTP/1.1\r\nhOST: x\r\nContent-length: 0\r\n\r\n", 200, 0, "Date: ", ""},
        {"POST /plain/echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: "
         "1\r\n\r\n",
         200, 0, "Content-Type: text/plain", "abcde"},
        {"GET /plain/get HTTP/1.1\r\nHost: x\r\nX-Reply: Seen\r\n\r\n", 200, 0, "", "Seen"},
        {"GET /plain/get HTTP/1.1\r\nHost: x\r\nConnection: close\r\nx-reply: bye\r\n\r\n", 200, 1, "Connection: close",
         "bye"},
        {"GET /plain/get HTTP/1.0\r\nx-reply: old\r\n\r\n", 200, 1, "Connection: close", "old"},
        {"GET /plain/get HTTP/1.0\r\nConnection: keep-alive\r\nx-reply: k\r\n\r\n", 200, 0, "Connection: keep-alive",
         "k"},
        /* Java's client offers an upgrade with its first request; it isn't taken. */
        {"POST /plain/echo HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: "
         "h2c\r\nContent-Length: "
         "2\r\n\r\nup",
         200, 0, "", "up"},
        {"POST /plain/fail HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 400, 0, "application/json",
         "{400: pair 3: 100% wrong, \xc3\xa4}"},
        {"GET /plain/echo HTTP/1.1\r\nHost: x\r\n\r\n", 405, 1, "allow: POST", NULL},
        {"POST /plain/get HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 405, 1, "allow: GET, HEAD", NULL},
        {"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n", 404, 1, "text/plain",
         "nothing is served at this path; paths are /plain/echo, /plain/get, /plain/fail, /plain/work, "
         "/plain/pieces, /plain/hang\n"},
        {"POST /t.Echo/Echo HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 404, 1, "", NULL},
        {"POST /plain/echo HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 400, 1, "",
         "an HTTP/1.1 request needs a Host header\n"},
        {"POST /plain/echo HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: 0\r\n\r\n", 415, 1, "",
         NULL},
        {"POST /plain/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10001\r\n\r\n", 413, 1, "", NULL},
        {"POST /plain/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400, 1, "",
         NULL},
        {"POST /plain/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400, 1, "", NULL},
        {"POST /plain/echo HTTP/1.1\r\nHost : x\r\n\r\n", 400, 1, "", NULL},
        {"PRI * HTTP/1.1\r\n\r\n", 400, 1, "", NULL},
        {"NONSENSE\r\n\r\n", 400, 1, "", NULL},
        {"POST /plain/echo HTTP/1.1\r\nHost: x\r\ngrpc-timeout: 1x\r\nContent-Length: 0\r\n\r\n", 400, 1, "", NULL},
    };
    static reply a;
    const char *target = echo_start((cpl_server_options){.message_bytes_max = 10000, .request_bytes_max = 40000});
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (int pieces = 0; pieces < 2; pieces++) {
            raw r = raw_open(target);
            if (pieces)
                for (const char *p = cases[i].request; *p; p++) raw_send(&r, p, 1);
            else
                say(&r, cases[i].request);
            read_reply(&r, &a, 0);
            if (a.status != cases[i].status) fail_msg("case %zu: status %d\n%s%s", i, a.status, a.head, a.body);
            if (!strstr(a.head, cases[i].in_head)) fail_msg("case %zu: '%s' lacks '%s'", i, a.head, cases[i].in_head);
            if (cases[i].body) assert_string_equal(a.body, cases[i].body);
            if (cases[i].ends) {
                assert_true(is_over(&r));
            } else { /* the connection goes on */
                say(&r, "POST /plain/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n!");
                read_reply(&r, &a, 0);
                assert_int_equal(a.status, 200);
                assert_string_equal(a.body, "!");
            }
            raw_close(&r);
        }
    }
    echo_stop();
}

static void head_has_no_body(void **state)
{
    (void)state;
    static reply a;
    raw r = raw_open(echo_start((cpl_server_options){0}));
    say(&r, "HEAD /plain/get HTTP/1.1\r\nHost: x\r\nx-reply: 12345\r\n\r\n");
    read_reply(&r, &a, 1);
    assert_int_equal(a.status, 200);
    assert_non_null(strstr(a.head, "Content-Length: 5\r\n"));
    say(&r, "GET /plain/get HTTP/1.1\r\nHost: x\r\nx-reply: 12345\r\n\r\n");
    read_reply(&r, &a, 0);
    assert_string_equal(a.body, "12345");
    raw_close(&r);
    echo_stop();
}

static void a_large_body_is_asked_for(void **state)
{
    (void)state;
    static reply a;
    static char body[60000];
    raw r = raw_open(echo_start((cpl_server_options){0}));
    say(&r, "POST /plain/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\nExpect: 100-continue\r\n\r\n");
    read_reply(&r, &a, 0);
    assert_int_equal(a.status, 100);
    memset(body, 'b', sizeof body);
    raw_send(&r, body, sizeof body);
    read_reply(&r, &a, 0);
    assert_int_equal(a.status, 200);
    assert_int_equal(a.size, sizeof body);
    assert_memory_equal(a.body, body, sizeof body);
    raw_close(&r);
    echo_stop();
}

static void limits_hold_while_bytes_come(void **state)
{
    (void)state;
    static reply a;
    const char *target = echo_start(
        (cpl_server_options){.message_bytes_max = 10000, .header_bytes_max = 2000, .request_bytes_max = 40000});
    raw r = raw_open(target); /* a chunked body says no length before */
    say(&r, "POST /plain/echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (int i = 0; i < 11; i++) {
        char chunk[1100];
        const int n = snprintf(chunk, sizeof chunk, "3e8\r\n%01000d\r\n", i);
        raw_send(&r, chunk, (size_t)n);
    }
    read_reply(&r, &a, 0);
    assert_int_equal(a.status, 413);
    assert_true(is_over(&r));
    raw_close(&r);
    r = raw_open(target);
    say(&r, "GET /plain/get HTTP/1.1\r\nHost: x\r\nx-long: ");
    for (int i = 0; i < 300; i++) say(&r, "0123456789");
    say(&r, "\r\n\r\n");
    read_reply(&r, &a, 0);
    assert_int_equal(a.status, 431);
    raw_close(&r);
    echo_stop();
}

static void replies_in_pieces(void **state)
{
    (void)state;
    static reply a;
    const char *target = echo_start((cpl_server_options){0});
    raw r = raw_open(target);
    say(&r, "GET /plain/pieces HTTP/1.1\r\nHost: x\r\nx-reply: 3\r\n\r\n");
    read_reply(&r, &a, 0);
    assert_non_null(strstr(a.head, "Transfer-Encoding: chunked"));
    static const char chunks[] = "a\r\n0123456789\r\na\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n";
    while (r.in.size < sizeof chunks - 1) assert_true(receive_more(&r));
    assert_int_equal(r.in.size, sizeof chunks - 1);
    assert_memory_equal(r.in.data, chunks, sizeof chunks - 1);
    r.in.size = 0;
    say(&r, "GET /plain/get HTTP/1.1\r\nHost: x\r\nx-reply: on\r\n\r\n"); /* the connection goes on */
    read_reply(&r, &a, 0);
    assert_string_equal(a.body, "on");
    raw_close(&r);
    r = raw_open(target); /* no chunks in HTTP/1.0: the end of the connection is the end */
    say(&r, "GET /plain/pieces HTTP/1.0\r\nx-reply: 2\r\n\r\n");
    read_reply(&r, &a, 0);
    while (receive_more(&r)) continue;
    assert_int_equal(r.in.size, 20);
    raw_close(&r);
    r = raw_open(target);
    say(&r, "GET /plain/pieces HTTP/1.1\r\nHost: x\r\n\r\n"); /* endless, and nobody reads */
    assert_int_equal(wait_for(&echo.cancelled, 1), 1);
    raw_close(&r);
    echo_stop();
}

/* ---- order and time ---------------------------------------------------------------------------------------------- */

static void pipelined_requests_are_answered_in_order(void **state)
{
    (void)state;
    static reply a;
    enum { COUNT = 50 };
    cpl_buf all = {0};
    const char *target = echo_start((cpl_server_options){0});
    echo.plain = 1;
    for (int i = 0; i < COUNT; i++) /* late, at once, late, ... */
        cpl_buf_print(&all, "POST /plain/%s HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n%03d",
                      i % 2 ? "echo" : "work", i);
    raw r = raw_open(target);
    raw_send(&r, all.data, all.size);
    for (int i = 0; i < COUNT; i++) {
        char want[8];
        snprintf(want, sizeof want, "%03d", i);
        read_reply(&r, &a, 0);
        assert_int_equal(a.status, 200);
        assert_string_equal(a.body, want);
    }
    cpl_buf_deinit(&all);
    raw_close(&r);
    echo_stop();
}

static void who_sends_on_and_on_is_cut_off(void **state)
{
    (void)state;
    static char flood[100000];
    raw r = raw_open(echo_start((cpl_server_options){0}));
    say(&r, "POST /plain/hang HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
    memset(flood, 'G', sizeof flood);
    for (int i = 0; i < 20; i++) raw_send(&r, flood, sizeof flood);
    while (receive_more(&r)) continue;
    raw_close(&r);
    echo_stop();
    assert_int_equal(atomic_load(&echo.cancelled), 1);
}

static void a_client_that_goes_cancels(void **state)
{
    (void)state;
    const char *target = echo_start((cpl_server_options){.loops = 2});
    echo.plain = 1;
    echo.delay_us = 20000;
    for (int i = 0; i < 10; i++) {
        raw r = raw_open(target);
        say(&r, "POST /plain/work HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi");
        assert_int_equal(wait_for(&echo.given, i + 1), i + 1);
        raw_close(&r);
    }
    echo_stop();
    assert_int_equal(atomic_load(&echo.finished) + atomic_load(&echo.released), 10);
    assert_true(atomic_load(&echo.released) > 0);
}

static void deadlines_and_slow_requests_end(void **state)
{
    (void)state;
    static reply a;
    const char *target = echo_start((cpl_server_options){.request_timeout_ms = 50});
    raw r = raw_open(target);
    say(&r, "POST /plain/hang HTTP/1.1\r\nHost: x\r\ngrpc-timeout: 20m\r\nContent-Length: 0\r\n\r\n");
    read_reply(&r, &a, 0);
    assert_int_equal(a.status, 504);
    say(&r, "POST /plain/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf");
    read_reply(&r, &a, 0);
    assert_int_equal(a.status, 504);
    assert_true(is_over(&r));
    raw_close(&r);
    r = raw_open(target);
    say(&r, "POST /plain/echo HT"); /* a head that never ends */
    assert_true(is_over(&r));
    raw_close(&r);
    echo_stop();
    assert_int_equal(atomic_load(&echo.cancelled), 1);
}

static void a_drain_answers_what_is_in_flight(void **state)
{
    (void)state;
    static reply a;
    const char *target = echo_start((cpl_server_options){0});
    echo.plain = 1;
    echo.delay_us = 100000;
    raw idle = raw_open(target), busy = raw_open(target);
    say(&idle, "GET /plain/get HTTP/1.1\r\nHost: x\r\n\r\n");
    read_reply(&idle, &a, 0);
    say(&busy, "POST /plain/work HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi");
    assert_int_equal(wait_for(&echo.given, 2), 2);
    drainer d;
    drain_start(&d);
    assert_true(is_over(&idle));
    read_reply(&busy, &a, 0);
    assert_int_equal(a.status, 200);
    assert_string_equal(a.body, "hi");
    assert_non_null(strstr(a.head, "Connection: close"));
    assert_true(is_over(&busy));
    cpl_thread_join(&d.thread);
    assert_int_equal(d.cut, 0);
    raw_close(&idle);
    raw_close(&busy);
    echo_stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(what_is_asked_decides, echo_teardown),
        cmocka_unit_test_teardown(head_has_no_body, echo_teardown),
        cmocka_unit_test_teardown(a_large_body_is_asked_for, echo_teardown),
        cmocka_unit_test_teardown(limits_hold_while_bytes_come, echo_teardown),
        cmocka_unit_test_teardown(replies_in_pieces, echo_teardown),
        cmocka_unit_test_teardown(pipelined_requests_are_answered_in_order, echo_teardown),
        cmocka_unit_test_teardown(who_sends_on_and_on_is_cut_off, echo_teardown),
        cmocka_unit_test_teardown(a_client_that_goes_cancels, echo_teardown),
        cmocka_unit_test_teardown(deadlines_and_slow_requests_end, echo_teardown),
        cmocka_unit_test_teardown(a_drain_answers_what_is_in_flight, echo_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
