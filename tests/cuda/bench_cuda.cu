/* SPDX-License-Identifier: Apache-2.0 */
/* bench_cuda.cu - what the cuda backend reaches on this device, ids in, as JSON lines. Random weights of MiniLM-L6's
 * shape. Linked with the backend's own objects, so that it can time each kernel.
 *
 *   bench_cuda [--precision bf16] [--setting key=value] [--tokens 16384,65536] [--quick] [--section NAME]
 *
 * Sections: peak (the matrix units alone: wgmma on random operands in shared memory, Hopper), device (passes back to
 * back on one stream, by events: median of 9), kernels (each kernel of a pass by events, median of 9 passes), products
 * (every tiling of every matrix), pair (one 32-token pair), sessions (run() from 1 and 2 threads: host work, copies and
 * waits included), trace (the same, with the share of time in which the device has nothing to do), devices (two
 * sessions on each of 1, 2, 4 ... devices). useful = 2 x multiply-adds on real tokens that the pass performs;
 * efficiency = useful over peak. */
#include "backend/cuda/cuda.cuh"
#include "backend/cuda/device.cuh"
#include "backend/cuda/wgmma.cuh"

extern "C" {
#include "backend/precision.h"
#include "backend/registry.h"
#include "base/clock.h"
#include "cuda/random_model.h"
}

#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <vector>

static void must(cudaError_t e, const char *what)
{
    if (!e) return;
    fprintf(stderr, "bench_cuda: %s: %s\n", what, cudaGetErrorString(e));
    exit(1);
}

static void must(cpl_status st, const cpl_error &err)
{
    if (!st) return;
    fprintf(stderr, "bench_cuda: %s\n", err.what);
    exit(1);
}

static double median(std::vector<double> v)
{
    std::sort(v.begin(), v.end());
    return v[v.size() / 2];
}

/* ---- the device's own peak ------------------------------------------------------------------------------------------
 */

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define CPL_CUDA_SM90A 1
#endif

constexpr int PEAK_STEPS = 4096, PAUSE_US = 300000;

/* Two warpgroups an SM, each 64 x 192 x 64 at a time out of shared memory that never changes. */
__global__ void __launch_bounds__(256, 1) peak_kernel(const uint4 *__restrict__ random, float *__restrict__ out)
{
#ifdef CPL_CUDA_SM90A
    extern __shared__ uint8_t raw[];
    const uint32_t base = (shared_address(raw) + 1023) & ~1023u;
    for (uint32_t i = threadIdx.x; i < (2 * 8192 + 192 * 128) / 16; i += blockDim.x) {
        const uint4 v = random[i];
        asm volatile("st.shared.v4.b32 [%0], {%1,%2,%3,%4};" ::"r"(base + 16 * i), "r"(v.x), "r"(v.y), "r"(v.z),
                     "r"(v.w)
                     : "memory");
    }
    fence_async_shared();
    __syncthreads();
    float d[96];
    const uint32_t a = base + (threadIdx.x >> 7) * 8192, b = base + 2 * 8192;
    for (int s = 0; s < PEAK_STEPS; s++) {
        wgmma_fence();
#pragma unroll
        for (int k = 0; k < 4; k++)
            wgmma<bf16, 192>(d, tile_descriptor(a + 32 * k), tile_descriptor(b + 32 * k), s || k);
        wgmma_commit();
        wgmma_wait<0>();
    }
    float sum = 0;
#pragma unroll
    for (int i = 0; i < 96; i++) sum += d[i];
    out[blockIdx.x * 256 + threadIdx.x] = sum;
#endif
}

static double measure_peak(uint64_t seed)
{
    cudaDeviceProp p;
    must(cudaGetDeviceProperties(&p, 0), "properties");
    if (p.major != 9) return 0;
    enum { BYTES = 2 * 8192 + 192 * 128 };
    std::vector<uint16_t> random(BYTES / 2);
    for (auto &v : random) {
        const float f = (float)(cpl_random_unit(&seed) - 0.5);
        uint32_t u;
        memcpy(&u, &f, 4);
        v = (uint16_t)(u >> 16);
    }
    void *in;
    float *out;
    cudaEvent_t from, to;
    must(cudaMalloc(&in, BYTES), "memory");
    must(cudaMalloc((void **)&out, 4 * 256 * 1024), "memory");
    must(cudaMemcpy(in, random.data(), BYTES, cudaMemcpyHostToDevice), "copy");
    must(cudaEventCreate(&from), "event");
    must(cudaEventCreate(&to), "event");
    must(cudaFuncSetAttribute((const void *)peak_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, BYTES + 1024),
         "room");
    std::vector<double> rates;
    usleep(PAUSE_US);
    for (int i = 0; i < 12; i++) {
        float ms;
        must(cudaEventRecord(from), "event");
        for (int k = 0; k < 4; k++) peak_kernel<<<p.multiProcessorCount, 256, BYTES + 1024>>>((const uint4 *)in, out);
        must(cudaEventRecord(to), "event");
        must(cudaEventSynchronize(to), "peak");
        must(cudaEventElapsedTime(&ms, from, to), "event");
        if (i > 2) rates.push_back(4.0 * p.multiProcessorCount * 2 * PEAK_STEPS * 2.0 * 64 * 192 * 64 / (ms * 1e-3));
    }
    cudaFree(in);
    cudaFree(out);
    return median(rates);
}

/* ---- work
 * ------------------------------------------------------------------------------------------------------------- */

struct work {
    std::string name;
    std::vector<int32_t> ids;
    std::vector<uint8_t> types;
    std::vector<uint32_t> cu;
    uint32_t longest = 0;
    cpl_batch batch(cpl_want want) const
    {
        return {ids.data(), types.data(), cu.data(), (uint32_t)cu.size() - 1, longest, want};
    }
};

/* length 0: the mix, log-normal with median 101 and 95th percentile 158. */
static work make_work(uint32_t length, uint32_t tokens, uint64_t seed)
{
    work w;
    w.name = length ? std::to_string(length) : "mix";
    w.cu.push_back(0);
    for (;;) {
        uint32_t n = length;
        if (!n) n = (uint32_t)std::clamp(101.0 * exp(0.272 * cpl_random_normal(&seed)) + 0.5, 8.0, 512.0);
        if (w.cu.back() + n > tokens) break;
        for (uint32_t t = 0; t < n; t++) {
            w.ids.push_back((int32_t)cpl_random_below(&seed, 30522));
            w.types.push_back(t > 10);
        }
        w.cu.push_back(w.cu.back() + n);
        w.longest = std::max(w.longest, n);
    }
    return w;
}

/* Operations of a pass, all layers full or the last one for [CLS] rows. */
static double useful(const cpl_arch &a, const work &w, bool first_only)
{
    const double h = a.hidden, f = a.intermediate, tokens = w.cu.back(), n = (double)w.cu.size() - 1;
    double squares = 0;
    for (size_t i = 0; i + 1 < w.cu.size(); i++) squares += (double)(w.cu[i + 1] - w.cu[i]) * (w.cu[i + 1] - w.cu[i]);
    const double full = tokens * (8 * h * h + 4 * h * f) + 4 * squares * h;
    if (!first_only) return full * a.layers;
    return full * (a.layers - 1) + tokens * 4 * h * h + n * (4 * h * h + 4 * h * f) + 4 * tokens * h + n * 2 * h * h;
}

struct stand {
    cpl_random_model model;
    cpl_weights *weights = NULL;
    cpl_session *session = NULL;
    cpl_host host;
};

static void open_stand(stand &s, cpl_precision precision, uint32_t tokens, const char *setting, uint32_t device = 0)
{
    const cpl_arch arch = cpl_minilm_arch(1);
    const char *settings[] = {setting, NULL};
    cpl_load_options o = {};
    cpl_load_report report;
    cpl_error err;
    cpl_host_init(&s.host, NULL);
    if (!cpl_random_model_make(&s.model, &arch, 512, 1)) exit(1);
    o.size = sizeof o;
    o.precision = precision;
    o.device = device;
    o.batch_tokens_max = tokens;
    o.batch_sequences_max = tokens / 8;
    o.settings = settings;
    must(cpl_cuda_load(&s.weights, &s.model.model, &o, &report, &s.host, &err), err);
    must(cpl_cuda_open(&s.session, s.weights, &err), err);
    printf("{\"section\":\"load\",\"precision\":\"%s\",\"kernels\":\"%s\",\"weight_bytes\":%llu,\"setting\":\"%s\"}\n",
           cpl_precision_name(precision), report.kernels, (unsigned long long)report.weight_bytes,
           setting ? setting : "");
}

static void close_stand(stand &s)
{
    cpl_cuda_close(s.session);
    cpl_cuda_unload(s.weights);
    cpl_random_model_free(&s.model);
}

/* ---- sections
 * ----------------------------------------------------------------------------------------------------------- */

/* Seconds a pass takes on the device, passes back to back as one graph of one pass, input copy included; after a pause,
 * since a card at its power limit is slowed for what ran before, too. */
static double device_seconds(cpl_session *s, const cpl_batch &b, int passes, double *least, double *most)
{
    cpl_cuda_plan plan;
    cpl_error err;
    cudaEvent_t from, to;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    must(cpl_cuda_prepare(s, &b, &plan, &err), err);
    must(cpl_cuda_forward(s, &plan, NULL), "pass");
    must(cudaStreamSynchronize(s->stream), "pass");
    must(cudaStreamBeginCapture(s->stream, cudaStreamCaptureModeRelaxed), "capture");
    must(cpl_cuda_forward(s, &plan, NULL), "capture");
    must(cudaStreamEndCapture(s->stream, &graph), "capture");
    must(cudaGraphInstantiate(&exec, graph, 0), "graph");
    must(cudaEventCreate(&from), "event");
    must(cudaEventCreate(&to), "event");
    std::vector<double> seconds;
    usleep(PAUSE_US);
    for (int i = 0; i < 10; i++) {
        float ms;
        must(cudaEventRecord(from, s->stream), "event");
        for (int k = 0; k < passes; k++) must(cudaGraphLaunch(exec, s->stream), "launch");
        must(cudaEventRecord(to, s->stream), "event");
        must(cudaEventSynchronize(to), "passes");
        must(cudaEventElapsedTime(&ms, from, to), "event");
        if (i) seconds.push_back(ms * 1e-3 / passes);
    }
    cudaGraphExecDestroy(exec);
    cudaGraphDestroy(graph);
    cudaEventDestroy(from);
    cudaEventDestroy(to);
    *least = *std::min_element(seconds.begin(), seconds.end());
    *most = *std::max_element(seconds.begin(), seconds.end());
    return median(seconds);
}

static void section_device(stand &s, uint32_t tokens, uint32_t length, double peak, const char *precision)
{
    const work w = make_work(length, tokens, 7);
    for (int first = 0; first < 2; first++) {
        const cpl_batch b = w.batch(first ? CPL_WANT_LOGITS : CPL_WANT_POOLED);
        double least, most;
        const double t = device_seconds(s.session, b, tokens > 30000 ? 4 : 12, &least, &most),
                     ops = useful(s.model.model.arch, w, first);
        printf("{\"section\":\"device\",\"precision\":\"%s\",\"length\":\"%s\",\"batch_tokens\":%u,\"layers\":\"%s\","
               "\"us\":%.1f,\"us_least\":%.1f,\"us_most\":%.1f,\"pairs_per_s\":%.0f,\"tokens_per_s\":%.0f,\"useful_"
               "tflops\":%.1f,\"efficiency\":%.4f}\n",
               precision, w.name.c_str(), w.cu.back(), first ? "cls-only last" : "full", t * 1e6, least * 1e6,
               most * 1e6, b.n / t, w.cu.back() / t, ops / t * 1e-12, peak ? ops / t / peak : 0);
        fflush(stdout);
    }
}

struct marks {
    cudaStream_t stream;
    std::vector<cudaEvent_t> events;
    std::vector<std::string> names;
    size_t used;
};

static void mark(void *arg, const char *name, uint32_t)
{
    marks *m = (marks *)arg;
    if (m->used == m->events.size()) {
        cudaEvent_t e;
        must(cudaEventCreate(&e), "event");
        m->events.push_back(e);
        m->names.push_back(name);
    }
    m->names[m->used] = name;
    must(cudaEventRecord(m->events[m->used++], m->stream), "event");
}

static void section_kernels(stand &s, uint32_t tokens, uint32_t length, const char *precision)
{
    const work w = make_work(length, tokens, 7);
    cpl_cuda_plan plan;
    cpl_error err;
    const cpl_batch b = w.batch(CPL_WANT_LOGITS);
    must(cpl_cuda_prepare(s.session, &b, &plan, &err), err);
    std::vector<std::string> order;
    std::vector<std::vector<double>> times;
    marks m = {s.session->stream, {}, {}, 0};
    for (int pass = 0; pass < 10; pass++) {
        m.used = 0;
        s.session->mark = mark;
        s.session->mark_arg = &m;
        must(cpl_cuda_forward(s.session, &plan, NULL), "pass");
        s.session->mark = NULL;
        must(cudaStreamSynchronize(s.session->stream), "pass");
        std::vector<double> sums(order.size(), 0.0);
        for (size_t i = 1; i < m.used; i++) {
            float ms;
            must(cudaEventElapsedTime(&ms, m.events[i - 1], m.events[i]), "event");
            size_t k = std::find(order.begin(), order.end(), m.names[i]) - order.begin();
            if (k == order.size()) {
                order.push_back(m.names[i]);
                times.push_back({});
                sums.push_back(0);
            }
            sums[k] += ms * 1e3;
        }
        if (pass)
            for (size_t k = 0; k < order.size(); k++) times[k].push_back(sums[k]);
    }
    for (size_t k = 0; k < order.size(); k++) {
        size_t count = std::count(m.names.begin() + 1, m.names.end(), order[k]);
        const double us = median(times[k]);
        printf("{\"section\":\"kernels\",\"precision\":\"%s\",\"length\":\"%s\",\"batch_tokens\":%u,\"kernel\":\"%s\","
               "\"launches\":%zu,\"us\":%.1f,\"us_each\":%.2f,\"ns_per_token_each\":%.3f}\n",
               precision, w.name.c_str(), w.cu.back(), order[k].c_str(), count, us, us / count,
               us * 1e3 / count / w.cu.back());
    }
    for (auto e : m.events) cudaEventDestroy(e);
}

static void section_products(stand &s, uint32_t tokens, const char *precision)
{
    static const char *const tiles[] = {"auto", "256x192", "128x192", "128x64", "resident", "resident2", "resident4"};
    const work w = make_work(64, tokens, 7);
    const cpl_batch b = w.batch(CPL_WANT_POOLED);
    cpl_cuda_plan plan;
    cpl_error err;
    must(cpl_cuda_prepare(s.session, &b, &plan, &err), err);
    must(cpl_cuda_forward(s.session, &plan, NULL), "pass");
    const cpl_cuda_layer_products &l = s.session->layers[1];
    const struct {
        const char *name;
        const cpl_cuda_product *p;
    } products[] = {{"qkv", &l.qkv}, {"out", &l.out}, {"up", &l.up}, {"down", &l.down}};
    const uint32_t *rows = &((const cpl_cuda_counts *)s.session->input)->tokens;
    cudaEvent_t from, to;
    must(cudaEventCreate(&from), "event");
    must(cudaEventCreate(&to), "event");
    for (auto &p : products)
        for (int v = 0; v < 7; v++) {
            if (v >= 4 && p.p->k > 384) continue;
            std::vector<double> us;
            for (int i = 0; i < 8; i++) {
                float ms;
                must(cudaEventRecord(from, s.session->stream), "event");
                for (int k = 0; k < 10; k++)
                    must(cpl_cuda_multiply(p.p, rows, plan.tokens, &s.weights->device, v, s.session->queue), "product");
                must(cudaEventRecord(to, s.session->stream), "event");
                must(cudaEventSynchronize(to), "product");
                must(cudaEventElapsedTime(&ms, from, to), "event");
                if (i) us.push_back(ms * 100);
            }
            const double t = median(us);
            printf(
                "{\"section\":\"products\",\"precision\":\"%s\",\"batch_tokens\":%u,\"matrix\":\"%s\",\"tile\":\"%s\","
                "\"us\":%.1f,\"tflops\":%.1f}\n",
                precision, w.cu.back(), p.name, tiles[v], t, 2.0 * w.cu.back() * p.p->n * p.p->k / t * 1e-6);
        }
    cudaEventDestroy(from);
    cudaEventDestroy(to);
    fflush(stdout);
}

static void section_pair(stand &s, const char *precision)
{
    cpl_error err;
    for (uint32_t length : {17u, 32u, 64u, 128u}) {
        const work w = make_work(length, length, 7);
        const cpl_batch b = w.batch(CPL_WANT_LOGITS);
        double least, most;
        const double device = device_seconds(s.session, b, 20, &least, &most);
        std::vector<double> us;
        float score;
        for (int i = 0; i < 1200; i++) {
            const uint64_t from = cpl_clock_ns();
            must(cpl_cuda_run(s.session, &b, NULL, &score, &err), err);
            if (i >= 200) us.push_back((cpl_clock_ns() - from) * 1e-3);
        }
        std::sort(us.begin(), us.end());
        printf("{\"section\":\"pair\",\"precision\":\"%s\",\"length\":%u,\"device_us\":%.1f,\"run_us_p50\":%.1f,"
               "\"run_us_p99\":%.1f}\n",
               precision, length, device * 1e6, us[us.size() / 2], us[us.size() * 99 / 100]);
    }
}

struct hand {
    cpl_session *session;
    const work *w;
    double seconds;
    uint64_t passes;
    pthread_t thread;
};

static void *hand_main(void *arg)
{
    hand *h = (hand *)arg;
    std::vector<float> rows(h->w->cu.size());
    const cpl_batch b = h->w->batch(CPL_WANT_LOGITS);
    cpl_error err;
    const uint64_t end = cpl_clock_ns() + (uint64_t)(h->seconds * 1e9);
    while (cpl_clock_ns() < end) {
        must(cpl_cuda_run(h->session, &b, NULL, rows.data(), &err), err);
        h->passes++;
    }
    return NULL;
}

static void section_sessions(stand &s, uint32_t tokens, uint32_t length, const char *precision, double seconds)
{
    const work w = make_work(length, tokens, 7);
    cpl_error err;
    hand hands[2] = {{s.session, &w, seconds, 0, 0}, {NULL, &w, seconds, 0, 0}};
    must(cpl_cuda_open(&hands[1].session, s.weights, &err), err);
    for (int n = 1; n <= 2; n++) {
        for (int i = 0; i < n; i++) hands[i].passes = 0;
        const uint64_t from = cpl_clock_ns();
        for (int i = 0; i < n; i++) pthread_create(&hands[i].thread, NULL, hand_main, &hands[i]);
        for (int i = 0; i < n; i++) pthread_join(hands[i].thread, NULL);
        const double t = (cpl_clock_ns() - from) * 1e-9;
        const uint64_t passes = hands[0].passes + (n > 1 ? hands[1].passes : 0);
        printf("{\"section\":\"sessions\",\"precision\":\"%s\",\"length\":\"%s\",\"batch_tokens\":%u,\"sessions\":%d,"
               "\"pairs_per_s\":%.0f,\"ms_per_pass\":%.3f}\n",
               precision, w.name.c_str(), w.cu.back(), n, passes * (w.cu.size() - 1) / t, t * 1e3 * n / passes);
        fflush(stdout);
    }
    cpl_cuda_close(hands[1].session);
}

/* ---- trace: when the device has work -------------------------------------------------------------------------------
 */

struct span {
    cudaEvent_t from, to;
    double start, end; /* ms since the base event */
};

struct tracer {
    cudaStream_t stream;
    std::vector<span> spans;
};

/* From the end of a pass's input copy to the end of its last kernel. */
static void trace_mark(void *arg, const char *name, uint32_t)
{
    tracer *t = (tracer *)arg;
    if (!strcmp(name, "input")) {
        span p = {};
        must(cudaEventCreate(&p.from), "event");
        must(cudaEventCreate(&p.to), "event");
        must(cudaEventRecord(p.from, t->stream), "event");
        t->spans.push_back(p);
    } else if (!strcmp(name, "classifier")) {
        must(cudaEventRecord(t->spans.back().to, t->stream), "event");
    }
}

/* Two sessions over one weights object, from two threads; the share of time in which no pass is on the device, and the
 * first passes as they lay. */
static void section_trace(stand &s, uint32_t tokens, const char *precision, double seconds)
{
    const work w = make_work(0, tokens, 7);
    cpl_error err;
    hand hands[2] = {{s.session, &w, seconds, 0, 0}, {NULL, &w, seconds, 0, 0}};
    must(cpl_cuda_open(&hands[1].session, s.weights, &err), err);
    tracer tracers[2] = {{hands[0].session->stream, {}}, {hands[1].session->stream, {}}};
    cudaEvent_t base;
    must(cudaEventCreate(&base), "event");
    must(cudaEventRecord(base, hands[0].session->stream), "event");
    for (int i = 0; i < 2; i++) {
        hands[i].session->mark = trace_mark;
        hands[i].session->mark_arg = &tracers[i];
        pthread_create(&hands[i].thread, NULL, hand_main, &hands[i]);
    }
    for (int i = 0; i < 2; i++) pthread_join(hands[i].thread, NULL);
    std::vector<std::pair<double, double>> all;
    for (int i = 0; i < 2; i++)
        for (span &p : tracers[i].spans) {
            float a, b;
            must(cudaEventElapsedTime(&a, base, p.from), "event");
            must(cudaEventElapsedTime(&b, base, p.to), "event");
            all.push_back({a, b});
            if (all.size() % 64 < 8 && &p - tracers[i].spans.data() < 8)
                printf("{\"section\":\"span\",\"session\":%d,\"from_ms\":%.3f,\"to_ms\":%.3f}\n", i, a, b);
        }
    std::sort(all.begin(), all.end());
    const size_t skip = all.size() / 10; /* the start, and the end when one thread has left */
    double busy = 0, end = all[skip].first;
    const double first = all[skip].first, last = all[all.size() - 1 - skip].first;
    for (const auto &p : all) {
        const double from = std::max(p.first, end), to = std::min(p.second, last);
        if (p.first < first || to <= from) continue;
        busy += to - from;
        end = to;
    }
    printf("{\"section\":\"trace\",\"precision\":\"%s\",\"batch_tokens\":%u,\"passes\":%zu,\"ms\":%.1f,"
           "\"device_idle\":%.4f}\n",
           precision, w.cu.back(), all.size(), last - first, 1 - busy / (last - first));
    for (int i = 0; i < 2; i++) hands[i].session->mark = NULL;
    cpl_cuda_close(hands[1].session);
}

/* ---- several devices: two sessions on each, all at once -------------------------------------------------------------
 */

static void section_devices(cpl_precision precision, uint32_t tokens, uint32_t length, uint32_t count,
                            const char *setting, double seconds)
{
    const work w = make_work(length, tokens, 7);
    std::vector<stand> stands(count);
    std::vector<hand> hands;
    cpl_error err;
    double one = 0;
    for (uint32_t d = 0; d < count; d++) open_stand(stands[d], precision, tokens, setting, d);
    for (uint32_t n = 1; n <= count; n *= 2) {
        hands.clear();
        for (uint32_t d = 0; d < n; d++) {
            hands.push_back({stands[d].session, &w, seconds, 0, 0});
            hands.push_back({NULL, &w, seconds, 0, 0});
            must(cpl_cuda_open(&hands.back().session, stands[d].weights, &err), err);
        }
        const uint64_t from = cpl_clock_ns();
        for (hand &h : hands) pthread_create(&h.thread, NULL, hand_main, &h);
        uint64_t passes = 0;
        for (hand &h : hands) {
            pthread_join(h.thread, NULL);
            passes += h.passes;
        }
        const double rate = passes * (w.cu.size() - 1) / ((cpl_clock_ns() - from) * 1e-9);
        if (n == 1) one = rate;
        printf("{\"section\":\"devices\",\"precision\":\"%s\",\"length\":\"%s\",\"batch_tokens\":%u,\"devices\":%u,"
               "\"pairs_per_s\":%.0f,\"over_one\":%.3f}\n",
               cpl_precision_name(precision), w.name.c_str(), w.cu.back(), n, rate, rate / one);
        fflush(stdout);
        for (size_t i = 1; i < hands.size(); i += 2) cpl_cuda_close(hands[i].session);
    }
    for (stand &s : stands) close_stand(s);
}

int main(int argc, char **argv)
{
    std::string name = "bf16", only;
    const char *setting = NULL;
    std::vector<uint32_t> sizes = {16384, 65536};
    bool quick = false;
    for (int i = 1; i < argc; i++) {
        const std::string a = argv[i];
        if (a == "--quick") {
            quick = true;
        } else if (i + 1 < argc && a == "--precision") {
            name = argv[++i];
        } else if (i + 1 < argc && a == "--setting") {
            setting = argv[++i];
        } else if (i + 1 < argc && a == "--section") {
            only = argv[++i];
        } else if (i + 1 < argc && a == "--tokens") {
            sizes.clear();
            for (char *p = argv[++i]; *p; p += *p == ',') sizes.push_back((uint32_t)strtoul(p, &p, 10));
        } else {
            fprintf(stderr,
                    "usage: bench_cuda [--precision P] [--setting K=V] [--tokens N,N] [--section NAME] [--quick]\n");
            return 2;
        }
    }
    const auto wanted = [&](const char *section) { return only.empty() || only == section; };
    cpl_precision precision;
    cpl_error err;
    cpl_caps caps;
    stand s;
    must(cpl_precision_parse(&precision, name.c_str(), &err), err);
    cpl_host_init(&s.host, NULL);
    must(cpl_cuda_probe(&caps, &s.host, &err), err);
    open_stand(s, precision, *std::max_element(sizes.begin(), sizes.end()), setting);
    const double peak = measure_peak(3);
    printf("{\"section\":\"peak\",\"device\":\"%s\",\"isa\":\"%s\",\"bf16_tflops\":%.1f}\n", caps.device, caps.isa,
           peak * 1e-12);
    const std::vector<uint32_t> lengths = quick ? std::vector<uint32_t>{32, 0} : std::vector<uint32_t>{32, 64, 128, 0};
    for (uint32_t tokens : sizes) {
        for (uint32_t length : lengths)
            if (wanted("device")) section_device(s, tokens, length, peak, name.c_str());
        for (uint32_t length : {128u, 0u})
            if (wanted("kernels") && !quick) section_kernels(s, tokens, length, name.c_str());
        if (wanted("products") && !quick && s.weights->device.wgmma && precision != CPL_PRECISION_FP32)
            section_products(s, tokens, name.c_str());
        for (uint32_t length : lengths)
            if (wanted("sessions")) section_sessions(s, tokens, length, name.c_str(), quick ? 0.3 : 0.7);
    }
    if (wanted("trace") && !quick)
        for (uint32_t tokens : sizes) section_trace(s, tokens, name.c_str(), 0.5);
    if (wanted("pair")) section_pair(s, name.c_str());
    printf("{\"section\":\"peak\",\"again\":true,\"bf16_tflops\":%.1f}\n", measure_peak(3) * 1e-12);
    close_stand(s);
    if (wanted("devices") && caps.devices > 1)
        for (uint32_t length : {32u, 0u})
            section_devices(precision, sizes.back(), length, caps.devices, setting, quick ? 0.3 : 0.8);
    return 0;
}
