/* SPDX-License-Identifier: Apache-2.0 */
/* doctor_cells.c - what a backend can do here, and how fast.
 *
 * The one idea: every look at a backend is a child process that writes one plain struct into a pipe. Foreign runtimes
 * bring thread pools, OpenMP and now and then a crash; none of that reaches the doctor, nor the next cell. A cell goes
 * the way that every program goes, through the public library. It is a look of a quarter of a second and says so where
 * it is printed; `couplet bench engine` measures. Threads: none; children have their own. */
#include "cli/doctor_cells.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backend/precision.h"
#include "backend/registry.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/random.h"

enum { SEQUENCES = 16, PATIENCE_S = 60 };
#define LOOK_NS UINT64_C(250000000)

/* ---- in the child -------------------------------------------------------------------------------------------------
 */

typedef struct question {
    const char *backend, *precision, *model, *plugin_dir;
} question;

static void answer_probe(const question *q, void *answer)
{
    cpl_backend_probe *out = answer;
    cpl_error err;
    cpl_host host;
    cpl_backend_ref ref;
    cpl_host_init(&host, NULL);
    cpl_status st = cpl_backend_find(&ref, q->backend, q->plugin_dir, &host, &err);
    if (!st) st = ref.backend->probe(&out->caps, &host, &err);
    out->available = !st;
    if (st) snprintf(out->reason, sizeof out->reason, "%s", err.what);
}

static cpl_status run_look(double *per_s, cpl_scorer *s, cpl_error *err)
{
    const cpl_scorer_info *info = cpl_scorer_describe(s);
    static int32_t ids[SEQUENCES * CPL_CELL_TOKENS];
    static uint8_t types[SEQUENCES * CPL_CELL_TOKENS];
    uint32_t cu[SEQUENCES + 1], width = info->labels > info->hidden ? info->labels : info->hidden;
    uint64_t random = 1;
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) ids[i] = (int32_t)(cpl_random_next(&random) % info->vocab);
    for (uint32_t i = 0; i <= SEQUENCES; i++) cu[i] = i * CPL_CELL_TOKENS;
    float *rows = malloc((size_t)SEQUENCES * width * sizeof *rows);
    if (!rows) return cpl_fail_memory(err, (size_t)SEQUENCES * width * sizeof *rows);
    const cpl_ids in = {ids, types, cu, SEQUENCES};
    cpl_status st = cpl_scorer_run_ids(s, &in, rows, NULL, err); /* first one: kernels are chosen, memory is taken */
    uint64_t began = cpl_clock_ns(), now = began, calls = 0;
    while (!st && now - began < LOOK_NS) {
        st = cpl_scorer_run_ids(s, &in, rows, NULL, err);
        now = cpl_clock_ns();
        calls++;
    }
    if (!st) *per_s = (double)(calls * SEQUENCES) * 1e9 / (double)(now - began);
    free(rows);
    return st;
}

static void answer_run(const question *q, void *answer)
{
    cpl_cell *out = answer;
    cpl_error err;
    cpl_scorer *s = NULL;
    cpl_open_options o = CPL_OPTIONS(cpl_open_options);
    o.backend = q->backend;
    o.precision = q->precision;
    o.plugin_dir = q->plugin_dir;
    cpl_status st = cpl_scorer_open(&s, q->model, &o, &err);
    if (!st) st = run_look(&out->per_s, s, &err);
    if (st) snprintf(out->reason, sizeof out->reason, "%s", err.what);
    cpl_scorer_close(s);
}

/* ---- in the doctor -------------------------------------------------------------------------------------------------
 */

/* All of it, or how much came before the end, an error or the patience. */
static size_t read_all(int fd, void *to, size_t size)
{
    const uint64_t until = cpl_clock_ns() + (uint64_t)PATIENCE_S * 1000000000u;
    size_t at = 0;
    while (at < size && cpl_clock_ns() < until) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (poll(&p, 1, 1000) <= 0) continue;
        const ssize_t n = read(fd, (char *)to + at, size - at);
        if (n <= 0) break;
        at += (size_t)n;
    }
    return at;
}

/* Fills answer (size bytes, zeroed before) in a child; false with the reason when the child couldn't. */
static bool ask(const question *q, void (*work)(const question *, void *), void *answer, size_t size, char *reason,
                size_t cap)
{
    int ends[2], status = 0;
    memset(answer, 0, size);
    fflush(NULL);
    if (pipe(ends)) {
        snprintf(reason, cap, "no pipe for a child process");
        return false;
    }
    const pid_t child = fork();
    if (!child) {
        close(ends[0]);
        work(q, answer);
        const ssize_t n = write(ends[1], answer, size);
        _exit(n == (ssize_t)size ? 0 : 1);
    }
    close(ends[1]);
    const size_t got = child > 0 ? read_all(ends[0], answer, size) : 0;
    close(ends[0]);
    if (child > 0 && got < size) kill(child, SIGKILL);
    if (child > 0) waitpid(child, &status, 0);
    if (got == size) return true;
    memset(answer, 0, size);
    if (child < 0)
        snprintf(reason, cap, "no child process could be started");
    else if (WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL)
        snprintf(reason, cap, "it crashed: signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
    else
        snprintf(reason, cap, "no answer within %d s, or it was killed", PATIENCE_S);
    return false;
}

void cpl_doctor_probe(cpl_backend_probe *out, const char *name, const char *plugin_dir)
{
    char reason[sizeof out->reason];
    const question q = {.backend = name, .plugin_dir = plugin_dir};
    if (!ask(&q, answer_probe, out, sizeof *out, reason, sizeof reason))
        snprintf(out->reason, sizeof out->reason, "%s", reason);
}

void cpl_doctor_run(cpl_cell *out, const char *backend, const char *precision, const char *model,
                    const char *plugin_dir)
{
    char reason[sizeof out->reason];
    const question q = {.backend = backend, .precision = precision, .model = model, .plugin_dir = plugin_dir};
    if (!ask(&q, answer_run, out, sizeof *out, reason, sizeof reason))
        snprintf(out->reason, sizeof out->reason, "%s", reason);
}
