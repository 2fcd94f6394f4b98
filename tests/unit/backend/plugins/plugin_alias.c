/* SPDX-License-Identifier: Apache-2.0 */
/* plugin_alias.c - a plug-in under another name than its own, for test_registry.c: built as couplet-alias.so. */
#include "backend/backend.h"

CPL_API const cpl_backend *cpl_plugin(const cpl_host *host);

static const cpl_backend backend = {.abi = CPL_BACKEND_ABI, .size = sizeof(cpl_backend), .name = "somebody"};

const cpl_backend *cpl_plugin(const cpl_host *host)
{
    (void)host;
    return &backend;
}
