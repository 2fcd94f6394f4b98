/* SPDX-License-Identifier: Apache-2.0 */
/* NAME.json of an experiment, as `report` and `compare` read them back: what is accepted is written, read and written
 * again the same, and every page can be made of it; a refusal is one line. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "lab/compare.h"
#include "lab/index.h"
#include "lab/page.h"
#include "lab/result.h"
#include "lab/summary.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_pages(const cpl_lab_results *all)
{
    const cpl_lab_index_options options = {.price_per_hour = 0.35, .currency = "USD"};
    cpl_buf out = {0};
    cpl_lab_page(all->at[0], "", &out);
    cpl_lab_table(all->at[0], &out);
    cpl_lab_summary(all, &out);
    cpl_lab_progression(all, "../docs/experiments/", &out);
    cpl_lab_index(all, &options, &out);
    cpl_lab_rows_csv(all, &out);
    cpl_lab_rows_json(all, &out);
    cpl_buf_deinit(&out);
}

static void check_compared(const cpl_lab_results *all)
{
    cpl_lab_comparisons c;
    cpl_error err = {0};
    cpl_buf out = {0};
    if (cpl_lab_comparisons_make(&c, all, all, 0, &err)) return; /* no row to compare */
    cpl_lab_comparisons_text(&c, &out);
    cpl_lab_comparisons_json(&c, &out);
    cpl_buf_deinit(&out);
    cpl_lab_comparisons_deinit(&c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    cpl_lab_result *r, *copy;
    cpl_lab_results all = {0};
    cpl_error err = {0};
    cpl_buf first = {0}, second = {0};
    if (cpl_lab_result_parse(&r, "fuzz.json", (const char *)data, size, &err)) {
        if (r || !err.what[0] || strpbrk(err.what, "\r\n")) abort();
        return 0;
    }
    cpl_lab_result_write(r, &first);
    if (cpl_lab_result_parse(&copy, "again.json", first.data, first.size, &err)) abort();
    cpl_lab_result_write(copy, &second);
    if (first.size != second.size || memcmp(first.data, second.data, first.size) != 0) abort();
    cpl_lab_result_close(copy);
    if (cpl_lab_results_add(&all, r, &err)) abort();
    check_pages(&all);
    check_compared(&all);
    cpl_lab_results_deinit(&all);
    cpl_buf_deinit(&first);
    cpl_buf_deinit(&second);
    return 0;
}
