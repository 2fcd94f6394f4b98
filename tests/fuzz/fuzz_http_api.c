/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies of /rerank and /embed through a whole server, an embedder's and a cross-encoder's, over one kept connection:
 * every body is answered, by JSON and with a status that clients know, the connection goes on, and ranks name each text
 * once, best first. Input: a byte that chooses model and path, the body. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/error.h"
#include "base/json.h"
#include "serve/service.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SERVERS = 2, EMBED = 2 };

static const char *const dirs[SERVERS] = {"tests/golden/models/embedder-mean", "tests/golden/models/cross-encoder"};
static cpl_config *configs[SERVERS];
static cpl_service *services[SERVERS];
static int sockets[SERVERS];

static void close_services(void)
{
    for (int i = 0; i < SERVERS; i++) {
        cpl_service_close(services[i]);
        cpl_config_close(configs[i]);
    }
}

static void open_service(int i)
{
    char path[64], model[128], listen[128];
    snprintf(path, sizeof path, "/tmp/couplet-fuzz-%ld-%d", (long)getpid(), i);
    snprintf(model, sizeof model, "model.name=%s", dirs[i]);
    snprintf(listen, sizeof listen, "server.listen=[\"unix:%s\"]", path);
    const char *const sets[] = {
        model, listen, "model.backend=fake", "workers=1", "server.limits.max_pairs=40", "log.level=error", NULL};
    cpl_error err;
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    const struct timeval patience = {20, 0};
    if (cpl_config_load(&configs[i], NULL, false, sets, &err) ||
        cpl_service_open(&services[i], configs[i], false, NULL, &err)) {
        fprintf(stderr, "%s\n", err.what);
        abort();
    }
    memcpy(to.sun_path, path, strlen(path) + 1);
    sockets[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (sockets[i] < 0 || connect(sockets[i], (const struct sockaddr *)&to, sizeof to)) abort();
    if (setsockopt(sockets[i], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience)) abort();
}

static void send_all(int fd, const void *data, size_t n)
{
    for (const char *at = data; n;) {
        const ssize_t sent = send(fd, at, n, MSG_NOSIGNAL);
        if (sent <= 0) abort();
        at += sent;
        n -= (size_t)sent;
    }
}

/* One reply, its body in *body; its status. */
static int receive(int fd, cpl_buf *body)
{
    cpl_buf in = {0};
    const char *head = NULL, *length = NULL;
    size_t n = 0;
    int status = 0;
    while (!head || in.size < (size_t)(head - in.data) + 4 + n) {
        char piece[4096];
        const ssize_t got = recv(fd, piece, sizeof piece, 0);
        if (got <= 0) abort(); /* not answered, or the connection is gone */
        cpl_buf_add(&in, piece, (size_t)got);
        head = strstr(in.data, "\r\n\r\n");
        if (!head) continue;
        length = strstr(in.data, "Content-Length: ");
        if (!length || length > head || sscanf(in.data, "HTTP/1.1 %d", &status) != 1) abort();
        n = strtoul(length + 16, NULL, 10);
    }
    if (in.size != (size_t)(head - in.data) + 4 + n) abort(); /* more than one reply */
    cpl_buf_add(body, head + 4, n);
    cpl_buf_deinit(&in);
    return status;
}

static void check_ranks(const json_t *ranks, const uint8_t *data, size_t size)
{
    json_t *asked;
    cpl_error err;
    bool seen[40] = {false};
    double last = HUGE_VAL;
    if (cpl_json_parse(&asked, "body", (const char *)data, size, &err)) abort(); /* it was answered */
    const json_t *texts = json_object_get(asked, "texts");
    const size_t n = json_is_array(texts) ? json_array_size(texts) : 1;
    if (json_array_size(ranks) != n) abort();
    for (size_t i = 0; i < n; i++) {
        const json_t *rank = json_array_get(ranks, i), *score = json_object_get(rank, "score");
        const json_int_t index = json_integer_value(json_object_get(rank, "index"));
        if (index < 0 || (size_t)index >= n || seen[index] || !json_is_number(score)) abort();
        if (json_number_value(score) > last) abort();
        last = json_number_value(score);
        seen[index] = true;
    }
    json_decref(asked);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!services[0]) {
        for (int i = 0; i < SERVERS; i++) open_service(i);
        atexit(close_services);
    }
    if (size < 1 || size > 65536) return 0;
    const int fd = sockets[data[0] & 1];
    const bool embed = data[0] & EMBED;
    char head[128];
    cpl_buf body = {0};
    json_t *reply;
    cpl_error err;
    data++;
    size--;
    const int n = snprintf(head, sizeof head, "POST %s HTTP/1.1\r\nHost: fuzz\r\nContent-Length: %zu\r\n\r\n",
                           embed ? "/embed" : "/rerank", size);
    send_all(fd, head, (size_t)n);
    send_all(fd, data, size);
    const int status = receive(fd, &body);
    if (status != 200 && status != 400 && status != 422 && status != 424) abort();
    if (cpl_json_parse(&reply, "reply", body.data ? body.data : "", body.size, &err)) abort();
    if (status != 200 && !json_string_length(json_object_get(reply, "error"))) abort();
    if (status == 200 && !json_array_size(reply)) abort();
    if (status == 200 && !embed) check_ranks(reply, data, size);
    json_decref(reply);
    cpl_buf_deinit(&body);
    return 0;
}
