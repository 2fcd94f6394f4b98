/* SPDX-License-Identifier: Apache-2.0 */
/* status_map.c - status -> gRPC code and HTTP status, one row each, so that no service answers the same failure in two
 * ways. The switch has no default: a status added to the list without a row is a compiler warning.
 *
 * CORRUPT means that a file or message breaks its own format. What reaches the edge with it is a file of ours (a model
 * read late), since services answer broken requests with INVALID; so the client is told of a failure of the server. */
#include "net/status_map.h"

cpl_grpc_code cpl_grpc_code_of(cpl_status status)
{
    switch (status) {
    case CPL_OK: return CPL_GRPC_OK;
    case CPL_INVALID: return CPL_GRPC_INVALID_ARGUMENT;
    case CPL_NOT_FOUND: return CPL_GRPC_NOT_FOUND;
    case CPL_CORRUPT: return CPL_GRPC_DATA_LOSS;
    case CPL_UNSUPPORTED: return CPL_GRPC_UNIMPLEMENTED;
    case CPL_PRECONDITION: return CPL_GRPC_FAILED_PRECONDITION;
    case CPL_IO: return CPL_GRPC_INTERNAL;
    case CPL_NO_MEMORY: return CPL_GRPC_RESOURCE_EXHAUSTED;
    case CPL_QUEUE_FULL: return CPL_GRPC_RESOURCE_EXHAUSTED;
    case CPL_DEADLINE: return CPL_GRPC_DEADLINE_EXCEEDED;
    case CPL_CANCELLED: return CPL_GRPC_CANCELLED;
    case CPL_UNAVAILABLE: return CPL_GRPC_UNAVAILABLE;
    case CPL_INTERNAL: return CPL_GRPC_INTERNAL;
    }
    return CPL_GRPC_UNKNOWN;
}

int cpl_http_status_of(cpl_status status)
{
    switch (status) {
    case CPL_OK: return 200;
    case CPL_INVALID: return 400;
    case CPL_NOT_FOUND: return 404;
    case CPL_CORRUPT: return 500;
    case CPL_UNSUPPORTED: return 501;
    case CPL_PRECONDITION: return 412;
    case CPL_IO: return 500;
    case CPL_NO_MEMORY: return 503;
    case CPL_QUEUE_FULL: return 429;
    case CPL_DEADLINE: return 504;
    case CPL_CANCELLED: return 499;
    case CPL_UNAVAILABLE: return 503;
    case CPL_INTERNAL: return 500;
    }
    return 500;
}

int cpl_http_status_of_grpc(cpl_grpc_code code)
{
    static const int http[] = {200, 499, 500, 400, 504, 404, 409, 403, 429, 412, 409, 400, 501, 500, 503, 500, 401};
    return (unsigned)code < sizeof http / sizeof http[0] ? http[code] : 500;
}

cpl_grpc_code cpl_grpc_code_of_http(int http_status)
{
    switch (http_status) {
    case 400: return CPL_GRPC_INTERNAL;
    case 401: return CPL_GRPC_UNAUTHENTICATED;
    case 403: return CPL_GRPC_PERMISSION_DENIED;
    case 404: return CPL_GRPC_UNIMPLEMENTED;
    case 429:
    case 502:
    case 503:
    case 504: return CPL_GRPC_UNAVAILABLE;
    default: return CPL_GRPC_UNKNOWN;
    }
}

const char *cpl_grpc_code_name(cpl_grpc_code code)
{
    static const char *const names[] = {
        "OK",        "CANCELLED",       "UNKNOWN",           "INVALID_ARGUMENT",   "DEADLINE_EXCEEDED",
        "NOT_FOUND", "ALREADY_EXISTS",  "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
        "ABORTED",   "OUT_OF_RANGE",    "UNIMPLEMENTED",     "INTERNAL",           "UNAVAILABLE",
        "DATA_LOSS", "UNAUTHENTICATED",
    };
    return (unsigned)code < sizeof names / sizeof names[0] ? names[code] : "UNKNOWN";
}
