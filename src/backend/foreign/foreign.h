/* SPDX-License-Identifier: Apache-2.0 */
/* foreign.h - finding and opening the shared library of somebody else's runtime, for plug-ins.
 *
 * Where it is looked for: the environment variable of the runtime (the library's path, or a folder), then the
 * site-packages of $COUPLET_VENV, of $VIRTUAL_ENV and of .venv beside the folder the program is in, then wherever the
 * system's linker looks. A library that is missing, broken or of another version is one line that says what to install.
 */
#ifndef CPL_BACKEND_FOREIGN_FOREIGN_H
#define CPL_BACKEND_FOREIGN_FOREIGN_H

#include <stdbool.h>
#include <stddef.h>

#include "couplet.h"

typedef struct cpl_foreign_spec {
    const char *what;     /* "ONNX Runtime" */
    const char *setup;    /* "onnx": tools/setup.sh onnx installs it */
    const char *variable; /* "COUPLET_ONNXRUNTIME" */
    const char *pattern;  /* below site-packages, wildcards allowed: "onnxruntime/capi/libonnxruntime.so*" */
    const char *soname;   /* "libonnxruntime.so.1"; NULL: a system's own is not looked for */
    bool global;          /* RTLD_GLOBAL: further libraries of it need its symbols */
} cpl_foreign_spec;

typedef struct cpl_foreign {
    void *handle;
    char path[512]; /* of the file that was opened */
} cpl_foreign;

/* A library stays in the process once opened: these runtimes have threads and thread-local state that don't survive
 * dlclose. CPL_UNSUPPORTED when there is none, it can't be loaded, or a second OpenMP runtime came with it (they stall
 * each other). */
cpl_status cpl_foreign_open(cpl_foreign *out, const cpl_foreign_spec *spec, cpl_error *err);
/* The file of a library without opening it; false when it isn't below any site-packages nor named by the variable. */
bool cpl_foreign_find(char *path, size_t cap, const cpl_foreign_spec *spec);

/* One function or datum that is needed: *(void **)slot is set. */
typedef struct cpl_foreign_symbol {
    const char *name;
    void *slot;
} cpl_foreign_symbol;
cpl_status cpl_foreign_symbols(const cpl_foreign *lib, const cpl_foreign_spec *spec, const cpl_foreign_symbol *symbols,
                               size_t n, cpl_error *err);

/* "X at PATH is too old: ... ; install with tools/setup.sh NAME" */
cpl_status cpl_foreign_wrong(const cpl_foreign *lib, const cpl_foreign_spec *spec, const char *why, cpl_error *err);

/* Paths of the OpenMP runtimes in this process, ", " between them; how many. */
size_t cpl_foreign_openmp(char *paths, size_t cap);

#endif
