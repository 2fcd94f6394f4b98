/* SPDX-License-Identifier: Apache-2.0 */
/* backend.h - the one contract between the engine and whatever runs a forward pass.
 *
 * The whole model is the unit. Life cycle: probe (may be called alone) -> load -> open, run*, close (any number of
 * sessions) -> unload. close(NULL) and unload(NULL) are fine, so failed opens and loads need no special case.
 *
 * Threads: probe and load run on any thread; weights are read-only afterwards and shared by all sessions; one session
 * is used by one thread at a time; sessions of the same weights run concurrently.
 *
 * Both this struct and cpl_host start with an ABI version and their size: a plug-in built against another contract is
 * refused with one line (registry.h). */
#ifndef CPL_BACKEND_BACKEND_H
#define CPL_BACKEND_BACKEND_H

#include "couplet.h"
#include "model/model.h"

enum { CPL_BACKEND_ABI = 6 };

typedef enum cpl_precision {
    CPL_PRECISION_FP32,
    CPL_PRECISION_BF16,
    CPL_PRECISION_FP16,
    CPL_PRECISION_FP8,
    CPL_PRECISION_INT8,
    CPL_PRECISION_INT4,
    CPL_PRECISION_AUTO, /* resolved by a fixed, printed rule before load: no backend sees it */
    CPL_PRECISION_COUNT = CPL_PRECISION_AUTO
} cpl_precision;

/* What rows a pass returns. */
typedef enum cpl_want {
    CPL_WANT_LOGITS, /* n x labels */
    CPL_WANT_POOLED, /* n x hidden, pooled as the model says, not normalised */
    CPL_WANT_TOKENS  /* tokens x hidden, last hidden states, ragged */
} cpl_want;

/* Sequences packed end to end; no padding. Borrowed for the length of the call. */
typedef struct cpl_batch {
    const int32_t *ids;
    const uint8_t *type_ids;
    const uint32_t *cu_seqlens; /* n + 1 entries, first 0, strictly rising */
    uint32_t n;
    uint32_t max_len; /* longest sequence in it */
    cpl_want want;
} cpl_batch;

/* Idle workers lent for one small pass. run() calls parallel(team, fn, arg): fn(arg, member) for every member in
 * [0, size), member 0 on the calling thread, back when all are done. Work is split by columns, heads or rows, never
 * along K, so results stay bit-identical. NULL means alone. */
typedef struct cpl_team {
    uint32_t size;
    void (*parallel)(struct cpl_team *team, void (*fn)(void *arg, uint32_t member), void *arg);
    void *state;
} cpl_team;

/* What the host lends a backend. Log may be NULL. */
typedef struct cpl_host {
    uint32_t abi, size; /* CPL_BACKEND_ABI, sizeof(cpl_host) */
    const cpl_log *log;
    void *(*allocate)(size_t size, size_t align); /* NULL when out of memory; long-lived, huge pages where allowed */
    void (*release)(void *p, size_t size);
    cpl_status (*fail)(cpl_error *err, cpl_status status, const char *fmt, ...) CPL_PRINTF(3, 4);
    /* Rectangles for runtimes that need them (rectangle.h): sequences of `in` grouped by length. */
    const struct cpl_rectangle_helper *rectangles;
} cpl_host;

/* What a backend can do on this machine, found by probing. */
typedef struct cpl_caps {
    uint32_t precisions;                  /* bit p: CPL_PRECISION_p really executes here */
    char reason[CPL_PRECISION_COUNT][96]; /* why not, for each that doesn't */
    uint32_t wants;                       /* bit w: CPL_WANT_w is offered */
    int rectangles;                       /* 1: wants padded rectangles */
    int inexact;                  /* 1: a foreign runtime chooses sums and scales by the shape of the batch, so a
                                     sequence's rows depend, within its precision, on its company */
    int own_threads;              /* 1: one session uses all cores by itself; 0: a session is one thread */
    uint32_t sessions_per_device; /* 0: as many as there are cores */
    uint32_t devices;
    uint32_t batch_tokens; /* the most it recommends for a pass in any precision; load says what for this one */
    int numa;              /* 1: device n is NUMA node n; its weights are loaded and its sessions opened on threads that
                              stay there, so what they touch first is near */
    int teams;             /* 1: run() shares its work out over a team */
    char isa[32];          /* kernel set or runtime version in use */
    char device[96];       /* for people: "2 cores of AMD EPYC" */
    /* What `--precision auto` takes here, and the backend's rule that says so ("int8 where ..., else fp32"). An empty
     * rule leaves it to the fixed order in precision.c. */
    cpl_precision automatic;
    char automatic_rule[112];
    int graphs; /* 1: runs a graph of the model's directory, so a cpl_model may come without weights (graph) */
} cpl_caps;

/* How a model is to be loaded. Plain values only: the same struct reaches plug-ins. */
typedef struct cpl_load_options {
    uint32_t size;             /* sizeof(cpl_load_options) */
    cpl_precision precision;   /* never AUTO */
    uint32_t device;           /* index below caps.devices; a NUMA node where caps.numa */
    uint32_t batch_tokens_max; /* the largest pass run() will be given; a single longer sequence (up to the
                                  model's max_length) is always allowed */
    uint32_t batch_sequences_max;
    int count_stages;            /* 1: sessions keep count of time and work by stage, where the backend can (stages) */
    const char *const *settings; /* "key=value" of the backend's own section, NULL-terminated; unknown keys fail */
} cpl_load_options;

/* What load made, filled in by it. */
typedef struct cpl_load_report {
    uint64_t weight_bytes;
    cpl_precision precision; /* that executes; the engine fails the load when it isn't the one asked for */
    uint32_t batch_tokens;   /* recommended tokens a pass of what was loaded, at most caps.batch_tokens: what the engine
                                takes when its user chose none. 0: caps.batch_tokens */
    char kernels[160];
} cpl_load_report;

typedef struct cpl_weights cpl_weights; /* each backend defines its own */
typedef struct cpl_session cpl_session;

typedef struct cpl_backend {
    uint32_t abi, size; /* CPL_BACKEND_ABI, sizeof(cpl_backend) */
    const char *name;
    const char *summary; /* one line for `doctor` */
    /* CPL_UNSUPPORTED with a reason when nothing of it can run here. Keeps no state. */
    cpl_status (*probe)(cpl_caps *out, const cpl_host *host, cpl_error *err);
    /* `model` is borrowed for the call only: what is needed later is copied or packed. */
    cpl_status (*load)(cpl_weights **out, const cpl_model *model, const cpl_load_options *options,
                       cpl_load_report *report, const cpl_host *host, cpl_error *err);
    cpl_status (*open)(cpl_session **out, cpl_weights *weights, cpl_error *err);
    /* Blocks. rows: fp32, as `want` says. The same sequence gives the same bits whatever it is batched with, unless
     * caps.inexact. */
    cpl_status (*run)(cpl_session *session, const cpl_batch *batch, cpl_team *team, float *rows, cpl_error *err);
    /* What the session's passes spent by stage since it was opened, and the names; at most cap of them, returns how
     * many there are. Not while it runs. NULL: this backend doesn't count. */
    uint32_t (*stages)(const cpl_session *session, cpl_stage *out, uint32_t cap);
    /* Tokens of padding that the session's passes computed since it was opened. Not while it runs. NULL: none ever. */
    uint64_t (*padding)(const cpl_session *session);
    void (*close)(cpl_session *session);
    void (*unload)(cpl_weights *weights);
} cpl_backend;

/* What a plug-in couplet-NAME.so exports: returns its backend, or NULL when the host's ABI is not its own. */
typedef const cpl_backend *cpl_plugin_fn(const cpl_host *host);
#define CPL_PLUGIN_SYMBOL "cpl_plugin"

#endif
