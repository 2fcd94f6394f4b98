/* SPDX-License-Identifier: Apache-2.0 */
/* registry.h - backends by name: the built-in ones, then plug-ins. */
#ifndef CPL_BACKEND_REGISTRY_H
#define CPL_BACKEND_REGISTRY_H

#include "backend/backend.h"

extern const cpl_backend cpl_backend_native, cpl_backend_fake;

/* A backend and, for a plug-in, the library that holds it. */
typedef struct cpl_backend_ref {
    const cpl_backend *backend;
    void *library;  /* dlopen handle or NULL */
    char path[512]; /* of the plug-in; "" for a built-in one */
} cpl_backend_ref;

/* "native", "fake", or couplet-NAME.so in `plugin_dir` (NULL: $COUPLET_PLUGINS, then the folder plugins beside
 * the program, where a build leaves them, then the library directory; opened RTLD_LOCAL). "plugin:NAME" skips the
 * built-in ones. The error of a missing or mismatching one is a line that says what to install. */
cpl_status cpl_backend_find(cpl_backend_ref *out, const char *name, const char *plugin_dir, const cpl_host *host,
                            cpl_error *err);
void cpl_backend_release(cpl_backend_ref *ref); /* after its last weights were unloaded */

/* Names couplet knows of, built here or not, NULL-terminated: what `doctor` lists. */
const char *const *cpl_backend_names(void);
/* The host table this process lends. */
void cpl_host_init(cpl_host *host, const cpl_log *log);

#endif
