/* SPDX-License-Identifier: Apache-2.0 */
/* Protobuf's wire form: every field type, what is broken is told from what ends, and what the writer writes reads
 * back; no prefix of a message is read past its end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "wire/pb.h"

static void test_every_type(void **state)
{
    (void)state;
    static const uint8_t data[] = {0x08, 0x96, 0x01,                                     /* 1: varint 150 */
                                   0x11, 1,    0,    0,    0,    0,    0,    0,    0x80, /* 2: fixed64 */
                                   0x1a, 2,    'h',  'i',                                /* 3: bytes */
                                   0x23, 0x08, 1,    0x2b, 0x2c, 0x24, /* 4: group with a group, skipped */
                                   0x2d, 4,    3,    2,    1,          /* 5: fixed32 */
                                   0x32, 0,                            /* 6: empty bytes */
                                   0x38, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}; /* 7: -1 */
    cpl_pb_reader r = cpl_pb_read(data, sizeof data);
    cpl_pb_field f;
    bool ok;
    assert_true(cpl_pb_next(&r, &f, &ok));
    assert_true(f.number == 1 && f.type == CPL_PB_VARINT && f.value == 150);
    assert_true(cpl_pb_next(&r, &f, &ok));
    assert_true(f.number == 2 && f.type == CPL_PB_FIXED64 && f.value == UINT64_C(0x8000000000000001));
    assert_true(cpl_pb_next(&r, &f, &ok));
    assert_true(f.number == 3 && f.type == CPL_PB_BYTES && f.bytes.size == 2 && f.bytes.data[1] == 'i');
    assert_true(cpl_pb_next(&r, &f, &ok));
    assert_true(f.number == 5 && f.type == CPL_PB_FIXED32 && f.value == 0x01020304);
    assert_true(cpl_pb_next(&r, &f, &ok));
    assert_true(f.number == 6 && f.bytes.size == 0);
    assert_true(cpl_pb_next(&r, &f, &ok));
    assert_true(f.number == 7 && f.value == UINT64_MAX);
    assert_false(cpl_pb_next(&r, &f, &ok));
    assert_true(ok);
}

static void test_empty(void **state)
{
    (void)state;
    cpl_pb_field f;
    bool ok = false;
    cpl_pb_reader r = cpl_pb_read(NULL, 0);
    assert_false(cpl_pb_next(&r, &f, &ok));
    assert_true(ok);
}

static void expect_broken(const char *what, const void *data, size_t n, size_t at)
{
    cpl_pb_reader r = cpl_pb_read(data, n);
    cpl_pb_field f;
    bool ok = true;
    while (cpl_pb_next(&r, &f, &ok)) continue;
    if (ok || cpl_pb_offset(&r) != at) print_error("%s: ok %d at %zu\n", what, ok, cpl_pb_offset(&r));
    assert_false(ok);
    assert_int_equal(cpl_pb_offset(&r), at);
}

static void test_broken(void **state)
{
    (void)state;
    expect_broken("varint cut", "\x08\x96", 2, 0);
    expect_broken("varint too long", "\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 11, 0);
    expect_broken("field 0", "\x00\x01", 2, 0);
    expect_broken("field number too large", "\xf8\xff\xff\xff\xff\x01\x01", 7, 0);
    expect_broken("wire type 6", "\x08\x01\x0e\x01", 4, 2);
    expect_broken("bytes longer than the message", "\x0a\x05hell", 6, 0);
    expect_broken("bytes of absurd length", "\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", 10, 0);
    expect_broken("fixed64 cut", "\x09\x01\x02", 3, 0);
    expect_broken("fixed32 cut", "\x0d\x01\x02", 3, 0);
    expect_broken("group never closed", "\x08\x01\x0b\x08\x01", 5, 2);
    expect_broken("group closed as another", "\x0b\x14", 2, 0);
    expect_broken("group end alone", "\x0c", 1, 0);
    char deep[200];
    memset(deep, 0x0b, sizeof deep);
    expect_broken("groups too deep", deep, sizeof deep, 0);
}

static void test_written_reads_back(void **state)
{
    (void)state;
    cpl_buf out = {0};
    const uint64_t values[] = {0, 1, 127, 128, 300, UINT32_MAX, UINT64_MAX};
    for (uint32_t i = 0; i < 7; i++) cpl_pb_put_varint(&out, i + 1, values[i]);
    cpl_pb_put_text(&out, 100, "text");
    cpl_pb_put_bytes(&out, 536870911, "a\0b", 3);
    cpl_pb_reader r = cpl_pb_read(out.data, out.size);
    cpl_pb_field f;
    bool ok;
    for (uint32_t i = 0; i < 7; i++) {
        assert_true(cpl_pb_next(&r, &f, &ok));
        assert_true(f.number == i + 1 && f.value == values[i]);
    }
    assert_true(cpl_pb_next(&r, &f, &ok));
    assert_true(f.number == 100 && f.bytes.size == 4);
    assert_true(cpl_pb_next(&r, &f, &ok));
    assert_true(f.number == 536870911 && f.bytes.size == 3);
    assert_memory_equal(f.bytes.data, "a\0b", 3);
    assert_false(cpl_pb_next(&r, &f, &ok));
    /* Every prefix, in memory of exactly its size. */
    for (size_t n = 0; n <= out.size; n++) {
        char *copy = malloc(n ? n : 1);
        memcpy(copy, out.data, n);
        r = cpl_pb_read(copy, n);
        while (cpl_pb_next(&r, &f, &ok)) continue;
        assert_true(cpl_pb_offset(&r) <= n);
        free(copy);
    }
    cpl_buf_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_type),
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_broken),
        cmocka_unit_test(test_written_reads_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
