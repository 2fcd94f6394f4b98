/* SPDX-License-Identifier: Apache-2.0 */
/* page.h - NAME.md, the page of one experiment. */
#ifndef CPL_LAB_PAGE_H
#define CPL_LAB_PAGE_H

#include "base/buf.h"
#include "lab/result.h"

/* Markdown, from the result alone. `plot`: a figure's file relative to the page; "" for none. A failed append stays in
 * out (cpl_buf_status). */
void cpl_lab_page(const cpl_lab_result *r, const char *plot, cpl_buf *out);
/* The reference's table alone, for terminals: columns aligned. */
void cpl_lab_table(const cpl_lab_result *r, cpl_buf *out);

#endif
