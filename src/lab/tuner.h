/* SPDX-License-Identifier: Apache-2.0 */
/* tuner.h - `couplet tune`: the search of tune.h over real servers, with what each precision costs in accuracy. */
#ifndef CPL_LAB_TUNER_H
#define CPL_LAB_TUNER_H

#include "lab/result.h"
#include "lab/tune.h"
#include "load/pool.h"
#include "load/slo.h"

/* Lists are NULL-terminated. */
typedef struct cpl_tuner_options {
    const char *model;             /* directory or id, as serve takes it */
    const char *program;           /* couplet itself; NULL: this executable */
    const char *const *backends;   /* empty: native and every plug-in that is here */
    const char *const *precisions; /* empty: all that each backend runs */
    const char *const *policies;   /* "off", "greedy", "timeout:2" (ms); empty: off, greedy and four timeouts */
    const char *const *threads;    /* numbers; empty: 1, 2, 4, ... up to the cores, or around what devices want */
    const char *const *tokens;     /* a pass, numbers; empty: 64 to 65536, each twice the one before */
    const char *const *sets;       /* "key=value" for every server */
    cpl_slo slo;                   /* with a percentile */
    double loss_max;               /* 1 - Spearman's rho against fp32 */
    const char *pairs;             /* file, or NULL */
    cpl_shape shape;
    uint32_t pairs_per_request, quality_pairs;
    uint64_t seed;
    double seconds; /* a probe at most */
    uint32_t finalists, rounds;
    void (*progress)(void *user, const char *line); /* may be NULL */
    void *user;
    const cpl_log *log;
} cpl_tuner_options;

typedef struct cpl_tuner_variant {
    char backend[64], precision[16];
    double loss, kendall; /* NAN: not measured */
    bool allowed;
    uint32_t own_tokens; /* a pass holds at most, where nothing is asked for; 0: not known */
    uint32_t sessions;   /* that the backend wants on its devices together; 0: one a core */
    char why[200];       /* of one that isn't allowed */
} cpl_tuner_variant;

typedef struct cpl_tuner {
    cpl_tuner_options options;
    cpl_lab_result *machine; /* for its machine, build and probes */
    cpl_tuner_variant variants[CPL_TUNE_VALUES_MAX];
    uint32_t variant_count;
    const char *values[CPL_TUNE_DIMENSIONS][CPL_TUNE_VALUES_MAX]; /* of the other three, as text */
    char numbers[2 * CPL_TUNE_VALUES_MAX][16];
    cpl_tune_space space;
    cpl_tune search;
    cpl_pool *pool;
    uint64_t servers; /* started */
    double seconds;   /* it all took */
} cpl_tuner;

/* Measures and searches. A result without a best candidate is one too. Release with cpl_tuner_close in any case. */
cpl_status cpl_tuner_run(cpl_tuner **out, const cpl_tuner_options *options, cpl_error *err);
void cpl_tuner_close(cpl_tuner *t); /* NULL is fine */

/* ---- tuner_space.c ---- */
/* Fills variants, values and space from the options and the machine. */
cpl_status cpl_tuner_space(cpl_tuner *t, cpl_error *err);
/* Where among the token values the one nearest to `own` is, by ratio; 0: the middle. */
uint32_t cpl_tuner_tokens_place(const cpl_tuner *t, uint32_t own);

/* ---- tuner_report.c ---- */
/* The winner as a file for `serve --config`, with what --set gave to every server; only with a best candidate. */
cpl_status cpl_tuner_config(const cpl_tuner *t, cpl_buf *out, cpl_error *err);
void cpl_tuner_markdown(const cpl_tuner *t, cpl_buf *out);
void cpl_tuner_json(const cpl_tuner *t, cpl_buf *out);

#endif
