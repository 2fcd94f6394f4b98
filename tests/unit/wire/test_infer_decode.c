/* SPDX-License-Identifier: Apache-2.0 */
/* InferRequest's bytes: what protobuf-c packs is read back, limits hold, and each way of being wrong has its sentence
 * with the pair's number. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "proto/inference.pb-c.h"
#include "wire/infer_decode.h"
#include "wire/pb.h"

static const cpl_infer_limits limits = {.pairs_max = 100, .text_bytes_max = 1000};

static void test_what_is_packed_is_read(void **state)
{
    (void)state;
    Inference__Pair pairs[3] = {INFERENCE__PAIR__INIT, INFERENCE__PAIR__INIT, INFERENCE__PAIR__INIT};
    Inference__Pair *list[3] = {&pairs[0], &pairs[1], &pairs[2]};
    Inference__InferRequest m = INFERENCE__INFER_REQUEST__INIT;
    pairs[0].query = (char *)"how tall is it";
    pairs[0].document = (char *)"8,849 m \xe2\x80\x93 tall";
    pairs[2].document = (char *)"no query";
    m.n_pairs = 3;
    m.pairs = list;
    uint8_t bytes[256];
    size_t n = inference__infer_request__pack(&m, bytes);
    cpl_pair_list out = {0};
    cpl_error err = {0};
    for (int again = 0; again < 2; again++) {
        assert_int_equal(cpl_infer_decode(&out, bytes, n, &limits, &err), CPL_OK);
        assert_int_equal(out.count, 3);
        assert_int_equal(out.pairs[0].query.size, 14);
        assert_memory_equal(out.pairs[0].document.data, pairs[0].document, out.pairs[0].document.size);
        assert_int_equal(out.pairs[1].query.size, 0);
        assert_int_equal(out.pairs[1].document.size, 0);
        assert_non_null(out.pairs[1].query.data);
        assert_int_equal(out.pairs[2].document.size, 8);
    }
    cpl_pair_list_deinit(&out);
}

/* Fields we don't know are skipped, the last of a repeated scalar wins, U+0000 is text. */
static void test_what_protobuf_allows(void **state)
{
    (void)state;
    cpl_buf pair = {0}, message = {0};
    cpl_pb_put_varint(&pair, 9, 7);
    cpl_pb_put_text(&pair, 1, "old");
    cpl_pb_put_bytes(&pair, 1, "a\0b", 3);
    cpl_pb_put_varint(&message, 2, 5);
    cpl_pb_put_bytes(&message, 1, pair.data, pair.size);
    cpl_pb_put_text(&message, 15, "unknown");
    cpl_pair_list out = {0};
    assert_int_equal(cpl_infer_decode(&out, message.data, message.size, &limits, NULL), CPL_OK);
    assert_int_equal(out.count, 1);
    assert_int_equal(out.pairs[0].query.size, 3);
    cpl_pair_list_deinit(&out);
    cpl_buf_deinit(&pair);
    cpl_buf_deinit(&message);
}

static void expect(const void *data, size_t n, const char *sentence)
{
    cpl_pair_list out = {0};
    cpl_error err = {0};
    assert_int_equal(cpl_infer_decode(&out, data, n, &limits, &err), CPL_INVALID);
    assert_string_equal(err.what, sentence);
    cpl_pair_list_deinit(&out);
}

static void add_pair(cpl_buf *message, const char *query, size_t n, const char *document)
{
    cpl_buf pair = {0};
    cpl_pb_put_bytes(&pair, 1, query, n);
    cpl_pb_put_text(&pair, 2, document);
    cpl_pb_put_bytes(message, 1, pair.data, pair.size);
    cpl_buf_deinit(&pair);
}

static void test_sentences(void **state)
{
    (void)state;
    cpl_buf m = {0};
    char long_text[1001];
    memset(long_text, 'a', sizeof long_text);
    expect("", 0, "no pairs: send at least one query and document");
    expect("\x10\x05", 2, "no pairs: send at least one query and document");
    expect("\x08\x05", 2, "field 1 (pairs) is not a message (wire type 0): is this an inference.InferRequest?");
    expect("\x0a\x05xyz", 5, "the message is truncated or no protobuf message, at byte 0 of 5");
    expect("\x0a\x02\x0a\x05", 4, "pairs[0] is truncated or no protobuf message, at its byte 0");
    add_pair(&m, "q", 1, "d");
    size_t one = m.size;
    add_pair(&m, "ok \xc3\xa9 \xe2\x82", 8, "d");
    expect(m.data, m.size, "pairs[1].query is not valid UTF-8 at byte 6: send text, not other bytes");
    m.size = one;
    add_pair(&m, "q", 1, "\xed\xa0\x80");
    expect(m.data, m.size, "pairs[1].document is not valid UTF-8 at byte 0: send text, not other bytes");
    m.size = one;
    add_pair(&m, long_text, 1000, "");
    cpl_pair_list out = {0};
    assert_int_equal(cpl_infer_decode(&out, m.data, m.size, &limits, NULL), CPL_OK);
    cpl_pair_list_deinit(&out);
    m.size = one;
    add_pair(&m, long_text, 1001, "");
    expect(m.data, m.size,
           "pairs[1].query has 1001 bytes, the limit is 1000 (server.limits.max_text_bytes): shorten it");
    m.size = one;
    cpl_pb_put_bytes(&m, 1, "\x12\x00\x08\x05", 4);
    expect(m.data, m.size, "pairs[1].query is not text (wire type 0): is this an inference.InferRequest?");
    m.size = 0;
    for (int i = 0; i < 5000; i++) cpl_pb_put_bytes(&m, 1, "", 0);
    expect(m.data, m.size,
           "5000 pairs in one request, the limit is 100 (server.limits.max_pairs): send several requests");
    m.size = 200;
    assert_int_equal(cpl_infer_decode(&out, m.data, m.size, &limits, NULL), CPL_OK);
    assert_int_equal(out.count, 100);
    cpl_pair_list_deinit(&out);
    cpl_buf_deinit(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_packed_is_read),
        cmocka_unit_test(test_what_protobuf_allows),
        cmocka_unit_test(test_sentences),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
