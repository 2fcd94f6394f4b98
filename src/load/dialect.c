/* SPDX-License-Identifier: Apache-2.0 */
/* dialect.c - the dialects by name. A new one is a file with an encode and a check, and a line here.
 * Threads: no state. Rejected: trusting a reply by its status alone (a server that answers 31 scores to 32 pairs would
 * then be the fastest). */
#include "load/dialect.h"

#include <string.h>

#include "base/error.h"

static const cpl_dialect *const all[] = {&cpl_dialect_couplet_grpc,
                                         &cpl_dialect_tei,
                                         &cpl_dialect_tei_grpc,
                                         &cpl_dialect_cohere,
                                         &cpl_dialect_jina,
                                         &cpl_dialect_openai,
                                         &cpl_dialect_vllm,
                                         &cpl_dialect_oip,
                                         &cpl_dialect_oip_grpc,
                                         &cpl_dialect_infinity,
                                         NULL};

const cpl_dialect *const *cpl_dialects(void) { return all; }

cpl_status cpl_dialect_find(const cpl_dialect **out, const char *name, cpl_error *err)
{
    char names[200] = "";
    *out = NULL;
    for (size_t i = 0; all[i]; i++) {
        if (!strcmp(name, all[i]->name)) {
            *out = all[i];
            return CPL_OK;
        }
        strncat(names, i ? ", " : "", sizeof names - strlen(names) - 1);
        strncat(names, all[i]->name, sizeof names - strlen(names) - 1);
    }
    return cpl_fail(err, CPL_INVALID, "unknown dialect '%s': use one of %s", name, names);
}
