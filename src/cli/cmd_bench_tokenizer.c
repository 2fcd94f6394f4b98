/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_bench_tokenizer.c - `couplet bench tokenizer`: text to ids, in megabytes of text a second.
 * The one idea: the text is in memory, a tokenizer is opened anew, and the first pass over it, when neither its tables
 * nor the text's words have been seen, is reported apart from the repeats. The ids are written to memory that was
 * touched before. Beside the clock's time stands the time the threads were really running, which is the steadier figure
 * on a machine shared with others. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/json.h"
#include "base/lines.h"
#include "base/thread.h"
#include "base/utf8.h"
#include "cli/progress.h"
#include "cli/scorer_flags.h"
#include "model/locate.h"
#include "text/passages.h"
#include "text/tokenizer.h"

enum { REPEATS_MIN = 5, REPEATS_MAX = 1000, THREADS_MAX = 256, RESULTS_MAX = 8 };

typedef struct bench_text {
    const char *name;
    cpl_buf bytes;
    size_t *ends; /* of each text in bytes */
    size_t n, cap;
} bench_text;

typedef struct bench_result {
    char name[32];
    size_t texts, bytes, ids;
    double open_ms, first_mb_per_s, first_mb_per_cpu_s, mb_per_s, mb_per_s_min, mb_per_s_max, mb_per_cpu_s, ids_per_s;
    size_t repeats;
} bench_result;

struct bench;

/* One thread's share: texts from .. to - 1, whose ids have room at their bytes' own offset. */
typedef struct bench_worker {
    struct bench *b;
    cpl_thread thread;
    cpl_tokenizer_scratch *scratch;
    size_t from, to, ids;
    double cpu_s;
    cpl_error err;
    cpl_status status;
} bench_worker;

typedef struct bench {
    const char *dir;
    cpl_tokenizer *tokenizer;
    bench_text text;
    int32_t *ids;
    bench_worker workers[THREADS_MAX];
    uint32_t threads;
    double seconds;
    bench_result results[RESULTS_MAX];
    size_t count;
} bench;

/* ---- text ------------------------------------------------------------------------------------------------------ */

static cpl_status add_end(bench_text *t, cpl_error *err)
{
    if (t->n == t->cap) {
        size_t cap = t->cap ? t->cap * 2 : 1024;
        size_t *ends = realloc(t->ends, cap * sizeof *ends);
        if (!ends) return cpl_fail_memory(err, cap * sizeof *ends);
        t->ends = ends;
        t->cap = cap;
    }
    t->ends[t->n++] = t->bytes.size;
    return CPL_OK;
}

static void free_text(bench_text *t)
{
    cpl_buf_deinit(&t->bytes);
    free(t->ends);
    *t = (bench_text){0};
}

static cpl_status generate(bench_text *t, cpl_script script, size_t bytes, uint64_t seed, cpl_error *err)
{
    cpl_passages *p = malloc(sizeof *p);
    if (!p) return cpl_fail_memory(err, sizeof *p);
    cpl_passages_init(p, seed);
    t->name = cpl_script_name(script);
    cpl_status st = CPL_OK;
    while (!st && t->bytes.size < bytes) {
        st = cpl_passages_next(p, script, &t->bytes, err);
        if (!st) st = add_end(t, err);
    }
    free(p);
    return st;
}

static cpl_status read_file(bench_text *t, const char *path, size_t bytes, cpl_error *err)
{
    cpl_lines *lines;
    cpl_status st = cpl_lines_open(&lines, path, err);
    if (st) return st;
    bool end = false;
    t->name = "file";
    while (!st && t->bytes.size < bytes) {
        const char *line;
        size_t n;
        st = cpl_lines_next(lines, &line, &n, &end, err);
        if (st || end) break;
        cpl_utf8_repair(&t->bytes, line, n);
        st = cpl_buf_status(&t->bytes, err);
        if (!st) st = add_end(t, err);
    }
    cpl_lines_close(lines);
    if (!st && !t->bytes.size) st = cpl_fail_file(err, CPL_INVALID, path, "no text in it");
    return st;
}

static cpl_status write_text(const bench_text *t, const char *path, cpl_error *err)
{
    FILE *f = fopen(path, "wb");
    if (!f) return cpl_fail_errno(err, path, errno, "can't open for writing");
    bool fine = true;
    for (size_t i = 0; i < t->n && fine; i++) {
        size_t from = i ? t->ends[i - 1] : 0, n = t->ends[i] - from;
        fine = fwrite(t->bytes.data + from, 1, n, f) == n && putc('\n', f) == '\n';
    }
    fine = fclose(f) == 0 && fine;
    return fine ? CPL_OK : cpl_fail_errno(err, path, errno, "can't write");
}

/* ---- passes ---------------------------------------------------------------------------------------------------- */

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void work(void *arg)
{
    bench_worker *w = arg;
    const bench_text *t = &w->b->text;
    double start = cpu_seconds();
    size_t ids = 0;
    w->status = CPL_OK;
    for (size_t i = w->from; i < w->to && !w->status; i++) {
        size_t from = i ? t->ends[i - 1] : 0, count = 0, n = t->ends[i] - from;
        w->status = cpl_tokenizer_encode(w->b->tokenizer, w->scratch, (cpl_text){t->bytes.data + from, n},
                                         w->b->ids + from, n, &count, &w->err);
        ids += count;
    }
    w->ids = ids;
    w->cpu_s = cpu_seconds() - start;
}

typedef struct pass {
    double wall_s, cpu_s;
    size_t ids;
} pass;

/* One thread's pass runs on the caller's. */
static cpl_status run_pass(bench *b, pass *p, cpl_error *err)
{
    cpl_status st = CPL_OK;
    uint64_t start = cpl_clock_ns();
    if (b->threads == 1) work(&b->workers[0]);
    for (uint32_t i = 0; i < b->threads && b->threads > 1 && !st; i++)
        st = cpl_thread_start(&b->workers[i].thread, "tokenizer", -1, work, &b->workers[i], err);
    for (uint32_t i = 0; i < b->threads; i++) cpl_thread_join(&b->workers[i].thread);
    *p = (pass){.wall_s = (double)(cpl_clock_ns() - start) / 1e9};
    for (uint32_t i = 0; i < b->threads && !st; i++) {
        p->cpu_s += b->workers[i].cpu_s;
        p->ids += b->workers[i].ids;
        st = b->workers[i].status;
        if (st && err) *err = b->workers[i].err;
    }
    return st;
}

static int ascending(const void *x, const void *y)
{
    double a = *(const double *)x, b = *(const double *)y;
    return a < b ? -1 : a > b;
}

static double median(double *v, size_t n)
{
    qsort(v, n, sizeof *v, ascending);
    return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

static cpl_status time_passes(bench *b, bench_result *r, cpl_error *err)
{
    static double wall[REPEATS_MAX], cpu[REPEATS_MAX];
    pass p;
    double mb = (double)r->bytes / 1e6;
    cpl_status st = run_pass(b, &p, err);
    if (st) return st;
    r->first_mb_per_s = mb / p.wall_s;
    r->first_mb_per_cpu_s = mb / p.cpu_s;
    r->ids = p.ids;
    uint64_t deadline = cpl_clock_ns() + (uint64_t)(b->seconds * 1e9);
    for (r->repeats = 0; r->repeats < REPEATS_MAX && (r->repeats < REPEATS_MIN || cpl_clock_ns() < deadline);) {
        st = run_pass(b, &p, err);
        if (st) return st;
        wall[r->repeats] = mb / p.wall_s;
        cpu[r->repeats++] = mb / p.cpu_s;
    }
    r->mb_per_s = median(wall, r->repeats);
    r->mb_per_s_min = wall[0];
    r->mb_per_s_max = wall[r->repeats - 1];
    r->mb_per_cpu_s = median(cpu, r->repeats);
    r->ids_per_s = r->mb_per_s / mb * (double)r->ids;
    return CPL_OK;
}

/* Shares of about as many bytes. */
static void share_out(bench *b)
{
    const bench_text *t = &b->text;
    size_t at = 0;
    for (uint32_t i = 0; i < b->threads; i++) {
        size_t until = t->bytes.size / b->threads * (i + 1);
        b->workers[i].from = at;
        while (at < t->n && (i + 1 == b->threads || t->ends[at] <= until)) at++;
        b->workers[i].to = at;
    }
}

static cpl_status measure(bench *b, cpl_error *err)
{
    bench_result *r = &b->results[b->count];
    *r = (bench_result){.texts = b->text.n, .bytes = b->text.bytes.size};
    snprintf(r->name, sizeof r->name, "%s", b->text.name);
    b->ids = malloc(r->bytes * sizeof *b->ids);
    if (!b->ids) return cpl_fail_memory(err, r->bytes * sizeof *b->ids);
    memset(b->ids, 0xFF, r->bytes * sizeof *b->ids);
    share_out(b);
    uint64_t start = cpl_clock_ns();
    cpl_status st = cpl_tokenizer_open(&b->tokenizer, b->dir, err);
    r->open_ms = (double)(cpl_clock_ns() - start) / 1e6;
    for (uint32_t i = 0; i < b->threads && !st; i++) {
        b->workers[i].b = b;
        st = cpl_tokenizer_scratch_open(&b->workers[i].scratch, err);
    }
    if (!st) st = time_passes(b, r, err);
    for (uint32_t i = 0; i < b->threads; i++) {
        cpl_tokenizer_scratch_close(b->workers[i].scratch);
        b->workers[i].scratch = NULL;
    }
    cpl_tokenizer_close(b->tokenizer);
    b->tokenizer = NULL;
    free(b->ids);
    b->ids = NULL;
    b->count += !st;
    return st;
}

/* ---- command --------------------------------------------------------------------------------------------------- */

static void print_json(const bench *b)
{
    cpl_buf out = {0};
    cpl_json_writer w = {.out = &out, .pretty = true};
    cpl_json_open(&w, NULL, '{');
    cpl_json_text(&w, "model", b->dir);
    cpl_json_int(&w, "threads", b->threads);
    cpl_json_open(&w, "results", '[');
    for (size_t i = 0; i < b->count; i++) {
        const bench_result *r = &b->results[i];
        cpl_json_open(&w, NULL, '{');
        cpl_json_text(&w, "text", r->name);
        cpl_json_int(&w, "texts", (int64_t)r->texts);
        cpl_json_int(&w, "bytes", (int64_t)r->bytes);
        cpl_json_int(&w, "ids", (int64_t)r->ids);
        cpl_json_double(&w, "open_ms", r->open_ms);
        cpl_json_double(&w, "first_pass_mb_per_s", r->first_mb_per_s);
        cpl_json_double(&w, "first_pass_mb_per_cpu_s", r->first_mb_per_cpu_s);
        cpl_json_double(&w, "mb_per_s", r->mb_per_s);
        cpl_json_double(&w, "mb_per_s_min", r->mb_per_s_min);
        cpl_json_double(&w, "mb_per_s_max", r->mb_per_s_max);
        cpl_json_double(&w, "mb_per_cpu_s", r->mb_per_cpu_s);
        cpl_json_double(&w, "tokens_per_s", r->ids_per_s);
        cpl_json_int(&w, "repeats", (int64_t)r->repeats);
        cpl_json_close(&w, '}');
    }
    cpl_json_close(&w, ']');
    cpl_json_close(&w, '}');
    if (!out.failed) printf("%s\n", out.data);
    cpl_buf_deinit(&out);
}

static void print_table(const bench *b)
{
    printf("%s, %u thread%s\n", b->dir, b->threads, b->threads > 1 ? "s" : "");
    printf(
        "text          MB   bytes/id  open ms  first pass MB/s  repeats MB/s (min-max)   MB/s of CPU time   M ids/s\n");
    for (size_t i = 0; i < b->count; i++) {
        const bench_result *r = &b->results[i];
        printf("%-9s %6.1f %9.2f %8.1f %16.1f %13.1f (%.1f-%.1f) %16.1f %9.1f\n", r->name, (double)r->bytes / 1e6,
               (double)r->bytes / (double)r->ids, r->open_ms, r->first_mb_per_s, r->mb_per_s, r->mb_per_s_min,
               r->mb_per_s_max, r->mb_per_cpu_s, r->ids_per_s / 1e6);
    }
}

static cpl_status run_generated(bench *b, const cpl_args *a, size_t bytes, cpl_error *err)
{
    const char *only = cpl_args_text(a, "text"), *path = cpl_args_text(a, "write");
    bool known = false;
    cpl_status st = CPL_OK;
    cpl_progress bar;
    if (path && !only) return cpl_fail(err, CPL_INVALID, "'--write' needs '--text NAME': a file holds one of them");
    cpl_progress_init(&bar, "measuring", only ? 1 : CPL_SCRIPT_COUNT);
    for (int script = 0; script < CPL_SCRIPT_COUNT && !st; script++) {
        if (only && strcmp(only, cpl_script_name((cpl_script)script)) != 0) continue;
        known = true;
        st = generate(&b->text, (cpl_script)script, bytes, cpl_args_count(a, "seed"), err);
        if (!st) st = path ? write_text(&b->text, path, err) : measure(b, err);
        free_text(&b->text);
        cpl_progress_update(&bar, b->count);
    }
    cpl_progress_finish(&bar);
    if (!st && !known)
        st = cpl_fail(err, CPL_INVALID, "'--text %s': it has to be english, accented, cjk or hangul", only);
    return st;
}

static cpl_status run_bench(bench *b, const cpl_args *a, cpl_error *err)
{
    static char dir[4096];
    const char *input = cpl_args_text(a, "input");
    double mb = cpl_args_number(a, "megabytes");
    if (mb <= 0 || mb > 4096) return cpl_fail(err, CPL_INVALID, "'--megabytes': more than 0, at most 4096");
    if (input && (cpl_args_given(a, "text") || cpl_args_given(a, "write")))
        return cpl_fail(err, CPL_INVALID,
                        "'--input' is measured instead of generated text; leave '--text' and '--write'");
    b->threads = (uint32_t)cpl_args_count(a, "threads");
    if (cpl_args_count(a, "threads") < 1 || cpl_args_count(a, "threads") > THREADS_MAX)
        return cpl_fail(err, CPL_INVALID, "'--threads': from 1 to %d", THREADS_MAX);
    b->seconds = cpl_args_number(a, "seconds");
    b->dir = dir;
    cpl_status st = CPL_OK;
    if (!cpl_args_text(a, "write")) st = cpl_model_locate(dir, sizeof dir, cpl_args_text(a, "model"), false, NULL, err);
    if (!st && input) {
        st = read_file(&b->text, input, (size_t)(mb * 1e6), err);
        if (!st) st = measure(b, err);
        free_text(&b->text);
    } else if (!st) {
        st = run_generated(b, a, (size_t)(mb * 1e6), err);
    }
    if (st || cpl_args_text(a, "write")) return st;
    if (cpl_args_switch(a, "json"))
        print_json(b);
    else
        print_table(b);
    return CPL_OK;
}

static int run(const cpl_args *a)
{
    cpl_error err;
    bench *b = calloc(1, sizeof *b);
    cpl_status st = b ? run_bench(b, a, &err) : cpl_fail_memory(&err, sizeof *b);
    free(b);
    return st ? cpl_cli_fail(&err) : 0;
}

static const cpl_flag flags[] = {
    {"model", CPL_FLAG_TEXT, "DIR", CPL_DEFAULT_MODEL,
     "model directory with tokenizer.json or vocab.txt, or a cached model's id"},
    {"text", CPL_FLAG_TEXT, "NAME", NULL, "english, accented, cjk or hangul, generated; default: one after the other"},
    {"input", CPL_FLAG_TEXT, "FILE", NULL, "measure the lines of this file instead; - is stdin"},
    {"megabytes", CPL_FLAG_NUMBER, "MB", "20", "of text, at most"},
    {"seed", CPL_FLAG_COUNT, "N", "1", "of the generated text"},
    {"seconds", CPL_FLAG_NUMBER, "S", "3", "of repeats for each text, behind the first pass"},
    {"threads", CPL_FLAG_COUNT, "N", "1", "that share the texts out"},
    {"write", CPL_FLAG_TEXT, "FILE", NULL, "write the generated text there, a text a line, and measure nothing"},
    {"json", CPL_FLAG_SWITCH, NULL, NULL, "one JSON document on stdout"},
    {0},
};

const cpl_command cpl_command_bench_tokenizer = {
    .name = "bench tokenizer",
    .summary = "text to ids: megabytes a second, generated or real text",
    .flags = flags,
    .details = "Each text is encoded by itself, without special tokens and truncation, and its ids are written. The "
               "first pass\n"
               "runs right after the tokenizer was opened; the repeats' median, lowest and highest stand beside it. No "
               "line of\n"
               "the generated text repeats; its words are as frequent as in real passages. MB are 10^6 bytes of UTF-8.",
    .run = run,
};
