/* SPDX-License-Identifier: Apache-2.0 */
/* foreign.c - finding and opening the shared library of somebody else's runtime.
 *
 * The one idea: every way in which a runtime can be absent ends in one line that names the command that installs it.
 * Nothing is remembered here: the linker already knows what is open (a second dlopen of the same file is the same
 * handle), and what this process has loaded is read back from it. RTLD_NODELETE, because thread pools and thread-local
 * destructors of these libraries crash after dlclose.
 *
 * Two OpenMP runtimes in one process wait for each other's spinning threads; which ones are there is told from the
 * names of loaded files, so the check needs no registry of who brought what. ONNX Runtime (its own pool) and OpenVINO
 * (TBB) bring none. Rejected: a look into the current folder, which would run code from wherever the program was
 * started. Threads: any. */
#include "backend/foreign/foreign.h"

#include <dlfcn.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#if defined(__linux__)
#include <link.h>
#elif defined(__APPLE__)
#include <mach-o/dyld.h>
#endif

#include "base/error.h"
#include "base/system.h"

static bool first_match(char *path, size_t cap, const char *pattern)
{
    glob_t found = {0};
    bool ok = glob(pattern, 0, NULL, &found) == 0 && found.gl_pathc > 0 && strlen(found.gl_pathv[0]) < cap;
    if (ok) snprintf(path, cap, "%s", found.gl_pathv[0]);
    globfree(&found);
    return ok;
}

static bool in_venv(char *path, size_t cap, const char *venv, const char *pattern)
{
    char all[1024];
    int n = snprintf(all, sizeof all, "%s/lib/python3*/site-packages/%s", venv, pattern);
    return n > 0 && (size_t)n < sizeof all && first_match(path, cap, all);
}

/* The file itself, or a folder with such a file in it, or a virtual environment. */
static bool named(char *path, size_t cap, const char *value, const char *pattern)
{
    struct stat st;
    if (stat(value, &st)) return false;
    if (!S_ISDIR(st.st_mode)) return (size_t)snprintf(path, cap, "%s", value) < cap;
    const char *leaf = strrchr(pattern, '/');
    char all[1024];
    int n = snprintf(all, sizeof all, "%s/%s", value, leaf ? leaf + 1 : pattern);
    if (n > 0 && (size_t)n < sizeof all && first_match(path, cap, all)) return true;
    return in_venv(path, cap, value, pattern);
}

/* .venv beside the folder of the program: BUILD/couplet and .venv in one source tree. */
static bool beside_program(char *path, size_t cap, const char *pattern)
{
    char venv[512];
    if (!cpl_system_program(venv, sizeof venv - 16)) return false;
    for (int up = 0; up < 2; up++) {
        char *slash = strrchr(venv, '/');
        if (!slash) return false;
        *slash = 0;
    }
    memcpy(venv + strlen(venv), "/.venv", sizeof "/.venv");
    return in_venv(path, cap, venv, pattern);
}

bool cpl_foreign_find(char *path, size_t cap, const cpl_foreign_spec *spec)
{
    const char *value = spec->variable ? getenv(spec->variable) : NULL;
    if (value && *value) return named(path, cap, value, spec->pattern);
    static const char *const venvs[] = {"COUPLET_VENV", "VIRTUAL_ENV"};
    for (size_t i = 0; i < sizeof venvs / sizeof *venvs; i++) {
        value = getenv(venvs[i]);
        if (value && *value && in_venv(path, cap, value, spec->pattern)) return true;
    }
    return beside_program(path, cap, spec->pattern);
}

static cpl_status missing(const cpl_foreign_spec *spec, cpl_error *err)
{
    const char *value = spec->variable ? getenv(spec->variable) : NULL;
    if (value && *value)
        return cpl_fail(err, CPL_UNSUPPORTED, "%s is not at '%.200s', where %s says: run tools/setup.sh %s, or mend %s",
                        spec->what, value, spec->variable, spec->setup, spec->variable);
    return cpl_fail(err, CPL_UNSUPPORTED, "%s is not installed: run tools/setup.sh %s, or name its library in %s",
                    spec->what, spec->setup, spec->variable ? spec->variable : "COUPLET_VENV");
}

cpl_status cpl_foreign_wrong(const cpl_foreign *lib, const cpl_foreign_spec *spec, const char *why, cpl_error *err)
{
    return cpl_fail_file(err, CPL_UNSUPPORTED, lib->path,
                         "%s can't be used: %.200s: run tools/setup.sh %s for the version this plug-in was tested with",
                         spec->what, why, spec->setup);
}

static bool is_openmp(const char *file)
{
    static const char *const names[] = {"libgomp", "libiomp", "libomp"};
    const char *leaf = strrchr(file, '/');
    leaf = leaf ? leaf + 1 : file;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        size_t n = strlen(names[i]);
        if (!strncmp(leaf, names[i], n) && (leaf[n] == '.' || leaf[n] == '-' || (leaf[n] >= '0' && leaf[n] <= '9')))
            return true;
    }
    return false;
}

typedef struct openmp_list {
    char *paths;
    size_t cap, size, count;
} openmp_list;

static void note_openmp(openmp_list *l, const char *file)
{
    if (!file || !is_openmp(file)) return;
    int n = snprintf(l->paths + l->size, l->cap - l->size, "%s%s", l->count ? ", " : "", file);
    if (n > 0 && (size_t)n < l->cap - l->size) l->size += (size_t)n;
    l->count++;
}

#if defined(__linux__)
static int each_object(struct dl_phdr_info *info, size_t size, void *arg)
{
    (void)size;
    note_openmp(arg, info->dlpi_name);
    return 0;
}
#endif

size_t cpl_foreign_openmp(char *paths, size_t cap)
{
    openmp_list l = {.paths = paths, .cap = cap};
    paths[0] = 0;
#if defined(__linux__)
    dl_iterate_phdr(each_object, &l);
#elif defined(__APPLE__)
    for (uint32_t i = 0; i < _dyld_image_count(); i++) note_openmp(&l, _dyld_get_image_name(i));
#endif
    return l.count;
}

cpl_status cpl_foreign_open(cpl_foreign *out, const cpl_foreign_spec *spec, cpl_error *err)
{
    const int flags = RTLD_NOW | RTLD_NODELETE | (spec->global ? RTLD_GLOBAL : RTLD_LOCAL);
    const char *value = spec->variable ? getenv(spec->variable) : NULL;
    *out = (cpl_foreign){0};
    char openmp[600];
    const size_t before = cpl_foreign_openmp(openmp, sizeof openmp);
    if (cpl_foreign_find(out->path, sizeof out->path, spec)) {
        out->handle = dlopen(out->path, flags);
        const char *why = out->handle ? NULL : dlerror();
        if (!out->handle) return cpl_foreign_wrong(out, spec, why ? why : "it can't be loaded", err);
    } else {
        if ((value && *value) || !spec->soname) return missing(spec, err);
        out->handle = dlopen(spec->soname, flags);
        if (!out->handle) return missing(spec, err);
        snprintf(out->path, sizeof out->path, "%s", spec->soname);
    }
    const size_t after = cpl_foreign_openmp(openmp, sizeof openmp);
    if (after <= 1 || after == before) return CPL_OK;
    return cpl_fail(
        err, CPL_UNSUPPORTED,
        "%s brings a second OpenMP runtime into this process (%.300s), and two stall each other: run one such "
        "backend a process",
        spec->what, openmp);
}

cpl_status cpl_foreign_symbols(const cpl_foreign *lib, const cpl_foreign_spec *spec, const cpl_foreign_symbol *symbols,
                               size_t n, cpl_error *err)
{
    for (size_t i = 0; i < n; i++) {
        void *at = dlsym(lib->handle, symbols[i].name);
        if (!at) {
            char why[128];
            snprintf(why, sizeof why, "it has no '%s', so it is of another version", symbols[i].name);
            return cpl_foreign_wrong(lib, spec, why, err);
        }
        memcpy(symbols[i].slot, &at, sizeof at);
    }
    return CPL_OK;
}
