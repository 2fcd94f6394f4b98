/* SPDX-License-Identifier: Apache-2.0 */
/* locate.c - finds model directories where people have them.
 * The one idea: a directory counts only when it holds a config.json, so a name never resolves to something that isn't a
 * model. Nothing is fetched and nothing substituted, but for the one seeded cross-encoder that the caller must allow.
 * Threads: none of its own; reads the environment. */
#include "model/locate.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"

static const char models_dir[] = "models";
static const char seeded_dir[] = "models/seeded-cross-encoder";
static const char seeded_for[] = "ms-marco-MiniLM-L-6-v2";

enum { PATH_CAP = 1024 };

static bool holds_model(const char *dir)
{
    char path[PATH_CAP + 16];
    int n = snprintf(path, sizeof path, "%s/config.json", dir);
    return n > 0 && n < (int)sizeof path && cpl_file_exists(path);
}

static const char *last_part(const char *name)
{
    const char *slash = strrchr(name, '/');
    return slash ? slash + 1 : name;
}

/* Where the hub's clients keep models. */
static void hub_cache(char *buf, size_t cap)
{
    const char *hub = getenv("HF_HUB_CACHE"), *home = getenv("HF_HOME"), *cache = getenv("XDG_CACHE_HOME"),
               *user = getenv("HOME");
    if (hub && *hub)
        snprintf(buf, cap, "%s", hub);
    else if (home && *home)
        snprintf(buf, cap, "%s/hub", home);
    else if (cache && *cache)
        snprintf(buf, cap, "%s/huggingface/hub", cache);
    else
        snprintf(buf, cap, "%s/.cache/huggingface/hub", user && *user ? user : "");
}

/* The snapshot that refs/main names, else (a cache without refs) the only one there is. */
static bool find_snapshot(char *dir, size_t cap, const char *repo)
{
    char path[PATH_CAP];
    cpl_buf ref = {0};
    int n = snprintf(path, sizeof path, "%s/refs/main", repo);
    if (n < (int)sizeof path && cpl_file_exists(path) && !cpl_file_read(&ref, path, 256, NULL) && ref.data) {
        ref.data[strcspn(ref.data, "\r\n ")] = 0;
        n = snprintf(dir, cap, "%s/snapshots/%s", repo, ref.data);
        cpl_buf_deinit(&ref);
        return n < (int)cap && holds_model(dir);
    }
    cpl_buf_deinit(&ref);
    n = snprintf(path, sizeof path, "%s/snapshots", repo);
    DIR *d = n < (int)sizeof path ? opendir(path) : NULL;
    if (!d) return false;
    int found = 0;
    for (struct dirent *e; (e = readdir(d));) {
        char each[PATH_CAP];
        if (*e->d_name == '.') continue;
        n = snprintf(each, sizeof each, "%s/%s", path, e->d_name);
        if (n >= (int)sizeof each || n >= (int)cap || !holds_model(each)) continue;
        memcpy(dir, each, (size_t)n + 1);
        found++;
    }
    closedir(d);
    return found == 1;
}

/* A hub id is NAME or ORG/NAME, no more. */
static bool find_in_hub(char *dir, size_t cap, const char *hub, const char *name)
{
    char repo[PATH_CAP];
    const char *slash = strchr(name, '/');
    if (!*name || *name == '.' || *name == '/' || (slash && strchr(slash + 1, '/'))) return false;
    int n = slash ? snprintf(repo, sizeof repo, "%s/models--%.*s--%s", hub, (int)(slash - name), name, slash + 1)
                  : snprintf(repo, sizeof repo, "%s/models--%s", hub, name);
    return n < (int)sizeof repo && find_snapshot(dir, cap, repo);
}

cpl_status cpl_model_locate(char *dir, size_t cap, const char *name, bool allow_seeded, bool *seeded, cpl_error *err)
{
    char hub[PATH_CAP / 2];
    if (seeded) *seeded = false;
    if (!*name) return cpl_fail(err, CPL_INVALID, "no model named: give a directory or a name like 'ORG/NAME'");
    int n = snprintf(dir, cap, "%s", name);
    if (n >= (int)cap) return cpl_fail(err, CPL_INVALID, "model name is too long: %d bytes", n);
    if (holds_model(dir)) return CPL_OK;
    n = snprintf(dir, cap, "%s/%s", models_dir, last_part(name));
    if (*last_part(name) && n < (int)cap && holds_model(dir)) return CPL_OK;
    hub_cache(hub, sizeof hub);
    if (find_in_hub(dir, cap, hub, name)) return CPL_OK;
    if (allow_seeded && !strcmp(last_part(name), seeded_for) && holds_model(seeded_dir)) {
        if (seeded) *seeded = true;
        n = snprintf(dir, cap, "%s", seeded_dir);
        if (n < (int)cap) return CPL_OK;
    }
    return cpl_fail(err, CPL_NOT_FOUND,
                    "model '%.120s' not found: no directory of that name holds a config.json, nor does '%s/%.80s', nor "
                    "the cache '%.120s'; `make model` fetches all-MiniLM-L6-v2",
                    name, models_dir, last_part(name), hub);
}
