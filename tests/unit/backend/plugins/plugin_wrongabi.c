/* SPDX-License-Identifier: Apache-2.0 */
/* plugin_wrongabi.c - a plug-in of another contract, for test_registry.c: built as couplet-wrongabi.so. */
#include "backend/backend.h"

CPL_API const cpl_backend *cpl_plugin(const cpl_host *host);

static const cpl_backend backend = {.abi = CPL_BACKEND_ABI + 1, .size = sizeof(cpl_backend), .name = "wrongabi"};

const cpl_backend *cpl_plugin(const cpl_host *host)
{
    (void)host;
    return &backend;
}
