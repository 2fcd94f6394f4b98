/* SPDX-License-Identifier: Apache-2.0 */
/* fake.h - what the fake backend answers, so that tests know what to expect.
 *
 * Settings ("key=value" in cpl_load_options.settings):
 *     fixed_us=N       cost of a pass                     per_token_ns=N   cost of a token in it
 *     spin=1           burn that time instead of sleeping
 *     fail_every=N     every Nth pass over the weights fails (1: all)
 *     fail_load=1      load fails                         fail_open=1      open fails
 *     rectangles=1     works on padded rectangles through the host's helper
 *     wants=N          bit mask of 1 << CPL_WANT_...: others are refused
 *     batch_tokens=N   recommends that many tokens a pass for what it loaded, 512 at most
 *     team_stages=N    a team shares out the rows in each of N stages, each at the cost above; 0: teams stay unused
 *     stall_every=N    every Nth pass takes                stall_us=N       so long besides
 *     int8_percent=N   cost in int8, of that in fp32       int8_noise=N     thousandths of another hash added in int8
 * Anything else is an error. */
#ifndef CPL_BACKEND_FAKE_FAKE_H
#define CPL_BACKEND_FAKE_FAKE_H

#include <stddef.h>
#include <stdint.h>

/* A number that stands for a sequence: depends on every id and type id and their order. */
uint64_t cpl_fake_digest(const int32_t *ids, const uint8_t *type_ids, size_t n);
/* Column `column` of its row, in [-4, 4). TOKENS: row k has the digest of the first k + 1 tokens. */
float cpl_fake_value(uint64_t digest, uint32_t column);

#endif
