/* SPDX-License-Identifier: Apache-2.0 */
/* pytorch.cpp - backends `pytorch` and `mps`: libtorch, eager. The whole model is ATen calls, as PyTorch users run it:
 * nothing is traced or compiled (that is backend `compiled`).
 *
 * One session a worker with one intra-op thread each: on a CPU that is faster than one session with all threads
 * (docs/RUNTIMES.md), and the engine's worker count stays what the user said. Rectangles come from the
 * host's helper; a rectangle without padding runs without a mask. The last layer computes only what is asked for: the
 * first token's row where a classifier or CLS pooling reads nothing else, which is exact. Pooler and classifier stay in
 * fp32 in every precision.
 *
 * int8 is PyTorch's dynamic quantisation: weights per channel, activations by one scale a tensor, so a score depends a
 * little on what it is batched with. It exists where libtorch has a quantised engine; probe packs a small matrix to
 * find out. After load the types of the weights are read back from the tensors that will be multiplied.
 *
 * Linked with libtorch_cpu and c10 only. For cuda the plug-in opens libtorch_cuda itself and says what is missing.
 * Threads: weights are read-only; a session is one thread's, and on a GPU has a stream of its own. */
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/cpu/Utils.h>
#include <ATen/native/quantized/PackedParams.h>
#include <c10/core/InferenceMode.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/headeronly/version.h>

#include <dlfcn.h>

#include <memory>
#include <optional>

#include "backend/foreign/foreign.hpp"

#ifndef CPL_TORCH_BACKEND
#define CPL_TORCH_BACKEND "pytorch"
#endif

namespace
{

constexpr bool is_mps = sizeof(CPL_TORCH_BACKEND) == sizeof("mps");
constexpr uint32_t BATCH_TOKENS = 1024, LAUNCH_TOKENS = 16, GPU_SESSIONS = 2;

using Packed = c10::intrusive_ptr<LinearPackedParamsBase>;

/* y = x W^T + b, in the type of the weights or through a quantised engine. */
struct Linear {
    at::Tensor weight, bias;
    Packed packed;
    bool reduce_range = false;

    at::Tensor operator()(const at::Tensor &x) const
    {
        return packed ? packed->apply_dynamic(x, reduce_range) : at::linear(x, weight, bias);
    }
    at::ScalarType type() const { return packed ? std::get<0>(packed->unpack()).scalar_type() : weight.scalar_type(); }
};

struct Norm {
    at::Tensor weight, bias;
};

struct Layer {
    Linear qkv, out, up, down;
    Norm attention_norm, output_norm;
};

struct Model {
    at::Tensor word, position, type;
    Norm norm;
    std::vector<Layer> layers;
    Linear last_query, last_key_value; /* the last layer's, for passes that want first tokens only */
    Linear pooler, classifier;
};

at::ScalarType type_of(cpl_precision p)
{
    return p == CPL_PRECISION_BF16 ? at::kBFloat16 : p == CPL_PRECISION_FP16 ? at::kHalf : at::kFloat;
}

/* ---- quantised linear ---------------------------------------------------------------------------------------------
 */

Packed pack_int8(const at::Tensor &weight, const at::Tensor &bias)
{
    const at::Tensor scales = (weight.abs().amax(1) / 127.0).clamp_min(1e-12).to(at::kDouble);
    const at::Tensor zeros = at::zeros({weight.size(0)}, at::kLong);
    const at::Tensor q = at::quantize_per_channel(weight, scales, zeros, 0, at::kQInt8);
    static const auto op = c10::Dispatcher::singleton()
                               .findSchemaOrThrow("quantized::linear_prepack", "")
                               .typed<Packed(at::Tensor, std::optional<at::Tensor>)>();
    return op.call(q, bias);
}

/* Without VNNI, fbgemm adds pairs of products in 16 bits: activations must leave a bit free. */
bool must_reduce_range() { return !at::cpu::is_avx512_vnni_supported(); }

/* ---- weights ------------------------------------------------------------------------------------------------------
 */

struct Loader {
    at::ScalarType type;
    at::Device device;
    bool int8;

    static at::Tensor read(const cpl_tensor &t)
    {
        at::Tensor out = t.rank == 2 ? at::empty({(int64_t)t.shape[0], (int64_t)t.shape[1]}, at::kFloat)
                                     : at::empty({(int64_t)t.shape[0]}, at::kFloat);
        cpl_tensor_read_f32(&t, 0, cpl_tensor_count(&t), out.data_ptr<float>());
        return out;
    }
    at::Tensor place(const at::Tensor &t) const { return t.to(at::TensorOptions().dtype(type).device(device)); }
    Norm norm(const cpl_tensor &w, const cpl_tensor &b) const { return {place(read(w)), place(read(b))}; }

    Linear linear(const at::Tensor &weight, const at::Tensor &bias) const
    {
        Linear l;
        if (int8) {
            l.packed = pack_int8(weight.contiguous(), bias.contiguous());
            l.reduce_range = must_reduce_range();
        } else {
            l.weight = place(weight.contiguous());
            l.bias = place(bias.contiguous());
        }
        return l;
    }
    Linear linear(const cpl_tensor &w, const cpl_tensor &b) const { return linear(read(w), read(b)); }
    Linear full(const cpl_tensor &w, const cpl_tensor &b) const
    {
        return Loader{at::kFloat, device, false}.linear(read(w), read(b));
    }
};

void load_layer(Layer &to, const cpl_layer &y, const Loader &l)
{
    to.qkv = l.linear(at::cat({l.read(y.q_weight), l.read(y.k_weight), l.read(y.v_weight)}),
                      at::cat({l.read(y.q_bias), l.read(y.k_bias), l.read(y.v_bias)}));
    to.out = l.linear(y.out_weight, y.out_bias);
    to.up = l.linear(y.up_weight, y.up_bias);
    to.down = l.linear(y.down_weight, y.down_bias);
    to.attention_norm = l.norm(y.attention_norm_weight, y.attention_norm_bias);
    to.output_norm = l.norm(y.output_norm_weight, y.output_norm_bias);
}

void load_model(Model &to, const cpl_model &m, const Loader &l)
{
    const cpl_weights_by_role &w = m.weights;
    to.word = l.place(l.read(w.word_embedding));
    to.position = l.place(l.read(w.position_embedding));
    to.type = l.place(l.read(w.type_embedding));
    to.norm = l.norm(w.embedding_norm_weight, w.embedding_norm_bias);
    to.layers.resize(m.arch.layers);
    for (uint32_t i = 0; i < m.arch.layers; i++) load_layer(to.layers[i], w.layers[i], l);
    const cpl_layer &last = w.layers[m.arch.layers - 1];
    to.last_query = l.linear(last.q_weight, last.q_bias);
    to.last_key_value = l.linear(at::cat({l.read(last.k_weight), l.read(last.v_weight)}),
                                 at::cat({l.read(last.k_bias), l.read(last.v_bias)}));
    if (m.arch.head != CPL_HEAD_POOLER_CLASSIFIER) return;
    to.pooler = l.full(w.pooler_weight, w.pooler_bias);
    to.classifier = l.full(w.classifier_weight, w.classifier_bias);
}

} // namespace

/* libtorch's warnings go to the host's log, at debug level, instead of to stderr. */
class Warnings : public c10::WarningHandler
{
  public:
    explicit Warnings(const cpl_host &host) : host_(host), guard_(this) {}
    void process(const c10::Warning &w) override
    {
        couplet::say(host_, CPL_LOG_DEBUG, "libtorch: " + couplet::first_line(w.msg().c_str()));
    }

  private:
    const cpl_host &host_;
    c10::WarningUtils::WarningHandlerGuard guard_;
};

/* ---- what the contract names --------------------------------------------------------------------------------------
 */

struct cpl_weights {
    cpl_host host;
    cpl_arch arch;
    couplet::Shape shape;
    at::Device device = at::kCPU;
    Model model;
};

struct cpl_session {
    const cpl_weights *weights = nullptr;
    couplet::Padded padded;
    std::optional<c10::Stream> stream;
};

namespace
{

/* ---- forward ------------------------------------------------------------------------------------------------------
 */

at::Tensor normalise(const at::Tensor &x, const Norm &n, const cpl_arch &a)
{
    return at::layer_norm(x, {(int64_t)a.hidden}, n.weight, n.bias, a.norm_epsilon);
}

at::Tensor activate(const at::Tensor &x, cpl_activation a)
{
    if (a == CPL_ACTIVATION_RELU) return at::relu(x);
    return at::gelu(x, a == CPL_ACTIVATION_GELU_TANH ? "tanh" : "none");
}

/* B x L x (parts x hidden) -> parts x B x heads x L x head_size, without a copy. */
at::Tensor heads_of(const at::Tensor &x, int64_t parts, const cpl_arch &a)
{
    return x.view({x.size(0), x.size(1), parts, (int64_t)a.heads, (int64_t)a.head_size}).permute({2, 0, 3, 1, 4});
}

at::Tensor attend(const Model &m, const Layer &y, const at::Tensor &x, const at::Tensor &first,
                  const std::optional<at::Tensor> &mask, const cpl_arch &a)
{
    at::Tensor q, kv;
    if (first.defined()) {
        q = heads_of(m.last_query(first), 1, a)[0];
        kv = heads_of(m.last_key_value(x), 2, a);
    } else {
        const at::Tensor qkv = heads_of(y.qkv(x), 3, a);
        q = qkv[0];
        kv = qkv.narrow(0, 1, 2);
    }
    const at::Tensor context = at::scaled_dot_product_attention(q, kv[0], kv[1], mask);
    return context.transpose(1, 2).reshape({q.size(0), q.size(2), (int64_t)(a.heads * a.head_size)});
}

/* B x L x hidden; with first_only B x 1 x hidden, of the first tokens. */
at::Tensor encode(const cpl_weights &w, const at::Tensor &ids, const at::Tensor &types,
                  const std::optional<at::Tensor> &mask, bool first_only)
{
    const Model &m = w.model;
    const cpl_arch &a = w.arch;
    at::Tensor x = at::embedding(m.word, ids) + at::embedding(m.type, types) + m.position.narrow(0, 0, ids.size(1));
    x = normalise(x, m.norm, a);
    for (size_t i = 0; i < m.layers.size(); i++) {
        const Layer &y = m.layers[i];
        const bool cut = first_only && i + 1 == m.layers.size();
        const at::Tensor first = cut ? x.narrow(1, 0, 1) : at::Tensor();
        const at::Tensor attended = y.out(attend(m, y, x, first, mask, a));
        x = normalise(attended + (cut ? first : x), y.attention_norm, a);
        x = normalise(y.down(activate(y.up(x), a.activation)) + x, y.output_norm, a);
    }
    return x;
}

at::Tensor pool(const cpl_weights &w, const at::Tensor &hidden, const at::Tensor &mask)
{
    const at::Tensor x = hidden.to(at::kFloat);
    if (w.shape.model.pooling == CPL_POOLING_CLS) return x.select(1, 0);
    if (w.shape.model.pooling == CPL_POOLING_MAX) return x.masked_fill(mask.eq(0).unsqueeze(2), -INFINITY).amax(1);
    const at::Tensor weights = mask.to(at::kFloat);
    return at::bmm(weights.unsqueeze(1), x).squeeze(1) / weights.sum(1, true);
}

/* One rectangle; `out` gets what the batch wants, hidden states of padding included. */
void run_rectangle(const cpl_weights &w, cpl_want want, uint32_t rows, uint32_t width, const cpl_rectangle_tensors &in,
                   float *out)
{
    const auto tensor = [&](int64_t *p) {
        const at::Tensor t = at::from_blob(p, {(int64_t)rows, (int64_t)width}, at::kLong);
        return w.device.is_cpu() ? t : t.to(w.device);
    };
    const at::Tensor mask = tensor(in.mask);
    std::optional<at::Tensor> attention_mask;
    if (couplet::has_padding(in.mask, rows, width)) attention_mask = mask.to(at::kBool).unsqueeze(1).unsqueeze(1);
    const bool first_only =
        want == CPL_WANT_LOGITS || (want == CPL_WANT_POOLED && w.shape.model.pooling == CPL_POOLING_CLS);
    at::Tensor result = encode(w, tensor(in.ids), tensor(in.type_ids), attention_mask, first_only);
    if (want == CPL_WANT_POOLED) result = pool(w, result, mask);
    if (want == CPL_WANT_LOGITS)
        result = w.model.classifier(at::tanh(w.model.pooler(result.select(1, 0).to(at::kFloat))));
    result = result.to(at::kCPU, at::kFloat).contiguous();
    std::memcpy(out, result.data_ptr<float>(), (size_t)result.numel() * sizeof *out);
}

cpl_status run(cpl_session *s, const cpl_batch *b, cpl_team *, float *rows, cpl_error *err)
{
    const cpl_weights &w = *s->weights;
    const c10::InferenceMode guard;
    const c10::OptionalStreamGuard stream(s->stream);
    return s->padded.run(*b, b->want == CPL_WANT_TOKENS ? CPL_PADDED_TOKENS : CPL_PADDED_ROWS, rows, err,
                         "libtorch's forward pass",
                         [&](uint32_t n, uint32_t width, const cpl_rectangle_tensors &in, float *out) {
                             run_rectangle(w, b->want, n, width, in, out);
                         });
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

/* libtorch_cuda registers itself when it is opened. Nothing may ask for CUDA before: libtorch remembers the answer. */
cpl_status need_cuda(const cpl_host &host, int64_t index, cpl_error *err)
{
    if (!dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL)) {
        const char *why = dlerror();
        return host.fail(err, CPL_UNSUPPORTED,
                         "device cuda: libtorch_cuda can't be loaded: %s; install torch " TORCH_VERSION
                         " with all its packages (tools/setup.sh pytorch-cuda)",
                         why ? why : "no reason given");
    }
    return couplet::guarded(host, err, "asking libtorch for CUDA devices", [&] {
        const int64_t count = at::hasCUDA() ? (int64_t)at::detail::getCUDAHooks().deviceCount() : 0;
        if (count > index) return CPL_OK;
        if (count) return host.fail(err, CPL_INVALID, "no device cuda:%d: this machine has %d", (int)index, (int)count);
        return host.fail(err, CPL_UNSUPPORTED, "device cuda: libtorch finds no NVIDIA GPU or driver here");
    });
}

cpl_status need_mps(const cpl_host &host, cpl_error *err)
{
    return couplet::guarded(host, err, "asking libtorch for Metal", [&] {
        if (at::hasMPS()) return CPL_OK;
        return host.fail(err, CPL_UNSUPPORTED,
                         "device mps: this libtorch has no Metal, which is on macOS with Apple Silicon only (run "
                         "backend pytorch on cpu here)");
    });
}

/* Runs one small product in that precision: what throws is the reason. "" when it works. */
std::string try_precision(cpl_precision p, at::Device device)
{
    try {
        const c10::InferenceMode guard;
        const at::Tensor x = at::ones({4, 32}, at::kFloat), weight = at::ones({32, 32}, at::kFloat);
        const Loader loader = {p == CPL_PRECISION_INT8 ? at::kFloat : type_of(p), device, p == CPL_PRECISION_INT8};
        const Linear l = loader.linear(weight, at::zeros({32}, at::kFloat));
        const double sum = l(loader.place(x)).sum(at::kFloat).item<double>();
        return std::fabs(sum - 4096) < 50 ? "" : "libtorch computes something else in it here";
    } catch (const std::exception &e) {
        return couplet::first_line(e.what());
    }
}

void find_precisions(cpl_caps *out, at::Device device)
{
    for (int p = 0; p < CPL_PRECISION_COUNT; p++) {
        std::string why = "libtorch eager runs fp32, bf16, fp16 and, on a CPU, int8";
        if (p == CPL_PRECISION_INT8 && !device.is_cpu()) why = "libtorch has no int8 engine on this device";
        if (p == CPL_PRECISION_FP32 || p == CPL_PRECISION_BF16 || p == CPL_PRECISION_FP16 ||
            (p == CPL_PRECISION_INT8 && device.is_cpu()))
            why = try_precision((cpl_precision)p, device);
        if (why.empty()) out->precisions |= 1u << p;
        std::snprintf(out->reason[p], sizeof out->reason[p], "%s", why.c_str());
    }
}

cpl_status probe(cpl_caps *out, const cpl_host *host, cpl_error *err)
{
    std::memset(out, 0, sizeof *out);
    cpl_status st = check_version(*host, err);
    if (!st && is_mps) st = need_mps(*host, err);
    if (st) return st;
    return couplet::guarded(*host, err, "asking libtorch what it can do", [&] {
        const Warnings warnings(*host);
        find_precisions(out, is_mps ? at::Device(at::kMPS) : at::Device(at::kCPU));
        out->wants = 1u << CPL_WANT_LOGITS | 1u << CPL_WANT_POOLED | 1u << CPL_WANT_TOKENS;
        out->rectangles = 1;
        out->inexact = 1;
        out->sessions_per_device = is_mps ? GPU_SESSIONS : 0;
        out->devices = 1;
        out->batch_tokens = BATCH_TOKENS;
        std::snprintf(out->isa, sizeof out->isa, "libtorch %s", TORCH_VERSION);
        const std::string where =
            is_mps ? "Metal, through libtorch" : "CPU (" + at::get_cpu_capability() + "); cuda and mps by model.device";
        std::snprintf(out->device, sizeof out->device, "%s", where.c_str());
        return CPL_OK;
    });
}

/* ---- load ---------------------------------------------------------------------------------------------------------
 */

cpl_status read_settings(cpl_weights *w, const char *const *settings, cpl_error *err)
{
    const cpl_host &host = w->host;
    std::string device = is_mps ? "mps" : "cpu";
    for (const char *const *s = settings; s && *s; s++) {
        if (const char *v = couplet::setting(*s, "device")) {
            if (std::strcmp(v, "auto") != 0) device = v;
        } else if (const char *c = is_mps ? couplet::setting(*s, "compile") : nullptr) {
            if (std::strcmp(c, "false") != 0)
                return host.fail(err, CPL_UNSUPPORTED,
                                 "mps.compile: this backend is libtorch eager, which compiles nothing; use backend "
                                 "compiled");
        } else {
            return host.fail(err, CPL_INVALID, CPL_TORCH_BACKEND ": unknown setting '%s': device%s", *s,
                             is_mps ? " and compile are known" : " is known");
        }
    }
    if (is_mps && device != "mps")
        return host.fail(err, CPL_INVALID, "backend mps runs on device mps, not '%s': use backend pytorch",
                         device.c_str());
    if (device == "cpu") return CPL_OK;
    if (device == "mps") {
        w->device = at::Device(at::kMPS);
        return need_mps(host, err);
    }
    char *end = nullptr;
    const bool numbered = !device.compare(0, 5, "cuda:") && device.size() > 5;
    const long index = numbered ? std::strtol(device.c_str() + 5, &end, 10) : 0;
    if ((!numbered && device != "cuda") || (end && *end) || index < 0 || index > 127)
        return host.fail(err, CPL_INVALID, CPL_TORCH_BACKEND ": no device '%s': cpu, cuda, cuda:N or mps",
                         device.c_str());
    const cpl_status st = need_cuda(host, index, err);
    if (!st) w->device = at::Device(at::kCUDA, (c10::DeviceIndex)index);
    return st;
}

/* The type of the weights that are multiplied, read from them; fails when they differ. */
cpl_status read_back(const cpl_weights *w, cpl_precision p, at::ScalarType *type, uint64_t *bytes, cpl_error *err)
{
    const at::ScalarType wanted = p == CPL_PRECISION_INT8 ? at::kQInt8 : type_of(p);
    uint64_t sum = 0;
    const auto plain = [&](const at::Tensor &t) { sum += t.defined() ? t.nbytes() : 0; };
    for (const Layer &y : w->model.layers)
        for (const Linear *l : {&y.qkv, &y.out, &y.up, &y.down}) {
            *type = l->type();
            if (*type != wanted)
                return w->host.fail(err, CPL_INTERNAL, "libtorch holds %s weights where %s was asked for",
                                    c10::toString(*type), c10::toString(wanted));
            if (l->packed) sum += std::get<0>(l->packed->unpack()).nbytes();
            plain(l->weight);
            plain(l->bias);
        }
    for (const at::Tensor &t : {w->model.word, w->model.position, w->model.type, w->model.pooler.weight}) plain(t);
    *bytes = sum;
    return CPL_OK;
}

cpl_status load_all(cpl_weights *w, const cpl_model *model, const cpl_load_options *o, cpl_load_report *report,
                    cpl_error *err)
{
    cpl_status st = check_version(w->host, err);
    if (!st) st = read_settings(w, o->settings, err);
    if (st) return st;
    cpl_caps caps = {};
    find_precisions(&caps, w->device);
    if (!(caps.precisions >> o->precision & 1))
        return w->host.fail(err, CPL_UNSUPPORTED, CPL_TORCH_BACKEND " on %s can't run this precision: %s",
                            w->device.str().c_str(), caps.reason[o->precision]);
    if (w->device.is_cpu()) at::set_num_threads(1); /* one session a worker */
    w->arch = model->arch;
    w->shape = couplet::Shape(*model, *o);
    const c10::InferenceMode guard;
    load_model(w->model, *model,
               Loader{o->precision == CPL_PRECISION_INT8 ? at::kFloat : type_of(o->precision), w->device,
                      o->precision == CPL_PRECISION_INT8});
    at::ScalarType type = at::kFloat;
    st = read_back(w, o->precision, &type, &report->weight_bytes, err);
    if (st) return st;
    report->precision = o->precision;
    report->batch_tokens = BATCH_TOKENS;
    std::snprintf(report->kernels, sizeof report->kernels, "aten %s, weights %s", w->device.str().c_str(),
                  c10::toString(type));
    const std::string engine = o->precision == CPL_PRECISION_INT8
                                   ? ", quantised engine " + c10::toString(at::globalContext().qEngine())
                                   : std::string();
    couplet::say(w->host, CPL_LOG_INFO,
                 std::string(CPL_TORCH_BACKEND ": weights read back as ") + c10::toString(type) + " on " +
                     w->device.str() + engine);
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
    return couplet::guarded(*host, err, "libtorch's load", [&] {
        const Warnings warnings(*host);
        auto w = std::make_unique<cpl_weights>();
        w->host = *host;
        const cpl_status st = load_all(w.get(), model, o, report, err);
        if (!st) *out = w.release();
        return st;
    });
}

/* ---- sessions -----------------------------------------------------------------------------------------------------
 */

cpl_status open_session(cpl_session **out, cpl_weights *w, cpl_error *err)
{
    *out = nullptr;
    return couplet::guarded(w->host, err, "opening a libtorch session", [&] {
        auto s = std::make_unique<cpl_session>();
        s->weights = w;
        const cpl_status st = s->padded.open(w->host, w->shape, 1, LAUNCH_TOKENS, err);
        if (st) return st;
        if (w->device.is_cuda()) s->stream = c10::impl::VirtualGuardImpl(at::kCUDA).getStreamFromGlobalPool(w->device);
        *out = s.release();
        return CPL_OK;
    });
}

void close_session(cpl_session *s) { delete s; }

uint64_t padding(const cpl_session *s) { return s->padded.padding(); }

const cpl_backend backend = {
    .abi = CPL_BACKEND_ABI,
    .size = sizeof(cpl_backend),
    .name = CPL_TORCH_BACKEND,
    .summary = is_mps ? "PyTorch's libtorch, eager, on Metal" : "PyTorch's libtorch, eager",
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
