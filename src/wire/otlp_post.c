/* SPDX-License-Identifier: Apache-2.0 */
/* otlp_post.c - one HTTP/1.1 POST on a blocking socket with a time limit. The exporter has a thread to wait on, and
 * sends a message a second: a connection each costs nothing that matters, and there is no state to go stale. Rejected:
 * the load generator's client (it lives on an event loop). No state. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/system.h"
#include "net/address.h"
#include "wire/otlp.h"

cpl_status cpl_otlp_target_parse(cpl_otlp_target *out, const char *endpoint, cpl_error *err)
{
    static const char scheme[] = "http://";
    if (!strncmp(endpoint, "https://", 8))
        return cpl_fail(err, CPL_UNSUPPORTED,
                        "'%s': https is not supported in this version: export to a collector nearby", endpoint);
    if (strncmp(endpoint, scheme, sizeof scheme - 1) != 0)
        return cpl_fail(err, CPL_INVALID, "'%s' is not a collector's address: http://HOST:PORT is", endpoint);
    const char *host = endpoint + sizeof scheme - 1;
    size_t n = strcspn(host, "/");
    const char *path = host[n] && host[n + 1] ? host + n : "/v1/traces";
    bool has_port = memchr(host, ']', n) ? strstr(host, "]:") != NULL : memchr(host, ':', n) != NULL;
    if (!n || n + 6 > sizeof out->host || strlen(path) >= sizeof out->path || strpbrk(endpoint, " \r\n\t"))
        return cpl_fail(err, CPL_INVALID, "'%s' is not a collector's address: http://HOST:PORT is", endpoint);
    snprintf(out->host, sizeof out->host, "%.*s%s", (int)n, host, has_port ? "" : ":4318");
    snprintf(out->path, sizeof out->path, "%s", path);
    return CPL_OK;
}

static void limit(int fd, uint32_t timeout_ms)
{
    struct timeval t = {timeout_ms / 1000, (timeout_ms % 1000) * 1000};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t); /* of connect as well */
}

static cpl_status connect_to(int *out, const cpl_otlp_target *to, uint32_t timeout_ms, cpl_error *err)
{
    cpl_address addresses[CPL_ADDRESSES_MAX];
    size_t count = 0;
    cpl_status st = cpl_address_resolve(to->host, false, addresses, &count, err);
    for (size_t i = 0; !st && i < count; i++) {
        int fd = cpl_system_socket(addresses[i].storage.ss_family, true);
        if (fd < 0) continue;
        limit(fd, timeout_ms);
        if (!connect(fd, (const struct sockaddr *)&addresses[i].storage, addresses[i].size)) {
            *out = fd;
            return CPL_OK;
        }
        int why = errno;
        close(fd);
        if (i + 1 == count) return cpl_fail_errno(err, to->host, why, "can't connect");
    }
    return st ? st : cpl_fail(err, CPL_UNAVAILABLE, "%s: no address", to->host);
}

static bool send_all(int fd, const char *data, size_t n)
{
    while (n) {
        ssize_t sent = send(fd, data, n, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) continue;
        if (sent <= 0) return false;
        data += sent;
        n -= (size_t)sent;
    }
    return true;
}

/* The status line's number; 0 when none comes. The rest is read to its end so that the peer sees no reset. */
static int read_status(int fd, uint64_t until_ns)
{
    char head[64] = "", rest[4096];
    size_t have = 0;
    while (have < 12) {
        ssize_t n = recv(fd, head + have, sizeof head - 1 - have, 0);
        if (n < 0 && errno == EINTR && cpl_clock_ns() < until_ns) continue;
        if (n <= 0) return 0;
        have += (size_t)n;
    }
    while (cpl_clock_ns() < until_ns && recv(fd, rest, sizeof rest, 0) > 0) continue;
    return strncmp(head, "HTTP/1.", 7) ? 0 : (int)strtol(head + 8, NULL, 10);
}

cpl_status cpl_otlp_post(const cpl_otlp_target *to, const char *body, size_t n, uint32_t timeout_ms, int *http_status,
                         cpl_error *err)
{
    int fd = -1;
    char head[1024];
    uint64_t until_ns = cpl_clock_ns() + (uint64_t)timeout_ms * 1000000;
    *http_status = 0;
    cpl_status st = connect_to(&fd, to, timeout_ms, err);
    if (st) return st;
    int size = snprintf(head, sizeof head,
                        "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n"
                        "Connection: close\r\n\r\n",
                        to->path, to->host, n);
    if (send_all(fd, head, (size_t)size) && send_all(fd, body, n)) *http_status = read_status(fd, until_ns);
    int why = errno;
    close(fd);
    if (*http_status) return CPL_OK;
    return cpl_fail_errno(err, to->host, why ? why : EPROTO, "no answer");
}
