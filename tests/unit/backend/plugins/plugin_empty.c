/* SPDX-License-Identifier: Apache-2.0 */
/* plugin_empty.c - a right contract with nothing in the table, for test_registry.c: built as couplet-empty.so. */
#include "backend/backend.h"

CPL_API const cpl_backend *cpl_plugin(const cpl_host *host);

static const cpl_backend backend = {.abi = CPL_BACKEND_ABI, .size = sizeof(cpl_backend), .name = "empty"};

const cpl_backend *cpl_plugin(const cpl_host *host)
{
    (void)host;
    return &backend;
}
