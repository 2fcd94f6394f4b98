/* SPDX-License-Identifier: Apache-2.0 */
/* address.h - "HOST:PORT", "[V6]:PORT" and "unix:PATH", as socket addresses and back. */
#ifndef CPL_NET_ADDRESS_H
#define CPL_NET_ADDRESS_H

#include <stdbool.h>
#include <sys/socket.h>

#include "couplet.h"

enum { CPL_ADDRESS_TEXT = 128, CPL_ADDRESSES_MAX = 8 };

typedef struct cpl_address {
    struct sockaddr_storage storage;
    socklen_t size;
} cpl_address;

/* Resolves `text` (a leading "http://" is dropped, so is one trailing '/'). passive: to listen; host "" or "*" is then
 * every address. Fills out[0 .. *count), in the resolver's order. Blocks for names. */
cpl_status cpl_address_resolve(const char *text, bool passive, cpl_address out[CPL_ADDRESSES_MAX], size_t *count,
                               cpl_error *err);
/* "127.0.0.1:80", "[::1]:80", "unix:PATH". */
void cpl_address_print(const cpl_address *a, char out[CPL_ADDRESS_TEXT]);
/* Is it this machine's: a unix socket, or an address of the loopback interface (127.0.0.0/8, ::1)? */
bool cpl_address_is_local(const cpl_address *a);

#endif
