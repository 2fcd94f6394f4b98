/* SPDX-License-Identifier: Apache-2.0 */
/* Probes on several threads: figures that fit each other, any number of times, and an end while asleep. How fast the
 * machine is isn't asserted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "cli/peak_team.h"

static void probes_fit(void **state)
{
    (void)state;
    for (uint32_t threads = 1; threads <= 5; threads += 2) {
        cpl_error e;
        cpl_peak_team *t;
        if (cpl_peak_team_open(&t, CPL_PEAK_FP32, NULL, threads, &e)) fail_msg("%s", e.what);
        for (int i = 0; i < 4; i++) {
            cpl_peak_probe p;
            cpl_peak_team_probe(t, i % 2 ? CPL_PEAK_FIRST : CPL_PEAK_LAST, &p);
            assert_true(p.ops_per_s > 1e6 && p.clock_hz > 1e6 && p.per_cycle > 0 && p.l2_per_cycle >= 0);
        }
        cpl_peak_team_close(t);
    }
    cpl_peak_team_close(NULL);
}

static void an_unknown_isa_is_refused(void **state)
{
    (void)state;
    cpl_error e;
    cpl_peak_team *t;
    assert_int_equal(cpl_peak_team_open(&t, CPL_PEAK_INT8, "avx9", 1, &e), CPL_INVALID);
    assert_null(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(probes_fit), cmocka_unit_test(an_unknown_isa_is_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
