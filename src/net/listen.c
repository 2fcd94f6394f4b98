/* SPDX-License-Identifier: Apache-2.0 */
/* listen.c - binds what the options name, accepts on loop 0, and hands each descriptor to a loop, round robin.
 *
 * Out of descriptors (EMFILE) a level-triggered listener would spin, so accepting pauses for ACCEPT_PAUSE_NS. A unix
 * socket's file that nobody listens on any more is replaced; one that is in use is an error. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/system.h"
#include "net/address.h"
#include "net/server_internal.h"

enum { BACKLOG = 4096, ACCEPTS_A_TURN = 64, LISTENERS_MAX = 64 };
static const uint64_t ACCEPT_PAUSE_NS = 100000000;

/* ---- binding ----------------------------------------------------------------------------------------------- */

static void remove_stale(const cpl_address *a)
{
    int fd = cpl_system_socket(AF_UNIX, true);
    if (fd < 0) return;
    if (connect(fd, (const struct sockaddr *)&a->storage, a->size) != 0 && errno == ECONNREFUSED)
        unlink(((const struct sockaddr_un *)&a->storage)->sun_path);
    close(fd);
}

static int bind_one(const cpl_address *a)
{
    int family = a->storage.ss_family, yes = 1;
    int fd = cpl_system_socket(family, false);
    if (fd < 0) return -1;
    if (family == AF_UNIX) {
        remove_stale(a);
    } else {
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    }
    /* IPv4 gets its own socket where a host resolves to both. */
    if (family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &yes, sizeof yes);
    if (bind(fd, (const struct sockaddr *)&a->storage, a->size) == 0 && listen(fd, BACKLOG) == 0) return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

static uint16_t port_of(const cpl_address *a)
{
    return a->storage.ss_family == AF_INET6 ? ntohs(((const struct sockaddr_in6 *)&a->storage)->sin6_port)
                                            : ntohs(((const struct sockaddr_in *)&a->storage)->sin_port);
}

static void set_port(cpl_address *a, uint16_t port)
{
    if (a->storage.ss_family == AF_INET6) {
        ((struct sockaddr_in6 *)&a->storage)->sin6_port = htons(port);
    } else {
        ((struct sockaddr_in *)&a->storage)->sin_port = htons(port);
    }
}

static void add_listener(cpl_server *s, int fd, cpl_address *bound)
{
    cpl_listener *l = &s->listeners[s->listener_count++];
    *l = (cpl_listener){.fd = fd, .server = s};
    if (bound->storage.ss_family == AF_UNIX) {
        memcpy(l->path, ((struct sockaddr_un *)&bound->storage)->sun_path, sizeof l->path);
    } else {
        bound->size = sizeof bound->storage;
        getsockname(fd, (struct sockaddr *)&bound->storage, &bound->size);
    }
    cpl_address_print(bound, l->name);
}

/* Binds all that `text` resolves to. A family that this machine lacks is passed over if another one works. */
static cpl_status listen_on(cpl_server *s, const char *text, cpl_error *err)
{
    cpl_address found[CPL_ADDRESSES_MAX];
    size_t count, bound = 0;
    cpl_status st = cpl_address_resolve(text, true, found, &count, err);
    if (st) return st;
    uint16_t port = 0;
    int error = 0;
    for (size_t i = 0; i < count; i++) {
        bool ip = found[i].storage.ss_family != AF_UNIX;
        if (s->listener_count == LISTENERS_MAX)
            return cpl_fail(err, CPL_INVALID, "more than %d addresses to listen on", LISTENERS_MAX);
        if (ip && port && !port_of(&found[i])) set_port(&found[i], port);
        int fd = bind_one(&found[i]);
        if (fd < 0) {
            error = errno;
            if (error == EAFNOSUPPORT || error == EADDRNOTAVAIL) continue;
            return cpl_fail(err, CPL_IO, "can't listen on '%s': %s", text, strerror(error));
        }
        add_listener(s, fd, &found[i]);
        if (ip) port = port_of(&found[i]);
        bound++;
    }
    return bound ? CPL_OK : cpl_fail(err, CPL_IO, "can't listen on '%s': %s", text, strerror(error));
}

cpl_status cpl_listeners_open(cpl_server *s, cpl_error *err)
{
    s->listeners = calloc(LISTENERS_MAX, sizeof *s->listeners);
    if (!s->listeners) return cpl_fail_memory(err, LISTENERS_MAX * sizeof *s->listeners);
    for (const char *const *text = s->options.listen; text && *text; text++) {
        cpl_status st = listen_on(s, *text, err);
        if (st) return st;
    }
    return s->listener_count ? CPL_OK : cpl_fail(err, CPL_INVALID, "no address to listen on was given");
}

/* ---- accepting --------------------------------------------------------------------------------------------- */

typedef struct handover {
    cpl_post post;
    cpl_server_loop *to;
    int fd;
} handover;

static void take_over(cpl_server_loop *l, int fd)
{
    cpl_connection *c;
    cpl_error err;
    if (l->closing) {
        close(fd);
    } else if (cpl_connection_open(&c, l, fd, &err)) {
        cpl_log_write(l->server->options.log, CPL_LOG_ERROR, "net: connection refused: %s", err.what);
    } else {
        if (!l->tick.place) {
            l->tick.when_ns = cpl_clock_ns() + l->server->tick_ns;
            cpl_deadline_add(&l->loop.deadlines, &l->tick);
        }
        if (l->draining) cpl_connection_drain(c);
        return;
    }
    atomic_fetch_sub(&l->server->connections_now, 1);
    cpl_server_loop_note(l);
}

static void run_handover(cpl_post *post)
{
    handover *h = (handover *)post;
    take_over(h->to, h->fd);
    free(h);
}

static void hand_out(cpl_server *s, int fd)
{
    int yes = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes); /* fails on unix sockets, which need none */
    if (atomic_fetch_add(&s->connections_now, 1) >= s->options.connections_max) {
        atomic_fetch_sub(&s->connections_now, 1);
        close(fd);
        cpl_log_write(s->options.log, CPL_LOG_DEBUG, "net: connection refused: the limit of %u is reached",
                      s->options.connections_max);
        return;
    }
    cpl_server_loop *to = &s->loops[s->next_loop++ % s->loop_count];
    if (to->index == 0) {
        take_over(to, fd);
        return;
    }
    handover *h = calloc(1, sizeof *h);
    if (!h) {
        atomic_fetch_sub(&s->connections_now, 1);
        close(fd);
        return;
    }
    *h = (handover){.post = {.run = run_handover}, .to = to, .fd = fd};
    cpl_loop_post(&to->loop, &h->post);
}

static void pause_accepting(cpl_server *s)
{
    if (s->accept_again.place) return;
    s->accept_again.when_ns = cpl_clock_ns() + ACCEPT_PAUSE_NS;
    if (!cpl_deadline_add(&s->loops[0].loop.deadlines, &s->accept_again)) return;
    for (size_t i = 0; i < s->listener_count; i++) uv_poll_stop(&s->listeners[i].poll);
}

static void on_acceptable(uv_poll_t *poll, int status, int events)
{
    (void)status, (void)events;
    cpl_listener *l = poll->data;
    cpl_server *s = l->server;
    for (int i = 0; i < ACCEPTS_A_TURN; i++) {
        int fd = cpl_system_accept(l->fd);
        if (fd >= 0) {
            hand_out(s, fd);
            continue;
        }
        if (errno == ECONNABORTED || errno == EINTR) continue;
        if (errno == EAGAIN || errno == EWOULDBLOCK) return;
        cpl_log_write(s->options.log, CPL_LOG_ERROR, "net: accepting on %s pauses: %s", l->name, strerror(errno));
        pause_accepting(s);
        return;
    }
}

static void accept_again(cpl_deadline *d)
{
    cpl_server *s = (cpl_server *)((char *)d - offsetof(cpl_server, accept_again));
    for (size_t i = 0; i < s->listener_count; i++) {
        cpl_listener *l = &s->listeners[i];
        if (l->fd >= 0) uv_poll_start(&l->poll, UV_READABLE, on_acceptable);
    }
}

void cpl_listeners_watch(cpl_server *s)
{
    s->accept_again.expired = accept_again;
    for (size_t i = 0; i < s->listener_count; i++) {
        cpl_listener *l = &s->listeners[i];
        CPL_ASSERT(uv_poll_init(&s->loops[0].loop.uv, &l->poll, l->fd) == 0);
        l->poll.data = l;
    }
    accept_again(&s->accept_again);
}

static void on_listener_closed(uv_handle_t *handle)
{
    cpl_listener *l = handle->data;
    close(l->fd);
    l->fd = -1;
}

void cpl_listeners_close(cpl_server *s)
{
    cpl_deadline_remove(&s->loops[0].loop.deadlines, &s->accept_again);
    for (size_t i = 0; i < s->listener_count; i++) {
        cpl_listener *l = &s->listeners[i];
        if (l->fd < 0) continue;
        if (l->path[0]) unlink(l->path);
        if (!l->poll.data) {
            close(l->fd);
            l->fd = -1;
        } else if (!uv_is_closing((uv_handle_t *)&l->poll)) {
            on_acceptable(&l->poll, 0, 0); /* whoever is in the backlog has connected already: serve them */
            uv_close((uv_handle_t *)&l->poll, on_listener_closed);
        }
    }
}
