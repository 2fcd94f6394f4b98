/* SPDX-License-Identifier: Apache-2.0 */
/* plot.c - throughput (left) and latency (right) along whatever the experiment varies, as a gnuplot script fed through
 * a pipe; data stand in the script, so nothing but the two pictures is left. Threads: the caller's. */
#include "lab/plot.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "lab/markdown.h"

typedef enum along { ALONG_NOTHING, ALONG_BATCH, ALONG_LEVEL, ALONG_LOAD, ALONG_SETTING } along;

bool cpl_lab_plot_available(void) { return system("command -v gnuplot >/dev/null 2>&1") == 0; }

/* The number a single swept key was given, as in "workers=2". */
static bool setting_of(const cpl_lab_point *p, double *out)
{
    const char *eq = strchr(p->server, '=');
    char *end;
    if (!eq || strchr(p->server, ',')) return false;
    *out = strtod(eq + 1, &end);
    return end != eq + 1 && !*end;
}

static bool position(const cpl_lab_point *p, along way, double *x)
{
    *x = way == ALONG_BATCH ? (double)p->batch : way == ALONG_LEVEL ? (double)p->concurrency : p->offered;
    return p->requests && (way != ALONG_SETTING || setting_of(p, x));
}

static along way_of(const cpl_lab_result *r)
{
    size_t batches = 0, levels = 0, settings = 0, n = 0;
    for (size_t i = 0; i < r->point_count; i++) {
        const cpl_lab_point *p = &r->points[i], *first = &r->points[0];
        double x;
        if (!p->requests) continue;
        n++;
        batches += p->batch != first->batch;
        levels += p->concurrency != first->concurrency || p->rate != first->rate;
        settings += setting_of(p, &x);
    }
    if (n < 3) return ALONG_NOTHING;
    if (settings == n) return batches || levels ? ALONG_NOTHING : ALONG_SETTING;
    for (size_t i = 0; i < r->point_count; i++)
        if (*r->points[i].server) return ALONG_NOTHING;
    if (!levels) return ALONG_BATCH;
    return r->points[0].concurrency ? ALONG_LEVEL : ALONG_LOAD;
}

/* One line for each batch size, but along the batch itself. */
static size_t lines_of(const cpl_lab_result *r, along way, uint64_t *batches, size_t cap)
{
    size_t n = 0;
    for (size_t i = 0; i < r->point_count; i++) {
        size_t k = 0;
        while (k < n && batches[k] != r->points[i].batch && way != ALONG_BATCH) k++;
        if (k == n && n < cap && r->points[i].requests) batches[n++] = r->points[i].batch;
    }
    return n;
}

static void put_data(const cpl_lab_result *r, along way, const uint64_t *batches, size_t lines, cpl_buf *out)
{
    for (size_t k = 0; k < lines; k++) {
        cpl_buf_print(out, "$d%zu << END\n", k);
        for (size_t i = 0; i < r->point_count; i++) {
            const cpl_lab_point *p = &r->points[i];
            double x;
            if (!position(p, way, &x) || (way != ALONG_BATCH && p->batch != batches[k])) continue;
            cpl_buf_print(out, "%.6g %.6g %.6g %.6g %.6g %.6g\n", x, p->throughput, p->throughput_low,
                          p->throughput_high, p->latency_p50_ms, p->latency_p95_ms);
        }
        cpl_buf_text(out, "END\n");
    }
}

static void put_script(const cpl_lab_result *r, along way, const char *svg, const char *png, cpl_buf *out)
{
    static const char *const axes[] = {"", "pairs a request", "requests in flight", "requests/s offered", ""};
    static const char *const colours[] = {"#0b62a8", "#c2500c", "#0a7d62", "#86469c"};
    uint64_t batches[4];
    const size_t lines = lines_of(r, way, batches, 4);
    char axis[200];
    snprintf(axis, sizeof axis, "%.*s", (int)strcspn(r->points[0].server, "="), r->points[0].server);
    const char *x_title = way == ALONG_SETTING ? axis : axes[way];
    put_data(r, way, batches, lines, out);
    for (int picture = 0; picture < 2; picture++) {
        cpl_buf_print(out, "set terminal %s\nset output \"%s\"\n",
                      picture ? "pngcairo size 1000,380 font 'sans,11'"
                              : "svg size 1000,380 font 'sans,13' background 'white'",
                      picture ? png : svg);
        cpl_buf_print(
            out,
            "set multiplot layout 1,2\nset border 3\nset tics nomirror\nset grid ytics lc rgb '#e3e3dd'\n"
            "set key top left reverse Left samplen 2\nset xlabel '%s' noenhanced\nset yrange [0:*]\nunset logscale\n",
            x_title);
        const bool log_x = way != ALONG_LOAD;
        if (log_x) cpl_buf_text(out, "set logscale x 2\n");
        cpl_buf_text(out, "set title 'Throughput, pairs/s'\nplot ");
        for (size_t k = 0; k < lines; k++)
            cpl_buf_print(out, "%s$d%zu using 1:2:3:4 with yerrorlines lw 1.8 pt 7 ps 0.6 lc rgb '%s' title '%s'",
                          k ? ", " : "", k, colours[k], "");
        cpl_buf_text(out, "\nset title 'Latency, ms'\nset logscale y\nset yrange [*:*]\nplot ");
        for (size_t k = 0; k < lines; k++) {
            char name[40] = "";
            if (lines > 1) snprintf(name, sizeof name, "%llu pairs, ", (unsigned long long)batches[k]);
            cpl_buf_print(
                out,
                "%s$d%zu using 1:5 with linespoints lw 1.8 pt 7 ps 0.6 lc rgb '%s' title '%sp50', $d%zu using 1:6 "
                "with linespoints lw 1.4 dt 2 pt 6 ps 0.6 lc rgb '%s' title '%sp95'",
                k ? ", " : "", k, colours[k], name, k, colours[k], name);
        }
        cpl_buf_text(out, "\nunset multiplot\nset output\n");
    }
}

static cpl_status run_gnuplot(const cpl_buf *script, const char *name, cpl_error *err)
{
    FILE *p = popen("gnuplot -", "we");
    if (!p) return cpl_fail(err, CPL_IO, "can't start gnuplot");
    const bool written = fwrite(script->data, 1, script->size, p) == script->size;
    const int status = pclose(p);
    return written && !status ? CPL_OK : cpl_fail(err, CPL_INTERNAL, "gnuplot could not draw '%s'", name);
}

cpl_status cpl_lab_plot(const cpl_lab_result *r, const char *dir, char *file, size_t cap, cpl_error *err)
{
    const along way = way_of(r);
    char folder[1024], svg[1400], png[1400];
    cpl_buf script = {0};
    file[0] = 0;
    if (way == ALONG_NOTHING) return CPL_OK;
    cpl_status st = cpl_file_join(folder, sizeof folder, dir, "plots", err);
    if (!st && (strpbrk(dir, "\"\\\n") || strpbrk(r->name, "\"\\/\n")))
        st = cpl_fail_file(err, CPL_INVALID, dir, "gnuplot can't be given such a path: rename it");
    if (!st) st = cpl_file_make_dirs(folder, err);
    if (st) return st;
    snprintf(svg, sizeof svg, "%s/%.250s.svg", folder, r->name);
    snprintf(png, sizeof png, "%s/%.250s.png", folder, r->name);
    put_script(r, way, svg, png, &script);
    st = cpl_buf_status(&script, err);
    if (!st) st = run_gnuplot(&script, r->name, err);
    if (!st) snprintf(file, cap, "plots/%.250s.svg", r->name);
    cpl_buf_deinit(&script);
    return st;
}
