/* SPDX-License-Identifier: Apache-2.0 */
/* Settings from hostile YAML: loaded or refused with one line; what loads prints and loads back, and as an experiment
 * it has rows or a reason why not. The first byte chooses between a file, a --set argument and a request's model. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lab/plan.h"
#include "serve/config_values.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* As an experiment: rows that can be counted, or one line on why not. */
static void check_plan(const cpl_config *c)
{
    cpl_error err = {0};
    for (int quick = 0; quick < 2; quick++) {
        cpl_lab_plan *p;
        if (cpl_lab_plan_open(&p, c, "experiments/12_fuzz.yaml", quick, &err)) {
            if (p || !*err.what || strchr(err.what, '\n')) abort();
            continue;
        }
        if (!cpl_lab_plan_rows(p) || !*p->name) abort();
        cpl_lab_plan_close(p);
    }
}

static void check_loads_back(const cpl_config *c)
{
    cpl_buf text = {0};
    cpl_error err;
    const char *policy, *precision;
    cpl_config_check(c, &err);
    cpl_config_policy(c, &policy, &err);
    cpl_config_precision(c, &precision, &err);
    cpl_config_backend_settings(c, &text);
    cpl_buf_clear(&text);
    cpl_config_print(c, &text);
    cpl_config *again = NULL;
    if (cpl_config_load(&again, NULL, false, NULL, &err)) abort();
    if (!text.failed && cpl_config_read_yaml(again, "printed", text.data, text.size, &err)) abort();
    cpl_config_close(again);
    cpl_buf_deinit(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    cpl_config *c = NULL;
    cpl_error err = {0};
    if (size < 1 || size > 16384 || cpl_config_load(&c, NULL, false, NULL, &err)) return 0;
    cpl_status st;
    if (data[0] == '=') {
        char *set = strndup((const char *)data + 1, size - 1);
        if (!set) abort();
        st = cpl_config_read_set(c, set, &err);
        free(set);
    } else if (data[0] == '{') {
        cpl_config *model = NULL;
        st = cpl_config_model_parse(&model, c, (const char *)data, size, &err);
        if (!st && (!*cpl_config_model_name(model) || cpl_config_int(model, "model.replicas") < 1)) abort();
        if (st && (model || !*err.what || strchr(err.what, '\n'))) abort();
        cpl_config_close(model);
        cpl_config_close(c);
        return 0;
    } else {
        st = cpl_config_read_yaml(c, "fuzz.yaml", (const char *)data, size, &err);
    }
    if (st && (!*err.what || strchr(err.what, '\n'))) abort();
    if (!st) check_loads_back(c);
    if (!st) check_plan(c);
    cpl_config_close(c);
    return 0;
}
