/* SPDX-License-Identifier: Apache-2.0 */
/* reflection.c - grpc.reflection.v1 and v1alpha, which are the same messages under two names.
 * The one idea: a request is answered from the embedded descriptors in one go; the request itself is echoed as the
 * bytes it came in. What isn't found is an error_response inside the stream, which stays open, as clients expect.
 * Threads: the call's network thread; descriptors are constant. */
#include "base/error.h"
#include "base/utf8.h"
#include "wire/pb.h"
#include "wire/wire_state.h"

enum { FILES_MAX = 64 };

enum request_field { HOST = 1, BY_FILENAME = 3, BY_SYMBOL = 4, BY_EXTENSION = 5, EXTENSION_NUMBERS = 6, LIST = 7 };
enum response_field {
    VALID_HOST = 1,
    ORIGINAL_REQUEST = 2,
    FILE_DESCRIPTOR = 4,
    EXTENSION_NUMBERS_RESPONSE = 5,
    LIST_SERVICES = 6,
    ERROR_RESPONSE = 7
};

static void put_error(cpl_buf *out, cpl_grpc_code code, const char *what, cpl_text name)
{
    cpl_buf inner = {0}, text = {0};
    size_t shown = cpl_utf8_valid_prefix(name.data, name.size < 200 ? name.size : 200); /* it becomes a string */
    cpl_buf_print(&text, "%s '%.*s'", what, (int)shown, name.data);
    cpl_pb_put_varint(&inner, 1, (uint64_t)code);
    cpl_pb_put_bytes(&inner, 2, text.data, text.size);
    cpl_pb_put_bytes(out, ERROR_RESPONSE, inner.data, inner.size);
    out->failed |= inner.failed || text.failed;
    cpl_buf_deinit(&inner);
    cpl_buf_deinit(&text);
}

/* The file and, behind it, whatever it imports. */
static void put_files(cpl_buf *out, const cpl_descriptors *d, int first)
{
    cpl_buf inner = {0};
    int queue[FILES_MAX] = {first};
    uint64_t queued = UINT64_C(1) << first;
    for (int at = 0, n = 1; at < n; at++) {
        cpl_text file;
        if (cpl_descriptors_file(d, (size_t)queue[at], &file)) cpl_pb_put_bytes(&inner, 1, file.data, file.size);
        for (size_t j = 0;; j++) {
            int import = cpl_descriptors_import(d, (size_t)queue[at], j);
            if (import < 0) break;
            if (import >= FILES_MAX || queued >> import & 1) continue;
            queued |= UINT64_C(1) << import;
            queue[n++] = import;
        }
    }
    cpl_pb_put_bytes(out, FILE_DESCRIPTOR, inner.data, inner.size);
    out->failed |= inner.failed;
    cpl_buf_deinit(&inner);
}

static void put_services(cpl_buf *out, const cpl_descriptors *d)
{
    cpl_buf list = {0}, one = {0};
    cpl_text file;
    char name[256];
    for (size_t i = 0; cpl_descriptors_file(d, i, &file); i++) {
        for (size_t j = 0; cpl_descriptors_service(d, i, j, name, sizeof name); j++) {
            cpl_buf_clear(&one);
            cpl_pb_put_text(&one, 1, name);
            cpl_pb_put_bytes(&list, 1, one.data, one.size);
        }
    }
    cpl_pb_put_bytes(out, LIST_SERVICES, list.data, list.size);
    out->failed |= list.failed || one.failed;
    cpl_buf_deinit(&list);
    cpl_buf_deinit(&one);
}

static void put_extension_numbers(cpl_buf *out, const cpl_descriptors *d, cpl_text type)
{
    cpl_buf inner = {0};
    if (cpl_descriptors_find_symbol(d, type) < 0) {
        put_error(out, CPL_GRPC_NOT_FOUND, "unknown type", type);
        return;
    }
    cpl_pb_put_bytes(&inner, 1, type.data, type.size); /* none of our messages has extensions */
    cpl_pb_put_bytes(out, EXTENSION_NUMBERS_RESPONSE, inner.data, inner.size);
    out->failed |= inner.failed;
    cpl_buf_deinit(&inner);
}

static void put_answer(cpl_buf *out, const cpl_descriptors *d, uint32_t asked, cpl_text what)
{
    int file;
    switch (asked) {
    case BY_FILENAME:
    case BY_SYMBOL:
        file = asked == BY_FILENAME ? cpl_descriptors_find_file(d, what) : cpl_descriptors_find_symbol(d, what);
        if (file < 0 || file >= FILES_MAX)
            put_error(out, CPL_GRPC_NOT_FOUND, asked == BY_FILENAME ? "unknown file" : "unknown symbol", what);
        else
            put_files(out, d, file);
        break;
    case BY_EXTENSION: put_error(out, CPL_GRPC_NOT_FOUND, "no extension of", (cpl_text){"", 0}); break;
    case EXTENSION_NUMBERS: put_extension_numbers(out, d, what); break;
    case LIST: put_services(out, d); break;
    default: put_error(out, CPL_GRPC_INVALID_ARGUMENT, "the request asks for nothing", (cpl_text){"", 0}); break;
    }
}

static void told(cpl_wire_stream *s)
{
    if (atomic_load(&s->home->wire->draining))
        cpl_wire_stream_end(s, CPL_GRPC_UNAVAILABLE, "the server is shutting down");
}

void cpl_reflection_message(cpl_call *call, const uint8_t *data, size_t n, void *wire)
{
    cpl_wire *w = wire;
    cpl_wire_stream *s = *cpl_call_user(call);
    if (!s) s = cpl_wire_stream_open(call, told);
    if (!s) return;
    cpl_pb_reader r = cpl_pb_read(data, n);
    cpl_pb_field field;
    bool ok;
    cpl_text host = {"", 0}, what = {"", 0};
    uint32_t asked = 0;
    while (cpl_pb_next(&r, &field, &ok)) {
        if (field.type != CPL_PB_BYTES) continue;
        if (field.number == HOST) host = field.bytes;
        if (field.number < BY_FILENAME || field.number > LIST) continue;
        asked = field.number;
        what = field.bytes;
    }
    if (!ok) {
        cpl_wire_stream_end(s, CPL_GRPC_INVALID_ARGUMENT, "the message is truncated or no protobuf message");
        return;
    }
    cpl_buf *out = &s->home->out;
    cpl_buf_clear(out);
    if (host.size) cpl_pb_put_bytes(out, VALID_HOST, host.data, host.size);
    cpl_pb_put_bytes(out, ORIGINAL_REQUEST, data, n);
    put_answer(out, &w->descriptors, asked, what);
    if (out->failed || cpl_call_send(call, out->data, out->size))
        cpl_wire_stream_end(s, CPL_GRPC_RESOURCE_EXHAUSTED, "out of memory while the reply was written");
    else
        told(s); /* a drain may have begun before this stream was there to be told */
}

void cpl_reflection_half_closed(cpl_call *call, void *wire)
{
    (void)wire;
    cpl_wire_stream *s = *cpl_call_user(call);
    if (s)
        cpl_wire_stream_end(s, CPL_GRPC_OK, NULL);
    else
        cpl_call_finish(call, CPL_GRPC_OK, NULL);
}
