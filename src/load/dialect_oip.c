/* SPDX-License-Identifier: Apache-2.0 */
/* dialect_oip.c - the Open Inference Protocol: two BYTES tensors QUERY and DOCUMENT in, an FP32 tensor SCORE out, as
 * JSON (oip) and as gRPC (oip-grpc). Threads: no state. */
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "load/dialect_parts.h"
#include "wire/pb.h"

static cpl_text text_of(const cpl_pair *p, int which) { return which ? p->document : p->query; }

static const char *const names[] = {"QUERY", "DOCUMENT"};

static cpl_status rest_encode(const cpl_pair *pairs, size_t n, const char *model, cpl_buf *out, cpl_error *err)
{
    (void)model;
    cpl_json_writer w = {.out = out};
    cpl_json_open(&w, NULL, '{');
    cpl_json_open(&w, "inputs", '[');
    for (int k = 0; k < 2; k++) {
        cpl_json_open(&w, NULL, '{');
        cpl_json_text(&w, "name", names[k]);
        cpl_json_open(&w, "shape", '[');
        cpl_json_int(&w, NULL, (int64_t)n);
        cpl_json_int(&w, NULL, 1);
        cpl_json_close(&w, ']');
        cpl_json_text(&w, "datatype", "BYTES");
        cpl_json_open(&w, "data", '[');
        for (size_t i = 0; i < n; i++) {
            const cpl_text t = text_of(&pairs[i], k);
            cpl_json_bytes(&w, NULL, t.data, t.size);
        }
        cpl_json_close(&w, ']');
        cpl_json_close(&w, '}');
    }
    cpl_json_close(&w, ']');
    cpl_json_close(&w, '}');
    return cpl_buf_status(out, err);
}

/* Numbers of a tensor's data, nested as its shape or flat. */
static size_t count_numbers(cpl_json_scan *s)
{
    bool first[4] = {true};
    int depth = 1;
    size_t n = 0;
    if (!cpl_json_scan_enter(s, '[')) return 0;
    while (depth && !s->bad) {
        if (!cpl_json_scan_next(s, &first[depth - 1], ']', NULL)) {
            depth--;
        } else if (*s->at == '[' && depth < 4) {
            s->at++;
            first[depth++] = true;
        } else {
            cpl_json_scan_number(s);
            n++;
        }
    }
    return s->bad ? 0 : n;
}

static cpl_status rest_check(const uint8_t *data, size_t size, size_t n, cpl_error *err)
{
    cpl_json_scan s = cpl_json_scan_open(data, size);
    bool first = true;
    if (!cpl_json_scan_find(&s, "outputs") || !cpl_json_scan_enter(&s, '['))
        return cpl_reply_broken(&s, data, "oip ('outputs')", err);
    while (cpl_json_scan_next(&s, &first, ']', NULL)) {
        bool inner = true, score = false;
        size_t count = 0;
        cpl_text key;
        if (!cpl_json_scan_enter(&s, '{')) break;
        while (cpl_json_scan_next(&s, &inner, '}', &key)) {
            if (cpl_json_scan_is(key, "name"))
                score = cpl_json_scan_is(cpl_json_scan_string(&s), "SCORE");
            else if (cpl_json_scan_is(key, "data"))
                count = count_numbers(&s);
            else
                cpl_json_scan_skip(&s);
        }
        if (s.bad) break;
        if (score && count != n)
            return cpl_fail(err, CPL_CORRUPT, "tensor SCORE holds %zu numbers for %zu pairs", count, n);
        if (score) return CPL_OK;
    }
    if (s.bad) return cpl_reply_broken(&s, data, "oip", err);
    return cpl_fail(err, CPL_CORRUPT, "the reply has no tensor SCORE");
}

static void rest_answer(size_t n, cpl_buf *out)
{
    cpl_buf_print(out, "{\"outputs\":[{\"name\":\"SCORE\",\"shape\":[%zu,1],\"datatype\":\"FP32\",\"data\":", n);
    for (size_t i = 0; i < n; i++) cpl_buf_text(out, i ? ",0.5" : "[0.5");
    cpl_buf_text(out, "]}]}");
}

const cpl_dialect cpl_dialect_oip = {.name = "oip",
                                     .path = "/v2/models/%s/infer",
                                     .speaks = "the Open Inference Protocol, JSON",
                                     .http1 = true,
                                     .model = "",
                                     .encode = rest_encode,
                                     .check = rest_check,
                                     .answer = rest_answer};

/* ---- gRPC ------------------------------------------------------------------------------------------------------ */

static void put_tensor(cpl_buf *out, const cpl_pair *pairs, size_t n, int which, cpl_buf *tensor, cpl_buf *contents)
{
    cpl_buf_clear(tensor);
    cpl_buf_clear(contents);
    for (size_t i = 0; i < n; i++) {
        const cpl_text t = text_of(&pairs[i], which);
        cpl_pb_put_bytes(contents, 8, t.data, t.size);
    }
    cpl_pb_put_text(tensor, 1, names[which]);
    cpl_pb_put_text(tensor, 2, "BYTES");
    cpl_pb_put_varint(tensor, 3, n);
    cpl_pb_put_varint(tensor, 3, 1);
    cpl_pb_put_bytes(tensor, 5, contents->data ? contents->data : "", contents->size);
    cpl_pb_put_bytes(out, 5, tensor->data ? tensor->data : "", tensor->size);
    out->failed |= tensor->failed || contents->failed;
}

static cpl_status grpc_encode(const cpl_pair *pairs, size_t n, const char *model, cpl_buf *out, cpl_error *err)
{
    cpl_buf tensor = {0}, contents = {0};
    cpl_pb_put_text(out, 1, model);
    for (int k = 0; k < 2; k++) put_tensor(out, pairs, n, k, &tensor, &contents);
    cpl_buf_deinit(&tensor);
    cpl_buf_deinit(&contents);
    return cpl_buf_status(out, err);
}

/* Floats, four bytes each; false when one isn't finite or there are not n. */
static bool floats_good(cpl_text bytes, size_t n)
{
    if (bytes.size != 4 * n) return false;
    for (size_t i = 0; i < n; i++) {
        float v;
        memcpy(&v, bytes.data + 4 * i, 4);
        if (!isfinite(v)) return false;
    }
    return true;
}

/* The scores inside an InferTensorContents: field 6, packed or one by one. */
static bool contents_good(cpl_text message, size_t n, bool *ok)
{
    cpl_pb_reader r = cpl_pb_read(message.data, message.size);
    cpl_pb_field f;
    size_t count = 0;
    while (cpl_pb_next(&r, &f, ok)) {
        if (f.number != 6) continue;
        if (f.type == CPL_PB_BYTES) {
            if (!floats_good(f.bytes, f.bytes.size / 4)) return false;
            count += f.bytes.size / 4;
        } else if (f.type == CPL_PB_FIXED32) {
            count++;
        }
    }
    return *ok && count == n;
}

/* One output tensor: is it SCORE, and has it contents of its own that are right? */
static void read_output(cpl_text message, size_t n, bool *score, bool *has, bool *good, bool *ok)
{
    cpl_pb_reader r = cpl_pb_read(message.data, message.size);
    cpl_pb_field f;
    *score = *has = *good = false;
    while (cpl_pb_next(&r, &f, ok)) {
        if (f.number == 1 && f.type == CPL_PB_BYTES) *score = cpl_json_scan_is(f.bytes, "SCORE");
        if (f.number == 5 && f.type == CPL_PB_BYTES && f.bytes.size) {
            *has = true;
            *good = contents_good(f.bytes, n, ok);
        }
    }
}

static cpl_status grpc_check(const uint8_t *data, size_t size, size_t n, cpl_error *err)
{
    cpl_pb_reader r = cpl_pb_read(data, size);
    cpl_pb_field f;
    bool ok = true, found = false, good = false;
    size_t outputs = 0, score_at = 0, raw = 0;
    while (cpl_pb_next(&r, &f, &ok)) {
        bool score, has, right;
        if (f.number == 5 && f.type == CPL_PB_BYTES) {
            read_output(f.bytes, n, &score, &has, &right, &ok);
            if (!ok) break;
            if (score) {
                found = true;
                score_at = outputs;
                good = has && right;
            }
            outputs++;
        } else if (f.number == 6 && f.type == CPL_PB_BYTES) { /* raw contents, in the outputs' order, after them */
            if (found && raw == score_at) good = floats_good(f.bytes, n);
            raw++;
        }
    }
    if (!ok)
        return cpl_fail(err, CPL_CORRUPT, "the reply is not a ModelInferResponse: broken at byte %zu",
                        cpl_pb_offset(&r));
    if (!found) return cpl_fail(err, CPL_CORRUPT, "the reply has no tensor SCORE");
    return good ? CPL_OK : cpl_fail(err, CPL_CORRUPT, "tensor SCORE doesn't hold %zu finite numbers", n);
}

static void grpc_answer(size_t n, cpl_buf *out)
{
    cpl_buf tensor = {0}, raw = {0};
    const float half = 0.5f;
    cpl_pb_put_text(&tensor, 1, "SCORE");
    cpl_pb_put_text(&tensor, 2, "FP32");
    for (size_t i = 0; i < n; i++) cpl_buf_add(&raw, &half, 4);
    cpl_pb_put_bytes(out, 5, tensor.data, tensor.size);
    cpl_pb_put_bytes(out, 6, raw.data ? raw.data : "", raw.size);
    cpl_buf_deinit(&tensor);
    cpl_buf_deinit(&raw);
}

const cpl_dialect cpl_dialect_oip_grpc = {.name = "oip-grpc",
                                          .path = "/inference.GRPCInferenceService/ModelInfer",
                                          .speaks = "the Open Inference Protocol, gRPC",
                                          .model = "",
                                          .encode = grpc_encode,
                                          .check = grpc_check,
                                          .answer = grpc_answer};
