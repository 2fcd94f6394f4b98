/* SPDX-License-Identifier: Apache-2.0 */
/* run.c - a server process from the first log line to the last.
 * The one idea: the signals that end the server are blocked in every thread and waited for here, on the main one, so
 * nothing runs in a signal handler. A second interrupt during the drain kills the process, as people expect of Ctrl-C.
 * Threads: the main one. */
#include <signal.h>
#include <string.h>
#include <sys/resource.h>

#include "base/log.h"
#include "serve/log_stderr.h"
#include "serve/service.h"

static void drain(cpl_service *s, const cpl_log *log, int signal_number)
{
    sigset_t again;
    sigemptyset(&again);
    sigaddset(&again, SIGINT);
    pthread_sigmask(SIG_UNBLOCK, &again, NULL);
    cpl_log_write(log, CPL_LOG_INFO, "%s: draining", signal_number == SIGTERM ? "SIGTERM" : "SIGINT");
    uint32_t cut = cpl_service_close(s);
    if (cut)
        cpl_log_write(log, CPL_LOG_WARN, "stopped; %u requests were cut off after server.limits.drain_ms", cut);
    else
        cpl_log_write(log, CPL_LOG_INFO, "stopped; every request in flight was answered");
}

/* The usual soft limit of 1,024 descriptors is for programs that use select(). */
static void allow_descriptors(const cpl_config *c, const cpl_log *log)
{
    enum { BESIDE_CONNECTIONS = 256 };
    struct rlimit limit;
    rlim_t wanted = (rlim_t)cpl_config_int(c, "server.limits.connections") + BESIDE_CONNECTIONS;
    if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur >= wanted) return;
    limit.rlim_cur = limit.rlim_max < wanted ? limit.rlim_max : wanted;
    if (!setrlimit(RLIMIT_NOFILE, &limit) && limit.rlim_cur == wanted) return;
    if (cpl_config_given(c, "server.limits.connections"))
        cpl_log_write(log, CPL_LOG_WARN,
                      "'server.limits.connections' is %lld but this process may have only %llu descriptors open: raise "
                      "the hard limit (ulimit -Hn)",
                      (long long)cpl_config_int(c, "server.limits.connections"), (unsigned long long)limit.rlim_max);
}

cpl_status cpl_serve_run(const cpl_config *config, bool allow_seeded,
                         cpl_status (*ready)(const cpl_service *s, cpl_error *err), cpl_error *err)
{
    cpl_log log;
    cpl_service *s;
    sigset_t ends;
    int signal_number = 0;
    cpl_log_stderr_init(&log, cpl_config_text(config, "log.level"),
                        !strcmp(cpl_config_text(config, "log.format"), "json"));
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGINT);
    pthread_sigmask(SIG_BLOCK, &ends, NULL);
    allow_descriptors(config, &log);
    cpl_status st = cpl_service_open(&s, config, allow_seeded, &log, err);
    if (st) return st;
    st = ready(s, err);
    if (st) {
        cpl_service_close(s);
        return st;
    }
    while (sigwait(&ends, &signal_number) != 0) continue;
    drain(s, &log, signal_number);
    return CPL_OK;
}
