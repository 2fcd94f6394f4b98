/* SPDX-License-Identifier: Apache-2.0 */
/* resume.c - see resume.h. The executable's digest decides and not the commit: a commit that only added documents, or
 * the results themselves, changes nothing that was measured, and a working tree that was edited and built again does.
 * Plug-ins are not in it: after one was changed, --force. No state. */
#include "lab/resume.h"

#include <stdio.h>
#include <string.h>

#include "base/file.h"

/* The next line of a configuration that means something, without its comment; false at the end. */
static bool next_line(const char **at, const char **line, size_t *n)
{
    while (**at) {
        const char *from = *at;
        const size_t all = strcspn(from, "\n");
        *at = from + all + (from[all] == '\n');
        *n = all;
        for (size_t i = 0; i + 4 <= all; i++)
            if (!memcmp(from + i, "  # ", 4)) *n = i;
        *line = from;
        const size_t indent = strspn(from, " ");
        if (!strncmp(from + indent, "description:", 12) || !strncmp(from + indent, "phase:", 6)) continue;
        return true;
    }
    return false;
}

static bool same_config(const char *a, const char *b)
{
    const char *x, *y;
    size_t n = 0, m = 0;
    for (;;) {
        const bool more = next_line(&a, &x, &n), other = next_line(&b, &y, &m);
        if (more != other) return false;
        if (!more) return true;
        if (n != m || memcmp(x, y, n) != 0) return false;
    }
}

static bool same(const char *a, const char *b) { return !strcmp(a ? a : "", b ? b : ""); }

static bool stands_for(const cpl_lab_result *old, const cpl_lab_result *planned)
{
    return same(old->status, "ran") && old->point_count && (!old->quick || planned->quick) && *old->build.program &&
           same(old->build.program, planned->build.program) && same(old->overrides, planned->overrides) &&
           same(old->target, planned->target) && same(old->machine.cpu, planned->machine.cpu) &&
           same(old->machine.isa, planned->machine.isa) && old->machine.cores == planned->machine.cores &&
           same(old->model_asked, planned->model_asked) && same(old->pairs_source, planned->pairs_source) &&
           same_config(old->config, planned->config);
}

bool cpl_lab_measured_already(const cpl_lab_result *planned, const char *dir, char *date, size_t cap)
{
    char path[1024], name[300];
    cpl_buf text = {0};
    cpl_lab_result *old = NULL;
    bool done = false;
    snprintf(name, sizeof name, "%.250s.json", planned->name);
    if (!cpl_file_join(path, sizeof path, dir, name, NULL) && cpl_file_exists(path) &&
        !cpl_file_read(&text, path, 64 << 20, NULL) && !cpl_lab_result_parse(&old, path, text.data, text.size, NULL)) {
        done = stands_for(old, planned);
        snprintf(date, cap, "%s", old->date);
    }
    cpl_lab_result_close(old);
    cpl_buf_deinit(&text);
    return done;
}
