/* SPDX-License-Identifier: Apache-2.0 */
/* amx.c - permission to use tiles, and the orders that the AMX kernels leave columns in. No tile instruction here. */
#include "kernel/amx.h"

#include <unistd.h>

#if defined(__linux__) && defined(__x86_64__)
#include <sys/syscall.h>

int cpl_amx_permit(void)
{
    enum { REQUEST = 0x1023, TILE_DATA = 18 }; /* ARCH_REQ_XCOMP_PERM; for all threads of the process, for good */
    return syscall(SYS_arch_prctl, REQUEST, TILE_DATA) == 0;
}
#else
int cpl_amx_permit(void) { return 0; }
#endif

/* A pack takes 128 bits of one and of the other operand in turn. */
uint32_t cpl_amx_order_halves(uint32_t p) { return 32 * (p % 16 / 8) + 8 * (p / 16) + p % 8; }

/* V's pairs of rows are interleaved by unpacking, which takes four columns of every eight. */
uint32_t cpl_amx_order_context(uint32_t p) { return 8 * (p % 16 / 4) + 4 * (p / 16) + p % 4; }
