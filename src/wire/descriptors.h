/* SPDX-License-Identifier: Apache-2.0 */
/* descriptors.h - looking things up in the file descriptors that reflection publishes. */
#ifndef CPL_WIRE_DESCRIPTORS_H
#define CPL_WIRE_DESCRIPTORS_H

#include <stdbool.h>

#include "couplet.h"

/* A FileDescriptorSet, serialized. The program's own: every .proto under proto/, made by the build. */
typedef struct cpl_descriptors {
    const void *data;
    size_t size;
} cpl_descriptors;
cpl_descriptors cpl_descriptors_own(void);

/* The i-th serialized FileDescriptorProto; false past the last. */
bool cpl_descriptors_file(const cpl_descriptors *d, size_t i, cpl_text *file);
/* Number of the file called `name`, or that declares `symbol` ("package.Service.Method"); -1 when there is none. */
int cpl_descriptors_find_file(const cpl_descriptors *d, cpl_text name);
int cpl_descriptors_find_symbol(const cpl_descriptors *d, cpl_text symbol);
/* The j-th file that file i imports, as a number; -1 past the last. */
int cpl_descriptors_import(const cpl_descriptors *d, size_t i, size_t j);
/* The j-th service of file i as "package.Service" into buf; false past the last. */
bool cpl_descriptors_service(const cpl_descriptors *d, size_t i, size_t j, char *buf, size_t cap);

#endif
