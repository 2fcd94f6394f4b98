/* SPDX-License-Identifier: Apache-2.0 */
/* gRPC framing: the same bytes in one piece and in many must give the same messages and the same verdict, and no
 * message may be larger than the limit. Input: encoding, limit, size of the pieces, then the bytes of a stream. */
#include <stdint.h>
#include <stdlib.h>

#include "net/grpc_frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct outcome {
    cpl_buf messages; /* each with its length in front */
    cpl_grpc_code code;
    bool boundary;
} outcome;

static outcome run(const uint8_t *data, size_t size, uint8_t encoding, uint32_t limit, size_t piece)
{
    cpl_frame_reader r = {0};
    cpl_inflater z = {0};
    outcome o = {0};
    cpl_frame_reader_reset(&r, limit, &z);
    r.has_encoding = encoding > 0;
    r.encoding = (cpl_encoding)(encoding % 3);
    while (size && !o.code) {
        size_t n = size < piece ? size : piece;
        data += n;
        size -= n;
        for (const uint8_t *p = data - n; n && !o.code;) {
            size_t used;
            bool ready;
            cpl_frame frame;
            cpl_error err = {0};
            o.code = cpl_frame_feed(&r, p, n, &used, &ready, &frame, &err);
            if (o.code) {
                if (!err.what[0] || strpbrk(err.what, "\r\n")) abort();
                break;
            }
            if (!used || used > n) abort();
            if (ready && frame.size > limit) abort();
            if (ready) cpl_frame_write(&o.messages, frame.data, frame.size);
            p += used;
            n -= used;
        }
    }
    o.boundary = cpl_frame_at_boundary(&r);
    cpl_frame_reader_trim(&r, 0);
    cpl_inflater_deinit(&z);
    return o;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 3) return 0;
    uint32_t limit = (uint32_t)data[1] * data[1];
    outcome a = run(data + 3, size - 3, data[0] % 4, limit, size);
    outcome b = run(data + 3, size - 3, data[0] % 4, limit, data[2] + 1u);
    if (a.code != b.code || a.messages.size != b.messages.size || (!a.code && a.boundary != b.boundary)) abort();
    if (a.messages.size && memcmp(a.messages.data, b.messages.data, a.messages.size)) abort();
    cpl_buf_deinit(&a.messages);
    cpl_buf_deinit(&b.messages);
    return 0;
}
