/* SPDX-License-Identifier: Apache-2.0 */
/* frame.h - what main.c and check.c need of each other; cases include check.h. */
#ifndef CPL_TESTS_FRAME_H
#define CPL_TESTS_FRAME_H

#include "check.h"

/* Checks the patterns around this round's memory and gives it back. */
void check_end_round(check *c);
/* Counts the failure of a kernel that touched what it may not. */
void check_fault(check *c, const void *address);

#endif
