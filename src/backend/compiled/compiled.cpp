/* SPDX-License-Identifier: Apache-2.0 */
/* compiled.cpp - backend `compiled`: a model that torch.compile's inductor made into machine code ahead of time, an
 * AOTInductor package by tools/export_compiled.py, loaded and run through libtorch. No Python, no compiling here.
 *
 * A package is what it was exported as. Its metadata says precision, mode, torch's version, instruction set and which
 * weights it was made of, and what differs from what is asked is refused with both named, before anything of it is
 * loaded: a precision or a mode can't be had from a package that lacks it. The package is
 * MODEL_DIR/compiled-PRECISION-MODE.pt2, with COUPLET_COMPILED set that folder's MODEL-PRECISION-MODE.pt2, or the file
 * that setting `package` names.
 *
 * The package's code asks for libtorch's symbols without naming a library, so that the trimmed installation will do;
 * libtorch_cpu, which this plug-in is linked with, is made visible to it first. Code and constants are shared, one
 * runner a core; a session is one thread's, and passes run on that thread.
 *
 * Rectangles always come with a mask: one graph serves all. Threads: libtorch's loader is thread-safe in run. */
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <c10/core/InferenceMode.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/headeronly/version.h>

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>
#include <optional>
#include <thread>

#include "backend/foreign/foreign.hpp"

struct cpl_weights {
    cpl_host host;
    couplet::Shape shape;
    std::unique_ptr<torch::inductor::AOTIModelPackageLoader> loader;
};

struct cpl_session {
    const cpl_weights *weights = nullptr;
    couplet::Padded padded;
};

namespace
{

constexpr uint32_t BATCH_TOKENS = 1024, LAUNCH_TOKENS = 16;
using Metadata = std::unordered_map<std::string, std::string>;

const char *name_of(cpl_precision p)
{
    return p == CPL_PRECISION_FP32 ? "fp32" : p == CPL_PRECISION_BF16 ? "bf16" : p == CPL_PRECISION_FP16 ? "fp16" : "";
}

/* ---- probe --------------------------------------------------------------------------------------------------------
 */

cpl_status check_version(const cpl_host &host, cpl_error *err)
{
    const uint64_t v = aoti_torch_abi_version();
    if (v >> 40 == TORCH_ABI_VERSION >> 40) return CPL_OK;
    return host.fail(err, CPL_UNSUPPORTED,
                     "libtorch %u.%u.%u is here but this plug-in was built with " TORCH_VERSION
                     ": tools/setup.sh pytorch installs that",
                     (unsigned)(v >> 56), (unsigned)(v >> 48 & 255), (unsigned)(v >> 40 & 255));
}

cpl_status probe(cpl_caps *out, const cpl_host *host, cpl_error *err)
{
    std::memset(out, 0, sizeof *out);
    const cpl_status st = check_version(*host, err);
    if (st) return st;
    return couplet::guarded(*host, err, "asking libtorch what it can do", [&] {
        for (int p = 0; p < CPL_PRECISION_COUNT; p++) {
            if (*name_of((cpl_precision)p)) out->precisions |= 1u << p;
            std::snprintf(out->reason[p], sizeof out->reason[p], "%s",
                          *name_of((cpl_precision)p) ? "" : "packages are exported in fp32, bf16 or fp16 only");
        }
        out->wants = 1u << CPL_WANT_LOGITS | 1u << CPL_WANT_POOLED | 1u << CPL_WANT_TOKENS;
        out->rectangles = 1;
        out->inexact = 1;
        out->devices = 1;
        out->batch_tokens = BATCH_TOKENS;
        std::snprintf(out->isa, sizeof out->isa, "libtorch %s", TORCH_VERSION);
        std::snprintf(out->device, sizeof out->device, "CPU (%s), with a package made by tools/export_compiled.py",
                      at::get_cpu_capability().c_str());
        return CPL_OK;
    });
}

/* ---- load ---------------------------------------------------------------------------------------------------------
 */

/* As in tools/export_compiled.py: the sum over 32-bit words of (index + 1) x word, modulo 2^64. "" when the file can't
 * be read. */
std::string fingerprint(const std::string &path)
{
    const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    struct stat st = {};
    if (fd < 0) return "";
    void *data = MAP_FAILED;
    if (!fstat(fd, &st) && st.st_size > 0) data = mmap(nullptr, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    if (data == MAP_FAILED) return "";
    const uint32_t *words = static_cast<const uint32_t *>(data);
    uint64_t sum = 0;
    for (uint64_t i = 0; i < (uint64_t)st.st_size / 4; i++) sum += (i + 1) * words[i];
    munmap(data, (size_t)st.st_size);
    char text[17];
    std::snprintf(text, sizeof text, "%016llx", (unsigned long long)sum);
    return text;
}

/* Beside the model, or in the folder that COUPLET_COMPILED names (models may lie where nothing can be written). */
std::string usual_place(std::string model, const std::string &kind)
{
    const char *folder = std::getenv("COUPLET_COMPILED");
    if (!folder || !*folder) return model + "/compiled-" + kind + ".pt2";
    while (model.size() > 1 && model.back() == '/') model.pop_back();
    return std::string(folder) + "/" + model.substr(model.rfind('/') + 1) + "-" + kind + ".pt2";
}

struct Wish {
    std::string package, mode = "default";
};

cpl_status read_settings(Wish *wish, const cpl_model &m, const cpl_load_options &o, const cpl_host &host,
                         cpl_error *err)
{
    for (const char *const *s = o.settings; s && *s; s++) {
        const char *device = couplet::setting(*s, "device");
        if (const char *mode = couplet::setting(*s, "mode"))
            wish->mode = mode;
        else if (const char *package = couplet::setting(*s, "package"))
            wish->package = package;
        else if (!device)
            return host.fail(err, CPL_INVALID, "compiled: unknown setting '%s': mode, package and device are known",
                             *s);
        else if (std::strcmp(device, "auto") != 0 && std::strcmp(device, "cpu") != 0)
            return host.fail(err, CPL_UNSUPPORTED, "compiled: device '%s': packages are exported for cpu only", device);
    }
    if (wish->mode.empty() || wish->mode.find('/') != std::string::npos)
        return host.fail(err, CPL_INVALID, "compiled: mode '%s' is no mode of torch.compile", wish->mode.c_str());
    if (wish->package.empty()) wish->package = usual_place(m.dir, std::string(name_of(o.precision)) + "-" + wish->mode);
    if (access(wish->package.c_str(), R_OK))
        return host.fail(err, CPL_NOT_FOUND,
                         "no compiled package '%s': make it with tools/export_compiled.py %s --precision %s --mode %s",
                         wish->package.c_str(), m.dir, name_of(o.precision), wish->mode.c_str());
    return CPL_OK;
}

/* What the package is against what is wanted; the first difference is the error. */
cpl_status check_package(const Metadata &have, const Wish &wish, const cpl_model &m, cpl_precision precision,
                         const cpl_host &host, cpl_error *err)
{
    const struct {
        const char *key, *what;
        std::string wanted;
    } checks[] = {
        {"couplet_precision", "precision", name_of(precision)},
        {"couplet_mode", "mode", wish.mode},
        {"couplet_torch", "torch version", TORCH_VERSION},
        {"couplet_isa", "instruction set", at::get_cpu_capability()},
        {"couplet_labels", "classifier (1: with)", m.arch.labels ? "1" : "0"},
        {"couplet_model", "fingerprint of model.safetensors", fingerprint(std::string(m.dir) + "/model.safetensors")}};
    for (const auto &c : checks) {
        const auto found = have.find(c.key);
        if (found == have.end())
            return host.fail(err, CPL_UNSUPPORTED, "package '%s' was not made by tools/export_compiled.py: no %s in it",
                             wish.package.c_str(), c.key);
        if (found->second == c.wanted) continue;
        return host.fail(err, CPL_UNSUPPORTED,
                         "package '%s' has %s '%s' where '%s' is needed: export it again with tools/export_compiled.py",
                         wish.package.c_str(), c.what, found->second.c_str(), c.wanted.c_str());
    }
    return CPL_OK;
}

cpl_status load_all(cpl_weights *w, const cpl_model &m, const cpl_load_options &o, cpl_load_report *report,
                    cpl_error *err)
{
    Wish wish;
    cpl_status st = check_version(w->host, err);
    if (!st && !*name_of(o.precision))
        st = w->host.fail(err, CPL_UNSUPPORTED, "compiled: packages are exported in fp32, bf16 or fp16 only");
    if (!st) st = read_settings(&wish, m, o, w->host, err);
    if (st) return st;
    using Loader = torch::inductor::AOTIModelPackageLoader;
    try {
        st = check_package(Loader::load_metadata_from_package(wish.package, "model"), wish, m, o.precision, w->host,
                           err);
    } catch (const std::exception &e) {
        return w->host.fail(err, CPL_CORRUPT,
                            "package '%s' can't be read: %s: export it again with "
                            "tools/export_compiled.py",
                            wish.package.c_str(), couplet::first_line(e.what()).c_str());
    }
    if (st) return st;
    if (!dlopen("libtorch_cpu.so", RTLD_NOW | RTLD_NOLOAD | RTLD_GLOBAL))
        return w->host.fail(err, CPL_INTERNAL, "libtorch_cpu can't be made visible to the package: %s", dlerror());
    at::set_num_threads(1); /* one session a worker */
    const unsigned cores = std::thread::hardware_concurrency();
    w->loader = std::make_unique<Loader>(wish.package, "model", false, cores ? cores : 1);
    w->shape = couplet::Shape(m, o);
    struct stat size = {};
    if (stat(wish.package.c_str(), &size)) size.st_size = 1;
    report->weight_bytes = (uint64_t)size.st_size;
    report->precision = o.precision;
    report->batch_tokens = BATCH_TOKENS;
    std::snprintf(report->kernels, sizeof report->kernels, "inductor %s, mode %s%s", at::get_cpu_capability().c_str(),
                  wish.mode.c_str(), wish.mode == "reduce-overhead" ? " (CUDA graphs: without effect on a CPU)" : "");
    couplet::say(w->host, CPL_LOG_INFO, "compiled: package '" + wish.package + "'");
    return CPL_OK;
}

void unload(cpl_weights *w) { delete w; }

cpl_status load(cpl_weights **out, const cpl_model *model, const cpl_load_options *o, cpl_load_report *report,
                const cpl_host *host, cpl_error *err)
{
    *out = nullptr;
    if (o->size != sizeof *o)
        return host->fail(err, CPL_INVALID, "load options are of another size (%u, expected %zu): rebuild the caller",
                          o->size, sizeof *o);
    return couplet::guarded(*host, err, "loading a compiled package", [&] {
        auto w = std::make_unique<cpl_weights>();
        w->host = *host;
        const cpl_status st = load_all(w.get(), *model, *o, report, err);
        if (!st) *out = w.release();
        return st;
    });
}

/* ---- sessions -----------------------------------------------------------------------------------------------------
 */

cpl_status open_session(cpl_session **out, cpl_weights *w, cpl_error *err)
{
    *out = nullptr;
    return couplet::guarded(w->host, err, "opening a session on a compiled package", [&] {
        auto s = std::make_unique<cpl_session>();
        s->weights = w;
        const cpl_status st = s->padded.open(w->host, w->shape, 1, LAUNCH_TOKENS, err);
        if (!st) *out = s.release();
        return st;
    });
}

/* The package gives hidden states and, of a cross-encoder, logits, in fp32. */
cpl_status run(cpl_session *s, const cpl_batch *b, cpl_team *, float *rows, cpl_error *err)
{
    const c10::InferenceMode guard;
    const bool logits = b->want == CPL_WANT_LOGITS;
    return s->padded.run(*b, logits ? CPL_PADDED_ROWS : CPL_PADDED_TOKENS, rows, err, "a compiled package",
                         [&](uint32_t n, uint32_t width, const cpl_rectangle_tensors &in, float *out) {
                             const auto tensor = [&](int64_t *p) {
                                 return at::from_blob(p, {(int64_t)n, (int64_t)width}, at::kLong);
                             };
                             const std::vector<at::Tensor> got =
                                 s->weights->loader->run({tensor(in.ids), tensor(in.type_ids), tensor(in.mask)});
                             const at::Tensor result = got.at(logits ? 1 : 0).to(at::kFloat).contiguous();
                             std::memcpy(out, result.data_ptr<float>(), (size_t)result.numel() * sizeof *out);
                         });
}

uint64_t padding(const cpl_session *s) { return s->padded.padding(); }

void close_session(cpl_session *s) { delete s; }

const cpl_backend backend = {
    .abi = CPL_BACKEND_ABI,
    .size = sizeof(cpl_backend),
    .name = "compiled",
    .summary = "PyTorch compiled ahead of time (AOTInductor packages)",
    .probe = probe,
    .load = load,
    .open = open_session,
    .run = run,
    .stages = nullptr,
    .padding = padding,
    .close = close_session,
    .unload = unload,
};

} // namespace

extern "C" CPL_API const cpl_backend *cpl_plugin(const cpl_host *host)
{
    if (host->abi != CPL_BACKEND_ABI || host->size != sizeof *host) return nullptr;
    return &backend;
}
