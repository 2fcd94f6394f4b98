/* SPDX-License-Identifier: Apache-2.0 */
/* raw_client.h - an HTTP/2 client by hand for the net tests: any frames out, replies read frame by frame. Included by
 * test files only, after cmocka.h. */
#ifndef CPL_TESTS_RAW_CLIENT_H
#define CPL_TESTS_RAW_CLIENT_H

#include "unit/net/raw_socket.h"

enum { DATA = 0, HEADERS = 1, RST = 3, SETTINGS = 4, PING = 6, GOAWAY = 7, WINDOW = 8 };
enum { END_STREAM = 1, ACK = 1, END_HEADERS = 4 };

typedef struct frame {
    int type, flags;
    uint32_t stream;
    size_t size;
    uint8_t data[70000];
} frame;

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

#endif
