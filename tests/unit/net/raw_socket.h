/* SPDX-License-Identifier: Apache-2.0 */
/* raw_socket.h - a client's socket for the net tests: connect, send, close. Included by test files only, after
 * cmocka.h. */
#ifndef CPL_TESTS_RAW_SOCKET_H
#define CPL_TESTS_RAW_SOCKET_H

#include <nghttp2/nghttp2.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "net/address.h"

typedef struct raw {
    int fd;
    cpl_buf in; /* unread */
    nghttp2_hd_inflater *headers;
    int closed;
} raw;

static raw raw_open(const char *address)
{
    raw r = {0};
    cpl_address a[CPL_ADDRESSES_MAX];
    size_t n;
    cpl_error err;
    assert_int_equal(cpl_address_resolve(address, false, a, &n, &err), CPL_OK);
    r.fd = socket(a->storage.ss_family, SOCK_STREAM, 0);
    assert_int_equal(connect(r.fd, (struct sockaddr *)&a->storage, a->size), 0);
    assert_int_equal(nghttp2_hd_inflate_new(&r.headers), 0);
    return r;
}

static void raw_close(raw *r)
{
    close(r->fd);
    nghttp2_hd_inflate_del(r->headers);
    cpl_buf_deinit(&r->in);
}

static void raw_send(raw *r, const void *data, size_t n)
{
    const char *p = data;
    while (n) {
        ssize_t done = send(r->fd, p, n, MSG_NOSIGNAL);
        if (done < 0) return; /* the server has closed; what it said first is read later */
        p += done;
        n -= (size_t)done;
    }
}

#endif
