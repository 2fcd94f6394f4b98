/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_replies.c - replies as the load generator reads them: the first byte picks the dialect, the second the pairs.
 * What is taken as whole must be taken again, and cut short it must not be. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "load/dialect.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t count = 0;
    cpl_error err;
    if (size < 2) return 0;
    while (cpl_dialects()[count]) count++;
    const cpl_dialect *d = cpl_dialects()[data[0] % count];
    const size_t n = 1 + data[1] % 16;
    size -= 2;
    uint8_t *copy = malloc(size ? size : 1); /* its end is the allocation's */
    if (!copy) return 0;
    memcpy(copy, data + 2, size);
    const cpl_status st = d->check(copy, size, n, &err);
    CPL_ASSERT(st == CPL_OK || st == CPL_CORRUPT || st == CPL_NO_MEMORY);
    CPL_ASSERT(d->check(copy, size, n, &err) == st);
    if (!st && !strcmp(d->name, "tei")) CPL_ASSERT(d->check(copy, size - 1, n, &err) || copy[size - 1] <= ' ');
    free(copy);
    return 0;
}
