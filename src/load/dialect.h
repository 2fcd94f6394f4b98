/* SPDX-License-Identifier: Apache-2.0 */
/* dialect.h - how a request is written and a reply is checked in the API of one kind of server. Everything else in the
 * load generator is the same for all of them. */
#ifndef CPL_LOAD_DIALECT_H
#define CPL_LOAD_DIALECT_H

#include "base/buf.h"
#include "couplet.h"

typedef struct cpl_dialect {
    const char *name;
    const char *path; /* of the gRPC method */
    /* Appends the request for n pairs to *out. */
    cpl_status (*encode)(const cpl_pair *pairs, size_t n, cpl_buf *out, cpl_error *err);
    /* CPL_OK when `data` is a well-formed reply with one finite score for each of n pairs; else CPL_CORRUPT. */
    cpl_status (*check)(const uint8_t *data, size_t size, size_t n, cpl_error *err);
} cpl_dialect;

extern const cpl_dialect cpl_dialect_couplet_grpc;

/* One that couplet knows of but this version can't speak is CPL_UNSUPPORTED by name; a wrong name lists the right ones.
 */
cpl_status cpl_dialect_find(const cpl_dialect **out, const char *name, cpl_error *err);

#endif
