/* SPDX-License-Identifier: Apache-2.0 */
/* test_wire.c - what other clients may send: frames made by hand over a raw socket, well-formed and not, and the
 * server's limits and timeouts. Replies are read with nghttp2's header decoder and our own eyes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <zlib.h>

#include "unit/net/echo_service.h"
#include "unit/net/raw_client.h"

/* ---- requests -------------------------------------------------------------------------------------------------- */

static void headers_decide(void **state)
{
    (void)state;
    static const struct {
        const char *method, *path, *type, *name, *value;
        int http, grpc;
    } cases[] = {
        {"POST", "/t.Echo/Echo", "application/grpc", "te", "trailers", 200, 0},
        {"POST", "/t.Echo/Echo", "application/grpc+proto", "x", "y", 200, 0}, /* no te: as common servers, lenient */
        {"POST", "/t.Echo/Echo", "application/grpc;charset=utf-8", "x", "y", 200, 0},
        {"POST", "/t.Echo/Echo", "application/grpc+json", "x", "y", 200, 12},
        {"POST", "/t.Echo/Echo", "application/grpc-web", "x", "y", 415, 13},
        {"POST", "/t.Echo/Echo", "application/json", "x", "y", 415, 13},
        {"POST", "/plain/echo", "application/grpc", "x", "y", 200, 12}, /* gRPC knows no plain method */
        {"POST", "/plain/get", "application/grpc+proto", "x", "y", 200, 12},
        {"POST", "/plain/echo", "application/json", "x", "y", 200, -1},
        {"GET", "/plain/echo", "text/plain", "x", "y", 405, -1},
        {"POST", "/plain/fail", "text/plain", "x", "y", 400, -1},
        {"POST", "/plain/echo?a=b", "text/plain", "content-encoding", "gzip", 415, -1},
        {"GET", "/t.Echo/Echo", "application/grpc", "x", "y", 405, 13},
        {"POST", "/t.Echo/Ech", "application/grpc", "x", "y", 200, 12},
        {"POST", "/t.Echo/Echo2", "application/grpc", "x", "y", 200, 12},
        {"POST", "/", "application/grpc", "x", "y", 200, 12},
        {"POST", "/t.Echo/Echo", "application/grpc", "grpc-timeout", "1S", 200, 0},
        {"POST", "/t.Echo/Echo", "application/grpc", "grpc-timeout", "1s", 200, 3},
        {"POST", "/t.Echo/Echo", "application/grpc", "grpc-timeout", "123456789n", 200, 3},
        {"POST", "/t.Echo/Echo", "application/grpc", "grpc-encoding", "identity", 200, 0},
        {"POST", "/t.Echo/Echo", "application/grpc", "grpc-encoding", "snappy", 200, 12},
    };
    raw r = raw_open(echo_start((cpl_server_options){0}));
    raw_hello(&r);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint32_t stream = (uint32_t)(2 * i + 1);
        const char *const fields[] = {":method",     cases[i].method, ":scheme",     "http",         ":authority",
                                      "t",           ":path",         cases[i].path, "content-type", cases[i].type,
                                      cases[i].name, cases[i].value,  NULL};
        raw_headers(&r, stream, 0, fields);
        raw_frame(&r, DATA, END_STREAM, stream, hello, HELLO);
        answer a = raw_answer(&r, stream);
        if (a.http != cases[i].http || a.grpc != cases[i].grpc)
            fail_msg("case %zu: http %d grpc %d '%s'", i, a.http, a.grpc, a.message);
        assert_true(a.end);
        if (a.grpc >= 0 && cases[i].http == 200) assert_string_equal(a.accept, "identity,gzip,deflate");
        if (a.grpc > 0) assert_true(a.message[0]);
    }
    raw_close(&r);
    echo_stop();
}

static void one_message_and_no_other_number(void **state)
{
    (void)state;
    raw r = raw_open(echo_start((cpl_server_options){0}));
    raw_hello(&r);
    raw_headers(&r, 1, END_STREAM, REQUEST("/t.Echo/Echo"));
    assert_int_equal(raw_answer(&r, 1).grpc, 12);
    raw_headers(&r, 3, 0, REQUEST("/t.Echo/Echo"));
    raw_frame(&r, DATA, END_STREAM, 3, "\0\0\0\0\1a\0\0\0\0\1b", 12);
    assert_int_equal(raw_answer(&r, 3).grpc, 12);
    raw_headers(&r, 5, 0, REQUEST("/t.Echo/Echo"));
    raw_frame(&r, DATA, END_STREAM, 5, "\0\0\0\0\5hel", 8);
    answer a = raw_answer(&r, 5);
    assert_int_equal(a.grpc, 3);
    assert_non_null(strstr(a.message, "middle of a message"));
    raw_headers(&r, 7, 0, REQUEST("/t.Echo/Echo"));
    raw_frame(&r, DATA, END_STREAM, 7, "\0\0\0", 3);
    assert_int_equal(raw_answer(&r, 7).grpc, 3);
    /* END_STREAM in an empty frame of its own, message byte by byte */
    raw_headers(&r, 9, 0, REQUEST("/t.Echo/Echo"));
    for (size_t i = 0; i < HELLO; i++) raw_frame(&r, DATA, 0, 9, hello + i, 1);
    raw_frame(&r, DATA, END_STREAM, 9, NULL, 0);
    a = raw_answer(&r, 9);
    assert_int_equal(a.grpc, 0);
    assert_int_equal(a.data_size, HELLO);
    raw_close(&r);
    echo_stop();
    assert_int_equal(atomic_load(&echo.given), 1);
}

static void compressed_messages(void **state)
{
    (void)state;
    uint8_t body[200] = {1};
    z_stream z = {0};
    deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
    z.next_in = (unsigned char *)(uintptr_t) "hello";
    z.avail_in = 5;
    z.next_out = body + 5;
    z.avail_out = sizeof body - 5;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    size_t n = sizeof body - 5 - z.avail_out;
    deflateEnd(&z);
    body[4] = (uint8_t)n;
    raw r = raw_open(echo_start((cpl_server_options){0}));
    raw_hello(&r);
    raw_headers(&r, 1, 0, REQUEST("/t.Echo/Echo", "grpc-encoding", "gzip"));
    raw_frame(&r, DATA, END_STREAM, 1, body, n + 5);
    answer a = raw_answer(&r, 1);
    assert_int_equal(a.grpc, 0);
    assert_int_equal(a.data_size, HELLO);
    raw_headers(&r, 3, 0, REQUEST("/t.Echo/Echo")); /* flagged, but no grpc-encoding */
    raw_frame(&r, DATA, END_STREAM, 3, body, n + 5);
    assert_int_equal(raw_answer(&r, 3).grpc, 13);
    body[20] ^= 0xff;
    raw_headers(&r, 5, 0, REQUEST("/t.Echo/Echo", "grpc-encoding", "gzip"));
    raw_frame(&r, DATA, END_STREAM, 5, body, n + 5);
    assert_int_equal(raw_answer(&r, 5).grpc, 13);
    raw_close(&r);
    echo_stop();
}

static void an_early_answer_ends_the_upload(void **state)
{
    (void)state;
    raw r = raw_open(echo_start((cpl_server_options){0}));
    raw_hello(&r);
    raw_headers(&r, 1, 0, REQUEST("/t.Echo/Echo"));
    raw_frame(&r, DATA, 0, 1,
              "\0\xff\xff\xff\xff"
              "abc",
              8); /* 4 GB announced */
    answer a = raw_answer(&r, 1);
    assert_int_equal(a.grpc, 8);
    assert_true(a.end);
    a = raw_answer(&r, 1); /* and then RST_STREAM(NO_ERROR): stop sending */
    assert_int_equal(a.reset, 0);
    raw_headers(&r, 3, 0, REQUEST("/t.Echo/Echo"));
    raw_frame(&r, DATA, END_STREAM, 3, hello, HELLO);
    assert_int_equal(raw_answer(&r, 3).grpc, 0);
    raw_close(&r);
    echo_stop();
}

static void streams_go_both_ways(void **state)
{
    (void)state;
    raw r = raw_open(echo_start((cpl_server_options){0}));
    raw_hello(&r);
    raw_headers(&r, 1, 0, REQUEST("/t.Echo/Stream"));
    raw_frame(&r, DATA, 0, 1, "\0\0\0\0\1a\0\0\0\0\1b\0\0", 14);
    raw_frame(&r, DATA, END_STREAM, 1, "\0\0\0", 3);
    answer a = raw_answer(&r, 1);
    assert_int_equal(a.grpc, 0);
    assert_int_equal(a.data_size, 17); /* the third message was empty */
    assert_int_equal(atomic_load(&echo.half_closed), 1);
    /* reset in the middle: the service is told */
    raw_headers(&r, 3, 0, REQUEST("/t.Echo/Stream"));
    raw_frame(&r, DATA, 0, 3, hello, HELLO);
    raw_frame(&r, RST, 0, 3, "\0\0\0\10", 4);
    assert_int_equal(wait_for(&echo.cancelled, 1), 1);
    /* an error of the transport's own in the middle: the client has its code, the service is told */
    raw_headers(&r, 5, 0, REQUEST("/t.Echo/Stream"));
    raw_frame(&r, DATA, 0, 5, hello, HELLO);
    raw_frame(&r, DATA, 0, 5, "\7\0\0\0\0", 5);
    assert_int_equal(raw_answer(&r, 5).grpc, 13);
    assert_int_equal(wait_for(&echo.cancelled, 2), 2);
    raw_headers(&r, 7, 0, REQUEST("/t.Echo/Many"));
    raw_frame(&r, DATA, END_STREAM, 7, "\0\0\0\0\1\144", 6);
    a = raw_answer(&r, 7);
    assert_int_equal(a.data_size, 600);
    raw_close(&r);
    echo_stop();
}

/* ---- connections ------------------------------------------------------------------------------------------------ */

static void other_protocols_are_let_go(void **state)
{
    (void)state;
    const char *target = echo_start((cpl_server_options){0});
    raw r = raw_open(target);
    raw_send(&r, "\x16\x03\x01\x02", 4); /* TLS */
    char byte;
    assert_true(recv(r.fd, &byte, 1, 0) <= 0);
    raw_close(&r);
    /* the preface byte by byte */
    r = raw_open(target);
    for (size_t i = 0; i < 24; i++) raw_send(&r, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + i, 1);
    raw_frame(&r, SETTINGS, 0, 0, NULL, 0);
    raw_headers(&r, 1, 0, REQUEST("/t.Echo/Echo"));
    raw_frame(&r, DATA, END_STREAM, 1, hello, HELLO);
    assert_int_equal(raw_answer(&r, 1).grpc, 0);
    raw_close(&r);
    echo_stop();
}

static void broken_frames_end_the_connection_with_a_reason(void **state)
{
    (void)state;
    const char *target = echo_start((cpl_server_options){0});
    for (int i = 0; i < 5; i++) {
        raw r = raw_open(target);
        raw_hello(&r);
        if (i == 0) raw_frame(&r, DATA, 0, 1, "x", 1);     /* on an idle stream */
        if (i == 1) raw_frame(&r, SETTINGS, 0, 0, "x", 1); /* not a multiple of 6 */
        if (i == 2) raw_frame(&r, HEADERS, END_HEADERS, 1, "\xff\xff\xff\xff\xff\xff", 6);
        if (i == 3) raw_frame(&r, PING, 0, 0, "1234", 4);
        if (i == 4) raw_frame(&r, HEADERS, END_HEADERS, 2, "\x82", 1); /* even stream id */
        answer a = raw_answer(&r, 0);
        assert_true(a.goaway > 0);
        static frame f;
        while (raw_read(&r, &f)) continue;
        assert_true(r.closed);
        raw_close(&r);
    }
    cpl_server_stats stats;
    cpl_server_stats_get(echo.server, &stats);
    assert_true(stats.protocol_errors >= 3);
    echo_stop();
}

static void a_connection_lost_in_mid_message(void **state)
{
    (void)state;
    const char *target = echo_start((cpl_server_options){.loops = 2});
    for (int i = 0; i < 20; i++) {
        raw r = raw_open(target);
        raw_hello(&r);
        raw_headers(&r, 1, 0, REQUEST("/t.Echo/Echo"));
        raw_frame(&r, DATA, 0, 1, "\0\0\1\0\0abc", 8);
        raw_headers(&r, 3, 0, REQUEST("/t.Echo/Hang"));
        raw_frame(&r, DATA, END_STREAM, 3, hello, HELLO);
        assert_int_equal(wait_for(&echo.given, i + 1), i + 1);
        raw_close(&r);
    }
    assert_int_equal(wait_for(&echo.cancelled, 20), 20);
    assert_int_equal(wait_for(&echo.connections_destroyed, 20), 20);
    echo_stop();
}

static void a_connection_reset_right_after_its_bytes(void **state)
{
    (void)state;
    const char *target = echo_start((cpl_server_options){.loops = 2});
    for (int i = 0; i < 300; i++) {
        raw r = raw_open(target);
        struct linger now = {.l_onoff = 1};
        setsockopt(r.fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
        if (i % 2) raw_hello(&r);
        raw_headers(&r, 1, 0, REQUEST("/t.Echo/Hang"));
        raw_frame(&r, DATA, END_STREAM, 1, hello, HELLO);
        raw_close(&r); /* sends RST */
    }
    cpl_server_stats stats = {.connections_now = 1};
    for (int i = 0; i < 20000 && stats.connections_now; i++) {
        usleep(1000);
        cpl_server_stats_get(echo.server, &stats);
    }
    assert_int_equal(stats.connections_now, 0);
    assert_int_equal(stats.calls_now, 0);
    echo_stop();
}

static void a_drain_says_goaway_twice(void **state)
{
    (void)state;
    raw r = raw_open(echo_start((cpl_server_options){0}));
    echo.delay_us = 100000;
    raw_hello(&r);
    raw_headers(&r, 1, 0, REQUEST("/t.Echo/Work"));
    raw_frame(&r, DATA, END_STREAM, 1, hello, HELLO);
    assert_int_equal(wait_for(&echo.given, 1), 1);
    drainer d = {.cut = 99};
    drain_start(&d);
    answer a = raw_answer(&r, 0);
    assert_int_equal(a.goaway, 0);
    /* between the two GOAWAYs a new stream is still taken */
    raw_headers(&r, 3, 0, REQUEST("/t.Echo/Work"));
    raw_frame(&r, DATA, END_STREAM, 3, hello, HELLO);
    a = raw_answer(&r, 3);
    assert_int_equal(a.grpc, 0);
    assert_int_equal(a.goaways, 1);
    assert_int_equal(wait_for(&echo.finished, 2), 2);
    static frame f;
    while (raw_read(&r, &f)) continue;
    assert_true(r.closed);
    raw_close(&r);
    cpl_thread_join(&d.thread);
    assert_int_equal(d.cut, 0);
    echo_stop();
}

static void dead_clients_do_not_hold_a_drain(void **state)
{
    (void)state;
    const char *target = echo_start((cpl_server_options){.loops = 2});
    raw silent[6]; /* they never answer a ping, close, or (every second one) even say what they are */
    for (int i = 0; i < 6; i++) {
        silent[i] = raw_open(target);
        if (i % 2) raw_hello(&silent[i]);
    }
    drainer d = {.cut = 99};
    drain_start(&d);
    cpl_thread_join(&d.thread);
    assert_int_equal(d.cut, 0);
    cpl_server_stats stats;
    cpl_server_stats_get(echo.server, &stats);
    assert_int_equal(stats.connections, 6);
    assert_int_equal(stats.connections_now, 0); /* gone before the grace was over, or they would be in the cut */
    for (int i = 0; i < 6; i++) raw_close(&silent[i]);
    echo_stop();
}

/* ---- limits -------------------------------------------------------------------------------------------------------
 */

static void a_reply_that_was_not_read_was_cut_off(void **state)
{
    (void)state;
    static uint8_t body[5 + 16000] = {0, 0, 0, 16000 >> 8, 16000 & 255};
    raw r = raw_open(echo_start((cpl_server_options){0}));
    raw_hello(&r);
    raw_frame(&r, SETTINGS, 0, 0, "\0\4\0\0\0\0", 6); /* streams start without a window */
    for (uint32_t stream = 1; stream < 7; stream += 2) {
        raw_headers(&r, stream, 0, REQUEST("/t.Echo/Echo"));
        raw_frame(&r, DATA, END_STREAM, stream, body, sizeof body);
    }
    assert_int_equal(wait_for(&echo.given, 3), 3);
    raw_frame(&r, WINDOW, 0, 3, "\0\1\0\0", 4);
    assert_int_equal(raw_answer(&r, 3).grpc, 0);
    assert_int_equal(cpl_server_drain(echo.server, 50), 2);
    raw_close(&r);
    echo_stop();
}

static void streams_over_the_limit_are_refused(void **state)
{
    (void)state;
    raw r = raw_open(echo_start((cpl_server_options){.streams_max = 10}));
    /* not acknowledging the settings: a client that doesn't know the limit yet is refused, not cut off */
    raw_send(&r, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24);
    raw_frame(&r, SETTINGS, 0, 0, NULL, 0);
    for (uint32_t i = 0; i < 11; i++) {
        raw_headers(&r, 2 * i + 1, 0, REQUEST("/t.Echo/Hang"));
        raw_frame(&r, DATA, END_STREAM, 2 * i + 1, hello, HELLO);
    }
    assert_int_equal(raw_answer(&r, 21).reset, NGHTTP2_REFUSED_STREAM);
    assert_int_equal(wait_for(&echo.given, 10), 10);
    raw_close(&r);
    echo_stop();
}

static void resets_do_not_multiply_work(void **state)
{
    (void)state;
    raw r = raw_open(echo_start((cpl_server_options){.streams_max = 10}));
    echo.delay_us = 20000;
    raw_hello(&r);
    for (uint32_t i = 0; i < 200; i++) {
        raw_headers(&r, 2 * i + 1, 0, REQUEST("/t.Echo/Work"));
        raw_frame(&r, DATA, END_STREAM, 2 * i + 1, hello, HELLO);
        raw_frame(&r, RST, 0, 2 * i + 1, "\0\0\0\10", 4);
    }
    raw_frame(&r, PING, 0, 0, "12345678", 8); /* answered when all of the above was read */
    static frame f;
    while (raw_read(&r, &f) && !(f.type == PING && (f.flags & ACK))) continue;
    assert_true(atomic_load(&echo.given) <= 20 + 20); /* twice the streams, and what the worker had done by then */
    raw_close(&r);
    echo_stop();
    assert_int_equal(atomic_load(&echo.released) + atomic_load(&echo.finished), atomic_load(&echo.given));
}

static void a_flood_of_resets_ends_the_connection(void **state)
{
    (void)state;
    raw r = raw_open(echo_start((cpl_server_options){0}));
    raw_hello(&r);
    for (uint32_t i = 0; i < 15000; i++) {
        raw_headers(&r, 2 * i + 1, 0, REQUEST("/t.Echo/Echo"));
        raw_frame(&r, RST, 0, 2 * i + 1, "\0\0\0\10", 4);
    }
    static frame f;
    int goaway = 0;
    while (raw_read(&r, &f)) goaway |= f.type == GOAWAY;
    assert_true(goaway || r.closed);
    raw_close(&r);
    echo_stop();
}

static void past_the_budget_requests_are_shed(void **state)
{
    (void)state;
    /* 40 requests of 256 KB over a budget of 2 MB; each is answered only after its last byte. */
    enum { REQUESTS = 40, BYTES = 256 * 1024, PIECE = 16384 };
    raw r = raw_open(
        echo_start((cpl_server_options){.request_bytes_max = 2 * 1024 * 1024, .message_bytes_max = 1024 * 1024}));
    raw_hello(&r);
    static uint8_t body[BYTES + 5] = {0, 0, 4, 0, 0};
    int exhausted = 0, ok = 0;
    for (uint32_t i = 0; i < REQUESTS; i++) raw_headers(&r, 2 * i + 1, 0, REQUEST("/t.Echo/Fail"));
    for (size_t at = 0; at < 64 * 1024; at += PIECE) /* all begin: 2.5 MB, past the budget and its quarter */
        for (uint32_t i = 0; i < REQUESTS; i++) raw_frame(&r, DATA, 0, 2 * i + 1, body + at, PIECE);
    static frame f;
    raw_frame(&r, PING, 0, 0, "12345678", 8);
    while (raw_read(&r, &f) && !(f.type == PING && (f.flags & ACK))) {
        answer a = {.grpc = -1};
        if (f.type == HEADERS) read_fields(&r, &f, &a);
        exhausted += a.grpc == 8;
    }
    assert_true(exhausted < REQUESTS); /* sheds some, keeps the others */
    raw_close(&r);
    /* all room is back */
    r = raw_open(cpl_server_address(echo.server, 0));
    raw_hello(&r);
    for (uint32_t i = 0; i < 6; i++) {
        raw_headers(&r, 2 * i + 1, 0, REQUEST("/t.Echo/Fail"));
        for (size_t at = 0; at < BYTES + 5; at += PIECE) {
            size_t n = BYTES + 5 - at < PIECE ? BYTES + 5 - at : PIECE;
            raw_frame(&r, DATA, at + n == BYTES + 5, 2 * i + 1, body + at, n);
        }
        ok += raw_answer(&r, 2 * i + 1).grpc == 3;
    }
    assert_int_equal(ok, 6);
    raw_close(&r);
    echo_stop();
}

static void a_slow_reader_holds_back_only_itself(void **state)
{
    (void)state;
    raw slow = raw_open(echo_start((cpl_server_options){0}));
    raw_hello(&slow);
    static uint8_t body[60005] = {0, 0, 0, 0xea, 0x60};
    for (uint32_t i = 0; i < 10; i++) { /* replies fill the 64 KB that the client allows, and nothing is read */
        raw_headers(&slow, 2 * i + 1, 0, REQUEST("/t.Echo/Echo"));
        for (size_t at = 0; at < sizeof body; at += 15001)
            raw_frame(&slow, DATA, at + 15001 >= sizeof body, 2 * i + 1, body + at,
                      sizeof body - at < 15001 ? sizeof body - at : 15001);
    }
    raw r = raw_open(cpl_server_address(echo.server, 0));
    raw_hello(&r);
    raw_headers(&r, 1, 0, REQUEST("/t.Echo/Echo"));
    raw_frame(&r, DATA, END_STREAM, 1, hello, HELLO);
    assert_int_equal(raw_answer(&r, 1).grpc, 0);
    raw_close(&r);
    /* now the slow one opens its window and gets everything */
    assert_int_equal(wait_for(&echo.given, 11), 11);
    raw_frame(&slow, WINDOW, 0, 0, "\0\x10\0\0", 4);
    size_t got = 0;
    static frame f;
    int ends = 0;
    while (ends < 10 && raw_read(&slow, &f)) {
        got += f.type == DATA ? f.size : 0;
        ends += f.type == HEADERS && (f.flags & END_STREAM);
    }
    assert_int_equal(got, 10 * sizeof body);
    raw_close(&slow);
    echo_stop();
}

/* 1 KB messages on stream 1 of /t.Echo/Stream, in frames of 16 of them. */
static void send_to_stream(raw *r, int frames)
{
    enum { MESSAGE = 1024, PIECE = 16 * MESSAGE };
    static uint8_t piece[PIECE];
    for (size_t at = 0; at < PIECE; at += MESSAGE) memcpy(piece + at, "\0\0\0\3\373", 5);
    for (int i = 0; i < frames; i++) raw_frame(r, DATA, 0, 1, piece, PIECE);
}

static void unread_replies_of_a_stream_are_bounded(void **state)
{
    (void)state;
    raw r = raw_open(echo_start((cpl_server_options){0}));
    raw_hello(&r);
    raw_headers(&r, 1, 0, REQUEST("/t.Echo/Stream"));
    send_to_stream(&r, 60); /* 960 KB: what doesn't fit the client's window waits */
    usleep(20000);
    assert_int_equal(atomic_load(&echo.cancelled), 0);
    send_to_stream(&r, 60);
    answer a = raw_answer(&r, 1);
    assert_true(a.grpc == 8 || a.reset == NGHTTP2_CANCEL);
    assert_int_equal(wait_for(&echo.cancelled, 1), 1);
    raw_close(&r);
    echo_stop();
}

static void a_long_stream_is_charged_for_what_it_holds(void **state)
{
    (void)state;
    static frame f;
    raw r = raw_open(
        echo_start((cpl_server_options){.request_bytes_max = 2 * 1024 * 1024, .message_bytes_max = 1024 * 1024}));
    raw_hello(&r);
    raw_frame(&r, WINDOW, 0, 0, "\0\x40\0\0", 4);
    raw_headers(&r, 1, 0, REQUEST("/t.Echo/Stream"));
    raw_frame(&r, WINDOW, 0, 1, "\0\x40\0\0", 4);
    for (int i = 0; i < 256; i++) { /* 4 MB through a budget of 2 */
        send_to_stream(&r, 1);
        for (size_t got = 0; got < 16384;) {
            assert_true(raw_read(&r, &f));
            assert_int_not_equal(f.type, RST);
            assert_int_equal(f.flags & (f.type == HEADERS ? END_STREAM : 0), 0);
            got += f.type == DATA ? f.size : 0;
        }
    }
    raw_frame(&r, DATA, END_STREAM, 1, NULL, 0);
    assert_int_equal(raw_answer(&r, 1).grpc, 0);
    raw_close(&r);
    echo_stop();
}

static void connections_over_the_limit_are_closed(void **state)
{
    (void)state;
    const char *target = echo_start((cpl_server_options){.connections_max = 2});
    raw r[3];
    for (int i = 0; i < 3; i++) {
        r[i] = raw_open(target);
        raw_hello(&r[i]);
        raw_headers(&r[i], 1, 0, REQUEST("/t.Echo/Echo"));
        raw_frame(&r[i], DATA, END_STREAM, 1, hello, HELLO);
        assert_int_equal(raw_answer(&r[i], 1).grpc, i < 2 ? 0 : -1);
    }
    for (int i = 0; i < 3; i++) raw_close(&r[i]);
    echo_stop();
}

static void silence_is_noticed(void **state)
{
    (void)state;
    static frame f;
    int pings = 0;
    raw r = raw_open(echo_start((cpl_server_options){.keepalive_ms = 20, .keepalive_timeout_ms = 30}));
    raw_hello(&r);
    while (raw_read(&r, &f)) pings += f.type == PING; /* never answered */
    assert_true(r.closed);
    assert_int_equal(pings, 1);
    raw_close(&r);
    echo_stop();
    r = raw_open(echo_start((cpl_server_options){.idle_timeout_ms = 40}));
    raw_hello(&r);
    raw_headers(&r, 1, 0, REQUEST("/t.Echo/Echo"));
    raw_frame(&r, DATA, END_STREAM, 1, hello, HELLO);
    assert_int_equal(raw_answer(&r, 1).grpc, 0);
    assert_int_equal(raw_answer(&r, 0).goaway, 0);
    raw_close(&r);
    echo_stop();
}

/* Slow ones are told, and the connection lives on; a stream that may stay open does. */
static void requests_arrive_in_time_or_end(void **state)
{
    (void)state;
    static frame f;
    raw r = raw_open(echo_start((cpl_server_options){.request_timeout_ms = 60}));
    raw_hello(&r);
    raw_headers(&r, 1, 0, REQUEST("/t.Echo/Stream"));
    raw_headers(&r, 3, 0, REQUEST("/t.Echo/Echo"));
    raw_frame(&r, DATA, 0, 3, hello, HELLO - 1);
    answer a = raw_answer(&r, 3);
    assert_int_equal(a.grpc, 4);
    raw_headers(&r, 5, 0, REQUEST("/t.Echo/Echo"));
    raw_frame(&r, DATA, END_STREAM, 5, hello, HELLO);
    assert_int_equal(raw_answer(&r, 5).grpc, 0);
    raw_frame(&r, DATA, END_STREAM, 1, hello, HELLO);
    assert_int_equal(raw_answer(&r, 1).grpc, 0);
    raw_frame(&r, HEADERS, 0, 7, "", 0); /* no END_HEADERS, and nothing after it */
    while (raw_read(&r, &f)) continue;
    assert_true(r.closed);
    raw_close(&r);
    echo_stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(headers_decide, echo_teardown),
        cmocka_unit_test_teardown(one_message_and_no_other_number, echo_teardown),
        cmocka_unit_test_teardown(compressed_messages, echo_teardown),
        cmocka_unit_test_teardown(an_early_answer_ends_the_upload, echo_teardown),
        cmocka_unit_test_teardown(streams_go_both_ways, echo_teardown),
        cmocka_unit_test_teardown(other_protocols_are_let_go, echo_teardown),
        cmocka_unit_test_teardown(broken_frames_end_the_connection_with_a_reason, echo_teardown),
        cmocka_unit_test_teardown(a_connection_lost_in_mid_message, echo_teardown),
        cmocka_unit_test_teardown(a_connection_reset_right_after_its_bytes, echo_teardown),
        cmocka_unit_test_teardown(requests_arrive_in_time_or_end, echo_teardown),
        cmocka_unit_test_teardown(a_drain_says_goaway_twice, echo_teardown),
        cmocka_unit_test_teardown(dead_clients_do_not_hold_a_drain, echo_teardown),
        cmocka_unit_test_teardown(a_reply_that_was_not_read_was_cut_off, echo_teardown),
        cmocka_unit_test_teardown(streams_over_the_limit_are_refused, echo_teardown),
        cmocka_unit_test_teardown(resets_do_not_multiply_work, echo_teardown),
        cmocka_unit_test_teardown(a_flood_of_resets_ends_the_connection, echo_teardown),
        cmocka_unit_test_teardown(past_the_budget_requests_are_shed, echo_teardown),
        cmocka_unit_test_teardown(a_slow_reader_holds_back_only_itself, echo_teardown),
        cmocka_unit_test_teardown(unread_replies_of_a_stream_are_bounded, echo_teardown),
        cmocka_unit_test_teardown(a_long_stream_is_charged_for_what_it_holds, echo_teardown),
        cmocka_unit_test_teardown(connections_over_the_limit_are_closed, echo_teardown),
        cmocka_unit_test_teardown(silence_is_noticed, echo_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
