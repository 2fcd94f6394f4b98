/* SPDX-License-Identifier: Apache-2.0 */
/* child.c - one server process at a time. Invariants: whoever started a child and calls cpl_child_stop gets it reaped,
 * also when it hangs; a child never outlives the process that measures it (parent-death signal), so an interrupted run
 * leaves no server behind. Its stderr goes to a file, not a pipe: nobody reads it while the load runs, and a full pipe
 * would stop the server. Threads: start and stop on the same thread. */
#include "lab/child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/system.h"

#define LISTENING "listening on "

static void run_program(const char *const *argv, int out, int log, pid_t parent)
{
    cpl_system_die_with(parent);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (null >= 0) dup2(null, 0);
    dup2(out, 1);
    dup2(log, 2);
    execv(argv[0], (char *const *)(uintptr_t)argv);
    dprintf(2, "can't run '%s': %s\n", argv[0], strerror(errno));
    raise(SIGKILL); /* there is nothing to return to in this copy of the process */
}

/* The last line with text in it that the child wrote to stderr. */
static void last_words(int log, char *out, size_t cap)
{
    char text[4096];
    off_t size = lseek(log, 0, SEEK_END), from = size > (off_t)sizeof text - 1 ? size - (off_t)sizeof text + 1 : 0;
    ssize_t n = pread(log, text, sizeof text - 1, from);
    while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == ' ')) n--;
    text[n > 0 ? n : 0] = 0;
    const char *line = strrchr(text, '\n');
    snprintf(out, cap, "%.299s", line ? line + 1 : text);
}

/* Reads stdout until the listening line. */
static cpl_status wait_ready(cpl_child *c, uint64_t until_ns, cpl_error *err)
{
    char text[1024];
    size_t used = 0;
    for (;;) {
        uint64_t now = cpl_clock_ns();
        if (now >= until_ns) return cpl_fail(err, CPL_DEADLINE, "the server was not ready in time");
        struct pollfd p = {.fd = c->out, .events = POLLIN};
        int ready = poll(&p, 1, (int)((until_ns - now) / 1000000 + 1));
        if (ready <= 0) continue;
        ssize_t n = read(c->out, text + used, sizeof text - 1 - used);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return cpl_fail(err, CPL_UNAVAILABLE, "the server ended before it was ready");
        used += (size_t)n;
        text[used] = 0;
        char *line = strstr(text, LISTENING), *end = line ? strchr(line, '\n') : NULL;
        if (end) {
            line += strlen(LISTENING);
            snprintf(c->address, sizeof c->address, "%.*s", (int)strcspn(line, " \n"), line);
            return CPL_OK;
        }
        if (used == sizeof text - 1) used = 0; /* whatever that was, it isn't the line */
    }
}

/* A zeroed child has 0 for its descriptors, which are never ours. */
static void forget(cpl_child *c)
{
    if (c->out > 0) close(c->out);
    if (c->log > 0) close(c->log);
    *c = (cpl_child){.out = -1, .log = -1};
}

cpl_status cpl_child_start(cpl_child *c, const char *const *argv, uint32_t timeout_ms, cpl_error *err)
{
    int out[2];
    *c = (cpl_child){.out = -1, .log = -1};
    if (cpl_system_pipe(out)) return cpl_fail(err, CPL_IO, "can't make a pipe: %s", strerror(errno));
    c->out = out[0];
    c->log = cpl_system_scratch_file("couplet-serve-stderr");
    if (c->log < 0) {
        forget(c);
        close(out[1]);
        return cpl_fail(err, CPL_IO, "can't make a file for the server's messages: %s", strerror(errno));
    }
    uint64_t start = cpl_clock_ns();
    pid_t parent = getpid();
    c->pid = fork();
    if (c->pid == 0) run_program(argv, out[1], c->log, parent);
    close(out[1]);
    cpl_status st = c->pid < 0 ? cpl_fail(err, CPL_IO, "can't start a process: %s", strerror(errno))
                               : wait_ready(c, start + (uint64_t)timeout_ms * 1000000u, err);
    c->ready_ms = (cpl_clock_ns() - start) / 1000000u;
    if (!st) return CPL_OK;
    char words[300];
    last_words(c->log, words, sizeof words);
    if (err && *words) {
        cpl_error first = *err;
        cpl_fail(err, st, "%.150s: %s", first.what, words);
    }
    cpl_child_stop(c, 1000, NULL);
    return st;
}

static bool reaped(pid_t pid, int *status, uint32_t wait_ms)
{
    for (uint32_t waited = 0;; waited += 5) {
        pid_t got = waitpid(pid, status, WNOHANG);
        if (got == pid || (got < 0 && errno == ECHILD)) return true;
        if (waited >= wait_ms) return false;
        usleep(5000);
    }
}

cpl_status cpl_child_stop(cpl_child *c, uint32_t grace_ms, cpl_error *err)
{
    if (c->pid <= 0) {
        forget(c);
        return CPL_OK;
    }
    int status = 0;
    cpl_status st = CPL_OK;
    if (reaped(c->pid, &status, 0)) {
        char words[300];
        last_words(c->log, words, sizeof words);
        st = cpl_fail(err, CPL_INTERNAL, "the server ended by itself (%s %d); its last words: %s",
                      WIFSIGNALED(status) ? "signal" : "status",
                      WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status), *words ? words : "none");
    } else {
        kill(c->pid, SIGTERM);
        if (!reaped(c->pid, &status, grace_ms)) {
            kill(c->pid, SIGKILL);
            reaped(c->pid, &status, 10000);
            st = cpl_fail(err, CPL_INTERNAL, "the server did not end within %u ms of SIGTERM", grace_ms);
        } else if (!WIFEXITED(status) || WEXITSTATUS(status)) {
            st = cpl_fail(err, CPL_INTERNAL, "the server ended with %s %d after SIGTERM",
                          WIFSIGNALED(status) ? "signal" : "status",
                          WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
        }
    }
    forget(c);
    return st;
}
