/* SPDX-License-Identifier: Apache-2.0 */
/* What a server may answer our client with, HTTP/1.1 or HTTP/2: whatever it is, the call that waits for it is answered,
 * once, with a code, and the client can be closed. Input: a byte of switches, then what the server sends before it
 * closes; and the same bytes as a server's counters (couplet.v1.Stats). */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "load/server_totals.h"
#include "net/client.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { HTTP1 = 1, SETTINGS_FIRST = 2, STATUS_FIRST = 4, BYTES_MAX = 32768 };

static struct sockaddr_un address = {.sun_family = AF_UNIX};
static int listener = -1;
static pthread_t thread;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const uint8_t *script;
static size_t script_size;

/* Answers each connection's first bytes by the script, then closes. */
static void *serve(void *unused)
{
    for (;;) {
        char in[4096];
        const int fd = accept(listener, NULL, NULL);
        if (fd < 0) return unused;
        pthread_mutex_lock(&lock);
        if (recv(fd, in, sizeof in, 0) > 0 && script_size) send(fd, script, script_size, MSG_NOSIGNAL);
        pthread_mutex_unlock(&lock);
        shutdown(fd, SHUT_WR);
        while (recv(fd, in, sizeof in, 0) > 0) continue; /* else the close would overtake the bytes */
        close(fd);
    }
}

static void stop(void)
{
    shutdown(listener, SHUT_RDWR);
    pthread_join(thread, NULL);
    close(listener);
    unlink(address.sun_path);
}

static void start(void)
{
    snprintf(address.sun_path, sizeof address.sun_path, "/tmp/couplet-fuzz-client-%ld", (long)getpid());
    unlink(address.sun_path);
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (const struct sockaddr *)&address, sizeof address) || listen(listener, 16))
        abort();
    if (pthread_create(&thread, NULL, serve, NULL)) abort();
    atexit(stop);
}

static void on_done(void *user, const cpl_reply *r)
{
    int *answers = user;
    if (++*answers > 1) abort();
    if (r->size > BYTES_MAX || (r->code != CPL_GRPC_OK && !r->message)) abort();
}

static void check_client(uint8_t switches)
{
    char target[128];
    int answers = 0;
    cpl_client *c;
    cpl_error err = {0};
    snprintf(target, sizeof target, "unix:%s", address.sun_path);
    const cpl_client_options options = {
        .target = target, .http1 = switches & HTTP1, .message_bytes_max = BYTES_MAX, .connections = 1};
    if (cpl_client_open(&c, &options, &err)) {
        if (!err.what[0]) abort();
        return;
    }
    if (!cpl_client_call(c, 0, "/a/b", "request", 7, NULL, 20000000000, on_done, &answers, &err)) {
        cpl_client_run(c, cpl_clock_ns() + 60000000000, true);
        if (answers != 1) abort();
    }
    cpl_client_close(c);
}

static void check_totals(const uint8_t *data, size_t size)
{
    cpl_server_totals totals, between;
    cpl_error err = {0};
    if (cpl_server_totals_decode(&totals, data, size, &err)) {
        if (!err.what[0]) abort();
    } else {
        cpl_server_totals_between(&between, &totals, &totals);
        if (between.known && (between.tasks_done || between.queue_ns.count)) abort();
    }
    cpl_server_totals_deinit(&totals);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char settings[] = "\0\0\0\4\0\0\0\0\0", status[] = "HTTP/1.1 200 OK\r\n";
    static uint8_t all[BYTES_MAX + 64];
    if (listener < 0) start();
    if (size < 1 || size > BYTES_MAX) return 0;
    const uint8_t switches = data[0];
    size_t n = 0;
    check_totals(data + 1, size - 1);
    pthread_mutex_lock(&lock);
    if (switches & SETTINGS_FIRST) memcpy(all, settings, n = sizeof settings - 1);
    if (switches & STATUS_FIRST) memcpy(all, status, n = sizeof status - 1);
    memcpy(all + n, data + 1, size - 1);
    script = all;
    script_size = n + size - 1;
    pthread_mutex_unlock(&lock);
    check_client(switches);
    return 0;
}
