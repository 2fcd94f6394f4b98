/* SPDX-License-Identifier: Apache-2.0 */
/* registry.c - backends by name.
 *
 * The built-in ones are a list of pointers; anything else is couplet-NAME.so, opened with RTLD_LOCAL so that two
 * foreign runtimes don't see each other's symbols. A plug-in is asked for its backend with our host table and is held
 * to the ABI number and the sizes of both structs before anything in it is called.
 *
 * There is no state here: whoever finds a backend holds the library and releases it. Names are checked before they
 * become part of a path. Threads: any. */
#include "backend/registry.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/system.h"

#ifndef COUPLET_PLUGIN_DIR
#define COUPLET_PLUGIN_DIR "/usr/local/lib/couplet"
#endif

static const cpl_backend *const builtin[] = {&cpl_backend_native, &cpl_backend_fake, NULL};

static const char *const known[] = {"native", "cuda", "onnx",     "pytorch", "compiled",
                                    "mlx",    "mps",  "openvino", "fake",    NULL};

const char *const *cpl_backend_names(void) { return known; }

static bool valid_name(const char *name)
{
    size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-");
    return n && n <= 32 && !name[n];
}

static bool is_known(const char *name)
{
    for (size_t i = 0; known[i]; i++)
        if (!strcmp(known[i], name)) return true;
    return false;
}

static cpl_status not_here(const char *name, const char *dirs, cpl_error *err)
{
    if (!is_known(name))
        return cpl_fail(err, CPL_NOT_FOUND,
                        "unknown backend '%s': native and fake are built in, and no couplet-%s.so is in %s", name, name,
                        dirs);
    return cpl_fail(
        err, CPL_NOT_FOUND,
        "backend '%s' is not installed: no couplet-%s.so in %s; install that plug-in of couplet " COUPLET_VERSION
        " there, or name its folder in COUPLET_PLUGINS",
        name, name, dirs);
}

/* Tries DIR/couplet-NAME.so: true when such a file is there. */
static bool plugin_path(char *path, size_t cap, const char *dir, const char *name)
{
    int n = snprintf(path, cap, "%s/couplet-%s.so", dir, name);
    return n > 0 && (size_t)n < cap && access(path, F_OK) == 0;
}

enum { DIRS_MAX = 3 };

/* Where to look, in this order; how many. "plugins" beside the program is a build folder's. */
static size_t plugin_dirs(const char *dirs[DIRS_MAX], const char *only, char *beside, size_t cap)
{
    const char *environment = getenv("COUPLET_PLUGINS");
    size_t n = 0;
    if (only) {
        dirs[0] = only;
        return 1;
    }
    if (environment && *environment) dirs[n++] = environment;
    const size_t suffix = strlen("plugins") + 1;
    if (cap > suffix && cpl_system_program(beside, cap - suffix)) {
        char *slash = strrchr(beside, '/');
        memcpy(slash ? slash + 1 : beside, "plugins", suffix);
        if (access(beside, F_OK) == 0) dirs[n++] = beside;
    }
    dirs[n++] = COUPLET_PLUGIN_DIR;
    return n;
}

static cpl_status refuse(void *library, const char *path, const char *what, cpl_error *err)
{
    dlclose(library);
    return cpl_fail_file(err, CPL_UNSUPPORTED, path,
                         "%s: install the plug-in that was built with couplet " COUPLET_VERSION, what);
}

static cpl_status open_plugin(cpl_backend_ref *out, const char *path, const char *name, const cpl_host *host,
                              cpl_error *err)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        const char *why = dlerror();
        return cpl_fail_file(err, CPL_UNSUPPORTED, path,
                             "plug-in can't be loaded: %.200s: if a library is missing, run tools/setup.sh %s",
                             why ? why : "no reason given", name);
    }
    cpl_plugin_fn *entry = NULL;
    *(void **)&entry = dlsym(library, CPL_PLUGIN_SYMBOL);
    if (!entry)
        return refuse(library, path, "no symbol '" CPL_PLUGIN_SYMBOL "' in it, so it is no couplet plug-in", err);
    const cpl_backend *b = entry(host);
    if (!b) return refuse(library, path, "plug-in refuses this couplet: it was built for another ABI", err);
    if (b->abi != CPL_BACKEND_ABI || b->size != sizeof *b) {
        char what[160];
        snprintf(what, sizeof what, "plug-in has ABI %u and a table of %u bytes where this couplet has %d and %zu",
                 b->abi, b->size, CPL_BACKEND_ABI, sizeof *b);
        return refuse(library, path, what, err);
    }
    if (!b->name || strcmp(b->name, name) != 0)
        return refuse(library, path, "plug-in holds another backend than its file name says", err);
    if (!b->summary || !b->probe || !b->load || !b->open || !b->run || !b->close || !b->unload)
        return refuse(library, path, "plug-in's table has empty slots", err);
    *out = (cpl_backend_ref){.backend = b, .library = library};
    snprintf(out->path, sizeof out->path, "%s", path);
    return CPL_OK;
}

cpl_status cpl_backend_find(cpl_backend_ref *out, const char *name, const char *plugin_dir, const cpl_host *host,
                            cpl_error *err)
{
    static const char prefix[] = "plugin:";
    bool plugin_only = !strncmp(name, prefix, sizeof prefix - 1);
    if (plugin_only) name += sizeof prefix - 1;
    *out = (cpl_backend_ref){0};
    if (!valid_name(name))
        return cpl_fail(err, CPL_INVALID, "invalid backend name '%.40s': lower case letters, digits, '-' and '_' only",
                        name);
    for (size_t i = 0; !plugin_only && builtin[i]; i++) {
        if (strcmp(builtin[i]->name, name) != 0) continue;
        out->backend = builtin[i];
        return CPL_OK;
    }
    char path[sizeof out->path], beside[400], listed[500] = "";
    const char *dirs[DIRS_MAX];
    size_t used = 0;
    const size_t n = plugin_dirs(dirs, plugin_dir, beside, sizeof beside);
    for (size_t i = 0; i < n; i++)
        if (plugin_path(path, sizeof path, dirs[i], name)) return open_plugin(out, path, name, host, err);
    for (size_t i = 0; i < n && used < sizeof listed; i++)
        used += (size_t)snprintf(listed + used, sizeof listed - used, "%s'%.120s'", i ? " or " : "", dirs[i]);
    return not_here(name, listed, err);
}

void cpl_backend_release(cpl_backend_ref *ref)
{
    if (ref->library) dlclose(ref->library);
    *ref = (cpl_backend_ref){0};
}
