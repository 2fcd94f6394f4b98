/* SPDX-License-Identifier: Apache-2.0 */
/* test_frame.c - gRPC's framing cut at every position, compression, and everything that must be refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "net/grpc_frame.h"

enum { LIMIT = 100000 };

typedef struct stream {
    cpl_buf bytes;
    cpl_inflater inflater;
    cpl_frame_reader reader;
} stream;

static void start(stream *s, cpl_encoding encoding, uint32_t limit)
{
    *s = (stream){0};
    cpl_frame_reader_reset(&s->reader, limit, &s->inflater);
    s->reader.has_encoding = true;
    s->reader.encoding = encoding;
}

static void end(stream *s)
{
    cpl_buf_deinit(&s->bytes);
    cpl_frame_reader_trim(&s->reader, 0);
    cpl_inflater_deinit(&s->inflater);
}

/* Appends data compressed, with or without a gRPC prefix. bits: zlib's. */
static void deflate_to(cpl_buf *out, const void *data, size_t n, int bits)
{
    z_stream z = {0};
    assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, bits, 8, Z_DEFAULT_STRATEGY), Z_OK);
    size_t cap = deflateBound(&z, n) + 64;
    assert_true(cpl_buf_reserve(out, cap));
    z.next_in = (unsigned char *)(uintptr_t)data;
    z.avail_in = (uInt)n;
    z.next_out = (unsigned char *)out->data + out->size;
    z.avail_out = (uInt)cap;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    out->size += cap - z.avail_out;
    deflateEnd(&z);
}

static void add_flagged(cpl_buf *out, const cpl_buf *body)
{
    size_t at = out->size;
    cpl_frame_write(out, body->data, body->size);
    out->data[at] = 1;
}

static void add_compressed(cpl_buf *out, const void *data, size_t n, int bits)
{
    cpl_buf body = {0};
    deflate_to(&body, data, n, bits);
    add_flagged(out, &body);
    cpl_buf_deinit(&body);
}

/* Feeds [data, data + n), checks messages against `want` in turn; returns the code. */
typedef struct expected {
    const char *data;
    size_t size;
} expected;

static cpl_grpc_code feed(stream *s, const char *data, size_t n, const expected *want, size_t *seen)
{
    while (n) {
        size_t used;
        bool ready;
        cpl_frame frame;
        cpl_error err;
        cpl_grpc_code code = cpl_frame_feed(&s->reader, (const uint8_t *)data, n, &used, &ready, &frame, &err);
        if (code) {
            assert_true(err.what[0]);
            return code;
        }
        assert_true(used > 0 && used <= n);
        if (ready) {
            assert_int_equal(frame.size, want[*seen].size);
            assert_memory_equal(frame.data, want[*seen].data, frame.size);
            ++*seen;
        }
        data += used;
        n -= used;
    }
    return CPL_GRPC_OK;
}

static cpl_grpc_code feed_once(stream *s)
{
    size_t seen = 0;
    expected none[4] = {{"", 0}};
    return feed(s, s->bytes.data, s->bytes.size, none, &seen);
}

static void every_cut_gives_the_same_messages(void **state)
{
    (void)state;
    static const int bits[] = {0, 15 + 16, 15};
    static char text[300];
    for (size_t i = 0; i < sizeof text; i++) text[i] = (char)(i * 7);
    const expected want[] = {{"hello", 5}, {"", 0}, {text, sizeof text}, {"x", 1}};
    for (int encoding = CPL_ENCODING_IDENTITY; encoding <= CPL_ENCODING_DEFLATE; encoding++) {
        stream s;
        start(&s, (cpl_encoding)encoding, LIMIT);
        for (size_t i = 0; i < 4; i++) {
            /* even where compression is agreed, any message may come plain */
            if (bits[encoding] && i != 3)
                add_compressed(&s.bytes, want[i].data, want[i].size, bits[encoding]);
            else
                cpl_frame_write(&s.bytes, want[i].data, want[i].size);
        }
        for (size_t a = 0; a <= s.bytes.size; a++) {
            for (size_t b = a; b <= s.bytes.size; b += 1 + (b - a) / 3) {
                size_t seen = 0;
                assert_int_equal(feed(&s, s.bytes.data, a, want, &seen), 0);
                assert_int_equal(feed(&s, s.bytes.data + a, b - a, want, &seen), 0);
                assert_int_equal(feed(&s, s.bytes.data + b, s.bytes.size - b, want, &seen), 0);
                assert_int_equal(seen, 4);
                assert_true(cpl_frame_at_boundary(&s.reader));
            }
        }
        end(&s);
    }
}

static void a_boundary_is_known(void **state)
{
    (void)state;
    stream s;
    start(&s, CPL_ENCODING_IDENTITY, LIMIT);
    cpl_frame_write(&s.bytes, "abc", 3);
    const expected want[] = {{"abc", 3}};
    size_t seen = 0;
    for (size_t i = 0; i < s.bytes.size; i++) {
        assert_int_equal(cpl_frame_at_boundary(&s.reader), i == 0);
        assert_int_equal(feed(&s, s.bytes.data + i, 1, want, &seen), 0);
    }
    assert_int_equal(seen, 1);
    assert_true(cpl_frame_at_boundary(&s.reader));
    end(&s);
}

static void the_declared_length_is_checked_before_buffering(void **state)
{
    (void)state;
    stream s;
    start(&s, CPL_ENCODING_IDENTITY, LIMIT);
    static const char huge[] = {0, (char)0xff, (char)0xff, (char)0xff, (char)0xff};
    cpl_buf_add(&s.bytes, huge, sizeof huge);
    assert_int_equal(feed_once(&s), CPL_GRPC_RESOURCE_EXHAUSTED);
    assert_int_equal(s.reader.wire.cap, 0);
    end(&s);
    /* allowed, but not there: memory follows what came */
    start(&s, CPL_ENCODING_IDENTITY, UINT32_MAX);
    cpl_buf_add(&s.bytes, huge, sizeof huge);
    cpl_buf_text(&s.bytes, "some");
    assert_int_equal(feed_once(&s), CPL_GRPC_OK);
    assert_true(s.reader.wire.cap < 4096);
    end(&s);
}

static void the_limit_itself_fits(void **state)
{
    (void)state;
    char *data = calloc(1, LIMIT + 1);
    for (int over = 0; over <= 1; over++) {
        for (int compressed = 0; compressed <= 1; compressed++) {
            stream s;
            start(&s, CPL_ENCODING_GZIP, LIMIT);
            size_t n = LIMIT + (size_t)over, seen = 0;
            if (compressed)
                add_compressed(&s.bytes, data, n, 15 + 16);
            else
                cpl_frame_write(&s.bytes, data, n);
            const expected want[] = {{data, n}};
            assert_int_equal(feed(&s, s.bytes.data, s.bytes.size, want, &seen),
                             over ? CPL_GRPC_RESOURCE_EXHAUSTED : CPL_GRPC_OK);
            assert_int_equal(seen, !over);
            end(&s);
        }
    }
    free(data);
}

static void a_bomb_stops_at_the_limit(void **state)
{
    (void)state;
    size_t n = 64 * 1024 * 1024;
    char *data = calloc(1, n);
    stream s;
    start(&s, CPL_ENCODING_GZIP, LIMIT);
    add_compressed(&s.bytes, data, n, 15 + 16);
    free(data);
    assert_true(s.bytes.size < LIMIT);
    assert_int_equal(feed_once(&s), CPL_GRPC_RESOURCE_EXHAUSTED);
    assert_true(s.reader.plain.cap <= 4 * LIMIT);
    end(&s);
}

static void flags_follow_the_protocol(void **state)
{
    (void)state;
    stream s;
    start(&s, CPL_ENCODING_IDENTITY, LIMIT);
    cpl_frame_write(&s.bytes, "abc", 3);
    s.bytes.data[0] = 2;
    assert_int_equal(feed_once(&s), CPL_GRPC_INTERNAL);
    s.bytes.data[0] = 1; /* compressed, and grpc-encoding says identity */
    cpl_frame_reader_reset(&s.reader, LIMIT, &s.inflater);
    s.reader.has_encoding = true;
    assert_int_equal(feed_once(&s), CPL_GRPC_INTERNAL);
    cpl_frame_reader_reset(&s.reader, LIMIT, &s.inflater); /* ... or nothing */
    assert_int_equal(feed_once(&s), CPL_GRPC_INTERNAL);
    end(&s);
}

static void broken_compression_is_refused(void **state)
{
    (void)state;
    static const int bits[] = {0, 15 + 16, 15};
    for (int encoding = CPL_ENCODING_GZIP; encoding <= CPL_ENCODING_DEFLATE; encoding++) {
        cpl_buf whole = {0};
        deflate_to(&whole, "hello hello hello", 17, bits[encoding]);
        for (size_t cut = 1; cut < whole.size; cut++) { /* every truncation */
            stream s;
            start(&s, (cpl_encoding)encoding, LIMIT);
            cpl_buf part = whole;
            part.size = cut;
            add_flagged(&s.bytes, &part);
            assert_int_equal(feed_once(&s), CPL_GRPC_INTERNAL);
            end(&s);
        }
        stream s;
        start(&s, (cpl_encoding)encoding, LIMIT);
        cpl_buf_text(&whole, "trailing");
        add_flagged(&s.bytes, &whole);
        assert_int_equal(feed_once(&s), CPL_GRPC_INTERNAL);
        end(&s);
        cpl_buf_deinit(&whole);
    }
}

static void gzip_members_follow_each_other(void **state)
{
    (void)state;
    stream s;
    start(&s, CPL_ENCODING_GZIP, LIMIT);
    cpl_buf body = {0};
    deflate_to(&body, "hello ", 6, 15 + 16);
    deflate_to(&body, "world", 5, 15 + 16);
    add_flagged(&s.bytes, &body);
    const expected want[] = {{"hello world", 11}};
    size_t seen = 0;
    assert_int_equal(feed(&s, s.bytes.data, s.bytes.size, want, &seen), CPL_GRPC_OK);
    assert_int_equal(seen, 1);
    cpl_buf_deinit(&body);
    end(&s);
}

static void encodings_have_names(void **state)
{
    (void)state;
    cpl_encoding e;
    assert_true(cpl_encoding_of("gzip", 4, &e) && e == CPL_ENCODING_GZIP);
    assert_true(cpl_encoding_of("identity", 8, &e) && e == CPL_ENCODING_IDENTITY);
    assert_true(cpl_encoding_of("deflate", 7, &e) && e == CPL_ENCODING_DEFLATE);
    assert_false(cpl_encoding_of("gzi", 3, &e));
    assert_false(cpl_encoding_of("snappy", 6, &e));
    assert_false(cpl_encoding_of("", 0, &e));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_cut_gives_the_same_messages),
        cmocka_unit_test(a_boundary_is_known),
        cmocka_unit_test(the_declared_length_is_checked_before_buffering),
        cmocka_unit_test(the_limit_itself_fits),
        cmocka_unit_test(a_bomb_stops_at_the_limit),
        cmocka_unit_test(flags_follow_the_protocol),
        cmocka_unit_test(broken_compression_is_refused),
        cmocka_unit_test(gzip_members_follow_each_other),
        cmocka_unit_test(encodings_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
