/* SPDX-License-Identifier: Apache-2.0 */
/* ort.c - ONNX Runtime opened at run time, sessions, and providers.
 *
 * The one idea: nothing of the runtime is linked, so this file builds anywhere; its table of functions is asked for in
 * the version that has every slot we call, and a runtime that is older says so in one line. A provider that the runtime
 * wasn't built with is refused by name: the runtime itself would go on with its CPU provider. Its log is dropped: what
 * matters comes back as a status, and a library doesn't print. Threads: a session may be run by many at once. */
#include "backend/onnx/ort.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"

static const cpl_foreign_spec spec = {.what = "ONNX Runtime",
                                      .setup = "onnx",
                                      .variable = "COUPLET_ONNXRUNTIME",
#if defined(__APPLE__)
                                      .pattern = "onnxruntime/capi/libonnxruntime*.dylib",
                                      .soname = "libonnxruntime.dylib"};
#else
                                      .pattern = "onnxruntime/capi/libonnxruntime.so*",
                                      .soname = "libonnxruntime.so.1"};
#endif

static const char *const names[CPL_ORT_PROVIDERS] = {"CPU", "CUDA", "CoreML", "OpenVINO"};

const char *cpl_ort_provider_name(cpl_ort_provider p) { return names[p]; }

cpl_status cpl_ort_check(const cpl_ort *ort, OrtStatus *status, const char *what, cpl_error *err)
{
    if (!status) return CPL_OK;
    cpl_status st = cpl_fail(err, CPL_INTERNAL, "%s failed: ONNX Runtime %s says: %.300s", what, ort->version,
                             ort->api->GetErrorMessage(status));
    ort->api->ReleaseStatus(status);
    return st;
}

static cpl_status list_providers(cpl_ort *ort, cpl_error *err)
{
    char **list = NULL;
    int n = 0;
    size_t at = 0;
    cpl_status st = cpl_ort_check(ort, ort->api->GetAvailableProviders(&list, &n), "listing providers", err);
    if (st) return st;
    for (int i = 0; i < n && at < sizeof ort->providers; i++) {
        const char *end = strstr(list[i], "ExecutionProvider");
        int length = end ? (int)(end - list[i]) : (int)strlen(list[i]);
        at += (size_t)snprintf(ort->providers + at, sizeof ort->providers - at, "%s%.*s", at ? ", " : "", length,
                               list[i]);
    }
    return cpl_ort_check(ort, ort->api->ReleaseAvailableProviders(list, n), "listing providers", err);
}

cpl_status cpl_ort_open(cpl_ort *out, cpl_error *err)
{
    const OrtApiBase *(*get_base)(void) = NULL;
    *out = (cpl_ort){0};
    cpl_status st = cpl_foreign_open(&out->library, &spec, err);
    const cpl_foreign_symbol entry = {"OrtGetApiBase", &get_base};
    if (!st) st = cpl_foreign_symbols(&out->library, &spec, &entry, 1, err);
    if (st) return st;
    const OrtApiBase *base = get_base();
    snprintf(out->version, sizeof out->version, "%s", base->GetVersionString());
    out->api = base->GetApi(CPL_ORT_API_VERSION);
    if (!out->api) {
        char why[96];
        snprintf(why, sizeof why, "it is version %s, and 1.%d or later is needed", out->version, CPL_ORT_API_VERSION);
        return cpl_foreign_wrong(&out->library, &spec, why, err);
    }
    return list_providers(out, err);
}

bool cpl_ort_has(const cpl_ort *ort, cpl_ort_provider p)
{
    const size_t n = strlen(names[p]);
    for (const char *at = ort->providers; *at; at += *at == ',' ? 2 : 0) {
        const size_t word = strcspn(at, ",");
        if (word == n && !memcmp(at, names[p], n)) return true;
        at += word;
    }
    return false;
}

static void drop_log(void *arg, int level, const char *category, const char *id, const char *where, const char *message)
{
    (void)arg, (void)level, (void)category, (void)id, (void)where, (void)message;
}

static cpl_status append_cuda(const cpl_ort *ort, OrtSessionOptions *o, uint32_t device, cpl_error *err)
{
    char number[16];
    snprintf(number, sizeof number, "%u", device);
    const char *const keys[] = {"device_id"}, *const values[] = {number};
    OrtCUDAProviderOptionsV2 *cuda = NULL;
    cpl_status st = cpl_ort_check(ort, ort->api->CreateCUDAProviderOptions(&cuda), "CUDA provider", err);
    if (!st) st = cpl_ort_check(ort, ort->api->UpdateCUDAProviderOptions(cuda, keys, values, 1), "CUDA provider", err);
    if (!st)
        st = cpl_ort_check(ort, ort->api->SessionOptionsAppendExecutionProvider_CUDA_V2(o, cuda), "CUDA provider", err);
    if (cuda) ort->api->ReleaseCUDAProviderOptions(cuda);
    return st;
}

static cpl_status append_provider(const cpl_ort *ort, OrtSessionOptions *o, const cpl_ort_options *options,
                                  cpl_error *err)
{
    const cpl_ort_provider p = options->provider;
    if (p == CPL_ORT_CPU) return CPL_OK;
    if (!cpl_ort_has(ort, p))
        return cpl_fail(err, CPL_UNSUPPORTED,
                        "provider '%s' is not in this ONNX Runtime %s (it has %s): install a build of it that has, or "
                        "choose another provider",
                        names[p], ort->version, ort->providers);
    if (p == CPL_ORT_CUDA) return append_cuda(ort, o, options->device, err);
    return cpl_ort_check(ort, ort->api->SessionOptionsAppendExecutionProvider(o, names[p], NULL, NULL, 0), names[p],
                         err);
}

static cpl_status set_options(const cpl_ort *ort, OrtSessionOptions *o, const cpl_ort_options *options,
                              char *profile_dir, size_t cap, cpl_error *err)
{
    const OrtApi *api = ort->api;
    const char *tmp = getenv("TMPDIR");
    char prefix[128];
    if (snprintf(profile_dir, cap, "%s/couplet-onnx-XXXXXX", tmp && *tmp ? tmp : "/tmp") >= (int)cap)
        snprintf(profile_dir, cap, "/tmp/couplet-onnx-XXXXXX");
    if (!mkdtemp(profile_dir)) {
        profile_dir[0] = 0;
        return cpl_fail(err, CPL_IO,
                        "no temporary folder for ONNX Runtime's profile: set TMPDIR to one that can be written");
    }
    snprintf(prefix, sizeof prefix, "%s/profile", profile_dir);
    cpl_status st = cpl_ort_check(ort, api->SetIntraOpNumThreads(o, (int)options->threads), "setting threads", err);
    const int level = options->optimize ? CPL_ORT_OPTIMIZE_ALL : CPL_ORT_OPTIMIZE_NONE;
    if (!st) st = cpl_ort_check(ort, api->SetSessionGraphOptimizationLevel(o, level), "setting optimisations", err);
    if (!st) st = cpl_ort_check(ort, api->EnableProfiling(o, prefix), "profiling", err);
    if (!st) st = append_provider(ort, o, options, err);
    return st;
}

cpl_status cpl_ort_session_open(cpl_ort_session *out, const cpl_ort *ort, const cpl_ort_source *source,
                                const cpl_ort_options *options, cpl_error *err)
{
    const OrtApi *api = ort->api;
    OrtSessionOptions *o = NULL;
    *out = (cpl_ort_session){0};
    cpl_status st =
        cpl_ort_check(ort, api->CreateEnvWithCustomLogger(drop_log, NULL, CPL_ORT_LOG_FATAL, "couplet", &out->env),
                      "opening the runtime", err);
    if (!st) st = cpl_ort_check(ort, api->CreateSessionOptions(&o), "opening the runtime", err);
    if (!st) st = set_options(ort, o, options, out->profile_dir, sizeof out->profile_dir, err);
    if (!st && source->path)
        st = cpl_ort_check(ort, api->CreateSession(out->env, source->path, o, &out->session), "opening the graph", err);
    else if (!st)
        st = cpl_ort_check(ort, api->CreateSessionFromArray(out->env, source->graph, source->size, o, &out->session),
                           "opening the graph", err);
    if (!st)
        st = cpl_ort_check(ort, api->CreateCpuMemoryInfo(CPL_ORT_ARENA_ALLOCATOR, CPL_ORT_MEMORY_DEFAULT, &out->memory),
                           "opening the runtime", err);
    if (o) api->ReleaseSessionOptions(o);
    if (st) cpl_ort_session_close(out, ort);
    return st;
}

void cpl_ort_session_close(cpl_ort_session *s, const cpl_ort *ort)
{
    if (s->profile_dir[0] && s->session) cpl_ort_session_executed(s, ort, CPL_ORT_CPU, NULL, NULL);
    if (s->profile_dir[0]) rmdir(s->profile_dir);
    if (s->memory) ort->api->ReleaseMemoryInfo(s->memory);
    if (s->session) ort->api->ReleaseSession(s->session);
    if (s->env) ort->api->ReleaseEnv(s->env);
    *s = (cpl_ort_session){0};
}
