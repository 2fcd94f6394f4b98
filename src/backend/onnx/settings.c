/* SPDX-License-Identifier: Apache-2.0 */
/* settings.c - the section model.onnx of the configuration, checked.
 *
 * Three keys can say where to run: provider names it, use_gpu is the reference's key for this platform's GPU, device is
 * the key that all backends share. They may agree; two that don't are an error naming both. Threads: none. */
#include "backend/onnx/settings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

/* Where to run, and which key said so. */
typedef struct place {
    cpl_ort_provider provider;
    const char *said; /* the whole setting; NULL: nobody did */
} place;

static cpl_status settle(place *p, cpl_ort_provider provider, const char *said, cpl_error *err)
{
    if (p->said && p->provider != provider)
        return cpl_fail(err, CPL_INVALID, "onnx: '%s' and '%s' name different providers: keep one of them", p->said,
                        said);
    *p = (place){provider, said};
    return CPL_OK;
}

static cpl_status read_provider(place *p, const char *setting, const char *value, cpl_error *err)
{
    static const struct {
        const char *key, *value;
        cpl_ort_provider provider;
    } known[] = {
        {"provider=", "cpu", CPL_ORT_CPU},
        {"provider=", "cuda", CPL_ORT_CUDA},
        {"provider=", "coreml", CPL_ORT_COREML},
        {"provider=", "openvino", CPL_ORT_OPENVINO},
        {"device=", "cpu", CPL_ORT_CPU},
        {"device=", "cuda", CPL_ORT_CUDA},
        {"device=", "mps", CPL_ORT_COREML},
#if defined(__APPLE__)
        {"use_gpu=", "true", CPL_ORT_COREML},
#else
        {"use_gpu=", "true", CPL_ORT_CUDA},
#endif
    };
    const size_t key = (size_t)(value - setting);
    if (!strcmp(setting, "use_gpu=false") || !strcmp(setting, "provider=auto")) return CPL_OK;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strncmp(setting, known[i].key, key) && !strcmp(value, known[i].value))
            return settle(p, known[i].provider, setting, err);
    return cpl_fail(err, CPL_INVALID,
                    "onnx: '%s' isn't known: provider is auto, cpu, cuda, coreml or openvino, device cpu, cuda or mps, "
                    "use_gpu true or false",
                    setting);
}

static cpl_status read_threads(cpl_onnx_settings *out, const char *setting, const char *value, cpl_error *err)
{
    char *end = NULL;
    const unsigned long n = *value >= '0' && *value <= '9' ? strtoul(value, &end, 10) : 0;
    if (!end || *end || n < 1 || n > 1024)
        return cpl_fail(err, CPL_INVALID, "onnx: '%s' is not a number of threads from 1 to 1024", setting);
    out->session.threads = (uint32_t)n;
    return CPL_OK;
}

static cpl_status read_one(cpl_onnx_settings *out, place *p, const char *setting, cpl_error *err)
{
    const char *value = strchr(setting, '=');
    value = value ? value + 1 : setting + strlen(setting);
    const size_t key = (size_t)(value - setting);
    if (!strncmp(setting, "provider=", key) || !strncmp(setting, "device=", key) || !strncmp(setting, "use_gpu=", key))
        return read_provider(p, setting, value, err);
    if (!strncmp(setting, "threads=", key)) return read_threads(out, setting, value, err);
    if (!strcmp(setting, "optimize=true") || !strcmp(setting, "optimize=false")) {
        out->session.optimize = !strcmp(value, "true");
        return CPL_OK;
    }
    if (!strncmp(setting, "file=", key) && strlen(value) < sizeof out->file) {
        snprintf(out->file, sizeof out->file, "%s", value);
        return CPL_OK;
    }
    return cpl_fail(err, CPL_INVALID,
                    "onnx: setting '%s' isn't known: optimize=true|false, use_gpu=true|false, "
                    "provider=auto|cpu|cuda|coreml|openvino, threads=N and file=NAME are",
                    setting);
}

cpl_status cpl_onnx_settings_read(cpl_onnx_settings *out, const cpl_load_options *options, cpl_error *err)
{
    place p = {CPL_ORT_CPU, NULL};
    *out = (cpl_onnx_settings){.session = {.threads = 1, .optimize = true, .device = options->device}};
    for (const char *const *s = options->settings; s && *s; s++) {
        cpl_status st = read_one(out, &p, *s, err);
        if (st) return st;
    }
    out->session.provider = p.provider;
    return CPL_OK;
}
