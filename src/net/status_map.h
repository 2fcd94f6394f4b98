/* SPDX-License-Identifier: Apache-2.0 */
/* status_map.h - the one place where a cpl_status becomes what a protocol's client sees. The gRPC side,
 * cpl_grpc_code_of, is declared in call.h. */
#ifndef CPL_NET_STATUS_MAP_H
#define CPL_NET_STATUS_MAP_H

#include "net/call.h"

/* 200, 400, 404, 412, 429, 499, 500, 501, 503 or 504. A QUEUE_FULL answer should carry Retry-After. */
int cpl_http_status_of(cpl_status status);
/* The same for a gRPC code, for plain calls that a service or the transport ends with one. */
int cpl_http_status_of_grpc(cpl_grpc_code code);
/* What a gRPC client makes of a reply that is no gRPC (a proxy's 502, say), by gRPC's own table. */
cpl_grpc_code cpl_grpc_code_of_http(int http_status);

#endif
