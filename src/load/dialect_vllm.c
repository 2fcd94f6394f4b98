/* SPDX-License-Identifier: Apache-2.0 */
/* dialect_vllm.c - vLLM's /score, one text against many or lists of the same length against each other, and OpenAI's
 * /v1/embeddings, where a pair is two texts (a query that all pairs share is sent once). Threads: no state. */
#include "base/error.h"
#include "load/dialect_parts.h"

static cpl_status vllm_encode(const cpl_pair *pairs, size_t n, const char *model, cpl_buf *out, cpl_error *err)
{
    cpl_json_writer w = {.out = out};
    cpl_json_open(&w, NULL, '{');
    cpl_json_text(&w, "model", model);
    if (cpl_pairs_share_query(pairs, n)) {
        cpl_json_bytes(&w, "text_1", pairs[0].query.data, pairs[0].query.size);
    } else {
        cpl_json_open(&w, "text_1", '[');
        for (size_t i = 0; i < n; i++) cpl_json_bytes(&w, NULL, pairs[i].query.data, pairs[i].query.size);
        cpl_json_close(&w, ']');
    }
    cpl_json_documents(&w, "text_2", pairs, n);
    cpl_json_close(&w, '}');
    return cpl_buf_status(out, err);
}

static cpl_status vllm_check(const uint8_t *data, size_t size, size_t n, cpl_error *err)
{
    cpl_json_scan s = cpl_json_scan_open(data, size);
    if (!cpl_json_scan_find(&s, "data")) return cpl_reply_broken(&s, data, "vllm ('data')", err);
    return cpl_ranks_check(&s, n, "score", "vllm", err);
}

static void vllm_answer(size_t n, cpl_buf *out)
{
    cpl_buf_text(out, "{\"data\":");
    cpl_json_ranks(out, n, "score");
    cpl_buf_text(out, "}");
}

const cpl_dialect cpl_dialect_vllm = {.name = "vllm",
                                      .path = "/score",
                                      .speaks = "vLLM's /score",
                                      .http1 = true,
                                      .model = "",
                                      .encode = vllm_encode,
                                      .check = vllm_check,
                                      .answer = vllm_answer};

/* ---- OpenAI ---------------------------------------------------------------------------------------------------- */

static cpl_status openai_encode(const cpl_pair *pairs, size_t n, const char *model, cpl_buf *out, cpl_error *err)
{
    cpl_json_writer w = {.out = out};
    const bool shared = cpl_pairs_share_query(pairs, n);
    cpl_json_open(&w, NULL, '{');
    cpl_json_text(&w, "model", model);
    cpl_json_text(&w, "encoding_format", "float");
    cpl_json_open(&w, "input", '[');
    for (size_t i = 0; i < n; i++) {
        if (!i || !shared) cpl_json_bytes(&w, NULL, pairs[i].query.data, pairs[i].query.size);
        cpl_json_bytes(&w, NULL, pairs[i].document.data, pairs[i].document.size);
    }
    cpl_json_close(&w, ']');
    cpl_json_close(&w, '}');
    return cpl_buf_status(out, err);
}

/* Numbers in a list; 0: none, or something else. */
static size_t read_vector(cpl_json_scan *s)
{
    bool first = true;
    size_t width = 0;
    if (!cpl_json_scan_enter(s, '[')) return 0;
    while (cpl_json_scan_next(s, &first, ']', NULL)) {
        cpl_json_scan_number(s);
        width++;
    }
    return s->bad ? 0 : width;
}

/* One entry of "data"; false when it isn't a vector as wide as those before it, at a place of its own. */
static bool read_entry(cpl_json_scan *s, cpl_places *places, size_t *width)
{
    bool first = true;
    double index = -1;
    size_t got = 0;
    cpl_text key;
    if (!cpl_json_scan_enter(s, '{')) return false;
    while (cpl_json_scan_next(s, &first, '}', &key)) {
        if (cpl_json_scan_is(key, "index"))
            index = cpl_json_scan_number(s);
        else if (cpl_json_scan_is(key, "embedding"))
            got = read_vector(s);
        else
            cpl_json_scan_skip(s);
    }
    if (s->bad || !got || (*width && got != *width)) return false;
    *width = got;
    return cpl_places_fill(places, index);
}

/* Either n + 1 texts (one query) or 2 n were sent, and a reply says which by how many it holds: both are whole. For
 * one pair they are the same. */
static cpl_status openai_check(const uint8_t *data, size_t size, size_t n, cpl_error *err)
{
    cpl_json_scan s = cpl_json_scan_open(data, size);
    cpl_places places;
    size_t width = 0;
    bool first = true, good = true;
    if (!cpl_json_scan_find(&s, "data") || !cpl_json_scan_enter(&s, '['))
        return cpl_reply_broken(&s, data, "openai ('data')", err);
    cpl_status st = cpl_places_init(&places, 2 * n, err);
    if (st) return st;
    while (good && cpl_json_scan_next(&s, &first, ']', NULL)) good = read_entry(&s, &places, &width);
    if (s.bad || !good)
        st =
            cpl_fail(err, CPL_CORRUPT, "the reply's entry %zu is not a vector with an index of its own", places.filled);
    else if (places.filled != n + 1 && places.filled != 2 * n)
        st = cpl_fail(err, CPL_CORRUPT, "the reply holds %zu vectors for %zu pairs", places.filled, n);
    cpl_places_deinit(&places);
    return st;
}

static void openai_answer(size_t n, cpl_buf *out)
{
    for (size_t i = 0; i < 2 * n; i++) {
        cpl_buf_print(out, "%s{\"index\":%zu,\"embedding\":[", i ? "," : "{\"data\":[", i);
        for (int k = 0; k < 384; k++) cpl_buf_text(out, k ? ",0.03125" : "0.03125"); /* as wide as MiniLM's */
        cpl_buf_text(out, "]}");
    }
    cpl_buf_text(out, "]}");
}

const cpl_dialect cpl_dialect_openai = {.name = "openai",
                                        .path = "/v1/embeddings",
                                        .speaks = "OpenAI's /v1/embeddings",
                                        .http1 = true,
                                        .model = "",
                                        .encode = openai_encode,
                                        .check = openai_check,
                                        .answer = openai_answer};
