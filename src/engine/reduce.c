/* SPDX-License-Identifier: Apache-2.0 */
/* reduce.c - what the engine does with the rows that came back: picking a label, activation, normalising, cosine.
 *
 * In double, then rounded once to float: the backend's bits are the only ones that matter. Norms are floored as torch's
 * F.normalize does (1e-12), so a zero vector gives 0 and not NaN. Threads: whoever ends the task, alone. */
#include <math.h>

#include "base/error.h"
#include "engine/state.h"

static const double norm_floor = 1e-12;

static double norm_of(const float *v, uint32_t n)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) sum += (double)v[i] * v[i];
    double norm = sqrt(sum);
    return norm > norm_floor ? norm : norm_floor;
}

static void normalize(float *v, uint32_t n)
{
    double norm = norm_of(v, n);
    for (uint32_t i = 0; i < n; i++) v[i] = (float)(v[i] / norm);
}

static void cosines(cpl_task *t, float *out)
{
    uint32_t width = t->raw_width;
    for (size_t i = 0; i < t->spec.n; i++) {
        const float *q = t->raw + (size_t)t->query_of[i] * width, *d = t->raw + (t->queries + i) * width;
        double dot = 0;
        for (uint32_t k = 0; k < width; k++) dot += (double)q[k] * d[k];
        out[i] = (float)(dot / norm_of(q, width) / norm_of(d, width));
    }
}

static void scores(const cpl_model *m, cpl_task *t, float *out)
{
    bool sigmoid = t->spec.form == CPL_SCORE_DEFAULT && m->activation == CPL_SCORE_SIGMOID;
    size_t labels = t->raw_width, width = t->result.width;
    size_t first = t->spec.label > 0 ? (size_t)t->spec.label : 0;
    for (size_t i = 0; i < t->spec.n; i++) {
        for (size_t k = 0; k < width; k++) {
            double x = t->raw[i * labels + first + k];
            out[i * width + k] = (float)(sigmoid ? 1 / (1 + exp(-x)) : x);
        }
    }
}

void cpl_task_reduce(const cpl_loaded_model *m, cpl_task *t)
{
    float *out = (float *)t->result.rows; /* the task's own memory, const for its readers */
    t->result.n = t->spec.n;
    switch (t->spec.op) {
    case CPL_OP_SCORE:
        t->result.width = t->reducer == CPL_REDUCE_ROW && t->spec.label == CPL_LABEL_ALL ? t->raw_width : 1;
        if (t->reducer == CPL_REDUCE_COSINE)
            cosines(t, out);
        else
            scores(m->model, t, out);
        return;
    case CPL_OP_EMBED:
        t->result.width = t->raw_width;
        for (size_t i = 0; m->model->normalize && t->spec.form != CPL_SCORE_RAW && i < t->spec.n; i++)
            normalize(out + i * t->raw_width, t->raw_width);
        return;
    case CPL_OP_IDS: t->result.width = t->raw_width; return;
    }
    CPL_ASSERT(!"operation was checked at submit");
}
