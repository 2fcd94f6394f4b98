/* SPDX-License-Identifier: Apache-2.0 */
/* channel.c - socket in, nghttp2 out. All that touches the descriptor is socket_read and socket_write; TLS goes in
 * there and nowhere else.
 *
 * Writing: frames are gathered into the loop's one buffer (WRITE_BYTES at a time) and written in one call. What the
 * kernel doesn't take stays in `unsent`, and nothing more is asked of nghttp2 until it is gone: a slow reader holds
 * back one gather's worth of bytes and otherwise only its own flow control windows.
 *
 * Ending: closing a socket that has unread bytes in it makes the kernel send RST, which can destroy replies that the
 * peer hasn't read yet. So in good order means: everything written, our side shut, then reading and dropping until the
 * peer closes too or LINGER_NS pass.
 *
 * Rejected: uv_stream. It needs a request and an owned copy for each write, and leaves no room for TLS on the
 * descriptor. */
#include "net/channel.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"

enum { WRITE_BYTES = 64 * 1024, READS_A_TURN = 4, UNREAD_FRAMES_MAX = 20000, RETAINED_BYTES = 4096 };
static const uint64_t LINGER_NS = 1000000000;

static ssize_t socket_read(cpl_channel *ch, void *data, size_t n) { return recv(ch->fd, data, n, 0); }

static ssize_t socket_write(cpl_channel *ch, const void *data, size_t n)
{
    return ch->fd < 0 ? (ssize_t)n : send(ch->fd, data, n, MSG_NOSIGNAL);
}

static void on_event(uv_poll_t *poll, int status, int events);

static void watch(cpl_channel *ch, int events)
{
    if (ch->watched == events || ch->fd < 0) return;
    ch->watched = events;
    uv_poll_start(&ch->poll, events, on_event);
}

static void on_uv_closed(uv_handle_t *handle)
{
    cpl_channel *ch = handle->data;
    close(ch->fd);
    ch->fd = -1;
    ch->on->closed(ch);
}

static void close_now(cpl_channel *ch)
{
    if (ch->state == CPL_CHANNEL_CLOSED) return;
    ch->state = CPL_CHANNEL_CLOSED;
    cpl_deadline_remove(&ch->loop->deadlines, &ch->linger);
    if (ch->dirty) {
        cpl_channel **at = &ch->loop->dirty;
        while (*at != ch) at = &(*at)->next_dirty;
        *at = ch->next_dirty;
        ch->dirty = false;
    }
    cpl_buf_deinit(&ch->unsent);
    if (ch->fd < 0) {
        ch->on->closed(ch);
    } else {
        uv_close((uv_handle_t *)&ch->poll, on_uv_closed);
    }
}

void cpl_channel_end(cpl_channel *ch, const char *why)
{
    if (ch->state == CPL_CHANNEL_CLOSED) return;
    if (ch->state != CPL_CHANNEL_LINGERING) ch->on->ended(ch, why);
    close_now(ch);
}

static void on_patience_over(cpl_deadline *d)
{
    cpl_channel *ch = (cpl_channel *)((char *)d - offsetof(cpl_channel, linger));
    cpl_channel_end(ch, "connecting took too long");
}

static void end_in_order(cpl_channel *ch)
{
    ch->on->ended(ch, "the connection was closed in good order");
    if (ch->fd < 0 || shutdown(ch->fd, SHUT_WR) != 0) {
        close_now(ch);
        return;
    }
    ch->state = CPL_CHANNEL_LINGERING;
    ch->linger.when_ns = cpl_clock_ns() + LINGER_NS;
    if (!cpl_deadline_add(&ch->loop->deadlines, &ch->linger)) {
        close_now(ch);
        return;
    }
    watch(ch, UV_READABLE);
}

cpl_status cpl_channel_open(cpl_channel *ch, cpl_loop *loop, int fd, bool connecting, uint64_t connect_deadline_ns,
                            const cpl_channel_events *on, cpl_error *err)
{
    *ch = (cpl_channel){.loop = loop, .on = on, .fd = fd};
    ch->state = connecting ? CPL_CHANNEL_CONNECTING : CPL_CHANNEL_OPEN;
    ch->heard_ns = cpl_clock_ns();
    ch->linger.expired = on_patience_over;
    if (fd < 0) return CPL_OK;
    ch->linger.when_ns = connect_deadline_ns;
    if (connecting && !cpl_deadline_add(&loop->deadlines, &ch->linger)) {
        close(fd);
        return cpl_fail_memory(err, sizeof(void *));
    }
    int rc = uv_poll_init(&loop->uv, &ch->poll, fd);
    if (rc) {
        cpl_deadline_remove(&loop->deadlines, &ch->linger);
        close(fd);
        return cpl_fail(err, CPL_IO, "a connection can't be watched: %s", uv_strerror(rc));
    }
    ch->poll.data = ch;
    watch(ch, connecting ? UV_WRITABLE : UV_READABLE);
    return CPL_OK;
}

void cpl_channel_touch(cpl_channel *ch)
{
    if (ch->dirty || ch->state == CPL_CHANNEL_CLOSED) return;
    ch->dirty = true;
    ch->next_dirty = ch->loop->dirty;
    ch->loop->dirty = ch;
}

void cpl_channel_write(cpl_channel *ch, const void *data, size_t n)
{
    if (!ch->lost) cpl_buf_add(&ch->unsent, data, n);
    cpl_channel_touch(ch);
}

void cpl_channel_lose(cpl_channel *ch, const char *why)
{
    ch->lost = why;
    cpl_channel_touch(ch);
}

void cpl_channel_end_flushed(cpl_channel *ch)
{
    ch->end_when_flushed = true;
    cpl_channel_touch(ch);
}

/* Writes data; keeps what the socket doesn't take. False when the channel was ended or has to wait. */
static bool push(cpl_channel *ch, const char *data, size_t n)
{
    ssize_t done = socket_write(ch, data, n);
    if (done < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
        cpl_channel_end(ch, strerror(errno));
        return false;
    }
    if (done < 0) done = 0;
    cpl_count(&ch->loop->bytes_out, done);
    if ((size_t)done == n) return true;
    cpl_buf_add(&ch->unsent, data + done, n - (size_t)done);
    if (ch->unsent.failed) {
        cpl_channel_end(ch, "out of memory");
        return false;
    }
    watch(ch, UV_READABLE | UV_WRITABLE);
    return false;
}

static bool push_unsent(cpl_channel *ch)
{
    if (ch->lost || ch->unsent.failed) {
        cpl_channel_end(ch, ch->lost ? ch->lost : "out of memory");
        return false;
    }
    while (ch->unsent_at < ch->unsent.size) {
        ssize_t done = socket_write(ch, ch->unsent.data + ch->unsent_at, ch->unsent.size - ch->unsent_at);
        if (done < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
            cpl_channel_end(ch, strerror(errno));
            return false;
        }
        if (done <= 0) {
            watch(ch, UV_READABLE | UV_WRITABLE);
            return false;
        }
        ch->unsent_at += (size_t)done;
        cpl_count(&ch->loop->bytes_out, done);
    }
    ch->unsent_at = 0;
    if (ch->unsent.cap > RETAINED_BYTES)
        cpl_buf_deinit(&ch->unsent);
    else
        cpl_buf_clear(&ch->unsent);
    return true;
}

void cpl_channel_flush(cpl_channel *ch)
{
    if (ch->state != CPL_CHANNEL_OPEN) return;
    cpl_buf *out = &ch->loop->out;
    ch->loop->write_ns = cpl_clock_ns();
    if (ch->on->writing && ch->unsent.size) ch->on->writing(ch);
    if (!push_unsent(ch)) return;
    for (bool more = ch->session != NULL; more;) {
        cpl_buf_clear(out);
        while (out->size < WRITE_BYTES) {
            const uint8_t *frame;
            ssize_t n = nghttp2_session_mem_send(ch->session, &frame);
            if (n < 0) {
                cpl_channel_end(ch, nghttp2_strerror((int)n));
                return;
            }
            more = n > 0;
            if (!more) break;
            cpl_buf_add(out, frame, (size_t)n);
        }
        if (out->failed) {
            cpl_channel_end(ch, "out of memory");
            return;
        }
        if (out->size && !push(ch, out->data, out->size)) return;
    }
    if (ch->watched & UV_WRITABLE) watch(ch, UV_READABLE);
    bool through = ch->session && !nghttp2_session_want_read(ch->session) && !nghttp2_session_want_write(ch->session);
    if (through || ch->end_when_flushed) end_in_order(ch);
}

static void finish_connect(cpl_channel *ch)
{
    int error = 0;
    socklen_t n = sizeof error;
    if (getsockopt(ch->fd, SOL_SOCKET, SO_ERROR, &error, &n) != 0) error = errno;
    if (error) {
        cpl_channel_end(ch, strerror(error));
        return;
    }
    cpl_deadline_remove(&ch->loop->deadlines, &ch->linger);
    ch->state = CPL_CHANNEL_OPEN;
    watch(ch, UV_READABLE);
    cpl_channel_touch(ch);
    if (ch->on->connected) ch->on->connected(ch);
}

static void read_some(cpl_channel *ch)
{
    cpl_loop *loop = ch->loop;
    for (int i = 0; i < READS_A_TURN; i++) {
        ssize_t n = socket_read(ch, loop->in, CPL_LOOP_READ_BYTES);
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) return;
        if (n <= 0) {
            cpl_channel_end(ch, n < 0 ? strerror(errno) : "the peer closed the connection");
            return;
        }
        cpl_count(&loop->bytes_in, n);
        loop->read_ns = ch->heard_ns = cpl_clock_ns();
        if (ch->state == CPL_CHANNEL_LINGERING) continue;
        ch->on->received(ch, loop->in, (size_t)n);
        if (ch->state != CPL_CHANNEL_OPEN) return;
        if (ch->session && nghttp2_session_get_outbound_queue_size(ch->session) > UNREAD_FRAMES_MAX) {
            cpl_channel_end(ch, "the peer makes answers necessary and doesn't read them");
            return;
        }
        if (n < CPL_LOOP_READ_BYTES) return;
    }
}

static void on_event(uv_poll_t *poll, int status, int events)
{
    cpl_channel *ch = poll->data;
    if (ch->state == CPL_CHANNEL_CLOSED) return;
    if (ch->state == CPL_CHANNEL_CONNECTING) {
        finish_connect(ch);
        return;
    }
    if (status < 0) {
        /* A socket error, which libuv answers by no longer watching. It shows in recv with its name, but only once the
         * bytes that came before it are read: watch on. */
        int watched = ch->watched;
        ch->watched = 0;
        watch(ch, watched);
    }
    if (status < 0 || (events & UV_READABLE)) read_some(ch);
    if ((events & UV_WRITABLE) && ch->state == CPL_CHANNEL_OPEN) cpl_channel_touch(ch);
}
