/* SPDX-License-Identifier: Apache-2.0 */
/* test_tokenizer_files.c - what is read and what is refused: tokenizer.json, vocab.txt, added tokens, templates,
 * truncation. A vocabulary of twenty words, so that ids can be read here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "text/tokenizer.h"
#include "unit/text/hostile_text.h"

#define VOCAB                                                                                                          \
    "{\"[PAD]\":0,\"[UNK]\":1,\"[CLS]\":2,\"[SEP]\":3,\"[MASK]\":4,\"a\":5,\"b\":6,\"ab\":7,\"##a\":8,\"##b\":9,"      \
    "\"##ab\":10,\".\":11,\"e\":12,\"\xE4\xB8\xAD\":13,\"abc\":14,\"##cd\":15}"
#define FLAGS(special, single, left, right, normal)                                                                    \
    "\"special\":" #special ",\"single_word\":" #single ",\"lstrip\":" #left ",\"rstrip\":" #right                     \
    ",\"normalized\":" #normal
#define ADDED "[{\"id\":3,\"content\":\"[SEP]\"," FLAGS(true, false, false, false, false) "}]"
#define NORMALIZER                                                                                                     \
    "{\"type\":\"BertNormalizer\",\"clean_text\":true,\"handle_chinese_chars\":true,\"strip_accents\":null,"           \
    "\"lowercase\":true}"
#define MODEL                                                                                                          \
    "{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\",\"continuing_subword_prefix\":\"##\","                            \
    "\"max_input_chars_per_word\":6,\"vocab\":" VOCAB "}"
#define BERT "{\"type\":\"BertProcessing\",\"sep\":[\"[SEP]\",3],\"cls\":[\"[CLS]\",2]}"

static cpl_tokenizer_scratch *scratch;

static int setup(void **state)
{
    (void)state;
    return cpl_tokenizer_scratch_open(&scratch, NULL) ? -1 : 0;
}

static int teardown(void **state)
{
    (void)state;
    cpl_tokenizer_scratch_close(scratch);
    return 0;
}

static cpl_status parse(cpl_tokenizer **t, const char *added, const char *normalizer, const char *splitter,
                        const char *post, const char *model, cpl_error *err)
{
    cpl_buf json = {0};
    cpl_buf_print(&json,
                  "{\"version\":\"1.0\",\"truncation\":{\"max_length\":1},\"padding\":{\"strategy\":{\"Fixed\":9}},");
    cpl_buf_print(&json,
                  "\"added_tokens\":%s,\"normalizer\":%s,\"pre_tokenizer\":%s,\"post_processor\":%s,\"model\":%s}",
                  added, normalizer, splitter, post, model);
    cpl_status st = cpl_tokenizer_parse(t, "t.json", json.data, json.size, err);
    cpl_buf_deinit(&json);
    return st;
}

#define SPLITTER "{\"type\":\"BertPreTokenizer\"}"

static cpl_tokenizer *opened(const char *added, const char *post)
{
    cpl_tokenizer *t = NULL;
    cpl_error err = {0};
    if (parse(&t, added, NORMALIZER, SPLITTER, post, MODEL, &err)) fail_msg("%s", err.what);
    return t;
}

/* Ids as text: "7 10 11". */
static void expect_ids(const cpl_tokenizer *t, const char *text, const char *want)
{
    int32_t ids[64];
    size_t n = 0;
    cpl_buf got = {0};
    cpl_buf_text(&got, "");
    assert_int_equal(cpl_tokenizer_encode(t, scratch, cpl_text_of(text), ids, 64, &n, NULL), CPL_OK);
    for (size_t i = 0; i < n; i++) cpl_buf_print(&got, "%s%d", i ? " " : "", ids[i]);
    assert_string_equal(got.data, want);
    cpl_buf_deinit(&got);
    size_t count = 0;
    assert_int_equal(cpl_tokenizer_count(t, scratch, cpl_text_of(text), &count, NULL), CPL_OK);
    assert_int_equal(count, n);
}

static void words(void **state)
{
    (void)state;
    cpl_tokenizer *t = opened(ADDED, BERT);
    assert_int_equal(cpl_tokenizer_vocab_size(t), 16);
    expect_ids(t, "", "");
    expect_ids(t, " \t\n", "");
    expect_ids(t, "ab abab. A", "7 7 10 11 5");
    expect_ids(t, "abc abcd abcdx", "14 1 1"); /* after the longest, abc, nothing fits: no ab ##cd */
    expect_ids(t, "abab", "7 10");
    expect_ids(t, "aaaaaa aaaaaaa", "5 8 8 8 8 8 1");         /* the limit is 6 characters */
    expect_ids(t, "\xC3\xA9 e\xCC\x81 \xC3\x89", "12 12 12"); /* e with its accent, thrice */
    expect_ids(t,
               "a\xE4\xB8\xAD"
               "b a\xC2\xAD"
               "b",
               "5 13 6 7"); /* spaces around CJK; the soft hyphen goes */
    expect_ids(t, "a[SEP]b [sep]", "5 3 6 1 1 1");
    cpl_tokenizer_close(t);
}

static void added_tokens(void **state)
{
    (void)state;
    cpl_tokenizer *t = opened("[{\"id\":16,\"content\":\"<l>\"," FLAGS(
                                  false, false, true, false,
                                  false) "},"
                                         "{\"id\":17,\"content\":\"<w>\"," FLAGS(
                                             false, true, false, true,
                                             false) "},"
                                                    "{\"id\":18,\"content\":\"Ab B\"," FLAGS(
                                                        false, false, false, false,
                                                        true) "},"
                                                              "{\"id\":7,\"content\":\"ab\"," FLAGS(
                                                                  false, true, false, false,
                                                                  false) "},"
                                                                         "{\"id\":19,\"content\":\"\xCC\x81\"," FLAGS(
                                                                             false, false, false, false, true) "}]",
                              BERT);
    assert_int_equal(cpl_tokenizer_vocab_size(t), 20);
    expect_ids(t, "a  <l>b", "5 16 6");
    expect_ids(t, "<w>  b a<w>", "17 6 5 1 1 1");
    expect_ids(t,
               "\xC3\xA0"
               "B\tb",
               "18"); /* matched in the normalised text: "ab b" */
    expect_ids(t, "abab ab", "7 10 7");
    expect_ids(t, "a \xCC\x81", "5");
    cpl_tokenizer_close(t);
}

typedef struct refusal {
    const char *added, *normalizer, *splitter, *post, *model;
    cpl_status status;
    const char *says;
} refusal;

#define POST(single, pair)                                                                                             \
    "{\"type\":\"TemplateProcessing\",\"single\":" single ",\"pair\":" pair                                            \
    ",\"special_tokens\":{\"[CLS]\":{\"id\":\"[CLS]\",\"ids\":[2],\"tokens\":[\"[CLS]\"]},"                            \
    "\"far\":{\"id\":\"far\",\"ids\":[99],\"tokens\":[\"far\"]}}}"
#define A             "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}"
#define B             "{\"Sequence\":{\"id\":\"B\",\"type_id\":1}}"
#define SPECIAL(name) "{\"SpecialToken\":{\"id\":\"" name "\",\"type_id\":0}}"
#define WITH_VOCAB(vocab)                                                                                              \
    "{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\",\"continuing_subword_prefix\":\"##\","                            \
    "\"max_input_chars_per_word\":100,\"vocab\":" vocab "}"

static const refusal refusals[] = {
    {.normalizer = "{\"type\":\"Lowercase\"}", .status = CPL_UNSUPPORTED, .says = "normalizer \"Lowercase\""},
    {.normalizer = "null", .status = CPL_UNSUPPORTED, .says = "normalizer \"(none)\""},
    {.normalizer = "{\"type\":\"BertNormalizer\",\"clean_text\":1}", .status = CPL_CORRUPT, .says = "clean_text"},
    {.splitter = "{\"type\":\"Whitespace\"}", .status = CPL_UNSUPPORTED, .says = "pre_tokenizer \"Whitespace\""},
    {.model = "{\"type\":\"BPE\",\"vocab\":{},\"merges\":[]}", .status = CPL_UNSUPPORTED, .says = "model \"BPE\""},
    {.model = "{\"type\":\"WordPiece\",\"vocab\":{}}", .status = CPL_CORRUPT, .says = "model needs"},
    {.model = WITH_VOCAB("{}"), .status = CPL_CORRUPT, .says = "unknown token \"[UNK]\""},
    {.model = WITH_VOCAB("{\"[UNK]\":0,\"x\\ny\":-1}"), .status = CPL_CORRUPT, .says = "id -1 of token \"x?y\""},
    {.model = WITH_VOCAB("{\"[UNK]\":4294967296}"), .status = CPL_CORRUPT, .says = "out of range"},
    {.model = WITH_VOCAB("{\"[UNK]\":0,\"x\":0}"), .status = CPL_CORRUPT, .says = "and for another token"},
    {.model = WITH_VOCAB("{\"[UNK]\":0,\"[UNK]\":1}"), .status = CPL_CORRUPT, .says = "duplicate"},
    {.model = WITH_VOCAB("{\"[UNK]\":\"0\"}"), .status = CPL_CORRUPT, .says = "not a whole number"},
    {.post = "{\"type\":\"RobertaProcessing\"}",
     .status = CPL_UNSUPPORTED,
     .says = "post_processor \"RobertaProcessing\""},
    {.post = POST("[" A "]", "[" A "," SPECIAL("[SEP]") "," B "]"),
     .status = CPL_CORRUPT,
     .says = "\"[SEP]\" is not described"},
    {.post = POST("[" A "]", "[" A "," SPECIAL("far") "," B "]"),
     .status = CPL_CORRUPT,
     .says = "id 99 is not in the vocabulary"},
    {.post = POST("[" A "]", "[" A "," A "]"), .status = CPL_UNSUPPORTED, .says = "template pair"},
    {.post = POST("[" B "]", "[" A "," B "]"), .status = CPL_UNSUPPORTED, .says = "template single"},
    {.post = POST("[]", "[" A "," B "]"), .status = CPL_CORRUPT, .says = "template single is missing"},
    {.post = POST("[{\"Sequence\":{\"id\":\"A\",\"type_id\":256}}]", "[" A "," B "]"),
     .status = CPL_CORRUPT,
     .says = "type_id"},
    {.post = "{\"type\":\"BertProcessing\",\"sep\":[\"[SEP]\",77],\"cls\":[\"[CLS]\",2]}",
     .status = CPL_CORRUPT,
     .says = "id 77"},
    {.added = "[{\"id\":6,\"content\":\"a\"," FLAGS(false, false, false, false, false) "}]",
     .status = CPL_CORRUPT,
     .says = "says id 6, but by the vocabulary it is 5"},
    {.added = "[{\"id\":16,\"content\":\"x\"," FLAGS(false, false, false, false,
                                                     false) "},"
                                                            "{\"id\":16,\"content\":\"x\"," FLAGS(false, false, false,
                                                                                                  false, true) "}]",
     .status = CPL_CORRUPT,
     .says = "listed twice"},
    {.added = "[{\"id\":16,\"content\":\"X\"," FLAGS(
         false, false, false, false, true) "},"
                                           "{\"id\":17,\"content\":\"x\"," FLAGS(false, false, false, false, true) "}]",
     .status = CPL_CORRUPT,
     .says = "the same as another once normalised"},
    {.added = "[{\"id\":16,\"content\":\"x\"}]", .status = CPL_CORRUPT, .says = "an added token needs"},
    {.added = "{}", .status = CPL_CORRUPT, .says = "added_tokens has to be a list"}};

static void refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        const refusal *r = &refusals[i];
        cpl_tokenizer *t = NULL;
        cpl_error err = {0};
        cpl_status st =
            parse(&t, r->added ? r->added : ADDED, r->normalizer ? r->normalizer : NORMALIZER,
                  r->splitter ? r->splitter : SPLITTER, r->post ? r->post : BERT, r->model ? r->model : MODEL, &err);
        if (st != r->status || !strstr(err.what, r->says))
            fail_msg("case %zu (\"%s\"): %d, %s", i, r->says, st, err.what);
        assert_null(t);
        assert_non_null(strstr(err.what, "t.json"));
    }
    cpl_tokenizer *t = NULL;
    assert_int_equal(cpl_tokenizer_parse(&t, "t.json", "[]", 2, NULL), CPL_CORRUPT);
    assert_int_equal(cpl_tokenizer_parse(&t, "t.json", "{", 1, NULL), CPL_CORRUPT);
    assert_int_equal(cpl_tokenizer_open(&t, "no/such/directory", NULL), CPL_NOT_FOUND);
}

/* The vocabulary is read out of the text where it is written plainly, else by the JSON library: the same words. */
static void written_otherwise(void **state)
{
    (void)state;
    static const char *const vocabs[][3] = {
        /* vocabulary, text, ids */
        {"{\"[UNK]\":0,\"a\\\"\":1,\"\\\\\":2,\"\\u0061\":3,\"\\u4e2D\":4}", "\\ a \xE4\xB8\xAD b", "2 3 4 0"},
        {"{\"[UNK]\":0,\"\\ud83d\\ude00\":1,\"a\":2}", "a \xF0\x9F\x98\x80", "2 1"},
        {"  {\n  \"[UNK]\" : 0 ,\t\"a\"\r:\n12}", "a b", "12 0"},
        {"{\"[UNK]\":0,\"\\/\":1,\"\\u002f\\u002F\":2}", "/", "1"}};
    static const char *const broken[][2] = {
        {"{\"[UNK]\":0,}", "t.json"},           {"{\"[UNK]\":0 \"a\":1}", "t.json"},
        {"{\"[UNK]\":00}", "t.json"},           {"{\"[UNK]\":0,\"\\x\":1}", "t.json"},
        {"{\"[UNK]\":0,\"a\nb\":1}", "t.json"}, {"{\"[UNK]\":0,\"a\xFF\":1}", "t.json"},
        {"{\"[UNK]\":0.5}", "not a whole"},     {"{\"[UNK]\":0,\"a\":1", "t.json"}};
    for (size_t i = 0; i < sizeof vocabs / sizeof *vocabs; i++) {
        cpl_tokenizer *t = NULL;
        cpl_error err = {0};
        cpl_buf model = {0};
        cpl_buf_print(&model, WITH_VOCAB("%s"), vocabs[i][0]);
        if (parse(&t, "null", NORMALIZER, SPLITTER, "null", model.data, &err)) fail_msg("%zu: %s", i, err.what);
        expect_ids(t, vocabs[i][1], vocabs[i][2]);
        cpl_tokenizer_close(t);
        cpl_buf_deinit(&model);
    }
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        cpl_tokenizer *t = NULL;
        cpl_error err = {0};
        cpl_buf model = {0};
        cpl_buf_print(&model, WITH_VOCAB("%s"), broken[i][0]);
        assert_int_equal(parse(&t, "null", NORMALIZER, SPLITTER, "null", model.data, &err), CPL_CORRUPT);
        assert_null(t);
        assert_non_null(strstr(err.what, broken[i][1]));
        cpl_buf_deinit(&model);
    }
}

/* ---- layouts ------------------------------------------------------------------------------------------------ */

static void expect_layout(const cpl_tokenizer *t, const char *a, const char *b, size_t max_length, const char *want)
{
    int32_t ids[64];
    uint8_t types[64];
    size_t n = 0;
    cpl_buf got = {0};
    cpl_text second = cpl_text_of(b ? b : "");
    assert_int_equal(
        cpl_tokenizer_pair(t, scratch, cpl_text_of(a), b ? &second : NULL, max_length, ids, types, 64, &n, NULL),
        CPL_OK);
    for (size_t i = 0; i < n; i++) cpl_buf_print(&got, "%s%d:%d", i ? " " : "", ids[i], types[i]);
    assert_string_equal(got.data ? got.data : "", want);
    cpl_buf_deinit(&got);
}

static void layouts(void **state)
{
    (void)state;
    cpl_tokenizer *t = opened(ADDED, BERT);
    cpl_error err = {0};
    assert_int_equal(cpl_tokenizer_added(t, 0), 2);
    assert_int_equal(cpl_tokenizer_added(t, 1), 3);
    expect_layout(t, "a b", NULL, 0, "2:0 5:0 6:0 3:0");
    expect_layout(t, "", "", 0, "2:0 3:0 3:1");
    expect_layout(t, "a", "b b", 0, "2:0 5:0 3:0 6:1 6:1 3:1");
    expect_layout(t, "a b a", NULL, 3, "2:0 5:0 3:0");
    expect_layout(t, "a a a", "b b b", 6, "2:0 5:0 3:0 6:1 6:1 3:1");   /* as long: b keeps the odd one */
    expect_layout(t, "a a a a", "b b b", 6, "2:0 5:0 5:0 3:0 6:1 3:1"); /* a is longer: a does */
    expect_layout(t, "a a a a a a a a a", "b b b b b b b b", 6, "2:0 5:0 5:0 3:0 6:1 3:1"); /* both above max_length */
    expect_layout(t, "a a a a a a a a", "b b b b b b b b b", 6, "2:0 5:0 3:0 6:1 6:1 3:1");
    expect_layout(t, "a", "b b b b b", 6, "2:0 5:0 3:0 6:1 6:1 3:1");
    expect_layout(t, "a a a", "b", 3, "2:0 3:0 3:1");
    int32_t one[4] = {5, 5, 5, 5}, ids[2] = {-7, -7};
    uint8_t types[2] = {9, 9};
    size_t n = 99;
    assert_int_equal(cpl_tokenizer_lay_out(t, one, 4, one, 4, 2, ids, types, 2, &n, &err), CPL_INVALID);
    assert_non_null(strstr(err.what, "max_length 2"));
    assert_int_equal(cpl_tokenizer_lay_out(t, one, 4, one, 4, 0, ids, types, 1, &n, &err), CPL_OK);
    assert_int_equal(n, 11); /* the full length, though there was room for one */
    assert_int_equal(ids[0], 2);
    assert_int_equal(ids[1], -7);
    assert_int_equal(types[1], 9);
    cpl_tokenizer_close(t);
    t = opened(ADDED, "null");
    expect_layout(t, "a", "b b", 2, "5:0 6:1");
    cpl_tokenizer_close(t);
    t = opened(ADDED, POST("[" A "," SPECIAL("[CLS]") "]", "[" B "," SPECIAL("[CLS]") "," A "]"));
    expect_layout(t, "a", NULL, 0, "5:0 2:0");
    expect_layout(t, "a a", "b b b", 4, "6:1 6:1 2:0 5:0");
    cpl_tokenizer_close(t);
}

static void room(void **state)
{
    (void)state;
    cpl_tokenizer *t = opened(ADDED, BERT);
    int32_t ids[8];
    for (size_t cap = 0; cap <= 6; cap++) {
        size_t n = 99;
        memset(ids, 0xFF, sizeof ids);
        assert_int_equal(cpl_tokenizer_encode(t, scratch, cpl_text_of("aab [SEP] ab.b"), ids, cap, &n, NULL), CPL_OK);
        static const int32_t all[] = {5, 10, 3, 7, 11, 6};
        assert_int_equal(n, cap);
        assert_memory_equal(ids, all, n * sizeof *ids);
        assert_int_equal(ids[cap], -1);
    }
    cpl_tokenizer_close(t);
}

/* ---- vocab.txt ---------------------------------------------------------------------------------------------- */

static void write_file(const char *dir, const char *name, const void *data, size_t n)
{
    char path[512];
    assert_int_equal(cpl_file_join(path, sizeof path, dir, name, NULL), CPL_OK);
    assert_int_equal(cpl_file_write(path, data, n, NULL), CPL_OK);
}

static void remove_dir(const char *dir)
{
    static const char *const names[] = {"vocab.txt", "tokenizer_config.json", "added_tokens.json"};
    char path[512];
    for (size_t i = 0; i < 3; i++)
        if (!cpl_file_join(path, sizeof path, dir, names[i], NULL)) unlink(path);
    rmdir(dir);
}

static cpl_status open_files(cpl_tokenizer **t, const char *vocab, const char *config, cpl_error *err)
{
    char dir[] = "/tmp/couplet-test-XXXXXX";
    assert_non_null(mkdtemp(dir));
    write_file(dir, "vocab.txt", vocab, strlen(vocab));
    if (config) write_file(dir, "tokenizer_config.json", config, strlen(config));
    cpl_status st = cpl_tokenizer_open(t, dir, err);
    remove_dir(dir);
    return st;
}

#define LINES "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nA\nab \r\n##b\n\xC3\xA9\ne"

static void vocab_file(void **state)
{
    (void)state;
    cpl_tokenizer *t = NULL;
    cpl_error err = {0};
    if (open_files(&t, LINES, NULL, &err)) fail_msg("%s", err.what);
    assert_int_equal(cpl_tokenizer_vocab_size(t), 11);
    expect_ids(t, "AB abb \xC3\xA9[MASK]", "7 7 8 10 4");
    expect_layout(t, "a", "e", 0, "2:0 5:0 3:0 10:1 3:1");
    cpl_tokenizer_close(t);
    if (open_files(&t, LINES,
                   "{\"do_lower_case\":false,\"tokenizer_class\":\"BertTokenizer\",\"cls_token\":{\"content\":\"a\"}}",
                   &err))
        fail_msg("%s", err.what);
    expect_ids(t, "A \xC3\xA9", "6 9");
    expect_layout(t, "e", NULL, 0, "5:0 10:0 3:0");
    cpl_tokenizer_close(t);
    static const char *const bad[][3] = {{"a\nb\n", NULL, "\"[CLS]\" is not in the vocabulary"},
                                         {"[CLS]\n[SEP]\n", NULL, "unknown token \"[UNK]\""},
                                         {"[CLS]\n\xFF\n", NULL, "not valid UTF-8"},
                                         {LINES, "{\"tokenizer_class\":\"MPNetTokenizer\"}", "\"MPNetTokenizer\""},
                                         {LINES, "{\"do_lower_case\":\"yes\"}", "do_lower_case"},
                                         {LINES, "{\"do_basic_tokenize\":false}", "do_basic_tokenize"},
                                         {LINES, "{\"additional_special_tokens\":[\"x\"]}", "added_tokens_decoder"},
                                         {LINES, "{\"added_tokens_decoder\":{\"5x\":{}}}", "added token"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        cpl_status st = open_files(&t, bad[i][0], bad[i][1], &err);
        if (!st || t || !strstr(err.what, bad[i][2])) fail_msg("case %zu: %d, %s", i, st, err.what);
    }
}

static void real_vocab_file(void **state)
{
    (void)state;
    const char *const names[] = {"vocab.txt", "tokenizer_config.json"}, *model = "models/all-MiniLM-L6-v2";
    char dir[] = "/tmp/couplet-test-XXXXXX", path[512];
    cpl_tokenizer *json = NULL, *lines = NULL;
    cpl_error err = {0};
    if (!cpl_file_exists("models/all-MiniLM-L6-v2/vocab.txt")) {
        print_message("skipped: no %s here (make model fetches it)\n", model);
        skip();
    }
    assert_non_null(mkdtemp(dir));
    for (size_t i = 0; i < 2; i++) {
        cpl_buf data = {0};
        assert_int_equal(cpl_file_join(path, sizeof path, model, names[i], &err), CPL_OK);
        assert_int_equal(cpl_file_read(&data, path, 1 << 24, &err), CPL_OK);
        write_file(dir, names[i], data.data, data.size);
        cpl_buf_deinit(&data);
    }
    if (cpl_tokenizer_open(&json, model, &err)) fail_msg("%s", err.what);
    if (cpl_tokenizer_open(&lines, dir, &err)) fail_msg("%s", err.what);
    remove_dir(dir);
    assert_int_equal(cpl_tokenizer_vocab_size(json), cpl_tokenizer_vocab_size(lines));
    static int32_t ids[2][8192];
    static uint8_t types[2][8192];
    cpl_buf text = {0};
    for (uint64_t i = 0; i < 3000; i++) {
        size_t n[2];
        cpl_buf_clear(&text);
        cpl_buf_text(&text, "");
        hostile_string(&text, i);
        cpl_text a = {text.data, text.size};
        assert_int_equal(cpl_tokenizer_pair(json, scratch, a, &a, i % 64 + 3, ids[0], types[0], 8192, &n[0], &err),
                         CPL_OK);
        assert_int_equal(cpl_tokenizer_pair(lines, scratch, a, &a, i % 64 + 3, ids[1], types[1], 8192, &n[1], &err),
                         CPL_OK);
        assert_int_equal(n[0], n[1]);
        assert_memory_equal(ids[0], ids[1], n[0] * sizeof **ids);
        assert_memory_equal(types[0], types[1], n[0]);
    }
    cpl_buf_deinit(&text);
    cpl_tokenizer_close(json);
    cpl_tokenizer_close(lines);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(words),      cmocka_unit_test(added_tokens),
                                       cmocka_unit_test(refused),    cmocka_unit_test(written_otherwise),
                                       cmocka_unit_test(layouts),    cmocka_unit_test(room),
                                       cmocka_unit_test(vocab_file), cmocka_unit_test(real_vocab_file)};
    return cmocka_run_group_tests_name("tokenizer files", tests, setup, teardown);
}
