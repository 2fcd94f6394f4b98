/* SPDX-License-Identifier: Apache-2.0 */
/* plugin_fake.c - the entry of couplet-fake.so: the fake backend through the door that foreign runtimes come in by.
 * The host is held to the same ABI before its table is kept. */
#include "backend/registry.h"

CPL_API const cpl_backend *cpl_plugin(const cpl_host *host);

const cpl_backend *cpl_plugin(const cpl_host *host)
{
    if (host->abi != CPL_BACKEND_ABI || host->size != sizeof *host) return NULL;
    return &cpl_backend_fake;
}
