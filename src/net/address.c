/* SPDX-License-Identifier: Apache-2.0 */
/* address.c - the one place that reads and writes addresses, for listener and client alike. */
#include "net/address.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/un.h>

#include "base/error.h"

static cpl_status unix_address(const char *path, cpl_address *out, cpl_error *err)
{
    struct sockaddr_un *un = (struct sockaddr_un *)&out->storage;
    if (!*path || strlen(path) >= sizeof un->sun_path)
        return cpl_fail(err, CPL_INVALID, "unix socket path '%s' must have 1 to %zu bytes", path,
                        sizeof un->sun_path - 1);
    *out = (cpl_address){.size = sizeof *un};
    un->sun_family = AF_UNIX;
    memcpy(un->sun_path, path, strlen(path));
    return CPL_OK;
}

/* Cuts text into host and port; false when it has neither form. */
static bool split(const char *text, char *host, size_t host_cap, char *port, size_t port_cap)
{
    const char *colon = strrchr(text, ':');
    if (!colon || !colon[1] || strspn(colon + 1, "0123456789") != strlen(colon + 1)) return false;
    const char *from = text, *to = colon;
    if (*from == '[') {
        if (to - from < 2 || to[-1] != ']') return false;
        from++, to--;
    } else if (memchr(from, ':', (size_t)(to - from))) {
        return false; /* IPv6 without brackets: which colon is the port's? */
    }
    if ((size_t)(to - from) >= host_cap || strlen(colon + 1) >= port_cap) return false;
    memcpy(host, from, (size_t)(to - from));
    host[to - from] = 0;
    memcpy(port, colon + 1, strlen(colon + 1) + 1);
    return true;
}

cpl_status cpl_address_resolve(const char *text, bool passive, cpl_address out[CPL_ADDRESSES_MAX], size_t *count,
                               cpl_error *err)
{
    char bare[512], host[256], port[8];
    *count = 0;
    if (!strncmp(text, "unix:", 5)) {
        *count = 1;
        return unix_address(text + 5, out, err);
    }
    const char *from = strncmp(text, "http://", 7) ? text : text + 7;
    size_t n = strlen(from);
    if (n && from != text && from[n - 1] == '/') n--;
    if (n >= sizeof bare) return cpl_fail(err, CPL_INVALID, "address is too long: '%.64s...'", text);
    memcpy(bare, from, n);
    bare[n] = 0;
    if (!split(bare, host, sizeof host, port, sizeof port) || strtoul(port, NULL, 10) > 65535 || (!passive && !*host))
        return cpl_fail(err, CPL_INVALID, "address '%s' is not HOST:PORT, [IPV6]:PORT or unix:PATH", text);
    bool any = passive && (!*host || !strcmp(host, "*"));
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *list = NULL;
    if (passive) hints.ai_flags |= AI_PASSIVE;
    int rc = getaddrinfo(any ? NULL : host, port, &hints, &list);
    if (rc) return cpl_fail(err, CPL_NOT_FOUND, "host '%s' can't be resolved: %s", host, gai_strerror(rc));
    for (struct addrinfo *a = list; a && *count < CPL_ADDRESSES_MAX; a = a->ai_next) {
        if (a->ai_addrlen > sizeof out->storage) continue;
        out[*count] = (cpl_address){.size = a->ai_addrlen};
        memcpy(&out[*count].storage, a->ai_addr, a->ai_addrlen);
        ++*count;
    }
    freeaddrinfo(list);
    return *count ? CPL_OK : cpl_fail(err, CPL_NOT_FOUND, "host '%s' has no address", host);
}

void cpl_address_print(const cpl_address *a, char out[CPL_ADDRESS_TEXT])
{
    char host[INET6_ADDRSTRLEN] = "?";
    if (a->storage.ss_family == AF_UNIX) {
        snprintf(out, CPL_ADDRESS_TEXT, "unix:%s", ((const struct sockaddr_un *)&a->storage)->sun_path);
    } else if (a->storage.ss_family == AF_INET6) {
        const struct sockaddr_in6 *in = (const struct sockaddr_in6 *)&a->storage;
        inet_ntop(AF_INET6, &in->sin6_addr, host, sizeof host);
        snprintf(out, CPL_ADDRESS_TEXT, "[%s]:%u", host, ntohs(in->sin6_port));
    } else {
        const struct sockaddr_in *in = (const struct sockaddr_in *)&a->storage;
        inet_ntop(AF_INET, &in->sin_addr, host, sizeof host);
        snprintf(out, CPL_ADDRESS_TEXT, "%s:%u", host, ntohs(in->sin_port));
    }
}

bool cpl_address_is_local(const cpl_address *a)
{
    if (a->storage.ss_family == AF_UNIX) return true;
    if (a->storage.ss_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)&a->storage)->sin_addr.s_addr) >> 24 == 127;
    if (a->storage.ss_family != AF_INET6) return false;
    const struct in6_addr *v6 = &((const struct sockaddr_in6 *)&a->storage)->sin6_addr;
    return IN6_IS_ADDR_LOOPBACK(v6) || (IN6_IS_ADDR_V4MAPPED(v6) && v6->s6_addr[12] == 127);
}
