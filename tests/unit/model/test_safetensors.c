/* SPDX-License-Identifier: Apache-2.0 */
/* The safetensors header: what is read, and that everything else is refused with file, tensor, expected and found. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "model/safetensors.h"

#define FILE_NAME "some/model.safetensors"

/* Parses an exact-size heap copy, so that a sanitizer sees any read beyond. */
static cpl_status parse(const void *bytes, size_t n, cpl_safetensors *out, cpl_arena *arena, cpl_error *err)
{
    unsigned char *copy = malloc(n ? n : 1);
    assert_non_null(copy);
    memcpy(copy, bytes, n);
    cpl_arena_init(arena, 4096, 0);
    cpl_error_clear(err);
    cpl_status st = cpl_safetensors_parse(out, FILE_NAME, copy, n, arena, err);
    free(copy);
    return st;
}

static size_t build(unsigned char *to, size_t cap, const char *header, size_t header_bytes, size_t data_bytes)
{
    assert_true(8 + header_bytes + data_bytes <= cap);
    for (int i = 0; i < 8; i++) to[i] = (unsigned char)((uint64_t)header_bytes >> 8 * i);
    memcpy(to + 8, header, header_bytes);
    memset(to + 8 + header_bytes, 0x5A, data_bytes);
    return 8 + header_bytes + data_bytes;
}

static void refuse(const char *header, size_t data_bytes, cpl_status status, const char *const *words)
{
    unsigned char file[8192];
    cpl_safetensors s;
    cpl_arena arena;
    cpl_error err;
    size_t n = build(file, sizeof file, header, strlen(header), data_bytes);
    cpl_status st = parse(file, n, &s, &arena, &err);
    if (st != status) fail_msg("%s: status %d, expected %d (%s)", header, st, status, err.what);
    assert_int_equal(err.status, status);
    if (!strstr(err.what, FILE_NAME)) fail_msg("'%s' does not name the file", err.what);
    if (strpbrk(err.what, "\n\r")) fail_msg("'%s' is more than a line", err.what);
    for (; *words; words++)
        if (!strstr(err.what, *words)) fail_msg("'%s' does not say '%s'", err.what, *words);
    cpl_arena_deinit(&arena);
}
#define REFUSE(header, data_bytes, ...)                                                                                \
    refuse(header, data_bytes, CPL_CORRUPT, (const char *const[]){__VA_ARGS__, NULL})

static void reads_a_file(void **state)
{
    (void)state;
    static const char header[] = "{\"__metadata__\":{\"format\":\"pt\"},"
                                 "\"b\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[4,28]},"
                                 "\"a\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[0,4]},"
                                 "\"empty\":{\"dtype\":\"F32\",\"shape\":[0,7],\"data_offsets\":[4,4]},"
                                 "\"c\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[28,36]},"
                                 "\"d\":{\"dtype\":\"BF16\",\"shape\":[1],\"data_offsets\":[36,38]}}   ";
    unsigned char file[1024];
    cpl_safetensors s;
    cpl_arena arena;
    cpl_error err;
    char shape[CPL_SHAPE_BYTES];
    size_t n = build(file, sizeof file, header, strlen(header), 38);
    cpl_arena_init(&arena, 4096, 0);
    assert_int_equal(cpl_safetensors_parse(&s, FILE_NAME, file, n, &arena, &err), CPL_OK);
    assert_int_equal(s.count, 5);
    const cpl_safetensor *b = cpl_safetensors_find(&s, "b"), *c = cpl_safetensors_find(&s, "c");
    assert_non_null(b);
    assert_true(b->readable && b->dtype == CPL_DTYPE_F32 && b->rank == 2 && b->bytes == 24);
    assert_ptr_equal(b->data, file + 8 + strlen(header) + 4);
    assert_string_equal(cpl_safetensor_shape(shape, b), "[2, 3]");
    assert_true(c && !c->readable && c->rank == 0);
    assert_string_equal(c->dtype_name, "I64");
    assert_string_equal(cpl_safetensor_shape(shape, c), "[]");
    assert_true(cpl_safetensors_find(&s, "d")->dtype == CPL_DTYPE_BF16);
    assert_true(cpl_safetensors_find(&s, "a")->dtype == CPL_DTYPE_F16);
    assert_true(cpl_safetensors_find(&s, "empty")->bytes == 0);
    assert_null(cpl_safetensors_find(&s, "e"));
    assert_null(cpl_safetensors_find(&s, ""));
    cpl_arena_deinit(&arena);
}

static void a_file_of_no_tensors_is_valid(void **state)
{
    (void)state;
    unsigned char file[64];
    cpl_safetensors s;
    cpl_arena arena;
    cpl_error err;
    size_t n = build(file, sizeof file, "{}", 2, 0);
    assert_int_equal(parse(file, n, &s, &arena, &err), CPL_OK);
    assert_int_equal(s.count, 0);
    cpl_arena_deinit(&arena);
}

static void refuses_wrong_entries(void **state)
{
    (void)state;
    REFUSE("{\"w\":{\"dtype\":\"F31\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "'w'", "F31", "F32");
    REFUSE("{\"w\":{\"dtype\":7,\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "'w'", "'dtype'", "a number");
    REFUSE("{\"w\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "'w'", "'dtype'", "nothing");
    REFUSE("{\"w\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, "'w'", "'shape'", "nothing");
    REFUSE("{\"w\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", 4, "'w'", "'shape'", "negative");
    REFUSE("{\"w\":{\"dtype\":\"F32\",\"shape\":[1.0],\"data_offsets\":[0,4]}}", 4, "'w'", "'shape'", "a number");
    REFUSE("{\"w\":{\"dtype\":\"F32\",\"shape\":[\"1\"],\"data_offsets\":[0,4]}}", 4, "'w'", "'shape'", "a string");
    REFUSE("{\"w\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "'w'", "'data_offsets'");
    REFUSE("{\"w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 4, "'w'", "'data_offsets'");
    REFUSE("{\"w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,8]}}", 4, "'w'", "'data_offsets'");
    REFUSE("{\"w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4.0]}}", 4, "'w'", "'data_offsets'");
    REFUSE("{\"w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}", 4, "'w'", "ascend");
    REFUSE("{\"w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[-4,0]}}", 4, "'w'", "ascend");
    REFUSE("{\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 4, "'w'", "0 to 8", "only 4",
           "truncated");
    REFUSE("{\"w\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,8]}}", 8, "'w'", "3 elements", "8 bytes");
    REFUSE("{\"w\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,1]}}", 1, "'w'", "3 elements of 4 bits");
    REFUSE("{\"w\":3}", 0, "'w'", "expected an object", "a number");
    REFUSE("{\"w\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296,2],\"data_offsets\":[0,4]}}", 4, "'w'", "2^64");
    REFUSE("{\"w\":{\"dtype\":\"F64\",\"shape\":[4294967296,2147483648],\"data_offsets\":[0,4]}}", 4, "'w'", "64 bits");
    REFUSE("{\"w\":{\"dtype\":\"F32\",\"shape\":[99999999999999999999],\"data_offsets\":[0,4]}}", 4, "JSON");
    REFUSE("{\"__metadata__\":[]}", 0, "'__metadata__'", "an object", "a list");
    REFUSE("{\"__metadata__\":{\"n\":1}}", 0, "'__metadata__'", "strings", "a number");
}

static void refuses_what_is_no_partition(void **state)
{
    (void)state;
    REFUSE("{\"one\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
           "\"two\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}",
           12, "'two'", "overlaps", "'one'", "byte 8", "found 4");
    REFUSE("{\"one\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
           "\"two\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}",
           8, "overlaps");
    REFUSE("{\"one\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
           "\"two\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[8,12]}}",
           12, "'two'", "byte 4", "found 8", "no tensor");
    REFUSE("{\"one\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8, "'one'", "byte 0", "found 4");
    REFUSE("{\"one\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 9, "end", "byte 4", "found 9");
    REFUSE("{}", 1, "byte 0", "found 1");
}

static void refuses_broken_json(void **state)
{
    (void)state;
    REFUSE("{", 0, "JSON");
    REFUSE("{} x", 0, "JSON");
    REFUSE("[]", 0, "'{'");
    REFUSE("", 0, "'{'");
    REFUSE(" {}", 0, "'{'");
    REFUSE("{\"a\xFF\":1}", 0, "JSON");
    REFUSE("{\"w\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]},"
           "\"w\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}}",
           0, "JSON", "duplicate");
    REFUSE("{\"w\\u0000x\":1}", 0, "JSON");
    REFUSE("{\"w\\nx\":1}", 0, "control character");
}

static void refuses_deep_nesting_and_many_dimensions(void **state)
{
    (void)state;
    static char header[8000];
    size_t n = (size_t)snprintf(header, sizeof header, "{\"w\":");
    memset(header + n, '[', 4000);
    memset(header + n + 4000, ']', 3900);
    header[n + 7900] = 0;
    REFUSE(header, 0, "JSON");
    n = (size_t)snprintf(header, sizeof header, "{\"w\":{\"dtype\":\"F32\",\"data_offsets\":[0,4],\"shape\":[1");
    for (int i = 0; i < 32; i++) n += (size_t)snprintf(header + n, sizeof header - n, ",1");
    snprintf(header + n, sizeof header - n, "]}}");
    REFUSE(header, 4, "'w'", "32 dimensions", "found 33");
}

static void refuses_header_lengths(void **state)
{
    (void)state;
    static const struct {
        unsigned char bytes[10];
        size_t n;
        const char *word;
    } cases[] = {
        {{0}, 0, "expected 8 bytes of header length, found 0"},
        {{2, 0, 0, 0, 0, 0, 0}, 7, "found 7"},
        {{3, 0, 0, 0, 0, 0, 0, 0, '{', '}'}, 10, "expected 3 bytes of it, found 2"},
        {{0xFF, 0xE0, 0xF5, 5, 0, 0, 0, 0, '{', '}'}, 10, "expected 99999999 bytes of it"},
        {{1, 0xE1, 0xF5, 5, 0, 0, 0, 0, '{', '}'}, 10, "at most 100000000 bytes, found 100000001"},
        {{255, 255, 255, 255, 255, 255, 255, 255, '{', '}'}, 10, "found 18446744073709551615"},
        {{0, 0, 0, 0, 0, 0, 0, 0, '{', '}'}, 10, "'{'"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cpl_safetensors s;
        cpl_arena arena;
        cpl_error err;
        assert_int_equal(parse(cases[i].bytes, cases[i].n, &s, &arena, &err), CPL_CORRUPT);
        if (!strstr(err.what, cases[i].word)) fail_msg("'%s' does not say '%s'", err.what, cases[i].word);
        assert_string_equal(err.file, FILE_NAME);
        cpl_arena_deinit(&arena);
    }
}

static void says_that_it_is_a_git_lfs_pointer(void **state)
{
    (void)state;
    static const char pointer[] = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n";
    cpl_safetensors s;
    cpl_arena arena;
    cpl_error err;
    assert_int_equal(parse(pointer, sizeof pointer - 1, &s, &arena, &err), CPL_CORRUPT);
    assert_non_null(strstr(err.what, "Git LFS pointer"));
    cpl_arena_deinit(&arena);
}

static void refuses_a_real_file_cut_anywhere(void **state)
{
    (void)state;
    cpl_map map;
    cpl_error err;
    assert_int_equal(cpl_file_map(&map, "tests/golden/models/embedder-max/model.safetensors", &err), CPL_OK);
    size_t header = 8 + ((size_t)map.data[0] | (size_t)map.data[1] << 8);
    for (size_t n = 0; n < map.size; n += n < header + 16 ? 1 : 997) {
        cpl_safetensors s;
        cpl_arena arena;
        cpl_status st = parse(map.data, n, &s, &arena, &err);
        if (st != CPL_CORRUPT) fail_msg("cut to %zu of %zu bytes: status %d", n, map.size, st);
        assert_non_null(strstr(err.what, FILE_NAME));
        cpl_arena_deinit(&arena);
    }
    cpl_file_unmap(&map);
}

/* Any byte of the header changed: an error or a table that lies inside the file; a sanitizer watches. */
static void survives_changed_headers(void **state)
{
    (void)state;
    uint64_t seed = 20240607;
    print_message("seed %llu\n", (unsigned long long)seed);
    cpl_map map;
    cpl_error err;
    assert_int_equal(cpl_file_map(&map, "tests/golden/models/embedder-cls/model.safetensors", &err), CPL_OK);
    size_t header = 8 + ((size_t)map.data[0] | (size_t)map.data[1] << 8), refused = 0;
    unsigned char *copy = malloc(map.size);
    assert_non_null(copy);
    for (int round = 0; round < 3000; round++) {
        memcpy(copy, map.data, map.size);
        for (int k = 0; k <= round % 3; k++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            copy[(seed >> 33) % header] = (unsigned char)(seed >> 25);
        }
        cpl_safetensors s;
        cpl_arena arena;
        cpl_arena_init(&arena, 4096, 0);
        if (cpl_safetensors_parse(&s, FILE_NAME, copy, map.size, &arena, &err)) {
            refused++;
        } else {
            for (size_t i = 0; i < s.count; i++)
                assert_true(s.tensors[i].data >= copy && s.tensors[i].data + s.tensors[i].bytes <= copy + map.size);
        }
        cpl_arena_deinit(&arena);
    }
    assert_in_range(refused, 1000, 2999); /* a changed letter of a name is no error here */
    free(copy);
    cpl_file_unmap(&map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_a_file),
        cmocka_unit_test(a_file_of_no_tensors_is_valid),
        cmocka_unit_test(refuses_wrong_entries),
        cmocka_unit_test(refuses_what_is_no_partition),
        cmocka_unit_test(refuses_broken_json),
        cmocka_unit_test(refuses_deep_nesting_and_many_dimensions),
        cmocka_unit_test(refuses_header_lengths),
        cmocka_unit_test(says_that_it_is_a_git_lfs_pointer),
        cmocka_unit_test(refuses_a_real_file_cut_anywhere),
        cmocka_unit_test(survives_changed_headers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
