/* SPDX-License-Identifier: Apache-2.0 */
/* plugin_device.c - the fake backend with one device and two sessions on it, as a GPU has them: its workers wait for
 * the device and leave the cores alone. Built as couplet-device.so, for the tests of the public library. */
#include "backend/registry.h"

CPL_API const cpl_backend *cpl_plugin(const cpl_host *host);

static cpl_backend backend;

static cpl_status probe(cpl_caps *out, const cpl_host *host, cpl_error *err)
{
    cpl_status st = cpl_backend_fake.probe(out, host, err);
    out->sessions_per_device = 2;
    out->numa = 0;
    return st;
}

const cpl_backend *cpl_plugin(const cpl_host *host)
{
    (void)host;
    backend = cpl_backend_fake;
    backend.name = "device";
    backend.probe = probe;
    return &backend;
}
