/* SPDX-License-Identifier: Apache-2.0 */
/* describe.c - the words of a result. What was asked for comes from the configuration, what ran from the server itself:
 * a server that ran something else than it was asked to can't hide behind its own experiment file. No state. */
#include "lab/describe.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "lab/machine.h"

void cpl_lab_batching_text(const cpl_config *c, char *out, size_t cap)
{
    const char *policy;
    if (cpl_config_policy(c, &policy, NULL)) policy = "contradictory";
    const char *aware = cpl_config_bool(c, "batching.length_aware_batching") ? ", length-aware" : "";
    if (!strcmp(policy, "timeout"))
        snprintf(out, cap, "up to %lld pairs, %g ms%s", (long long)cpl_config_int(c, "batching.max_batch_size"),
                 cpl_config_float(c, "batching.timeout_ms"), aware);
    else
        snprintf(out, cap, "%s%s", policy, aware);
}

static const char *overrides_text(cpl_lab_result *r, const char *const *sets)
{
    cpl_buf b = {0};
    for (const char *const *s = sets; s && *s; s++) cpl_buf_print(&b, "%s--set %s", b.size ? " " : "", *s);
    const char *text = cpl_lab_text(r, "%s", b.data ? b.data : "");
    cpl_buf_deinit(&b);
    return text;
}

static void describe_command(cpl_lab_result *r, const cpl_lab_options *o, const char *file)
{
    r->overrides = overrides_text(r, o->sets);
    r->command = cpl_lab_text(r, "couplet experiment run %s%s%s%s%s%s", file, *r->overrides ? " " : "", r->overrides,
                              o->target ? " --target " : "", o->target ? o->target : "", o->quick ? " --quick" : "");
    cpl_lab_describe_date(r, cpl_clock_wall_seconds());
}

void cpl_lab_describe_date(cpl_lab_result *r, double wall_seconds)
{
    char date[64];
    time_t now = (time_t)wall_seconds;
    struct tm utc;
    strftime(date, sizeof date, "%Y-%m-%d %H:%M UTC", gmtime_r(&now, &utc));
    r->date = cpl_lab_text(r, "%s", date);
}

/* The backend the file asks for, whatever --set made of it. */
static const char *file_backend(cpl_lab_result *r, const char *file)
{
    cpl_config *c;
    if (cpl_config_load(&c, file, true, NULL, NULL)) return r->backend; /* only the overrides make it a good file */
    const char *name = cpl_lab_text(r, "%s", cpl_config_text(c, "model.backend"));
    cpl_config_close(c);
    return name;
}

cpl_status cpl_lab_describe_plan(cpl_lab_result *r, const cpl_config *c, const cpl_lab_plan *plan,
                                 const cpl_lab_options *o, const char *file, const char *stand_in,
                                 const cpl_lab_result *like, cpl_error *err)
{
    char batching[128];
    r->name = cpl_lab_text(r, "%s", plan->name);
    r->file = cpl_lab_text(r, "%s", file);
    r->description = cpl_lab_text(r, "%s", cpl_config_text(c, "experiment.description"));
    r->phase = cpl_lab_text(r, "%s", cpl_config_text(c, "experiment.phase"));
    describe_command(r, o, file);
    r->quick = o->quick;
    r->target = o->target ? cpl_lab_text(r, "%s", o->target) : "";
    r->backend = cpl_lab_text(r, "%s", cpl_config_text(c, "model.backend"));
    r->backend_asked = file_backend(r, file);
    const char *precision;
    if (!cpl_config_precision(c, &precision, NULL)) r->precision_requested = cpl_lab_text(r, "%s", precision);
    r->model_asked = cpl_lab_text(r, "%s", cpl_config_text(c, "model.name"));
    r->model = stand_in ? cpl_lab_text(r, "%s", stand_in) : r->model_asked;
    if (stand_in)
        r->model_note =
            cpl_lab_text(r, "%s is not here: %s stands in for it; its speed is real, its scores mean nothing",
                         r->model_asked, stand_in);
    cpl_lab_batching_text(c, batching, sizeof batching);
    r->batching = o->target ? "as the server that was up has it" : cpl_lab_text(r, "%s", batching);
    r->seed = plan->seed;
    r->mode = cpl_lab_text(r, "%s", cpl_config_text(c, "experiment.mode"));
    r->models = plan->model_count;
    for (size_t i = 0; plan->model_count > 1 && i < plan->model_count; i++)
        r->model = cpl_lab_text(r, "%s%s%s", i ? r->model : "", i ? " and " : "", plan->models[i]);
    r->scenario = plan->scenario->name;
    r->duration_s = plan->duration_s;
    r->requests_asked = plan->requests;
    r->warmup = plan->warmup;
    cpl_buf yaml = {0};
    cpl_config_print(c, &yaml);
    r->config = cpl_lab_text(r, "%s", yaml.data ? yaml.data : "");
    cpl_buf_deinit(&yaml);
    if (!like) return cpl_lab_capture(r, err);
    r->machine = like->machine;
    r->build = like->build;
    r->probes = like->probes;
    r->probe_count = like->probe_count;
    r->isa = like->isa;
    return CPL_OK;
}

void cpl_lab_describe_server(cpl_lab_result *r, const cpl_load_result *load)
{
    const cpl_server_totals *s = &load->server;
    if (!s->known || r->workers) return;
    r->backend = cpl_lab_text(r, "%s", s->backend);
    r->isa = cpl_lab_text(r, "%s", s->isa);
    r->precision_requested = cpl_lab_text(r, "%s", s->precision_requested);
    r->precision_effective = cpl_lab_text(r, "%s", s->precision_effective);
    r->precision_reason = cpl_lab_text(r, "%s", s->precision_reason);
    if (r->models < 2) r->model = cpl_lab_text(r, "%s", s->model);
    if (*s->model_note && !r->model_note) r->model_note = cpl_lab_text(r, "%s", s->model_note);
    r->weight_bytes = s->weight_bytes;
    r->workers = s->workers;
    r->pass_tokens_max = s->batch_tokens;
    for (size_t i = 0; i < r->probe_count; i++)
        if (!strcmp(r->probes[i].backend, r->backend)) r->device = r->probes[i].device;
    if (*r->target && load->server_config) r->config = cpl_lab_text(r, "%s", load->server_config);
}
