/* SPDX-License-Identifier: Apache-2.0 */
/* channel.h - one socket and one nghttp2 session on one loop, server's or client's: bytes in, frames out, in as few
 * system calls as may be, and an orderly end. */
#ifndef CPL_NET_CHANNEL_H
#define CPL_NET_CHANNEL_H

#include <nghttp2/nghttp2.h>

#include "net/loop_internal.h"

typedef struct cpl_channel cpl_channel;

/* What the owner is told; all on the loop's thread. */
typedef struct cpl_channel_events {
    void (*connected)(cpl_channel *ch); /* may be NULL */
    /* Bytes came. The owner feeds its session, or calls cpl_channel_end. */
    void (*received)(cpl_channel *ch, const uint8_t *data, size_t n);
    /* What was queued by cpl_channel_write is about to be written, at loop->write_ns; may be NULL. */
    void (*writing)(cpl_channel *ch);
    /* Exactly once for an opened channel: nothing more will be received or sent. `why` is a sentence's part. */
    void (*ended)(cpl_channel *ch, const char *why);
    /* The last word, in a later turn than `ended`: the memory is the owner's again. */
    void (*closed)(cpl_channel *ch);
} cpl_channel_events;

typedef enum cpl_channel_state {
    CPL_CHANNEL_CONNECTING,
    CPL_CHANNEL_OPEN,
    CPL_CHANNEL_LINGERING, /* our side is shut; what comes is dropped until the peer closes too */
    CPL_CHANNEL_CLOSED
} cpl_channel_state;

struct cpl_channel {
    cpl_loop *loop;
    nghttp2_session *session; /* the owner's; NULL while there is none */
    const cpl_channel_events *on;
    cpl_channel *next_dirty;
    int fd; /* -1: no socket; what is written vanishes (tests that feed bytes directly) */
    cpl_channel_state state;
    bool dirty, end_when_flushed;
    const char *lost;    /* why it ends at its next flush; NULL: it doesn't */
    int watched;         /* UV_READABLE | UV_WRITABLE */
    cpl_buf unsent;      /* gathered, but the socket was full */
    size_t unsent_at;    /* of it, already written */
    uint64_t heard_ns;   /* last bytes from the peer */
    cpl_deadline linger; /* end of patience while lingering; while connecting, the connect timeout */
    uv_poll_t poll;
};

/* Takes the descriptor (also on failure), non-blocking already. connecting: connect() is under way until
 * connect_deadline_ns. On failure no event comes. fd -1: see above. */
cpl_status cpl_channel_open(cpl_channel *ch, cpl_loop *loop, int fd, bool connecting, uint64_t connect_deadline_ns,
                            const cpl_channel_events *on, cpl_error *err);
/* Something was queued in the session: write it before the loop waits again. */
void cpl_channel_touch(cpl_channel *ch);
/* Raw bytes ahead of anything of the session's. */
void cpl_channel_write(cpl_channel *ch, const void *data, size_t n);
/* Writes what is queued, then ends the channel in good order. */
void cpl_channel_end_flushed(cpl_channel *ch);
/* Ends it now, unsent bytes lost. Fine on an ended one. */
void cpl_channel_end(cpl_channel *ch, const char *why);
/* Ends it at its next flush, unsent bytes lost: for who is in the middle of a call of the channel's, which `ended` may
 * take away. `why` is not copied. */
void cpl_channel_lose(cpl_channel *ch, const char *why);
void cpl_channel_flush(cpl_channel *ch); /* the loop's */

#endif
