/* SPDX-License-Identifier: Apache-2.0 */
/* test_text_heap.c - grpc-timeout, grpc-message, addresses, the status table and the deadline heap. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/address.h"
#include "net/deadline_heap.h"
#include "net/grpc_text.h"
#include "net/status_map.h"

static bool parse(const char *text, uint64_t *ns) { return cpl_grpc_timeout_parse(text, strlen(text), ns); }

static void timeouts_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t ns;
    } good[] = {{"1n", 1},
                {"0S", 0},
                {"250u", 250000},
                {"99999999m", 99999999000000ull},
                {"00000100m", 100000000},
                {"3S", 3000000000ull},
                {"2M", 120000000000ull},
                {"1H", 3600000000000ull},
                {"99999999H", INT64_MAX}};
    static const char *const bad[] = {"",    "n",   "1",   "1s",   "-1S",        "1.5S", " 1S",
                                      "1S ", "1SS", "+1S", "0x1S", "999999999n", "1\0S"};
    uint64_t ns;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_true(parse(good[i].text, &ns));
        assert_int_equal(ns, good[i].ns);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) assert_false(parse(bad[i], &ns));
}

static void timeouts_survive_a_round_trip(void **state)
{
    (void)state;
    unsigned seed = 7;
    print_message("seed %u\n", seed);
    for (int i = 0; i < 100000; i++) {
        uint64_t want = (uint64_t)rand_r(&seed) << 31 | (uint64_t)rand_r(&seed);
        want >>= rand_r(&seed) % 62;
        char text[CPL_GRPC_TIMEOUT_TEXT];
        size_t n = cpl_grpc_timeout_format(want, text);
        uint64_t got;
        assert_true(n <= 9 && n == strlen(text));
        assert_true(cpl_grpc_timeout_parse(text, n, &got));
        assert_true(got >= want); /* never earlier */
        assert_true(got <= want + want / 100000 + 1);
    }
    char text[CPL_GRPC_TIMEOUT_TEXT];
    cpl_grpc_timeout_format(UINT64_MAX, text);
    assert_string_equal(text, "5124096H");
}

static void messages_are_percent_encoded(void **state)
{
    (void)state;
    cpl_buf b = {0};
    cpl_grpc_percent_encode(&b, "100% \xc3\xa4\n~", 9, 1000);
    assert_string_equal(b.data, "100%25 %C3%A4%0A~");
    cpl_buf back = {0};
    cpl_grpc_percent_decode(&back, b.data, b.size);
    assert_string_equal(back.data, "100% \xc3\xa4\n~");
    cpl_buf_clear(&back);
    cpl_grpc_percent_decode(&back, "50% %zz %4 %41%", 15);
    assert_string_equal(back.data, "50% %zz %4 A%");
    /* a cut never splits a character */
    for (size_t max = 0; max < 14; max++) {
        cpl_buf_clear(&b);
        cpl_grpc_percent_encode(&b,
                                "a\xe2\x82\xac"
                                "b",
                                5, max);
        assert_true(b.size <= max);
        assert_string_equal(b.data ? b.data : "", max < 1    ? ""
                                                  : max < 10 ? "a"
                                                  : max < 11 ? "a%E2%82%AC"
                                                             : "a%E2%82%ACb");
    }
    cpl_buf_deinit(&b);
    cpl_buf_deinit(&back);
}

static void any_bytes_survive_a_round_trip(void **state)
{
    (void)state;
    unsigned seed = 11;
    print_message("seed %u\n", seed);
    for (int i = 0; i < 2000; i++) {
        char data[64];
        size_t n = (size_t)(rand_r(&seed) % 64);
        for (size_t k = 0; k < n; k++) data[k] = (char)rand_r(&seed);
        cpl_buf encoded = {0}, back = {0};
        cpl_grpc_percent_encode(&encoded, data, n, 4096);
        for (size_t k = 0; k < encoded.size; k++) assert_in_range((unsigned char)encoded.data[k], 0x20, 0x7e);
        cpl_grpc_percent_decode(&back, encoded.data, encoded.size);
        assert_int_equal(back.size, n);
        if (n) assert_memory_equal(back.data, data, n);
        cpl_buf_deinit(&encoded);
        cpl_buf_deinit(&back);
    }
}

static void addresses_are_read_and_printed(void **state)
{
    (void)state;
    static const struct {
        const char *text, *printed;
        bool passive;
    } good[] = {{"127.0.0.1:80", "127.0.0.1:80", false},
                {"http://127.0.0.1:80/", "127.0.0.1:80", false},
                {"[::1]:443", "[::1]:443", false},
                {"unix:/tmp/a b", "unix:/tmp/a b", true},
                {"0.0.0.0:0", "0.0.0.0:0", true}};
    static const char *const bad[] = {"",    "127.0.0.1", "127.0.0.1:", "127.0.0.1:x",  "127.0.0.1:70000", "::1:80",
                                      ":80", "[::1]",     "unix:",      "127.0.0.1:-1", "[::1:80",         "]:80"};
    cpl_address found[CPL_ADDRESSES_MAX];
    size_t count;
    cpl_error err;
    char text[CPL_ADDRESS_TEXT];
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_int_equal(cpl_address_resolve(good[i].text, good[i].passive, found, &count, &err), CPL_OK);
        assert_int_equal(count, 1);
        cpl_address_print(found, text);
        assert_string_equal(text, good[i].printed);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_not_equal(cpl_address_resolve(bad[i], false, found, &count, &err), CPL_OK);
    char path[300];
    memset(path, 'a', sizeof path - 1);
    path[sizeof path - 1] = 0;
    memcpy(path, "unix:", 5);
    assert_int_equal(cpl_address_resolve(path, true, found, &count, &err), CPL_INVALID);
}

static void every_status_has_a_code(void **state)
{
    (void)state;
#define CHECK(name, text)                                                                                              \
    assert_int_not_equal(cpl_grpc_code_of(CPL_##name), CPL_GRPC_UNKNOWN);                                              \
    assert_in_range(cpl_http_status_of(CPL_##name), 200, 599);
    CPL_STATUS_LIST(CHECK)
#undef CHECK
    assert_int_equal(cpl_grpc_code_of(CPL_QUEUE_FULL), CPL_GRPC_RESOURCE_EXHAUSTED);
    assert_int_equal(cpl_http_status_of(CPL_QUEUE_FULL), 429);
    assert_int_equal(cpl_grpc_code_of(CPL_UNAVAILABLE), CPL_GRPC_UNAVAILABLE);
    assert_int_equal(cpl_http_status_of(CPL_UNAVAILABLE), 503);
    assert_int_equal(cpl_grpc_code_of_http(503), CPL_GRPC_UNAVAILABLE);
    assert_string_equal(cpl_grpc_code_name(CPL_GRPC_UNAUTHENTICATED), "UNAUTHENTICATED");
    assert_string_equal(cpl_grpc_code_name((cpl_grpc_code)17), "UNKNOWN");
}

/* ---- heap -------------------------------------------------------------------------------------------------- */

enum { NODES = 500 };
static uint64_t last_ns;
static int expired_count;

static void on_expired(cpl_deadline *d)
{
    assert_true(d->when_ns >= last_ns);
    assert_int_equal(d->place, 0);
    last_ns = d->when_ns;
    expired_count++;
}

static void the_heap_keeps_order_under_random_use(void **state)
{
    (void)state;
    unsigned seed = 3;
    print_message("seed %u\n", seed);
    cpl_deadline_heap h = {0};
    static cpl_deadline nodes[NODES];
    for (int round = 0; round < 200; round++) {
        int inside = 0;
        for (int i = 0; i < NODES; i++) {
            nodes[i] = (cpl_deadline){.when_ns = (uint64_t)(rand_r(&seed) % 1000), .expired = on_expired};
            assert_true(cpl_deadline_add(&h, &nodes[i]));
        }
        for (int i = 0; i < NODES / 2; i++) cpl_deadline_remove(&h, &nodes[rand_r(&seed) % NODES]);
        uint64_t least = UINT64_MAX;
        for (int i = 0; i < NODES; i++) {
            inside += nodes[i].place != 0;
            if (nodes[i].place && nodes[i].when_ns < least) least = nodes[i].when_ns;
        }
        assert_int_equal(h.count, inside);
        assert_int_equal(cpl_deadline_next_ns(&h), least);
        last_ns = 0;
        expired_count = 0;
        cpl_deadline_run(&h, 499);
        for (int i = 0; i < NODES; i++) assert_true(!nodes[i].place || nodes[i].when_ns > 499);
        cpl_deadline_run(&h, 1000);
        assert_int_equal(expired_count, inside);
        assert_int_equal(cpl_deadline_next_ns(&h), UINT64_MAX);
    }
    cpl_deadline_heap_deinit(&h);
}

static cpl_deadline_heap *shared_heap;
static cpl_deadline *victim;
static void remove_victim(cpl_deadline *d)
{
    (void)d;
    cpl_deadline_remove(shared_heap, victim);
    expired_count++;
}

static void an_expired_node_may_remove_others(void **state)
{
    (void)state;
    cpl_deadline_heap h = {0};
    cpl_deadline a = {.when_ns = 1, .expired = remove_victim}, b = {.when_ns = 2, .expired = remove_victim};
    assert_true(cpl_deadline_add(&h, &b) && cpl_deadline_add(&h, &a));
    shared_heap = &h;
    victim = &b;
    expired_count = 0;
    cpl_deadline_run(&h, 10);
    assert_int_equal(expired_count, 1);
    cpl_deadline_remove(&h, &b); /* not in it: fine */
    cpl_deadline_heap_deinit(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(timeouts_are_read),
        cmocka_unit_test(timeouts_survive_a_round_trip),
        cmocka_unit_test(messages_are_percent_encoded),
        cmocka_unit_test(any_bytes_survive_a_round_trip),
        cmocka_unit_test(addresses_are_read_and_printed),
        cmocka_unit_test(every_status_has_a_code),
        cmocka_unit_test(the_heap_keeps_order_under_random_use),
        cmocka_unit_test(an_expired_node_may_remove_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
