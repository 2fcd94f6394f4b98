/* SPDX-License-Identifier: Apache-2.0 */
/* couplet.h - score pairs of texts and embed texts with MiniLM-class transformer models, in process.
 *
 *     cpl_error err;
 *     cpl_scorer *s;
 *     if (cpl_scorer_open(&s, "models/all-MiniLM-L6-v2", NULL, &err)) die(err.what);
 *     cpl_pair pair = {cpl_text_of("how tall is it?"), cpl_text_of("It is 8,849 m tall.")};
 *     float score;
 *     if (cpl_scorer_score(s, &pair, 1, NULL, &score, &err)) die(err.what);
 *     cpl_scorer_close(s);
 *
 * Every call that can fail returns a cpl_status and, on failure, fills the caller's cpl_error (which may be NULL).
 * One scorer may be used by any number of threads at once; only cpl_scorer_close needs the others to be done.
 * Option structs start with their own size, so that a program compiled against an older header keeps working: set
 * it with CPL_OPTIONS(type) and override fields. Nothing here prints, exits or changes global state.
 */
#ifndef COUPLET_H
#define COUPLET_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define CPL_API                __attribute__((visibility("default")))
#define CPL_PRINTF(fmt, first) __attribute__((format(printf, fmt, first)))
#else
#define CPL_API
#define CPL_PRINTF(fmt, first)
#endif

/* ---- status and error ------------------------------------------------------------------------------------- */

/* name, text. At the network edge each maps once to a gRPC code and an HTTP status (src/net/status_map.h). */
#define CPL_STATUS_LIST(X)                                                                                             \
    X(OK, "ok")                                                                                                        \
    X(INVALID, "invalid argument")  /* the caller's input is wrong */                                                  \
    X(NOT_FOUND, "not found")       /* a file, a model, a method that isn't there */                                   \
    X(CORRUPT, "corrupt data")      /* a file or message that breaks its own format */                                 \
    X(UNSUPPORTED, "not supported") /* well-formed, but couplet can't do it (here) */                                  \
    X(PRECONDITION, "precondition failed")                                                                             \
    X(IO, "input/output error")                                                                                        \
    X(NO_MEMORY, "out of memory")                                                                                      \
    X(QUEUE_FULL, "queue full") /* try again later */                                                                  \
    X(DEADLINE, "deadline exceeded")                                                                                   \
    X(CANCELLED, "cancelled")                                                                                          \
    X(UNAVAILABLE, "unavailable") /* draining, or a device was lost */                                                 \
    X(INTERNAL, "internal error") /* a backend failed, or a bug in couplet */

typedef enum cpl_status {
#define CPL_STATUS_ENUM(name, text) CPL_##name,
    CPL_STATUS_LIST(CPL_STATUS_ENUM)
#undef CPL_STATUS_ENUM
} cpl_status;

/* What went wrong, where, and what to do. Caller-owned, plain memory, nothing to free. */
typedef struct cpl_error {
    cpl_status status;
    char what[512];   /* a whole sentence in lower case, the location included, subject quoted */
    char file[256];   /* "" when no file is involved */
    char key[128];    /* configuration key, tensor name, ...; "" when none */
    int64_t byte;     /* offset in file, or -1 */
    int line, column; /* 1-based, or 0 */
} cpl_error;

CPL_API const char *cpl_status_text(cpl_status status);

/* ---- log --------------------------------------------------------------------------------------------------- */

typedef enum cpl_log_level { CPL_LOG_ERROR, CPL_LOG_WARN, CPL_LOG_INFO, CPL_LOG_DEBUG } cpl_log_level;

/* Where library code reports what it did. `write` may be called from any thread, one line at a time, no newline.
 * A NULL log is silent. */
typedef struct cpl_log {
    void (*write)(void *user, cpl_log_level level, const char *line);
    void *user;
    cpl_log_level level; /* lines above this level are not formatted at all */
} cpl_log;

/* ---- text in, scores out ----------------------------------------------------------------------------------- */

/* Borrowed UTF-8, not terminated; may hold U+0000. Invalid UTF-8 is refused. An empty text is valid. */
typedef struct cpl_text {
    const char *data;
    size_t size;
} cpl_text;

static inline cpl_text cpl_text_of(const char *terminated)
{
    cpl_text t = {terminated, strlen(terminated)};
    return t;
}

typedef struct cpl_pair {
    cpl_text query, document;
} cpl_pair;

typedef struct cpl_scorer cpl_scorer;

typedef struct cpl_open_options {
    size_t struct_size;
    const char *backend;       /* "native" (default), "fake", or a plug-in's name */
    const char *precision;     /* "fp32" (default), "bf16", "fp16", "fp8", "int8", "int4", "auto" */
    int fallback;              /* 1: a precision the backend can't run is replaced, and said so; 0: that is an error */
    uint32_t threads;          /* worker threads; 0: one for each core this process may use */
    uint32_t batch_tokens_max; /* tokens a pass may hold; 0: what the backend recommends */
    uint32_t max_length;       /* truncate sequences to this; 0: the model's own limit */
    const char *plugin_dir;    /* where couplet-NAME.so lie; NULL: COUPLET_PLUGINS, then the library directory */
    const cpl_log *log;        /* borrowed for the scorer's life; NULL: silent */
    int count_stages;  /* 1: keep count of where passes spend their time (cpl_scorer_stages); slows them a bit */
    uint32_t team_max; /* worker threads that share a small pass while nothing waits; 0: 8, 1: none do */
    /* "key=value" of the backend's own section of settings ("keep=down.5" of the native one), NULL-terminated; NULL:
     * none. Borrowed for the call. */
    const char *const *settings;
} cpl_open_options;

#define CPL_OPTIONS(type) ((type){.struct_size = sizeof(type)})

/* Opens the model in directory `dir` (Hugging Face layout). On failure *out is NULL. */
CPL_API cpl_status cpl_scorer_open(cpl_scorer **out, const char *dir, const cpl_open_options *options, cpl_error *err);
CPL_API void cpl_scorer_close(cpl_scorer *s); /* NULL is fine */

typedef enum cpl_score_form {
    CPL_SCORE_DEFAULT, /* the model's own activation (sigmoid of a one-label cross-encoder); cosine for an embedder */
    CPL_SCORE_RAW      /* logits */
} cpl_score_form;

typedef struct cpl_score_options {
    size_t struct_size;
    cpl_score_form form;
    int32_t label; /* which label of a several-label cross-encoder; -1: all of them (labels floats a pair) */
} cpl_score_options;

/* scores: n floats (n x labels with label = -1), pair order. Blocks. options NULL: default form, and for a model of
 * several labels CPL_PRECONDITION. */
CPL_API cpl_status cpl_scorer_score(cpl_scorer *s, const cpl_pair *pairs, size_t n, const cpl_score_options *options,
                                    float *scores, cpl_error *err);

/* vectors: n x cpl_scorer_info()->hidden floats, pooled and (where the model says so) normalised. Embedders only. */
CPL_API cpl_status cpl_scorer_embed(cpl_scorer *s, const cpl_text *texts, size_t n, float *vectors, cpl_error *err);

/* ---- what a bench or a tool needs --------------------------------------------------------------------------- */

typedef enum cpl_task_kind { CPL_TASK_CROSS_ENCODER, CPL_TASK_EMBEDDER } cpl_task_kind;

typedef struct cpl_scorer_info {
    const char *model;        /* directory as given */
    const char *model_note;   /* e.g. that the head is random and scores mean nothing; "" when nothing to say */
    const char *architecture; /* "BertForSequenceClassification", ... */
    cpl_task_kind task;
    uint32_t labels; /* logits a pair; 0 for an embedder */
    uint32_t layers, hidden, heads, intermediate, vocab;
    uint32_t max_length; /* in effect */
    int cls_only;        /* 1: of the last layer only each sequence's first row is wanted */
    const char *backend;
    const char *precision_requested; /* as asked for */
    const char *precision_effective; /* what runs */
    const char *precision_reason;    /* why they differ; "" when they don't */
    const char *isa;                 /* kernel set in use, e.g. "avx512" */
    uint32_t threads;
    uint64_t weight_bytes; /* resident weights in the backend's own layout */
} cpl_scorer_info;

/* Valid until the scorer is closed. */
CPL_API const cpl_scorer_info *cpl_scorer_describe(const cpl_scorer *s);

/* Ids of one text, or of a pair where document is not NULL, special tokens and truncation included. max_length 0: no
 * truncation. Writes at most `cap` ids and as many type ids, and always the full count to *count (so cap may be 0). */
CPL_API cpl_status cpl_scorer_tokenize(cpl_scorer *s, cpl_text query, const cpl_text *document, size_t max_length,
                                       int32_t *ids, uint8_t *type_ids, size_t cap, size_t *count, cpl_error *err);

/* Sequences as token ids, packed end to end: sequence i is ids[cu_seqlens[i] .. cu_seqlens[i + 1]). cu_seqlens has n +
 * 1 entries, strictly rising; a part of a larger batch may be given by pointing into its cu_seqlens. */
typedef struct cpl_ids {
    const int32_t *ids;
    const uint8_t *type_ids;
    const uint32_t *cu_seqlens;
    size_t n;
} cpl_ids;

/* Time one call spent, summed over its passes and workers. */
typedef struct cpl_stage_times {
    uint64_t queue_ns;   /* waiting for a worker */
    uint64_t compute_ns; /* inside forward passes */
    uint64_t passes;
    uint64_t tokens;
} cpl_stage_times;

/* Forward passes over ready ids. rows: n x labels logits for a cross-encoder, n x hidden pooled vectors, not
 * normalised, for an embedder. stages may be NULL. Blocks. */
CPL_API cpl_status cpl_scorer_run_ids(cpl_scorer *s, const cpl_ids *in, float *rows, cpl_stage_times *stages,
                                      cpl_error *err);

/* One part of a forward pass, as the backend names it. */
typedef struct cpl_stage {
    const char *name; /* "qkv", "attention", ... */
    double seconds;   /* CPU time in it since the scorer was opened, summed over workers */
    double ops;       /* multiply-adds done in it, 2 operations each; 0 where there are none */
} cpl_stage;

/* Where the forward passes spent their time: writes at most `cap` stages, and always how many there are to *count. For
 * a scorer opened with count_stages, while no other call runs. CPL_UNSUPPORTED: its backend doesn't count. */
CPL_API cpl_status cpl_scorer_stages(cpl_scorer *s, cpl_stage *stages, size_t cap, size_t *count, cpl_error *err);

/* Program version, "0.1.0". */
CPL_API const char *cpl_version(void);

#ifdef __cplusplus
}
#endif
#endif
