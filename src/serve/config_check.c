/* SPDX-License-Identifier: Apache-2.0 */
/* config_check.c - what single values can't show: features that aren't there yet, and keys that contradict each other.
 * The one idea: a setting is either acted upon or refused, never read and forgotten; so the table's `later` and `only`
 * marks are checked here in one loop. A switch that is off (quantized: false, batching.enabled: false) makes what
 * belongs to it irrelevant, and so does another backend's own section: that is what those keys mean.
 * Rejected: letting the later of two contradicting precisions win; the user asked for two things and gets one.
 * Threads: reads only. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "serve/config_values.h"

static bool is_default(const cpl_config_key *k, const cpl_config_value *v)
{
    if (k->type >= CPL_CONFIG_TEXT_LIST) return v->count == 0;
    if (k->type == CPL_CONFIG_INT || k->type == CPL_CONFIG_FLOAT || k->type == CPL_CONFIG_BOOL) {
        double number = 0;
        sscanf(k->fallback, "%lf", &number);
        return k->type == CPL_CONFIG_BOOL ? v->truth == !strcmp(k->fallback, "true") : v->decimal == number;
    }
    return !strcmp(v->text, k->fallback);
}

static cpl_status check_there(const cpl_config *c, cpl_error *err)
{
    for (size_t i = 0; i < cpl_config_key_count; i++) {
        const cpl_config_key *k = &cpl_config_keys[i];
        const cpl_config_value *v = &c->values[i];
        if (k->later && !is_default(k, v))
            return cpl_config_fail(err, CPL_UNSUPPORTED, &v->where, k->name,
                                   "'%s' is not supported in this version: remove it", k->name);
        if (k->only && !cpl_config_choice_has(k->only, v->text, strlen(v->text)))
            return cpl_config_fail(err, CPL_UNSUPPORTED, &v->where, k->name,
                                   "'%s: %s' is not supported in this version: use %s", k->name, v->text, k->only);
    }
    return CPL_OK;
}

static cpl_status check_device(const cpl_config *c, cpl_error *err)
{
    const char *device = cpl_config_text(c, "model.device"), *backend = cpl_config_text(c, "model.backend");
    bool ours = !strcmp(backend, "native") || !strcmp(backend, "fake");
    /* Another backend gets the device as a setting and judges it itself. */
    if (!ours || !strcmp(device, "auto") || !strcmp(device, "cpu")) return CPL_OK;
    const cpl_config_value *v = cpl_config_value_of(c, "model.device");
    return cpl_config_fail(err, CPL_INVALID, &v->where, "model.device",
                           "'model.device' is '%s' but 'model.backend' is '%s', which runs on the CPU: set the device "
                           "to auto or choose another backend",
                           device, backend);
}

/* ---- precision ---- */

typedef struct precision_vote {
    const char *precision, *key;
} precision_vote;

static const char *precision_of_bits(int64_t bits)
{
    switch (bits) {
    case 32: return "fp32";
    case 16: return "fp16";
    case 8: return "int8";
    case 4: return "int4";
    default: return NULL;
    }
}

/* Takes one key's word; the second that differs from the first is an error naming both. */
static cpl_status vote(const cpl_config *c, precision_vote *have, const char *precision, const char *key,
                       cpl_error *err)
{
    if (!have->precision) {
        *have = (precision_vote){precision, key};
        return CPL_OK;
    }
    if (!strcmp(have->precision, precision)) return CPL_OK;
    const cpl_config_value *v = cpl_config_value_of(c, key);
    return cpl_config_fail(
        err, CPL_INVALID, &v->where, key, "'%s' (%s) asks for %s but '%s' (%s) asks for %s: keep one of them", key,
        cpl_config_origin(c, key), precision, have->key, cpl_config_origin(c, have->key), have->precision);
}

static cpl_status vote_switch(const cpl_config *c, precision_vote *have, const char *key, cpl_error *err)
{
    if (!cpl_config_given(c, key)) return CPL_OK;
    /* false is "not fp16", which only full precision answers; with quantized it says nothing. */
    if (!cpl_config_bool(c, key)) return CPL_OK;
    return vote(c, have, "fp16", key, err);
}

cpl_status cpl_config_precision(const cpl_config *c, const char **precision, cpl_error *err)
{
    precision_vote have = {NULL, NULL};
    const char *backend = cpl_config_text(c, "model.backend");
    cpl_status st = CPL_OK;
    if (*cpl_config_text(c, "model.precision"))
        st = vote(c, &have, cpl_config_text(c, "model.precision"), "model.precision", err);
    if (!st && cpl_config_bool(c, "model.quantized"))
        st = vote(c, &have, cpl_config_text(c, "model.quantization_mode"), "model.quantization_mode", err);
    if (!st && !strcmp(backend, "mps")) st = vote_switch(c, &have, "model.mps.fp16", err);
    if (!st && !strcmp(backend, "compiled")) st = vote_switch(c, &have, "model.compiled.fp16", err);
    if (!st && !strcmp(backend, "mlx") && cpl_config_given(c, "model.mlx.bits")) {
        const char *name = precision_of_bits(cpl_config_int(c, "model.mlx.bits"));
        const cpl_config_value *v = cpl_config_value_of(c, "model.mlx.bits");
        st = name ? vote(c, &have, name, "model.mlx.bits", err)
                  : cpl_config_fail(err, CPL_INVALID, &v->where, "model.mlx.bits",
                                    "'model.mlx.bits' can't be %s: choose one of 32, 16, 8, 4", v->text);
    }
    if (st) return st;
    *precision = have.precision ? have.precision : "fp32";
    return CPL_OK;
}

size_t cpl_config_backend_settings(const cpl_config *c, cpl_buf *out)
{
    char prefix[64];
    const char *backend = cpl_config_text(c, "model.backend");
    int size = snprintf(prefix, sizeof prefix, "model.%s.", backend);
    size_t n = 0;
    for (size_t i = 0; i < cpl_config_key_count && size < (int)sizeof prefix; i++) {
        const char *name = cpl_config_keys[i].name;
        if (strncmp(name, prefix, (size_t)size) || !c->values[i].origin) continue;
        const char *leaf = name + size;
        if (!strcmp(leaf, "fp16") || !strcmp(leaf, "bits")) continue; /* went into the precision */
        cpl_buf_print(out, "%s=%s", leaf, c->values[i].text);
        cpl_buf_add(out, "", 1);
        n++;
    }
    bool ours = !strcmp(backend, "native") || !strcmp(backend, "fake");
    if (!ours && strcmp(cpl_config_text(c, "model.device"), "auto")) {
        cpl_buf_print(out, "device=%s", cpl_config_text(c, "model.device"));
        cpl_buf_add(out, "", 1);
        n++;
    }
    return n;
}

/* ---- batching ---- */

cpl_status cpl_config_policy(const cpl_config *c, const char **policy, cpl_error *err)
{
    const char *said = cpl_config_text(c, "batching.policy");
    bool enabled = cpl_config_bool(c, "batching.enabled");
    const cpl_config_value *v = cpl_config_value_of(c, "batching.enabled");
    if (*said) {
        if (cpl_config_given(c, "batching.enabled") && enabled == !strcmp(said, "off"))
            return cpl_config_fail(err, CPL_INVALID, &v->where, "batching.enabled",
                                   "'batching.enabled' (%s) is %s but 'batching.policy' (%s) is %s: keep one of them",
                                   cpl_config_origin(c, "batching.enabled"), enabled ? "true" : "false",
                                   cpl_config_origin(c, "batching.policy"), said);
        *policy = said;
        return CPL_OK;
    }
    if (!enabled)
        *policy = "off";
    else if (cpl_config_given(c, "batching.max_batch_size") || cpl_config_given(c, "batching.timeout_ms"))
        *policy = "timeout";
    else
        *policy = "greedy";
    return CPL_OK;
}

/* ---- limits ---- */

static cpl_status check_limits(const cpl_config *c, cpl_error *err)
{
    int64_t message = cpl_config_int(c, "server.limits.message_bytes");
    int64_t all = cpl_config_int(c, "server.limits.request_bytes");
    if (all >= 2 * message) return CPL_OK;
    bool given = cpl_config_given(c, "server.limits.message_bytes");
    const char *key = given ? "server.limits.message_bytes" : "server.limits.request_bytes";
    return cpl_config_fail(err, CPL_INVALID, &cpl_config_value_of(c, key)->where, key,
                           "'server.limits.request_bytes' is %lld, too little for messages of "
                           "'server.limits.message_bytes' (%lld): it must be at least twice that",
                           (long long)all, (long long)message);
}

/* ---- models ---- */

cpl_status cpl_config_check_model(const cpl_config *model, cpl_error *err)
{
    const char *ignored;
    cpl_status st = check_device(model, err);
    return st ? st : cpl_config_precision(model, &ignored, err);
}

static cpl_status check_name(const cpl_config *c, const cpl_config_entry *entry, const char *name, size_t i,
                             cpl_error *err)
{
    const cpl_config_value *list = cpl_config_value_of(c, "models");
    const int key = cpl_config_key_find("model.name", 10);
    if (!cpl_config_entry_gives(entry, (size_t)key))
        return cpl_config_fail(err, CPL_INVALID, &list->where, "models", "entry %zu of 'models' has no name", i + 1);
    for (size_t k = 0; k < i; k++) {
        cpl_config *other = NULL;
        cpl_status st = cpl_config_model(&other, c, k, err);
        if (st) return st;
        bool same = !strcmp(cpl_config_model_name(other), name);
        cpl_config_close(other);
        if (same)
            return cpl_config_fail(err, CPL_INVALID, &entry->values[key].where, "models",
                                   "two entries of 'models' are called '%s': give each its own `name`, and `path` for "
                                   "where it is",
                                   name);
    }
    return CPL_OK;
}

static cpl_status check_models(const cpl_config *c, cpl_error *err)
{
    const char *flag = cpl_config_origin(c, "model.name");
    if (c->models && !strncmp(flag, "--model", 7))
        return cpl_fail(err, CPL_INVALID, "%s names one model, but 'models' (%s) lists %zu: keep one of them", flag,
                        cpl_config_origin(c, "models"), cpl_config_model_count(c));
    cpl_status st = CPL_OK;
    for (size_t i = 0; i < cpl_config_model_count(c) && !st; i++) {
        cpl_config *model = NULL;
        st = cpl_config_model(&model, c, i, err);
        if (!st) st = cpl_config_check_model(model, err);
        if (!st && c->models) st = check_name(c, &c->models[i], cpl_config_model_name(model), i, err);
        cpl_config_close(model);
    }
    return st;
}

cpl_status cpl_config_check(const cpl_config *c, cpl_error *err)
{
    const char *ignored;
    cpl_status st = check_there(c, err);
    if (!st) st = check_models(c, err);
    if (!st) st = cpl_config_policy(c, &ignored, err);
    if (!st) st = check_limits(c, err);
    return st;
}
