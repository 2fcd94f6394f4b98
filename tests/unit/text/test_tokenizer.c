/* SPDX-License-Identifier: Apache-2.0 */
/* test_tokenizer.c - the same ids as Hugging Face `tokenizers`, by the hashes in tests/golden/tokenizer/expected.txt
 * (tools/make_tokenizer_golden.py says what each line means). The real model's tokenizer takes part where the model is
 * there; the small ones always. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/json.h"
#include "text/tokenizer_impl.h"
#include "unit/text/hostile_text.h"

#define GOLDEN     "tests/golden/tokenizer/"
#define REAL_MODEL "models/all-MiniLM-L6-v2"

enum { IDS_MAX = 1 << 16, TOKENIZERS_MAX = 32 };

/* Sanitizers run every block with the best loops, and one in so many with the others. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { BLOCKS_FOR_OTHERS = 8 };
#else
enum { BLOCKS_FOR_OTHERS = 1 };
#endif

typedef struct opened {
    char key[64]; /* "small uncased" */
    cpl_tokenizer *t;
} opened;

static opened cache[TOKENIZERS_MAX];
static cpl_tokenizer_scratch *scratch;
static cpl_buf expected;
static int32_t ids[IDS_MAX];
static uint8_t types[IDS_MAX];

static uint64_t hash_word(uint64_t h, uint32_t word) { return (h ^ word) * 0x100000001B3u; }

#define HASH_START 0xCBF29CE484222325u

static uint64_t hash_text(uint64_t h, const cpl_tokenizer *t, const char *data, size_t n)
{
    size_t count = 0;
    cpl_error err;
    assert_int_equal(cpl_tokenizer_encode(t, scratch, (cpl_text){data, n}, ids, IDS_MAX, &count, &err), CPL_OK);
    assert_true(count < IDS_MAX);
    for (size_t i = 0; i < count; i++) h = hash_word(h, (uint32_t)ids[i]);
    return hash_word(h, 0xFFFFFFFFu);
}

static const char *normalizer_of(const char *options)
{
    static const char *const table[][2] = {
        {"uncased", "true,\"handle_chinese_chars\":true,\"strip_accents\":null,\"lowercase\":true}"},
        {"cased", "true,\"handle_chinese_chars\":true,\"strip_accents\":null,\"lowercase\":false}"},
        {"cased-stripped", "true,\"handle_chinese_chars\":true,\"strip_accents\":true,\"lowercase\":false}"},
        {"uncased-accents", "true,\"handle_chinese_chars\":true,\"strip_accents\":false,\"lowercase\":true}"},
        {"no-cjk", "true,\"handle_chinese_chars\":false,\"strip_accents\":null,\"lowercase\":true}"},
        {"no-clean", "false,\"handle_chinese_chars\":true,\"strip_accents\":null,\"lowercase\":true}"}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (!strcmp(options, table[i][0])) return table[i][1];
    fail_msg("unknown options %s", options);
    return NULL;
}

/* The file's own JSON with another normalizer put in. */
static cpl_tokenizer *open_with(const char *name, const char *options)
{
    char path[256];
    cpl_error err = {0};
    cpl_buf json = {0}, edited = {0};
    cpl_tokenizer *t = NULL;
    snprintf(path, sizeof path, strcmp(name, "real") ? GOLDEN "%s.json" : REAL_MODEL "/tokenizer.json", name);
    if (!cpl_file_exists(path)) return NULL;
    assert_int_equal(cpl_file_read(&json, path, 1 << 26, &err), CPL_OK);
    const char *from = strstr(json.data, "\"normalizer\":{"), *to = from ? strchr(from, '}') : NULL;
    assert_non_null(to);
    cpl_buf_add(&edited, json.data, (size_t)(from - json.data));
    cpl_buf_print(&edited, "\"normalizer\":{\"type\":\"BertNormalizer\",\"clean_text\":%s", normalizer_of(options));
    cpl_buf_text(&edited, to + 1);
    if (cpl_tokenizer_parse(&t, path, edited.data, edited.size, &err)) fail_msg("%s", err.what);
    cpl_buf_deinit(&json);
    cpl_buf_deinit(&edited);
    return t;
}

/* NULL: the real model is not there. */
static cpl_tokenizer *tokenizer_of(const char *name, const char *options)
{
    char key[64];
    snprintf(key, sizeof key, "%s %s", name, options);
    for (size_t i = 0; i < TOKENIZERS_MAX; i++) {
        if (!strcmp(cache[i].key, key)) return cache[i].t;
        if (cache[i].key[0]) continue;
        memcpy(cache[i].key, key, sizeof key);
        return cache[i].t = open_with(name, options);
    }
    fail_msg("too many tokenizers");
    return NULL;
}

static int setup(void **state)
{
    (void)state;
    cpl_error err = {0};
    if (cpl_tokenizer_scratch_open(&scratch, &err)) return -1;
    return cpl_file_read(&expected, GOLDEN "expected.txt", 1 << 24, &err) ? -1 : 0;
}

static int teardown(void **state)
{
    (void)state;
    for (size_t i = 0; i < TOKENIZERS_MAX; i++) cpl_tokenizer_close(cache[i].t);
    cpl_tokenizer_scratch_close(scratch);
    cpl_buf_deinit(&expected);
    return 0;
}

/* Uses the next set of loops over bytes that this CPU has (all give the same ids); false behind the last. */
static bool next_scan(cpl_tokenizer *t, size_t *number)
{
    int runs;
    for (const cpl_scan *scan; (scan = cpl_scan_at(*number, &runs)); ++*number)
        if (cpl_tokenizer_use_scan(t, *number)) return true;
    return false;
}

typedef uint64_t block_fn(const cpl_tokenizer *t, uint64_t at);

/* Compares each line of `kind` with what `block` gives; says which blocks differ. */
static void check_lines(const char *kind, block_fn *block)
{
    size_t checked = 0, absent = 0, wrong = 0;
    for (char *line = expected.data; line && *line; line = strchr(line, '\n')) {
        char word[16], name[16], options[32];
        unsigned long long at = 0, hash = 0;
        if (*line == '\n') line++;
        if (sscanf(line, "%15s %15s %31s %llu %llx", word, name, options, &at, &hash) != 5 || strcmp(word, kind))
            continue;
        cpl_tokenizer *t = tokenizer_of(name, *options == '-' ? "uncased" : options);
        if (!t) {
            absent++;
            continue;
        }
        checked++;
        for (size_t scan = 0; next_scan(t, &scan); scan++) {
            if (t->scan != cpl_scan_best() && checked % BLOCKS_FOR_OTHERS) continue;
            uint64_t got = block(t, at);
            if (got == hash) continue;
            wrong++;
            if (wrong < 20)
                print_error("%s %s %s, block at %llu (0x%llX), loops %s: ids differ from Hugging Face's (%016llx, not "
                            "%016llx)\n",
                            kind, name, options, at, at, t->scan->name, (unsigned long long)got, hash);
        }
    }
    print_message("%s: %zu blocks compared", kind, checked);
    if (absent) print_message(", %zu not: no " REAL_MODEL " here (make model fetches it)", absent);
    print_message("\n");
    assert_int_equal(wrong, 0);
    if (!checked) skip();
}

enum { SCALAR_BLOCK = 16384, HOSTILE_BLOCK = 1000 };

static uint64_t scalars_block(const cpl_tokenizer *t, uint64_t first)
{
    uint64_t h = HASH_START;
    cpl_buf text = {0};
    size_t in_text = 0;
    for (uint32_t c = (uint32_t)first; c < first + SCALAR_BLOCK; c++) {
        char utf8[4];
        if (c >= 0xD800 && c < 0xE000) continue;
        size_t n = cpl_utf8_encode(c, utf8);
        cpl_buf_add(&text, utf8, n);
        cpl_buf_text(&text, " a");
        cpl_buf_add(&text, utf8, n);
        cpl_buf_text(&text, "b ");
        if (++in_text < 64) continue;
        h = hash_text(h, t, text.data, text.size);
        cpl_buf_clear(&text);
        in_text = 0;
    }
    if (in_text) h = hash_text(h, t, text.data, text.size);
    cpl_buf_deinit(&text);
    return h;
}

static uint64_t alone_block(const cpl_tokenizer *t, uint64_t first)
{
    uint64_t h = HASH_START;
    for (uint32_t c = (uint32_t)first; c < first + SCALAR_BLOCK; c++) {
        char utf8[4];
        if (c < 0xD800 || c >= 0xE000) h = hash_text(h, t, utf8, cpl_utf8_encode(c, utf8));
    }
    return h;
}

static uint64_t hostile_block(const cpl_tokenizer *t, uint64_t first)
{
    uint64_t h = HASH_START;
    cpl_buf text = {0};
    for (uint64_t i = first; i < first + HOSTILE_BLOCK; i++) {
        cpl_buf_clear(&text);
        hostile_string(&text, i);
        h = hash_text(h, t, text.data ? text.data : "", text.size);
    }
    cpl_buf_deinit(&text);
    return h;
}

static uint64_t hash_pair(uint64_t h, const cpl_tokenizer *t, size_t max_length, cpl_text a, const cpl_text *b)
{
    size_t count = 0;
    cpl_error err = {0};
    if (cpl_tokenizer_pair(t, scratch, a, b, max_length, ids, types, IDS_MAX, &count, &err)) fail_msg("%s", err.what);
    assert_true(count <= IDS_MAX && (!max_length || count <= max_length));
    for (size_t i = 0; i < count; i++) h = hash_word(h, (uint32_t)ids[i]);
    h = hash_word(h, 0xFFFFFFFFu);
    for (size_t i = 0; i < count; i++) h = hash_word(h, types[i]);
    return hash_word(h, 0xFFFFFFFFu);
}

static uint64_t layout_block(const cpl_tokenizer *t, uint64_t max_length)
{
    static const size_t sizes[] = {0, 1, 2, 3, 4, 5, 7, 10, 15, 20};
    static const char as[] = "a a a a a a a a a a a a a a a a a a a a ",
                      bs[] = "b b b b b b b b b b b b b b b b b b b b ";
    uint64_t h = HASH_START;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        cpl_text a = {as, sizes[i] * 2};
        h = hash_pair(h, t, max_length, a, NULL);
        for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
            cpl_text b = {bs, sizes[k] * 2};
            h = hash_pair(h, t, max_length, a, &b);
        }
    }
    return h;
}

static void scalars(void **state)
{
    (void)state;
    check_lines("scalars", scalars_block);
}

static void scalars_alone(void **state)
{
    (void)state;
    check_lines("alone", alone_block);
}

static void hostile_strings(void **state)
{
    (void)state;
    print_message("seed %llx\n", (unsigned long long)HOSTILE_SEED);
    check_lines("hostile", hostile_block);
}

static void layouts(void **state)
{
    (void)state;
    check_lines("layout", layout_block);
}

static uint64_t pairs_hash(const cpl_tokenizer *t, const cpl_buf *file, size_t max_length)
{
    uint64_t h = HASH_START;
    for (const char *line = file->data, *end = line + file->size; line < end;) {
        const char *stop = memchr(line, '\n', (size_t)(end - line));
        size_t n = stop ? (size_t)(stop - line) : (size_t)(end - line);
        json_t *record = json_loadb(line, n, 0, NULL);
        line += n + 1;
        if (!n) continue;
        const json_t *query = json_object_get(record, "query"), *document = json_object_get(record, "document");
        assert_true(json_is_string(query) && json_is_string(document));
        cpl_text a = {json_string_value(query), json_string_length(query)};
        cpl_text b = {json_string_value(document), json_string_length(document)};
        h = hash_pair(h, t, max_length, a, &b);
        json_decref(record);
    }
    return h;
}

static void real_pairs(void **state)
{
    (void)state;
    const char *path = getenv("COUPLET_DATA");
    cpl_tokenizer *t = tokenizer_of("real", "uncased");
    if (!path || !t) {
        print_message("pairs: skipped, %s\n", path ? "no " REAL_MODEL " here" : "COUPLET_DATA names no file of pairs");
        skip();
    }
    cpl_buf file = {0};
    cpl_error err = {0};
    if (cpl_file_read(&file, path, 1 << 28, &err)) fail_msg("%s", err.what);
    uint64_t key = HASH_START;
    for (size_t i = 0; i < file.size; i++) key = hash_word(key, (uint8_t)file.data[i]);
    size_t checked = 0;
    for (char *line = expected.data; line && *line; line = strchr(line, '\n')) {
        unsigned long long max_length, known, hash;
        if (*line == '\n') line++;
        if (sscanf(line, "pairs real %llu %llx %llx", &max_length, &known, &hash) != 3 || known != key) continue;
        for (size_t scan = 0; next_scan(t, &scan); scan++)
            if (pairs_hash(t, &file, max_length) != hash)
                fail_msg("%s, max_length %llu, loops %s: ids differ from Hugging Face's", path, max_length,
                         t->scan->name);
        checked++;
    }
    cpl_buf_deinit(&file);
    if (!checked) {
        print_message("pairs: skipped, there is no expectation for the content of %s\n", path);
        skip();
    }
    print_message("pairs: %zu lengths compared\n", checked);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(scalars), cmocka_unit_test(scalars_alone),
                                       cmocka_unit_test(hostile_strings), cmocka_unit_test(layouts),
                                       cmocka_unit_test(real_pairs)};
    return cmocka_run_group_tests_name("tokenizer", tests, setup, teardown);
}
