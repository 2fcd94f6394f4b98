/* SPDX-License-Identifier: Apache-2.0 */
/* mlx.cpp - backend `mlx`: Apple's MLX through its C++ library, on Metal where it has that, else on the CPU.
 *
 * The model is a page of MLX operations, evaluated once a rectangle. Bits 32 and 16 are fp32 and fp16 throughout; bits
 * 8 and 4 hold the encoder's matrices quantised in groups of group_size columns, each with a scale and an offset (MLX's
 * affine scheme), multiplied by quantized_matmul with activations in fp16 on Metal and fp32 on a CPU. Columns that the
 * group doesn't divide are filled up with zeros, which is exact. Embeddings, norms, pooler and classifier aren't
 * quantised; the latter two stay in fp32 in every precision. The last layer computes only first tokens where nothing
 * else is read, which is exact. After load the types of the weights are read back.
 *
 * MLX gives each thread a stream of its own, so a session runs on the stream of the thread that calls it. Threads:
 * weights are evaluated at load and read-only afterwards. */
#include <mlx/mlx.h>

#include <cmath>
#include <cstdlib>
#include <memory>
#include <optional>
#include <vector>

#include "backend/foreign/foreign.hpp"

namespace mx = mlx::core;

namespace
{

constexpr uint32_t BATCH_TOKENS = 1024, LAUNCH_TOKENS = 32, GPU_SESSIONS = 2;
constexpr int GROUP_SIZE = 64;

#define CPL_MLX_TEXT_(x) #x
#define CPL_MLX_TEXT(x)  CPL_MLX_TEXT_(x)
const std::string BUILT_WITH =
    CPL_MLX_TEXT(MLX_VERSION_MAJOR) "." CPL_MLX_TEXT(MLX_VERSION_MINOR) "." CPL_MLX_TEXT(MLX_VERSION_PATCH);

bool on_metal() { return mx::default_device() == mx::Device::gpu; }

/* y = x W^T + b. Quantised: weight is packed words, with scales and offsets. */
struct Linear {
    mx::array weight = mx::array(0.0f), bias = mx::array(0.0f);
    std::optional<mx::array> scales, offsets;
    int bits = 0, group = 0, columns = 0, filled = 0;

    mx::array operator()(const mx::array &x) const /* of 2 dimensions */
    {
        if (!bits) return mx::addmm(bias, x, mx::transpose(weight));
        const mx::array wide = filled ? mx::pad(x, std::vector<int>{1}, mx::Shape{0}, mx::Shape{filled}) : x;
        return mx::add(mx::quantized_matmul(wide, weight, *scales, offsets, true, group, bits), bias);
    }
    uint64_t bytes() const
    {
        return weight.nbytes() + bias.nbytes() + (scales ? scales->nbytes() : 0) + (offsets ? offsets->nbytes() : 0);
    }
};

struct Norm {
    mx::array weight = mx::array(0.0f), bias = mx::array(0.0f);
};

struct Layer {
    Linear qkv, out, up, down;
    Norm attention_norm, output_norm;
};

struct Model {
    mx::array word = mx::array(0.0f), position = mx::array(0.0f), type = mx::array(0.0f);
    Norm norm;
    std::vector<Layer> layers;
    Linear last_query, last_key_value; /* the last layer's, for passes that want first tokens only */
    Linear pooler, classifier;
};

} // namespace

struct cpl_weights {
    cpl_host host;
    cpl_arch arch;
    couplet::Shape shape;
    Model model;
};

struct cpl_session {
    const cpl_weights *weights = nullptr;
    couplet::Padded padded;
};

namespace
{

/* ---- weights ------------------------------------------------------------------------------------------------------
 */

struct Loader {
    mx::Dtype type;  /* of what is not quantised */
    int bits, group; /* bits 0: nothing is */

    static mx::array read(const cpl_tensor &t)
    {
        std::vector<float> out(cpl_tensor_count(&t));
        cpl_tensor_read_f32(&t, 0, out.size(), out.data());
        const mx::Shape shape = t.rank == 2 ? mx::Shape{(int)t.shape[0], (int)t.shape[1]} : mx::Shape{(int)t.shape[0]};
        return mx::array(out.data(), shape, mx::float32);
    }
    static mx::array evaluated(mx::array a)
    {
        mx::eval(a);
        return a;
    }
    mx::array place(const mx::array &a) const { return evaluated(mx::contiguous(mx::astype(a, type))); }
    Norm norm(const cpl_tensor &w, const cpl_tensor &b) const { return {place(read(w)), place(read(b))}; }

    Linear linear(const mx::array &weight, const mx::array &b) const
    {
        Linear l;
        l.bias = place(b);
        l.columns = weight.shape(1);
        if (!bits) {
            l.weight = place(weight);
            return l;
        }
        l.bits = bits;
        l.group = group;
        l.filled = (group - l.columns % group) % group;
        const mx::array wide = mx::pad(weight, std::vector<int>{1}, mx::Shape{0}, mx::Shape{l.filled});
        const std::vector<mx::array> q = mx::quantize(place(wide), group, bits);
        l.weight = evaluated(q.at(0));
        l.scales = evaluated(q.at(1));
        l.offsets = evaluated(q.at(2));
        return l;
    }
    Linear linear(const cpl_tensor &w, const cpl_tensor &b) const { return linear(read(w), read(b)); }
    static Linear full(const cpl_tensor &w, const cpl_tensor &b)
    {
        return Loader{mx::float32, 0, 0}.linear(read(w), read(b));
    }
};

void load_layer(Layer &to, const cpl_layer &y, const Loader &l)
{
    to.qkv = l.linear(mx::concatenate({l.read(y.q_weight), l.read(y.k_weight), l.read(y.v_weight)}, 0),
                      mx::concatenate({l.read(y.q_bias), l.read(y.k_bias), l.read(y.v_bias)}, 0));
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
    to.last_key_value = l.linear(mx::concatenate({l.read(last.k_weight), l.read(last.v_weight)}, 0),
                                 mx::concatenate({l.read(last.k_bias), l.read(last.v_bias)}, 0));
    if (m.arch.head != CPL_HEAD_POOLER_CLASSIFIER) return;
    to.pooler = Loader::full(w.pooler_weight, w.pooler_bias);
    to.classifier = Loader::full(w.classifier_weight, w.classifier_bias);
}

/* ---- forward: activations are (batch x length) x hidden ------------------------------------------------------------
 */

mx::array normalise(const mx::array &x, const Norm &n, const cpl_arch &a)
{
    return mx::fast::layer_norm(x, n.weight, n.bias, a.norm_epsilon);
}

mx::array activate(const mx::array &x, cpl_activation kind)
{
    const auto like = [&](float v) { return mx::array(v, x.dtype()); };
    if (kind == CPL_ACTIVATION_RELU) return mx::maximum(x, like(0.0f));
    if (kind == CPL_ACTIVATION_GELU)
        return mx::multiply(mx::multiply(x, like(0.5f)),
                            mx::add(mx::erf(mx::multiply(x, like(0.70710678f))), like(1.0f)));
    const mx::array cubed = mx::multiply(mx::multiply(mx::multiply(x, x), x), like(0.044715f));
    const mx::array inner = mx::multiply(mx::add(x, cubed), like(0.79788456f));
    return mx::multiply(mx::multiply(x, like(0.5f)), mx::add(mx::tanh(inner), like(1.0f)));
}

/* (batch x length) x (parts x hidden) -> parts x batch x heads x length x head_size, a view. */
mx::array heads_of(const mx::array &x, int batch, int parts, const cpl_arch &a)
{
    const int length = x.shape(0) / batch;
    return mx::transpose(mx::reshape(x, mx::Shape{batch, length, parts, (int)a.heads, (int)a.head_size}),
                         {2, 0, 3, 1, 4});
}

mx::array first_rows(const mx::array &x, int batch)
{
    return mx::take(mx::reshape(x, mx::Shape{batch, x.shape(0) / batch, x.shape(1)}), 0, 1);
}

mx::array attend(const Model &m, const Layer &y, const mx::array &x, const std::optional<mx::array> &first,
                 const std::optional<mx::array> &mask, int batch, const cpl_arch &a)
{
    const mx::array all = first ? heads_of(m.last_key_value(x), batch, 2, a) : heads_of(y.qkv(x), batch, 3, a);
    const int k = first ? 0 : 1;
    const mx::array q = first ? mx::take(heads_of(m.last_query(*first), batch, 1, a), 0, 0) : mx::take(all, 0, 0);
    const float scale = 1.0f / std::sqrt((float)a.head_size);
    const mx::array context = mx::fast::scaled_dot_product_attention(q, mx::take(all, k, 0), mx::take(all, k + 1, 0),
                                                                     scale, mask ? "array" : "", mask);
    return mx::reshape(mx::transpose(context, {0, 2, 1, 3}), mx::Shape{-1, (int)(a.heads * a.head_size)});
}

/* Hidden states of all tokens, or, with first_only, of the first ones. */
mx::array encode(const cpl_weights &w, const cpl_rectangle_tensors &in, int batch, int width, bool first_only)
{
    const Model &m = w.model;
    const cpl_arch &a = w.arch;
    const mx::Shape shape{batch, width};
    std::optional<mx::array> mask;
    if (couplet::has_padding(in.mask, (uint32_t)batch, (uint32_t)width))
        mask = mx::reshape(mx::array(in.mask, shape, mx::bool_), mx::Shape{batch, 1, 1, width});
    mx::array x = mx::add(mx::take(m.word, mx::array(in.ids, shape, mx::int32), 0),
                          mx::take(m.type, mx::array(in.type_ids, shape, mx::int32), 0));
    x = mx::add(x, mx::slice(m.position, mx::Shape{0, 0}, mx::Shape{width, (int)a.hidden}));
    x = normalise(mx::reshape(x, mx::Shape{batch * width, (int)a.hidden}), m.norm, a);
    for (size_t i = 0; i < m.layers.size(); i++) {
        const Layer &y = m.layers[i];
        std::optional<mx::array> first;
        if (first_only && i + 1 == m.layers.size()) first = first_rows(x, batch);
        const mx::array attended = y.out(attend(m, y, x, first, mask, batch, a));
        x = normalise(mx::add(attended, first ? *first : x), y.attention_norm, a);
        x = normalise(mx::add(y.down(activate(y.up(x), a.activation)), x), y.output_norm, a);
    }
    return x;
}

void run_rectangle(const cpl_weights &w, cpl_want want, uint32_t rows, uint32_t width, const cpl_rectangle_tensors &in,
                   float *out)
{
    const Model &m = w.model;
    const bool cls = want == CPL_WANT_POOLED && w.shape.model.pooling == CPL_POOLING_CLS;
    mx::array x = encode(w, in, (int)rows, (int)width, want == CPL_WANT_LOGITS || cls);
    x = mx::astype(x, mx::float32);
    if (want == CPL_WANT_LOGITS) x = m.classifier(mx::tanh(m.pooler(x)));
    x = mx::contiguous(x);
    mx::eval(x);
    std::memcpy(out, x.data<float>(), x.size() * sizeof *out);
}

cpl_status run(cpl_session *s, const cpl_batch *b, cpl_team *, float *rows, cpl_error *err)
{
    const cpl_weights &w = *s->weights;
    const bool states =
        b->want == CPL_WANT_TOKENS || (b->want == CPL_WANT_POOLED && w.shape.model.pooling != CPL_POOLING_CLS);
    return s->padded.run(*b, states ? CPL_PADDED_TOKENS : CPL_PADDED_ROWS, rows, err, "MLX's forward pass",
                         [&](uint32_t n, uint32_t width, const cpl_rectangle_tensors &in, float *out) {
                             run_rectangle(w, b->want, n, width, in, out);
                         });
}

/* ---- probe and load -----------------------------------------------------------------------------------------------
 */

cpl_status check_version(const cpl_host &host, cpl_error *err)
{
    const std::string here = mx::version();
    if (!here.compare(0, BUILT_WITH.size(), BUILT_WITH)) return CPL_OK;
    return host.fail(err, CPL_UNSUPPORTED,
                     "MLX %s is here but this plug-in was built with %s: tools/setup.sh mlx installs that",
                     here.c_str(), BUILT_WITH.c_str());
}

bool offered(int p)
{
    return p == CPL_PRECISION_FP32 || p == CPL_PRECISION_FP16 || p == CPL_PRECISION_BF16 || p == CPL_PRECISION_INT8 ||
           p == CPL_PRECISION_INT4;
}

cpl_status probe(cpl_caps *out, const cpl_host *host, cpl_error *err)
{
    std::memset(out, 0, sizeof *out);
    const cpl_status st = check_version(*host, err);
    if (st) return st;
    return couplet::guarded(*host, err, "asking MLX what it can do", [&] {
        for (int p = 0; p < CPL_PRECISION_COUNT; p++) {
            if (offered(p)) out->precisions |= 1u << p;
            std::snprintf(out->reason[p], sizeof out->reason[p], "%s", offered(p) ? "" : "MLX has no fp8 products");
        }
        out->wants = 1u << CPL_WANT_LOGITS | 1u << CPL_WANT_POOLED | 1u << CPL_WANT_TOKENS;
        out->rectangles = 1;
        out->inexact = 1;
        out->sessions_per_device = on_metal() ? GPU_SESSIONS : 0;
        out->devices = 1;
        out->batch_tokens = BATCH_TOKENS;
        std::snprintf(out->isa, sizeof out->isa, "mlx %s", mx::version());
        std::snprintf(out->device, sizeof out->device, "%s",
                      on_metal() ? "Metal, through MLX" : "CPU, through MLX (no Metal here)");
        return CPL_OK;
    });
}

cpl_status read_settings(int *group, const char *const *settings, const cpl_host &host, cpl_error *err)
{
    *group = GROUP_SIZE;
    for (const char *const *s = settings; s && *s; s++) {
        if (const char *g = couplet::setting(*s, "group_size")) {
            *group = (int)std::strtol(g, nullptr, 10);
            if (std::strcmp(g, "32") != 0 && std::strcmp(g, "64") != 0 && std::strcmp(g, "128") != 0)
                return host.fail(err, CPL_INVALID, "mlx: group_size can't be '%s': choose 32, 64 or 128", g);
        } else if (const char *device = couplet::setting(*s, "device")) {
            const char *have = on_metal() ? "mps" : "cpu";
            if (std::strcmp(device, "auto") != 0 && std::strcmp(device, have) != 0)
                return host.fail(err, CPL_UNSUPPORTED, "mlx: device '%s': MLX runs on %s here", device, have);
        } else {
            return host.fail(err, CPL_INVALID, "mlx: unknown setting '%s': group_size and device are known", *s);
        }
    }
    return CPL_OK;
}

const char *name_of(const mx::Dtype &t)
{
    return t == mx::float32    ? "float32"
           : t == mx::float16  ? "float16"
           : t == mx::bfloat16 ? "bfloat16"
           : t == mx::uint32   ? "packed words"
                               : "another type";
}

/* What the matrices that are multiplied are, read from them; fails when it isn't what was asked for. */
cpl_status read_back(const cpl_weights *w, const Loader &l, cpl_load_report *report, cpl_error *err)
{
    const mx::Dtype wanted = l.bits ? mx::uint32 : l.type;
    report->weight_bytes = w->model.word.nbytes() + w->model.position.nbytes() + w->model.type.nbytes();
    for (const Layer &y : w->model.layers)
        for (const Linear *m : {&y.qkv, &y.out, &y.up, &y.down}) {
            const size_t per_word = m->bits ? 32 / (size_t)m->bits : 1;
            const bool right = m->weight.dtype() == wanted &&
                               (size_t)m->weight.shape(1) * per_word == (size_t)(m->columns + m->filled);
            if (!right)
                return w->host.fail(err, CPL_INTERNAL, "MLX holds weights of %s x %d where %s was asked for",
                                    name_of(m->weight.dtype()), m->weight.shape(1), name_of(wanted));
            report->weight_bytes += m->bytes();
        }
    const char *device = on_metal() ? "metal" : "cpu";
    if (l.bits)
        std::snprintf(report->kernels, sizeof report->kernels, "mlx %s, weights of %d bits in groups of %d, rest %s",
                      device, l.bits, l.group, name_of(l.type));
    else
        std::snprintf(report->kernels, sizeof report->kernels, "mlx %s, weights %s", device, name_of(wanted));
    return CPL_OK;
}

cpl_status load_all(cpl_weights *w, const cpl_model *model, const cpl_load_options *o, cpl_load_report *report,
                    cpl_error *err)
{
    Loader l{mx::float32, 0, 0};
    cpl_status st = check_version(w->host, err);
    if (!st && !offered(o->precision)) st = w->host.fail(err, CPL_UNSUPPORTED, "mlx: MLX has no fp8 products");
    if (!st) st = read_settings(&l.group, o->settings, w->host, err);
    if (st) return st;
    l.bits = o->precision == CPL_PRECISION_INT8 ? 8 : o->precision == CPL_PRECISION_INT4 ? 4 : 0;
    if (o->precision == CPL_PRECISION_FP16 || (l.bits && on_metal())) l.type = mx::float16;
    if (o->precision == CPL_PRECISION_BF16) l.type = mx::bfloat16;
    w->arch = model->arch;
    w->shape = couplet::Shape(*model, *o);
    load_model(w->model, *model, l);
    report->precision = o->precision;
    report->batch_tokens = BATCH_TOKENS;
    return read_back(w, l, report, err);
}

void unload(cpl_weights *w) { delete w; }

cpl_status load(cpl_weights **out, const cpl_model *model, const cpl_load_options *o, cpl_load_report *report,
                const cpl_host *host, cpl_error *err)
{
    *out = nullptr;
    if (o->size != sizeof *o)
        return host->fail(err, CPL_INVALID, "load options are of another size (%u, expected %zu): rebuild the caller",
                          o->size, sizeof *o);
    return couplet::guarded(*host, err, "MLX's load", [&] {
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
    return couplet::guarded(w->host, err, "opening an MLX session", [&] {
        auto s = std::make_unique<cpl_session>();
        s->weights = w;
        const cpl_status st = s->padded.open(w->host, w->shape, 1, LAUNCH_TOKENS, err);
        if (!st) *out = s.release();
        return st;
    });
}

uint64_t padding(const cpl_session *s) { return s->padded.padding(); }

void close_session(cpl_session *s) { delete s; }

const cpl_backend backend = {
    .abi = CPL_BACKEND_ABI,
    .size = sizeof(cpl_backend),
    .name = "mlx",
    .summary = "Apple's MLX",
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
