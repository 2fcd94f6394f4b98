/* SPDX-License-Identifier: Apache-2.0 */
/* grpc_text.h - the small text formats of gRPC's headers: grpc-timeout and the percent-encoding of grpc-message. Pure
 * functions, safe on anything. */
#ifndef CPL_NET_GRPC_TEXT_H
#define CPL_NET_GRPC_TEXT_H

#include <stdbool.h>

#include "base/buf.h"

enum { CPL_GRPC_TIMEOUT_TEXT = 16 }; /* room for a formatted timeout and its end */

/* "1 to 8 digits, then H M S m u n". False for anything else. Cannot overflow: 99999999H is 3.6e20 ns, so values past
 * INT64_MAX are cut to it (292 years). */
bool cpl_grpc_timeout_parse(const char *data, size_t n, uint64_t *timeout_ns);
/* The shortest unit that keeps the value in 8 digits, rounded up: never an earlier deadline than asked for, and at
 * least 1n. Returns the text's length. */
size_t cpl_grpc_timeout_format(uint64_t timeout_ns, char out[CPL_GRPC_TIMEOUT_TEXT]);

/* Appends grpc-message's form of `text`: printable ASCII but '%' as it is, all else as %XX. Stops at a whole character
 * before encoded_max bytes. */
void cpl_grpc_percent_encode(cpl_buf *out, const char *text, size_t n, size_t encoded_max);
/* Appends the decoded form; a '%' that two hex digits don't follow stays as it is, as the protocol asks. */
void cpl_grpc_percent_decode(cpl_buf *out, const char *text, size_t n);

#endif
