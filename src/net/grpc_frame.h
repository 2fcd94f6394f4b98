/* SPDX-License-Identifier: Apache-2.0 */
/* grpc_frame.h - gRPC's length-prefixed messages: reassembly from pieces of any size, with decompression. Knows nothing
 * of HTTP/2. One thread at a time. */
#ifndef CPL_NET_GRPC_FRAME_H
#define CPL_NET_GRPC_FRAME_H

#include <stdbool.h>

#include "base/buf.h"
#include "net/call.h"

enum { CPL_GRPC_PREFIX = 5 }; /* a flag byte, then the length, big-endian */

typedef enum cpl_encoding { CPL_ENCODING_IDENTITY, CPL_ENCODING_GZIP, CPL_ENCODING_DEFLATE } cpl_encoding;

#define CPL_GRPC_ACCEPT_ENCODING "identity,gzip,deflate"

/* False for a name that we don't speak. */
bool cpl_encoding_of(const char *name, size_t n, cpl_encoding *out);

/* zlib's state (some 40 KB), shared by all readers of a thread. A zeroed one is fine; memory is taken at first use. */
typedef struct cpl_inflater {
    void *stream;
} cpl_inflater;
void cpl_inflater_deinit(cpl_inflater *z);

typedef struct cpl_frame_reader {
    uint8_t prefix[CPL_GRPC_PREFIX];
    uint8_t prefix_size; /* bytes of the prefix so far */
    bool has_encoding;   /* the peer named one: compressed messages are allowed */
    cpl_encoding encoding;
    uint32_t message_bytes_max;
    cpl_buf wire;  /* the message as it arrives */
    cpl_buf plain; /* the message decompressed, if it had to be */
    cpl_inflater *inflater;
} cpl_frame_reader;

/* Ready for the first message; keeps the buffers' memory. The reader itself needs no other init than zeroing. */
void cpl_frame_reader_reset(cpl_frame_reader *r, uint32_t message_bytes_max, cpl_inflater *inflater);
/* Frees buffers that hold more than `retained_bytes_max`; 0: all. */
void cpl_frame_reader_trim(cpl_frame_reader *r, size_t retained_bytes_max);

typedef struct cpl_frame {
    const uint8_t *data; /* valid until the reader's next call; never NULL */
    size_t size;
} cpl_frame;

/* Takes bytes from [data, data + n) up to the end of one message; *used says how many. *ready: *out is a whole message.
 * On a code other than OK `err` has the sentence for the peer and the reader is good for nothing but reset. Memory
 * grows with what arrived, not with what a prefix promises. */
cpl_grpc_code cpl_frame_feed(cpl_frame_reader *r, const uint8_t *data, size_t n, size_t *used, bool *ready,
                             cpl_frame *out, cpl_error *err);
/* True between messages: the stream may end here. */
bool cpl_frame_at_boundary(const cpl_frame_reader *r);
/* Appends prefix and message, uncompressed. n fits 32 bits. */
void cpl_frame_write(cpl_buf *out, const void *message, size_t n);
void cpl_frame_prefix(uint8_t out[CPL_GRPC_PREFIX], uint32_t n);

#endif
