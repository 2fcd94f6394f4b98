/* SPDX-License-Identifier: Apache-2.0 */
/* dialect_rerank.c - the family of JSON rerankers: a query, a list of documents, a list of ranks. They differ in the
 * names of fields and in what stands around the list. Threads: no state. */
#include "load/dialect_parts.h"

/* ---- text-embeddings-inference: POST /rerank, a bare array comes back ------------------------------------------ */

static cpl_status tei_encode(const cpl_pair *pairs, size_t n, const char *model, cpl_buf *out, cpl_error *err)
{
    (void)model;
    cpl_json_writer w = {.out = out};
    cpl_json_open(&w, NULL, '{');
    cpl_json_bytes(&w, "query", pairs[0].query.data, pairs[0].query.size);
    cpl_json_documents(&w, "texts", pairs, n);
    cpl_json_bool(&w, "truncate", true); /* a longer text is cut by couplet's own API; here it must be asked for */
    cpl_json_close(&w, '}');
    return cpl_buf_status(out, err);
}

static cpl_status tei_check(const uint8_t *data, size_t size, size_t n, cpl_error *err)
{
    cpl_json_scan s = cpl_json_scan_open(data, size);
    cpl_status st = cpl_ranks_check(&s, n, "score", "tei", err);
    return st || cpl_json_scan_whole(&s) ? st : cpl_reply_broken(&s, data, "tei", err);
}

static void tei_answer(size_t n, cpl_buf *out) { cpl_json_ranks(out, n, "score"); }

const cpl_dialect cpl_dialect_tei = {.name = "tei",
                                     .path = "/rerank",
                                     .speaks = "text-embeddings-inference's /rerank",
                                     .http1 = true,
                                     .one_query = true,
                                     .encode = tei_encode,
                                     .check = tei_check,
                                     .answer = tei_answer};

/* ---- Cohere, Jina, Infinity: {"results": [{"index", "relevance_score"}]} --------------------------------------- */

static cpl_status encode(const cpl_pair *pairs, size_t n, const char *model, bool return_documents, cpl_buf *out,
                         cpl_error *err)
{
    cpl_json_writer w = {.out = out};
    cpl_json_open(&w, NULL, '{');
    cpl_json_text(&w, "model", model);
    cpl_json_bytes(&w, "query", pairs[0].query.data, pairs[0].query.size);
    cpl_json_documents(&w, "documents", pairs, n);
    if (return_documents) cpl_json_bool(&w, "return_documents", false);
    cpl_json_close(&w, '}');
    return cpl_buf_status(out, err);
}

/* Cohere's v2 has no return_documents. */
static cpl_status cohere_encode(const cpl_pair *pairs, size_t n, const char *model, cpl_buf *out, cpl_error *err)
{
    return encode(pairs, n, model, false, out, err);
}

static cpl_status jina_encode(const cpl_pair *pairs, size_t n, const char *model, cpl_buf *out, cpl_error *err)
{
    return encode(pairs, n, model, true, out, err);
}

static cpl_status results_check(const uint8_t *data, size_t size, size_t n, cpl_error *err)
{
    cpl_json_scan s = cpl_json_scan_open(data, size);
    if (!cpl_json_scan_find(&s, "results")) return cpl_reply_broken(&s, data, "a reranker ('results')", err);
    return cpl_ranks_check(&s, n, "relevance_score", "a reranker", err);
}

static void results_answer(size_t n, cpl_buf *out)
{
    cpl_buf_text(out, "{\"results\":");
    cpl_json_ranks(out, n, "relevance_score");
    cpl_buf_text(out, "}");
}

const cpl_dialect cpl_dialect_cohere = {.name = "cohere",
                                        .path = "/v2/rerank",
                                        .speaks = "Cohere's /v2/rerank",
                                        .http1 = true,
                                        .one_query = true,
                                        .model = "rerank",
                                        .encode = cohere_encode,
                                        .check = results_check,
                                        .answer = results_answer};
const cpl_dialect cpl_dialect_jina = {.name = "jina",
                                      .path = "/v1/rerank",
                                      .speaks = "Jina's /v1/rerank",
                                      .http1 = true,
                                      .one_query = true,
                                      .model = "rerank",
                                      .encode = jina_encode,
                                      .check = results_check,
                                      .answer = results_answer};
const cpl_dialect cpl_dialect_infinity = {.name = "infinity",
                                          .path = "/rerank",
                                          .speaks = "Infinity's /rerank",
                                          .http1 = true,
                                          .one_query = true,
                                          .model = "default/not-specified",
                                          .encode = jina_encode,
                                          .check = results_check,
                                          .answer = results_answer};
