/* SPDX-License-Identifier: Apache-2.0 */
/* dialect.h - how a request is written and a reply is checked in the API of one kind of server. Everything else in the
 * load generator is the same for all of them. */
#ifndef CPL_LOAD_DIALECT_H
#define CPL_LOAD_DIALECT_H

#include "base/buf.h"
#include "couplet.h"

typedef struct cpl_dialect {
    const char *name;
    const char *path;    /* of the gRPC method, or of the POST; "%s" in it is the model's name */
    const char *speaks;  /* for help: "text-embeddings-inference /rerank" */
    bool http1;          /* JSON over HTTP/1.1; else gRPC */
    bool one_query;      /* a request is one query and its documents: all pairs of one must share it */
    const char *model;   /* sent where none is given; NULL: the API asks for none; "": one must be given */
    bool model_metadata; /* the model's name goes into the metadata `model` */
    /* Appends the request for n pairs to *out. */
    cpl_status (*encode)(const cpl_pair *pairs, size_t n, const char *model, cpl_buf *out, cpl_error *err);
    /* CPL_OK when `data` is a well-formed reply with one finite score (embeddings: one vector for each text) for each
     * of n pairs; else CPL_CORRUPT. */
    cpl_status (*check)(const uint8_t *data, size_t size, size_t n, cpl_error *err);
    /* Appends a whole reply to n pairs: what a server that does nothing answers (selftest.h). */
    void (*answer)(size_t n, cpl_buf *out);
} cpl_dialect;

extern const cpl_dialect cpl_dialect_couplet_grpc, cpl_dialect_tei, cpl_dialect_tei_grpc, cpl_dialect_cohere,
    cpl_dialect_jina, cpl_dialect_openai, cpl_dialect_vllm, cpl_dialect_oip, cpl_dialect_oip_grpc, cpl_dialect_infinity;

/* A wrong name lists the right ones. */
cpl_status cpl_dialect_find(const cpl_dialect **out, const char *name, cpl_error *err);
/* All of them, NULL at the end. */
const cpl_dialect *const *cpl_dialects(void);

#endif
