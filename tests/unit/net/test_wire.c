/* SPDX-License-Identifier: Apache-2.0 */
/* test_wire.c - what other clients may send: frames made by hand over a raw socket, well-formed and not, and the
 * server's limits and timeouts. Replies are read with nghttp2's header decoder and our own eyes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <nghttp2/nghttp2.h>
#include <poll.h>
#include <sys/socket.h>
#include <zlib.h>

#include "base/buf.h"
#include "net/address.h"
#include "unit/net/echo_service.h"

enum { DATA = 0, HEADERS = 1, RST = 3, SETTINGS = 4, PING = 6, GOAWAY = 7, WINDOW = 8 };
enum { END_STREAM = 1, ACK = 1, END_HEADERS = 4 };

/* ---- a client by hand ---------------------------------------------------------------------------------------- */

typedef struct raw {
    int fd;
    cpl_buf in; /* unread */
    nghttp2_hd_inflater *headers;
    int closed;
} raw;

typedef struct frame {
    int type, flags;
    uint32_t stream;
    size_t size;
    uint8_t data[70000];
} frame;

static raw raw_open(const char *address)
{
    raw r = {0};
    cpl_address a[CPL_ADDRESSES_MAX];
    size_t n;
    cpl_error err;
    assert_int_equal(cpl_address_resolve(address, false, a, &n, &err), CPL_OK);
    r.fd = socket(a->storage.ss_family, SOCK_STREAM, 0);
    assert_int_equal(connect(r.fd, (struct sockaddr *)&a->storage, a->size), 0);
    assert_int_equal(nghttp2_hd_inflate_new(&r.headers), 0);
    return r;
}

static void raw_close(raw *r)
{
    close(r->fd);
    nghttp2_hd_inflate_del(r->headers);
    cpl_buf_deinit(&r->in);
}

static void raw_send(raw *r, const void *data, size_t n)
{
    const char *p = data;
    while (n) {
        ssize_t done = send(r->fd, p, n, MSG_NOSIGNAL);
        if (done < 0) return; /* the server has closed; what it said first is read later */
        p += done;
        n -= (size_t)done;
    }
}

static void add_head(cpl_buf *b, int type, int flags, uint32_t stream, size_t n)
{
    const uint8_t head[9] = {(uint8_t)(n >> 16),      (uint8_t)(n >> 8),      (uint8_t)n,
                             (uint8_t)type,           (uint8_t)flags,         (uint8_t)(stream >> 24),
                             (uint8_t)(stream >> 16), (uint8_t)(stream >> 8), (uint8_t)stream};
    cpl_buf_add(b, head, 9);
}

static void raw_frame(raw *r, int type, int flags, uint32_t stream, const void *data, size_t n)
{
    cpl_buf b = {0};
    add_head(&b, type, flags, stream, n);
    cpl_buf_add(&b, data, n);
    raw_send(r, b.data, b.size);
    cpl_buf_deinit(&b);
}

/* Literal fields, never indexed; values up to 126 bytes. pairs: name, value, ..., NULL. */
static void raw_headers(raw *r, uint32_t stream, int flags, const char *const *pairs)
{
    cpl_buf b = {0};
    for (; *pairs; pairs++) {
        const char *name = *pairs++;
        const uint8_t head[2] = {0, (uint8_t)strlen(name)}, size = (uint8_t)strlen(*pairs);
        assert_true(strlen(name) < 127 && strlen(*pairs) < 127);
        cpl_buf_add(&b, head, 2);
        cpl_buf_text(&b, name);
        cpl_buf_add(&b, &size, 1);
        cpl_buf_text(&b, *pairs);
    }
    raw_frame(r, HEADERS, flags | END_HEADERS, stream, b.data, b.size);
    cpl_buf_deinit(&b);
}

#define REQUEST(path, ...)                                                                                             \
    (const char *const[])                                                                                              \
    {                                                                                                                  \
        ":method", "POST", ":scheme", "http", ":path", path, ":authority", "t", "content-type", "application/grpc",    \
            ##__VA_ARGS__, NULL                                                                                        \
    }

/* False: the server closed, or said nothing for 20 s. */
static int raw_read(raw *r, frame *f)
{
    for (;;) {
        if (r->in.size >= 9) {
            const uint8_t *p = (const uint8_t *)r->in.data;
            size_t n = (size_t)p[0] << 16 | (size_t)p[1] << 8 | p[2];
            if (r->in.size >= 9 + n) {
                assert_true(n <= sizeof f->data);
                f->type = p[3];
                f->flags = p[4];
                f->stream = ((uint32_t)p[5] << 24 | (uint32_t)p[6] << 16 | (uint32_t)p[7] << 8 | p[8]) & 0x7fffffff;
                f->size = n;
                memcpy(f->data, p + 9, n);
                memmove(r->in.data, r->in.data + 9 + n, r->in.size - 9 - n);
                r->in.size -= 9 + n;
                return 1;
            }
        }
        struct pollfd p = {.fd = r->fd, .events = POLLIN};
        if (poll(&p, 1, 20000) <= 0) return 0;
        char chunk[65536];
        ssize_t n = recv(r->fd, chunk, sizeof chunk, 0);
        if (n <= 0) {
            r->closed = 1;
            return 0;
        }
        cpl_buf_add(&r->in, chunk, (size_t)n);
    }
}

static void raw_hello(raw *r)
{
    static frame f;
    raw_send(r, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24);
    raw_frame(r, SETTINGS, 0, 0, NULL, 0);
    while (raw_read(r, &f) && f.type != SETTINGS) continue;
    raw_frame(r, SETTINGS, ACK, 0, NULL, 0); /* only now do the server's larger windows hold */
}

typedef struct answer {
    int http, grpc;      /* -1: none */
    int reset;           /* error code of RST_STREAM, -1: none */
    int end;             /* END_STREAM came */
    int goaway, goaways; /* error code of the last GOAWAY */
    char accept[64], message[256];
    size_t data_size;
} answer;

static void read_fields(raw *r, const frame *f, answer *a)
{
    const uint8_t *p = f->data;
    size_t left = f->size;
    for (;;) {
        nghttp2_nv nv;
        int flags = 0;
        ssize_t used = nghttp2_hd_inflate_hd2(r->headers, &nv, &flags, p, left, 1);
        assert_true(used >= 0);
        p += used;
        left -= (size_t)used;
        if (flags & NGHTTP2_HD_INFLATE_EMIT) {
            if (!strcmp((char *)nv.name, ":status")) a->http = atoi((char *)nv.value);
            if (!strcmp((char *)nv.name, "grpc-status")) a->grpc = atoi((char *)nv.value);
            if (!strcmp((char *)nv.name, "grpc-message"))
                snprintf(a->message, sizeof a->message, "%s", (char *)nv.value);
            if (!strcmp((char *)nv.name, "grpc-accept-encoding"))
                snprintf(a->accept, sizeof a->accept, "%s", (char *)nv.value);
        }
        if (flags & NGHTTP2_HD_INFLATE_FINAL) {
            nghttp2_hd_inflate_end_headers(r->headers);
            return;
        }
    }
}

/* Reads until `stream` is through, the connection is closed, or (stream 0) GOAWAY came. */
static answer raw_answer(raw *r, uint32_t stream)
{
    static frame f;
    answer a = {.http = -1, .grpc = -1, .reset = -1, .goaway = -1};
    while (raw_read(r, &f)) {
        if (f.type == GOAWAY) {
            a.goaway = f.data[7];
            a.goaways++;
            if (!stream) return a;
        }
        answer ignored = {0};
        if (f.type == HEADERS) read_fields(r, &f, f.stream == stream ? &a : &ignored);
        if (f.type == PING && !(f.flags & ACK)) raw_frame(r, PING, ACK, 0, f.data, 8);
        if (f.stream != stream || !stream) continue;
        if (f.type == DATA) a.data_size += f.size;
        if (f.type == RST) {
            a.reset = f.data[3];
            return a;
        }
        if ((f.type == DATA || f.type == HEADERS) && (f.flags & END_STREAM)) {
            a.end = 1;
            return a;
        }
    }
    return a;
}

static const char hello[] = "\0\0\0\0\5hello";
enum { HELLO = 10 };

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
        if (cases[i].http == 200) assert_string_equal(a.accept, "identity,gzip,deflate");
        if (a.grpc) assert_true(a.message[0]);
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

static void other_protocols_get_a_word(void **state)
{
    (void)state;
    const char *target = echo_start((cpl_server_options){0});
    static const char *const first[] = {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "POST /score HTTP/1.1\r\n\r\n{}",
                                        "PRI * HTTP/1.1\r\n\r\n"};
    for (size_t i = 0; i < 3; i++) {
        raw r = raw_open(target);
        raw_send(&r, first[i], strlen(first[i]));
        char text[512] = {0};
        size_t n = 0;
        ssize_t got;
        while ((got = recv(r.fd, text + n, sizeof text - 1 - n, 0)) > 0) n += (size_t)got;
        assert_int_equal(strncmp(text, "HTTP/1.1 505 ", 13), 0);
        assert_non_null(strstr(text, "gRPC"));
        raw_close(&r);
    }
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

/* ---- limits -------------------------------------------------------------------------------------------------------
 */

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

static void the_budget_closes_windows_and_opens_them_again(void **state)
{
    (void)state;
    /* 40 requests of 256 KB over a budget of 2 MB; each is answered only after its last byte. */
    enum { REQUESTS = 40, BYTES = 256 * 1024, PIECE = 16384 };
    raw r = raw_open(echo_start((cpl_server_options){.request_bytes_max = 2 * 1024 * 1024}));
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(headers_decide, echo_teardown),
        cmocka_unit_test_teardown(one_message_and_no_other_number, echo_teardown),
        cmocka_unit_test_teardown(compressed_messages, echo_teardown),
        cmocka_unit_test_teardown(an_early_answer_ends_the_upload, echo_teardown),
        cmocka_unit_test_teardown(streams_go_both_ways, echo_teardown),
        cmocka_unit_test_teardown(other_protocols_get_a_word, echo_teardown),
        cmocka_unit_test_teardown(broken_frames_end_the_connection_with_a_reason, echo_teardown),
        cmocka_unit_test_teardown(a_connection_lost_in_mid_message, echo_teardown),
        cmocka_unit_test_teardown(a_connection_reset_right_after_its_bytes, echo_teardown),
        cmocka_unit_test_teardown(a_drain_says_goaway_twice, echo_teardown),
        cmocka_unit_test_teardown(streams_over_the_limit_are_refused, echo_teardown),
        cmocka_unit_test_teardown(resets_do_not_multiply_work, echo_teardown),
        cmocka_unit_test_teardown(a_flood_of_resets_ends_the_connection, echo_teardown),
        cmocka_unit_test_teardown(the_budget_closes_windows_and_opens_them_again, echo_teardown),
        cmocka_unit_test_teardown(a_slow_reader_holds_back_only_itself, echo_teardown),
        cmocka_unit_test_teardown(connections_over_the_limit_are_closed, echo_teardown),
        cmocka_unit_test_teardown(silence_is_noticed, echo_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
