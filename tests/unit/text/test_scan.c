/* SPDX-License-Identifier: Apache-2.0 */
/* test_scan.c - every instruction set's loops over bytes against the plain ones, on texts that end at a page that must
 * not be touched; and whole texts there, each one's ids the same with every set of loops. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "text/tokenizer_impl.h"
#include "unit/text/hostile_text.h"

enum { MOST = 3000, ROUNDS = 20000, SEED = 20260101 };

/* MOST bytes that end where reading on is fatal. */
typedef struct guarded {
    char *map, *end;
    size_t bytes;
} guarded;

static guarded guard(void)
{
    guarded g = {0};
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    g.bytes = (MOST + page - 1) / page * page;
    g.map = mmap(NULL, g.bytes + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(g.map != MAP_FAILED);
    assert_int_equal(mprotect(g.map + g.bytes, page, PROT_NONE), 0);
    g.end = g.map + g.bytes;
    return g;
}

static void unguard(guarded *g) { munmap(g->map, g->bytes + (size_t)sysconf(_SC_PAGESIZE)); }

static cpl_tokenizer *open_small(const char *clean)
{
    static const char *const parts[] = {
        "{\"version\":\"1.0\",\"normalizer\":{\"type\":\"BertNormalizer\",\"clean_text\":",
        ",\"handle_chinese_chars\":true,\"strip_accents\":null,\"lowercase\":true},\"pre_tokenizer\":{\"type\":"
        "\"BertPreTokenizer\"},\"post_processor\":null,\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\","
        "\"continuing_subword_prefix\":\"##\",\"max_input_chars_per_word\":100,\"vocab\":{\"[UNK]\":0,\"a\":1,\"b\":2,"
        "\"ab\":3,\"##a\":4,\"##b\":5,\".\":6,\"the\":7,\"\xC3\x9F\":8,\"##\xC3\x9F\":9,\"##1\":10,\"##2\":11,"
        "\"\xE4\xB8\x80\":12,\"1\":13,\"2\":14,\"0123456789abcdef\":15,\"0123456789abcdef0\":16,\"##e\":17}},"
        "\"added_tokens\":[]}"};
    cpl_error err = {0};
    cpl_buf json = {0};
    cpl_tokenizer *t = NULL;
    cpl_buf_print(&json, "%s%s%s", parts[0], clean, parts[1]);
    if (cpl_tokenizer_parse(&t, "small", json.data, json.size, &err)) fail_msg("%s", err.what);
    cpl_buf_deinit(&json);
    return t;
}

/* Bytes of every kind, the share of odd ones drawn for each text. */
static void fill_bytes(uint64_t *r, char *p, size_t n, bool any)
{
    static const char usual[] = "aaabbbtheTHEZAza019 \n\t,.!?-@[`{~/:;  ";
    uint32_t odd = hostile_below(r, 4) ? hostile_below(r, 8) : 0;
    for (size_t i = 0; i < n; i++) {
        p[i] = usual[hostile_below(r, sizeof usual - 1)];
        if (any && hostile_below(r, 64) < odd) p[i] = (char)hostile_below(r, 256);
    }
}

static void copies(void **state)
{
    (void)state;
    cpl_tokenizer *tokenizers[] = {open_small("true"), open_small("false")};
    guarded text = guard(), room[2] = {guard(), guard()};
    uint64_t r = SEED;
    int runs = 0;
    for (int round = 0; round < ROUNDS; round++) {
        size_t n = hostile_below(&r, hostile_below(&r, 8) ? 200 : MOST - CPL_SCAN_SLACK);
        const cpl_scan_classes *classes = &tokenizers[round % 2]->classes;
        fill_bytes(&r, text.end - n, n, true);
        size_t want = cpl_scan_at(0, &runs)->copy(room[0].end - n, text.end - n, n, classes);
        const cpl_scan *scan;
        for (size_t k = 1; (scan = cpl_scan_at(k, &runs)); k++) {
            char *to = room[1].end - n - CPL_SCAN_SLACK;
            if (!runs) continue;
            assert_int_equal(scan->copy(to, text.end - n, n, classes), want);
            assert_memory_equal(to, room[0].end - n, want);
        }
    }
    unguard(&text);
    unguard(&room[0]);
    unguard(&room[1]);
    cpl_tokenizer_close(tokenizers[0]);
    cpl_tokenizer_close(tokenizers[1]);
}

static void splits(void **state)
{
    (void)state;
    static uint16_t starts[2][MOST + CPL_SCAN_SLACK], ends[2][MOST + CPL_SCAN_SLACK];
    cpl_tokenizer *t = open_small("true");
    guarded text = guard();
    uint64_t r = SEED + 1;
    int runs = 0;
    for (int round = 0; round < ROUNDS; round++) {
        size_t n = hostile_below(&r, hostile_below(&r, 8) ? 200 : MOST - CPL_SCAN_SLACK);
        char *from = text.end - n - CPL_SCAN_SLACK;
        fill_bytes(&r, from, n, false);
        for (uint32_t k = hostile_below(&r, 9); n && k; k--) from[hostile_below(&r, (uint32_t)n)] = (char)0xC3;
        memset(from + n, ' ', CPL_SCAN_SLACK);
        size_t want = cpl_scan_at(0, &runs)->split(from, n, &t->classes, starts[0], ends[0]);
        assert_true(want <= n);
        for (size_t i = 0; i < want; i++) assert_true(starts[0][i] < ends[0][i] && ends[0][i] <= n);
        const cpl_scan *scan;
        for (size_t k = 1; (scan = cpl_scan_at(k, &runs)); k++) {
            if (!runs) continue;
            assert_int_equal(scan->split(from, n, &t->classes, starts[1], ends[1]), want);
            assert_memory_equal(starts[0], starts[1], want * sizeof starts[0][0]);
            assert_memory_equal(ends[0], ends[1], want * sizeof ends[0][0]);
        }
    }
    unguard(&text);
    cpl_tokenizer_close(t);
}

/* Any bytes, also no UTF-8, as one text that ends at the guard; and its ids have room to the byte. */
static void texts(void **state)
{
    (void)state;
    static int32_t ids[2][MOST];
    cpl_tokenizer *t = open_small("true");
    cpl_tokenizer_scratch *s = NULL;
    cpl_error err = {0};
    guarded text = guard();
    cpl_buf hostile = {0};
    uint64_t r = SEED + 2;
    assert_int_equal(cpl_tokenizer_scratch_open(&s, &err), CPL_OK);
    for (int round = 0; round < ROUNDS / 4; round++) {
        size_t n = hostile_below(&r, hostile_below(&r, 4) ? 80 : MOST);
        cpl_buf_clear(&hostile);
        if (round % 2) hostile_string(&hostile, (uint64_t)round);
        if (hostile.size && hostile.size < MOST) {
            n = hostile.size;
            memcpy(text.end - n, hostile.data, n);
        } else {
            fill_bytes(&r, text.end - n, n, round % 3);
        }
        size_t want = 0, cap = n && hostile_below(&r, 2) ? hostile_below(&r, (uint32_t)n) : n;
        for (size_t k = 0; k < 8; k++) {
            size_t count = 0;
            int32_t *to = ids[k != 0];
            if (!cpl_tokenizer_use_scan(t, k)) continue;
            assert_int_equal(cpl_tokenizer_encode(t, s, (cpl_text){text.end - n, n}, to, cap, &count, &err), CPL_OK);
            if (!k) want = count;
            assert_int_equal(count, want);
            assert_memory_equal(ids[0], to, want * sizeof *to);
        }
    }
    cpl_buf_deinit(&hostile);
    unguard(&text);
    cpl_tokenizer_scratch_close(s);
    cpl_tokenizer_close(t);
}

/* Words around every limit: 16 bytes of the table, the window, the characters a word may have. */
static void long_words(void **state)
{
    (void)state;
    static char text[40000];
    static int32_t ids[40000];
    cpl_tokenizer *t = open_small("true");
    cpl_tokenizer_scratch *s = NULL;
    cpl_error err = {0};
    assert_int_equal(cpl_tokenizer_scratch_open(&s, &err), CPL_OK);
    for (size_t k = 0; k < 8; k++) {
        if (!cpl_tokenizer_use_scan(t, k)) continue;
        for (size_t max = 0; max < 5000; max = max ? max * 3 : 1) {
            t->word_chars_max = max > 50 ? max : 100;
            for (size_t n = 1; n < 9000; n = n < 140 ? n + 1 : n * 5 / 4) {
                for (size_t before = 0; before < 70; before += 23) {
                    size_t at = 0, count = 0, want = 0;
                    for (size_t i = 0; i < before; i++) text[at++] = i % 2 ? ' ' : '.';
                    want = (before + 1) / 2;
                    for (size_t i = 0; i < n; i++) text[at++] = 'b'; /* "b" and "##b" */
                    want += n > t->word_chars_max ? 1 : n;
                    memcpy(text + at, " the", 4);
                    assert_int_equal(cpl_tokenizer_encode(t, s, (cpl_text){text, at + 4}, ids, at + 4, &count, &err),
                                     CPL_OK);
                    assert_int_equal(count, want + 1);
                    assert_int_equal(ids[count - 1], 7);
                    assert_int_equal(ids[(before + 1) / 2], n > t->word_chars_max ? 0 : 2);
                }
            }
        }
    }
    cpl_tokenizer_scratch_close(s);
    cpl_tokenizer_close(t);
}

/* A word is in the table by its bytes and its length, so a NUL (where it isn't cleaned away) is not the padding. */
static void nul_is_no_padding(void **state)
{
    (void)state;
    cpl_tokenizer *t = open_small("false");
    cpl_tokenizer_scratch *s = NULL;
    cpl_error err = {0};
    int32_t ids[8];
    size_t count = 0;
    assert_int_equal(cpl_tokenizer_scratch_open(&s, &err), CPL_OK);
    assert_int_equal(cpl_tokenizer_encode(t, s, (cpl_text){"the the\0 the", 12}, ids, 8, &count, &err), CPL_OK);
    assert_int_equal(count, 3);
    assert_int_equal(ids[0], 7);
    assert_int_equal(ids[1], 0);
    assert_int_equal(ids[2], 7);
    cpl_tokenizer_scratch_close(s);
    cpl_tokenizer_close(t);
}

/* The table answers for nearly every short word, and never wrongly; the trie for all. */
static void table_and_trie(void **state)
{
    (void)state;
    enum { WORDS = 6000 };
    static char texts_of[WORDS][16];
    static cpl_vocab_entry entries[WORDS];
    cpl_vocab v;
    cpl_arena arena;
    cpl_arena_init(&arena, 1 << 16, 0);
    for (uint32_t i = 0; i < WORDS; i++) {
        int n = snprintf(texts_of[i], sizeof texts_of[i], "w%ux", i * 7919u);
        entries[i] = (cpl_vocab_entry){texts_of[i], (uint32_t)n, i, (int32_t)i, CPL_VOCAB_WORD};
    }
    assert_int_equal(cpl_vocab_build(&v, &arena, entries, WORDS, 100, NULL), CPL_OK);
    size_t first = 0, other = 0;
    for (uint32_t i = 0; i < WORDS; i++) {
        size_t n = strlen(texts_of[i]);
        cpl_vocab_key key = {{0, 0}};
        memcpy(&key, texts_of[i], n);
        uint64_t hash = cpl_vocab_hash(key);
        size_t line = cpl_vocab_line_of(&v, hash);
        int32_t id = cpl_vocab_in_line(&v, line, key, n), value = -1;
        first += id >= 0;
        if (id < 0 && v.lines[line].way[0].full) {
            id = cpl_vocab_in_line(&v, cpl_vocab_other_line(&v, line, hash), key, n);
            other += id >= 0;
        }
        assert_true(id == -1 || id == (int32_t)i);
        assert_int_equal(cpl_vocab_longest(&v, CPL_VOCAB_WORD, texts_of[i], n, &value), n);
        assert_int_equal(value, i);
    }
    print_message("of %d words %zu in their line, %zu in the other\n", WORDS, first, other);
    assert_true(first > WORDS / 2 && other > 0 && (first + other) * 100 > (size_t)WORDS * 90);
    cpl_arena_deinit(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(copies),
                                       cmocka_unit_test(splits),
                                       cmocka_unit_test(texts),
                                       cmocka_unit_test(long_words),
                                       cmocka_unit_test(nul_is_no_padding),
                                       cmocka_unit_test(table_and_trie)};
    int runs = 0;
    const cpl_scan *scan;
    printf("seed %d, loops:", SEED);
    for (size_t i = 0; (scan = cpl_scan_at(i, &runs)); i++) printf(" %s%s", scan->name, runs ? "" : " (not here)");
    printf("\n");
    return cmocka_run_group_tests_name("scan", tests, NULL, NULL);
}
