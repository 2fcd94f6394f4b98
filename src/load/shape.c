/* SPDX-License-Identifier: Apache-2.0 */
/* shape.c - lengths by distribution, and seeds by purpose.
 * The one idea: the shape is said in tokens and met in words, because the texts are made of words that are one token
 * each; so a workload has exactly the lengths asked for without a tokenizer, and the server's own count (tokens a
 * sequence, in every result) shows it. Draws are inverse-free: a log-normal is the exponential of twelve uniforms'
 * sum, the same on every machine up to the last bit of exp, which rounding to whole tokens hides.
 * Threads: pure functions; fitting reads a file. Rejected: a tokenizer here (the generator drives servers whose
 * vocabulary it doesn't have). */
#include "load/shape.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/random.h"
#include "base/records.h"

enum { SPECIAL_TOKENS = 3, QUERY_TOKENS_MAX = 12, FIT_PAIRS_MAX = 65536 };

uint64_t cpl_seed_for(uint64_t seed, cpl_purpose purpose)
{
    static const uint64_t salt[] = {[CPL_SEED_ARRIVALS] = 0x6172726976616c73,
                                    [CPL_SEED_LENGTHS] = 0x6c656e6774687300,
                                    [CPL_SEED_DUPLICATES] = 0x6475706c69636174};
    if (purpose == CPL_SEED_TEXTS || purpose == CPL_SEED_ORDER) return seed; /* never both: generated, or of a file */
    uint64_t mixed = seed ^ salt[purpose];
    return cpl_random_next(&mixed);
}

uint32_t cpl_shape_query_tokens(uint32_t tokens)
{
    const uint32_t quarter = (tokens - SPECIAL_TOKENS) / 4;
    return quarter < 1 ? 1 : quarter > QUERY_TOKENS_MAX ? QUERY_TOKENS_MAX : quarter;
}

static double uniform(uint64_t *state) { return ((double)(cpl_random_next(state) >> 11) + 0.5) * 0x1p-53; }

uint32_t cpl_shape_draw(const cpl_shape *s, uint64_t *state)
{
    double tokens = s->low;
    if (s->lengths == CPL_LENGTHS_UNIFORM) tokens = s->low + floor(uniform(state) * (s->high - s->low + 1));
    if (s->lengths == CPL_LENGTHS_LOGNORMAL) {
        double normal = -6;
        for (int i = 0; i < 12; i++) normal += uniform(state);
        tokens = floor(s->low * exp(s->sigma * normal) + 0.5);
    }
    return (uint32_t)fmin(fmax(tokens, CPL_SHAPE_TOKENS_MIN), CPL_SHAPE_TOKENS_MAX);
}

size_t cpl_shape_estimate(cpl_text text)
{
    size_t tokens = 0, letters = 0;
    for (size_t i = 0; i < text.size; i++) {
        const unsigned char c = (unsigned char)text.data[i];
        if (isalnum(c) || c >= 0x80) {
            letters++;
            if (letters == 1 || (letters > 8 && (letters - 9) % 3 == 0)) tokens++;
        } else {
            letters = 0;
            tokens += !isspace(c);
        }
    }
    return tokens;
}

/* ---- from text ----------------------------------------------------------------------------------------------- */

static cpl_status fit(cpl_shape *out, const char *path, cpl_error *err)
{
    cpl_records *r = NULL;
    cpl_buf query = {0}, document = {0};
    double sum = 0, squares = 0;
    size_t n = 0;
    cpl_status st = cpl_records_open(&r, path, CPL_RECORDS_BY_NAME, true, err);
    for (bool end = false; !st && n < FIT_PAIRS_MAX; n++) {
        cpl_buf_clear(&query);
        cpl_buf_clear(&document);
        st = cpl_records_next(r, &query, &document, &end, err);
        if (st || end) break;
        const double v = log((double)(cpl_shape_estimate((cpl_text){query.data, query.size}) +
                                      cpl_shape_estimate((cpl_text){document.data, document.size}) + SPECIAL_TOKENS));
        sum += v;
        squares += v * v;
    }
    cpl_records_close(r);
    cpl_buf_deinit(&query);
    cpl_buf_deinit(&document);
    if (st) return st;
    if (n < 2) return cpl_fail_file(err, CPL_INVALID, path, "holds %zu pairs: too few to fit lengths to", n);
    const double mean = sum / (double)n, variance = squares / (double)n - mean * mean;
    out->lengths = CPL_LENGTHS_LOGNORMAL;
    out->low = floor(exp(mean) * 10 + 0.5) / 10;
    out->sigma = variance > 0 ? floor(sqrt(variance) * 1000 + 0.5) / 1000 : 0;
    return CPL_OK;
}

static cpl_status refuse(cpl_error *err, const char *text)
{
    return cpl_fail(err, CPL_INVALID,
                    "lengths '%s': give tokens a pair as 32, 16-128, lognormal:MEDIAN,SIGMA or fit:FILE, from %d to %d",
                    text, CPL_SHAPE_TOKENS_MIN, CPL_SHAPE_TOKENS_MAX);
}

static bool in_range(double tokens) { return tokens >= CPL_SHAPE_TOKENS_MIN && tokens <= CPL_SHAPE_TOKENS_MAX; }

static cpl_status parse_lengths(cpl_shape *out, const char *text, cpl_error *err)
{
    char rest = 0;
    unsigned low = 0, high = 0;
    if (!strncmp(text, "fit:", 4)) return fit(out, text + 4, err);
    if (sscanf(text, "lognormal:%lf,%lf%c", &out->low, &out->sigma, &rest) == 2) {
        out->lengths = CPL_LENGTHS_LOGNORMAL;
        return in_range(out->low) && out->sigma >= 0 && out->sigma <= 3 ? CPL_OK : refuse(err, text);
    }
    if (!isdigit((unsigned char)*text)) return refuse(err, text);
    if (sscanf(text, "%5u-%5u%c", &low, &high, &rest) == 2 && low <= high) {
        out->lengths = CPL_LENGTHS_UNIFORM;
    } else if (sscanf(text, "%5u%c", &low, &rest) == 1) {
        out->lengths = CPL_LENGTHS_EXACT;
        high = low;
    } else {
        return refuse(err, text);
    }
    out->low = low;
    out->high = high;
    return in_range(low) && in_range(high) ? CPL_OK : refuse(err, text);
}

static void add(cpl_shape *s, const char *part)
{
    const size_t used = strlen(s->text);
    snprintf(s->text + used, sizeof s->text - used, "%s%s", used ? ", " : "", part);
}

static void describe(cpl_shape *s, const char *lengths)
{
    char part[96];
    if (s->lengths == CPL_LENGTHS_EXACT) snprintf(part, sizeof part, "%.0f tokens a pair", s->low);
    if (s->lengths == CPL_LENGTHS_UNIFORM) snprintf(part, sizeof part, "%.0f to %.0f tokens a pair", s->low, s->high);
    if (s->lengths == CPL_LENGTHS_LOGNORMAL)
        snprintf(part, sizeof part, "log-normal tokens a pair (median %g, sigma %g%s)", s->low, s->sigma,
                 !strncmp(lengths, "fit:", 4) ? ", fitted" : "");
    if (s->lengths != CPL_LENGTHS_GIVEN) add(s, part);
    snprintf(part, sizeof part, "%u documents a query", s->documents_per_query);
    if (s->documents_per_query > 1) add(s, part);
    snprintf(part, sizeof part, "%g %% repeated on purpose", s->duplicates * 100);
    if (s->duplicates > 0) add(s, part);
}

cpl_status cpl_shape_parse(cpl_shape *out, const char *lengths, uint32_t documents_per_query, double duplicates,
                           cpl_error *err)
{
    *out = (cpl_shape){.documents_per_query = documents_per_query, .duplicates = duplicates};
    if (!(duplicates >= 0 && duplicates < 1))
        return cpl_fail(err, CPL_INVALID, "duplicates is %g: a part of all pairs, 0 to below 1", duplicates);
    cpl_status st = lengths && *lengths ? parse_lengths(out, lengths, err) : CPL_OK;
    if (!st) describe(out, lengths);
    return st;
}
