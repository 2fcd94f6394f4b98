/* SPDX-License-Identifier: Apache-2.0 */
/* markdown.c - see markdown.h. One way to write each kind of thing, so tables of different pages can be compared by
 * eye. No state. */
#include "lab/markdown.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

void cpl_md_number(cpl_buf *out, double v)
{
    double a = fabs(v);
    cpl_buf_print(out, a >= 1000 ? "%.0f" : a >= 10 ? "%.1f" : a >= 0.1 || a == 0 ? "%.2f" : "%.3f", v);
}

void cpl_md_sure(cpl_buf *out, double v, bool sure)
{
    if (!sure) cpl_buf_text(out, "~");
    cpl_md_number(out, v);
}

void cpl_md_interval(cpl_buf *out, const cpl_interval *v)
{
    cpl_md_number(out, v->mean);
    if (!v->known) return;
    cpl_buf_text(out, " (");
    cpl_md_number(out, v->low);
    cpl_buf_text(out, " to ");
    cpl_md_number(out, v->high);
    cpl_buf_text(out, ")");
}

void cpl_md_ratio(cpl_buf *out, const cpl_interval *v)
{
    cpl_buf_print(out, "%.3f", v->mean);
    if (v->known) cpl_buf_print(out, " (%.3f to %.3f)", v->low, v->high);
}

void cpl_md_cell(cpl_buf *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '|')
            cpl_buf_text(out, "\\|");
        else
            cpl_buf_add(out, *text == '\n' || *text == '\r' ? " " : text, 1);
    }
}

void cpl_md_point(cpl_buf *out, const cpl_lab_point *p)
{
    if (p->concurrency)
        cpl_buf_print(out, "batch %llu, concurrency %llu", (unsigned long long)p->batch,
                      (unsigned long long)p->concurrency);
    else
        cpl_buf_print(out, "batch %llu, %.0f requests/s offered", (unsigned long long)p->batch, p->offered);
    if (*p->server) cpl_buf_print(out, ", `%s`", p->server);
}

void cpl_md_precision(cpl_buf *out, const cpl_lab_result *r)
{
    const char *ran = *r->precision_effective ? r->precision_effective : r->precision_requested;
    cpl_md_cell(out, *ran ? ran : "-");
    if (*r->precision_reason) {
        cpl_buf_text(out, " (");
        cpl_md_cell(out, r->precision_reason);
        cpl_buf_text(out, ")");
    }
}

bool cpl_lab_ran(const cpl_lab_result *r) { return !strcmp(r->status, "ran") && cpl_lab_best(r); }

bool cpl_lab_scored(const cpl_lab_result *r)
{
    return cpl_lab_ran(r) && strcmp(r->backend, "fake") != 0 && (!r->mode || !*r->mode || !strcmp(r->mode, "full"));
}

void cpl_md_status(cpl_buf *out, const cpl_lab_result *r, bool brief)
{
    cpl_md_cell(out, r->status);
    if (r->mode && *r->mode && strcmp(r->mode, "full") != 0)
        cpl_buf_print(out, " (mode `%s`: a part of the work)", r->mode);
    if (r->quick && cpl_lab_ran(r)) cpl_buf_text(out, " (--quick: too short to publish)");
    if (strcmp(r->backend, r->backend_asked) != 0)
        cpl_buf_print(out, " (`%s` asked for, `%s` ran)", r->backend_asked, r->backend);
    if (*r->overrides && cpl_lab_ran(r)) cpl_buf_print(out, " with an override: `%s`", r->overrides);
    if (*r->reason) {
        char why[600];
        size_t n = brief ? strcspn(r->reason, ":") : strlen(r->reason);
        snprintf(why, sizeof why, "%.*s", (int)n, r->reason);
        cpl_buf_text(out, ": ");
        cpl_md_cell(out, why);
    }
}
