// Where attention's mass went, for the probes: from the scores that were kept, in double as on the CPU.
#include <algorithm>

#include "engine/ops/kernel.cuh"
#include "engine/ops/attend/attend.cuh"
#include "engine/ops/deliveries.h"

namespace vitrine::cuda {
namespace {

__device__ double warp_sum(double x) {
    for (int i = kWarp / 2; i > 0; i /= 2) x += __shfl_xor_sync(~0u, x, i);
    return x;
}

struct Outputs {
    float *shares, *shares_head, *window, *entries, *entries_head;  // each may be null
    int64_t n_entries;
};

// Scores of one token to probabilities, in place; shares [H, 3] of window, entries, sink.
__device__ void to_probabilities(const Attention& a, const TokenKeys& keys, int64_t t, float* scores, double* shares) {
    const int lane = threadIdx.x % kWarp;
    for (int h = threadIdx.x / kWarp; h < a.n_heads; h += blockDim.x / kWarp) {
        const float2 stats = a.stats[t * a.n_heads + h];
        float* p = scores + h * a.n_columns;
        double part[2] = {};
        for (int j = lane; j < keys.n; j += kWarp) {
            p[j] = keys.ends_at(j) ? 0.0f : expf(p[j] - stats.x) / stats.y;
            part[j >= keys.n_window] += p[j];
        }
        const float sink = a.sinks.data ? expf(element(a.sinks, 0, h) - stats.x) : 0.0f;
        part[0] = warp_sum(part[0]), part[1] = warp_sum(part[1]);
        if (lane == 0) {
            shares[3 * h] = part[0], shares[3 * h + 1] = part[1];
            shares[3 * h + 2] = isinf(stats.y) ? 1.0f : sink / stats.y;
        }
    }
}

// The masses of one call's group of tokens.
struct MassJob {
    Attention a;
    const int32_t* places;
    Outputs out;
    int n_tokens;
};

// grid: (tokens, calls). Shared memory: 3 H doubles.
__global__ void measure(const __grid_constant__ Jobs<MassJob> jobs) {
    after_previous();
    extern __shared__ double shares[];
    __shared__ int n_entries;
    const MassJob& job = jobs.at[blockIdx.y];
    if (static_cast<int>(blockIdx.x) >= job.n_tokens) return;
    const Attention& a = job.a;
    const int32_t* places = job.places;
    const Outputs& out = job.out;
    const int window = a.keys.window;
    const int64_t t = a.t0 + blockIdx.x;
    const TokenKeys keys(a.keys, t);
    float* scores = a.scores + static_cast<int64_t>(blockIdx.x) * a.n_heads * a.n_columns;
    if (threadIdx.x == 0) n_entries = 0;
    __syncthreads();
    to_probabilities(a, keys, t, scores, shares);
    int n_mine = 0;
    for (int j = keys.n_window + static_cast<int>(threadIdx.x); j < keys.n; j += blockDim.x) n_mine += !keys.ends_at(j);
    atomicAdd(&n_entries, n_mine);
    __syncthreads();

    for (int i = threadIdx.x; i < 3 * a.n_heads && out.shares_head; i += blockDim.x)
        out.shares_head[t * 3 * a.n_heads + i] = static_cast<float>(shares[i]);
    if (threadIdx.x < 3 && out.shares) {
        double total = 0;
        for (int h = 0; h < a.n_heads; ++h) total += shares[3 * h + threadIdx.x];
        out.shares[3 * t + threadIdx.x] = static_cast<float>(total / a.n_heads);
    }
    float* of_entries = out.entries ? out.entries + t * (1 + out.n_entries) : nullptr;
    float* of_heads = out.entries_head ? out.entries_head + t * (1 + a.n_heads * out.n_entries) : nullptr;
    if (threadIdx.x == 0 && of_entries) of_entries[0] = static_cast<float>(n_entries);
    if (threadIdx.x == 0 && of_heads) of_heads[0] = static_cast<float>(n_entries);
    for (int j = threadIdx.x; j < keys.n_window + n_entries; j += blockDim.x) {
        double sum = 0;
        const int i = j - keys.n_window, column = i >= 0 && places ? places[t * a.keys.k + i] : i;
        for (int h = 0; h < a.n_heads; ++h) {
            const float p = scores[h * a.n_columns + j];
            sum += p;
            if (i >= 0 && of_heads) of_heads[1 + static_cast<int64_t>(h) * n_entries + column] = p;
        }
        const auto mean = static_cast<float>(sum / a.n_heads);
        if (i >= 0 && of_entries) of_entries[1 + column] = mean;
        if (i < 0 && out.window) out.window[t * window + j] = mean;
    }
}

float* data(const Tensor& t) {
    return t.empty() ? nullptr : t.f32();
}

void launch(Device& device, const Jobs<MassJob>& jobs) {
    int n_tokens = 0, n_heads = 0;
    for (int i = 0; i < jobs.n; ++i)
        n_tokens = std::max(n_tokens, jobs.at[i].n_tokens), n_heads = std::max(n_heads, jobs.at[i].a.n_heads);
    const dim3 grid(static_cast<unsigned>(n_tokens), static_cast<unsigned>(jobs.n));
    measure<<<grid, 512, 3 * n_heads * sizeof(double), device.stream()>>>(jobs);
    device.check(cudaGetLastError(), "attention masses");
}

}  // namespace

bool watches_mass(const Ctx& ctx) {
    return ctx.wants(kShares) || ctx.wants(kSharesHead) || ctx.wants(kEntryMass) || ctx.wants(kWindowMass) ||
           ctx.wants(kEntryMassHead);
}

MassProbes make_mass_probes(Ctx& ctx, int64_t n_tokens, int64_t n_heads, int window, int64_t n_entries) {
    const auto make = [&](Probe p, Shape s) { return ctx.wants(p) ? ctx.arena.make(DType::f32, s) : Tensor{}; };
    return {make(kShares, {n_tokens, 3}),
            make(kSharesHead, {n_tokens, n_heads, 3}),
            make(kWindowMass, {n_tokens, window}),
            make(kEntryMass, {n_tokens, 1 + n_entries}),
            make(kEntryMassHead, {n_tokens, 1 + n_heads * n_entries}),
            n_entries,
            static_cast<int>(n_heads)};
}

void measure_mass(Ctx& ctx, const Attention& a, int64_t n_tokens, const Tensor& places_Tk, const MassProbes& m,
                  bool is_later) {
    const MassJob job{a,
                      places_Tk.empty() ? nullptr : places_Tk.as<int32_t>(),
                      {data(m.shares), data(m.shares_head), data(m.window), data(m.entries), data(m.entries_head), m.n_entries},
                      static_cast<int>(n_tokens)};
    if (is_later) return ctx.cuda->deliveries().measure_later(job, launch);
    launch(*ctx.cuda, {{job}, 1});
}

void publish_mass(Ctx& ctx, const MassProbes& m, int window) {
    Device& device = *ctx.cuda;
    if (!m.shares.empty()) ctx.publish(kShares, m.shares, 1, 3);
    if (!m.shares_head.empty()) ctx.publish(kSharesHead, m.shares_head, static_cast<int>(m.shares_head.dim(1)), 3);
    if (!m.window.empty())
        device.deliver(m.window, [=, l = ctx.layer](const Arrived& a, ProbeSink& sink) {
            for (int t = 0; t < a.n_tokens; ++t)
                sink.put(t, kWindowMass, l, a.f32() + static_cast<int64_t>(t) * window, 1,
                         static_cast<int>(std::min<int64_t>(a.tokens[t].position + 1, window)));
        });
    const auto by_entry = [&](const Tensor& x, Probe p, int rows) {
        if (x.empty()) return;
        device.deliver(x, [=, l = ctx.layer, width = x.dim(1)](const Arrived& a, ProbeSink& sink) {
            for (int t = 0; t < a.n_tokens; ++t) {
                const float* row = a.f32() + t * width;  // the count, then that many columns in each row
                sink.put(t, p, l, row + 1, rows, static_cast<int>(row[0]));
            }
        });
    };
    by_entry(m.entries, kEntryMass, 1);
    by_entry(m.entries_head, kEntryMassHead, m.n_heads);
}

}  // namespace vitrine::cuda
