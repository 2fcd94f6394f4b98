/* SPDX-License-Identifier: Apache-2.0 */
/* plugin_solo.c - the fake backend with two devices and one session on each, as runtimes with threads of their own have
 * it: built as couplet-solo.so, for the engine's tests. */
#include "backend/registry.h"

CPL_API const cpl_backend *cpl_plugin(const cpl_host *host);

static cpl_backend backend;

static cpl_status probe(cpl_caps *out, const cpl_host *host, cpl_error *err)
{
    cpl_status st = cpl_backend_fake.probe(out, host, err);
    out->own_threads = 1;
    out->devices = 2;
    out->numa = 0;
    return st;
}

const cpl_backend *cpl_plugin(const cpl_host *host)
{
    (void)host;
    backend = cpl_backend_fake;
    backend.name = "solo";
    backend.probe = probe;
    return &backend;
}
