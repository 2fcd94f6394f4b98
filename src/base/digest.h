/* SPDX-License-Identifier: Apache-2.0 */
/* digest.h - a number that knows large data again. */
#ifndef CPL_BASE_DIGEST_H
#define CPL_BASE_DIGEST_H

#include <stddef.h>
#include <stdint.h>

/* The same on every machine for the same bytes; some 10 GB/s. It notices any change that just happens, and none that
 * somebody made to go unnoticed: it is no signature. */
uint64_t cpl_digest(const void *data, size_t n);

#endif
