/* SPDX-License-Identifier: Apache-2.0 */
/* Short texts that mean something: headers of requests and values of options. The first byte says which reader gets the
 * rest. What is accepted is what its contract says, printed and read again it is the same; a refusal is one line. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/utf8.h"
#include "load/shape.h"
#include "load/slo.h"
#include "net/grpc_text.h"
#include "wire/otlp.h"
#include "wire/trace.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_refusal(const cpl_error *err)
{
    if (!err->what[0] || strpbrk(err->what, "\r\n")) abort();
}

static void read_traceparent(const char *text, size_t n)
{
    cpl_trace_context c, again;
    char printed[CPL_TRACE_PARENT_CAP];
    if (!cpl_trace_context_parse(&c, (cpl_text){text, n})) return;
    cpl_trace_context_print(&c, printed);
    if (!cpl_trace_context_parse(&again, cpl_text_of(printed)) || memcmp(&again, &c, sizeof c) != 0) abort();
    if (memcmp(printed + 2, text + 2, 53) != 0) abort(); /* all but the version */
}

static void read_timeout(const char *text, size_t n)
{
    uint64_t ns, again;
    char printed[CPL_GRPC_TIMEOUT_TEXT];
    if (!cpl_grpc_timeout_parse(text, n, &ns)) return;
    const size_t m = cpl_grpc_timeout_format(ns, printed);
    if (m >= sizeof printed || !cpl_grpc_timeout_parse(printed, m, &again) || again < ns / 2) abort();
}

static void read_message(const char *text, size_t n)
{
    cpl_buf decoded = {0}, encoded = {0}, again = {0};
    cpl_grpc_percent_decode(&decoded, text, n);
    if (decoded.size > n) abort();
    cpl_grpc_percent_encode(&encoded, decoded.data ? decoded.data : "", decoded.size, SIZE_MAX);
    cpl_grpc_percent_decode(&again, encoded.data ? encoded.data : "", encoded.size);
    if (again.size != decoded.size || (again.size && memcmp(again.data, decoded.data, again.size) != 0)) abort();
    cpl_buf_clear(&encoded);
    cpl_grpc_percent_encode(&encoded, text, n, n / 2);
    if (encoded.size > n / 2 && cpl_utf8_valid_prefix(text, n) == n) abort();
    cpl_buf_deinit(&decoded);
    cpl_buf_deinit(&encoded);
    cpl_buf_deinit(&again);
}

static void read_slo(const char *text)
{
    cpl_slo slo;
    cpl_error err = {0};
    if (cpl_slo_parse(&slo, text, &err))
        check_refusal(&err);
    else if (!(slo.ms > 0 && slo.ms < 1e9) || !(slo.part >= 0 && slo.part < 1))
        abort();
}

static void read_lengths(const char *text)
{
    cpl_shape shape;
    cpl_error err = {0};
    uint64_t state = 1;
    if (!strncmp(text, "fit:", 4)) return; /* a file: fuzz_records */
    if (cpl_shape_parse(&shape, text, 0, 0, &err)) {
        check_refusal(&err);
        return;
    }
    for (int i = 0; i < 100 && shape.lengths != CPL_LENGTHS_GIVEN; i++) {
        const uint32_t n = cpl_shape_draw(&shape, &state);
        if (n < CPL_SHAPE_TOKENS_MIN || n > CPL_SHAPE_TOKENS_MAX || cpl_shape_query_tokens(n) >= n) abort();
    }
}

static void read_endpoint(const char *text)
{
    cpl_otlp_target to;
    cpl_error err = {0};
    if (cpl_otlp_target_parse(&to, text, &err))
        check_refusal(&err);
    else if (!to.host[0] || to.path[0] != '/' || strpbrk(to.host, "\r\n /") || strpbrk(to.path, "\r\n "))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1) return 0;
    char *text = malloc(size); /* terminated; the readers that take a length get none of that */
    if (!text) abort();
    memcpy(text, data + 1, size - 1);
    text[size - 1] = 0;
    switch (data[0]) {
    case 't': read_traceparent((const char *)data + 1, size - 1); break;
    case 'g': read_timeout((const char *)data + 1, size - 1); break;
    case 'm': read_message((const char *)data + 1, size - 1); break;
    case 's': read_slo(text); break;
    case 'l': read_lengths(text); break;
    case 'o': read_endpoint(text); break;
    }
    free(text);
    return 0;
}
