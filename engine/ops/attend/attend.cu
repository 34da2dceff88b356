// Core attention on the GPU: the split of keys over blocks, and its kernel for any shape and format.
#include <algorithm>
#include <cmath>

#include "engine/ops/attend/attend.cuh"
#include "engine/ops/attend/attend.h"
#include "engine/ops/hyper/coefficients.cuh"
#include "engine/ops/kernel.cuh"
#include "engine/ops/rope/rotate.cuh"

namespace vitrine::cuda {
namespace {

constexpr int64_t kScratchFloats = int64_t{16} << 20;     // of scores kept for probes, at a time
constexpr int kThreads = 256, kHeads = kThreads / kWarp;  // a warp per head
constexpr int kChunk = kWarp;                             // a lane per key

// A head's output, complete in shared memory, to where it belongs. Every step is rounded as on the CPU.
template <class T, class Sync>
__device__ void write_output(const Attention& a, int64_t t, int head, float* row, T* out, int thread, int n_threads,
                             Sync sync) {
    const int c = a.keys.format.c;
    if (a.cosines) {
        for (int i = thread; i < c && a.is_rounded; i += n_threads) row[i] = round_bf16(row[i]);
        sync();
        rotate_row(row, c, a.cosines + t * a.half, a.sines + t * a.half, a.half, -1, a.is_rounded, thread, n_threads);
        sync();
    }
    for (int i = thread; i < c; i += n_threads) out[(t * a.n_heads + head) * c + i] = narrow<T>(row[i]);
}

// One block per split of a token's keys (x), group of kHeads heads (y) and token (z), online softmax in chunks of
// kChunk keys. Shared memory: q [kHeads, c], keys [kChunk, c], p [kHeads, kChunk], alpha [kHeads]. A thread sums kCols
// columns of the output.
template <class T, int kCols>
__global__ void attend_split(const Attention a, const T* q, T* out) {
    after_previous();
    extern __shared__ float shared[];
    const int c = a.keys.format.c, head0 = blockIdx.y * kHeads, n_heads = min(kHeads, a.n_heads - head0);
    const int64_t t = a.t0 + blockIdx.z;
    const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
    float *qs = shared, *rows = qs + kHeads * c, *p = rows + kChunk * c, *alphas = p + kHeads * kChunk;
    const TokenKeys keys(a.keys, t);
    const int size = a.n_splits > 1 ? keys.split_size(a.chunk) : keys.n;
    const int begin = blockIdx.x * size, end = min(begin + size, keys.n);
    if (a.n_splits > 1 && keys.ends_at(begin)) return;  // nor does `combine` look

    for (int i = threadIdx.x; i < kHeads * c; i += kThreads)
        qs[i] = i / c < n_heads ? widen(q[(t * a.n_heads + head0) * c + i]) : 0.0f;
    float top = -INFINITY, z = 0, sums[kCols][kHeads] = {};  // top, z: of head `warp`
    for (int j0 = begin; j0 < end && !keys.ends_at(j0); j0 += kChunk) {
        __syncthreads();
        for (int r = warp; r < kChunk; r += kHeads) {
            const std::byte* row = j0 + r < end ? keys.row(j0 + r, a.keys.format.bytes) : nullptr;
            for (int i = lane; i < c; i += kWarp) rows[r * c + i] = row ? row_value(a.keys.format, row, i) : 0.0f;
            if (lane < kHeads) p[lane * kChunk + r] = row ? 0.0f : -INFINITY;
        }
        __syncthreads();
        for (int r = warp; r < kChunk; r += kHeads) {
            float dots[kHeads] = {};
            for (int i = lane; i < c; i += kWarp) {
                const float key = rows[r * c + i];
#pragma unroll
                for (int h = 0; h < kHeads; ++h) dots[h] += qs[h * c + i] * key;
            }
#pragma unroll
            for (int h = 0; h < kHeads; ++h) {
                const float dot = warp_sum(dots[h]);
                if (lane == h) p[h * kChunk + r] += dot * a.scale;
            }
        }
        __syncthreads();
        const float score = p[warp * kChunk + lane], higher = fmaxf(top, warp_max(score));
        if (a.scores && warp < n_heads && j0 + lane < a.n_columns)
            a.scores[(blockIdx.z * static_cast<int64_t>(a.n_heads) + head0 + warp) * a.n_columns + j0 + lane] = score;
        const float e = higher == -INFINITY ? 0.0f : expf(score - higher),
                    alpha = top == -INFINITY ? 0.0f : expf(top - higher);
        z = z * alpha + warp_sum(e), top = higher;
        p[warp * kChunk + lane] = a.is_rounded ? round_bf16(e) : e;
        if (lane == 0) alphas[warp] = alpha;
        __syncthreads();
#pragma unroll
        for (int i = 0; i < kCols; ++i) {
            const int col = threadIdx.x + i * kThreads;
            if (col >= c) break;
#pragma unroll
            for (int h = 0; h < kHeads; ++h) sums[i][h] *= alphas[h];
            for (int r = 0; r < kChunk; ++r) {
                const float key = rows[r * c + col];
#pragma unroll
                for (int h = 0; h < kHeads; ++h) sums[i][h] += p[h * kChunk + r] * key;
            }
        }
    }

    __syncthreads();
    if (a.n_splits > 1) {
        const int64_t at = (blockIdx.z * static_cast<int64_t>(a.n_splits) + blockIdx.x) * a.n_heads + head0;
        if (lane == 0 && warp < n_heads) a.partial_stats[at + warp] = {top, z};
        for (int i = 0; i < kCols; ++i)
            for (int h = 0, col = threadIdx.x + i * kThreads; h < n_heads && col < c; ++h)
                a.partials[(at + h) * c + col] = sums[i][h];
        return;
    }
    if (lane == 0 && warp < n_heads) {
        z += a.sinks.data ? expf(element(a.sinks, 0, head0 + warp) - top) : 0.0f;
        alphas[warp] = z;
        if (a.stats) a.stats[t * a.n_heads + head0 + warp] = {top, z};
    }
    __syncthreads();
    for (int i = 0; i < kCols; ++i)
        for (int h = 0, col = threadIdx.x + i * kThreads; h < n_heads && col < c; ++h)
            rows[h * c + col] = sums[i][h] / alphas[h];
    __syncthreads();
    if (warp < n_heads) write_output(a, t, head0 + warp, rows + warp * c, out, lane, kWarp, [] { __syncwarp(); });
}

// One block per head (x) and token (y): the splits' sums to one, in their order; another makes the token's mixing
// matrix. Shared memory: c floats.
template <class T>
__global__ void combine(const Attention a, const __grid_constant__ Mixing mixing, T* out) {
    if (static_cast<int>(blockIdx.x) == a.n_heads) {
        mixing.make(a.t0 + blockIdx.y);
        return after_previous();
    }
    extern __shared__ float row[];
    __shared__ float weights[kMaxSplits], total;
    constexpr int kAtOnce = 16;  // loads of a thread on their way
    const int c = a.keys.format.c, head = blockIdx.x;
    const int64_t t = a.t0 + blockIdx.y, first = static_cast<int64_t>(blockIdx.y) * a.n_splits * a.n_heads + head;
    // Of what was there before the kernel before this one: the step's tokens and the choice.
    const TokenKeys keys(a.keys, t);
    const int size = keys.split_size(a.chunk), n_splits = (keys.n + size - 1) / size;
    bool is_there[kMaxSplits / kWarp];
    for (int i = threadIdx.x, s = 0; s < kMaxSplits / kWarp; i += kWarp, ++s)
        is_there[s] = threadIdx.x < kWarp && i < n_splits && !keys.ends_at(i * size);
    const float sink = a.sinks.data ? element(a.sinks, 0, head) : -INFINITY;
    after_previous();
    float part[kAtOnce];
    const auto fetch = [&](int col, int split0) {
        const float* from = a.partials + (first + static_cast<int64_t>(split0) * a.n_heads) * c + col;
#pragma unroll
        for (int i = 0; i < kAtOnce; ++i)
            if (split0 + i < n_splits) part[i] = from[static_cast<int64_t>(i) * a.n_heads * c];
    };
    if (static_cast<int>(threadIdx.x) < c) fetch(threadIdx.x, 0);
    if (threadIdx.x < kWarp) {
        float top = -INFINITY, z = 0;
        float2 stats[kMaxSplits / kWarp];
        for (int i = threadIdx.x, s = 0; i < kMaxSplits; i += kWarp, ++s) {
            stats[s] = is_there[s] ? a.partial_stats[first + static_cast<int64_t>(i) * a.n_heads] : float2{-INFINITY, 0.0f};
            top = fmaxf(top, stats[s].x);
        }
        top = warp_max(top);
        for (int i = threadIdx.x, s = 0; i < kMaxSplits; i += kWarp, ++s) {
            const float w = stats[s].x == -INFINITY ? 0.0f : expf(stats[s].x - top);
            weights[i] = w;
            z += w * stats[s].y;
        }
        z = warp_sum(z) + (a.sinks.data ? expf(sink - top) : 0.0f);
        if (threadIdx.x == 0) {
            total = z;
            if (a.stats) a.stats[t * a.n_heads + head] = {top, z};
        }
    }
    __syncthreads();
    for (int col = threadIdx.x; col < c; col += blockDim.x) {
        float sum = 0;
        for (int split0 = 0; split0 < n_splits; split0 += kAtOnce) {
            if (split0 > 0 || col != static_cast<int>(threadIdx.x)) fetch(col, split0);
#pragma unroll
            for (int i = 0; i < kAtOnce; ++i)
                if (split0 + i < n_splits && weights[split0 + i] != 0) sum += weights[split0 + i] * part[i];
        }
        row[col] = sum / total;
    }
    __syncthreads();
    write_output(a, t, head, row, out, threadIdx.x, blockDim.x, [] { __syncthreads(); });
}

template <class T>
void run_split(Ctx& ctx, const Attention& a, int64_t n_tokens, const T* q, T* out) {
    const int c = a.keys.format.c;
    const size_t bytes = ((kHeads + kChunk) * c + kHeads * kChunk + kHeads) * sizeof(float);
    const dim3 grid(a.n_splits, ceil_div(a.n_heads, kHeads), static_cast<unsigned>(n_tokens));
    const auto kernel = c <= kThreads       ? attend_split<T, 1>
                        : c <= 2 * kThreads ? attend_split<T, 2>
                                            : attend_split<T, 4>;
    allow_shared(ctx, kernel, bytes);
    kernel<<<grid, kThreads, bytes, ctx.cuda->stream()>>>(a, q, out);
    check_launch(ctx, "attend");
}

template <class T>
void run(Ctx& ctx, const Attention& a, int64_t n_tokens, const T* q, T* out) {
    bool is_done = false;
    if constexpr (sizeof(T) == sizeof(bf16))
        if (has_tensor_kernel(a)) attend_by_tensor_cores(ctx, a, n_tokens, q, out), is_done = true;
    if (!is_done) run_split(ctx, a, n_tokens, q, out);
    if (a.n_splits == 1) return;
    const int threads = std::min((a.keys.format.c + 31) / 32 * 32, 512);
    const Mixing mixing = n_tokens == ctx.cuda->step.n_tokens ? take_mixing(ctx) : Mixing{};
    const dim3 grid(a.n_heads + (mixing.mixing != nullptr), static_cast<unsigned>(n_tokens));
    combine<<<grid, threads, a.keys.format.c * sizeof(float), ctx.cuda->stream()>>>(a, mixing, out);
    check_launch(ctx, "attend: combine");
}

}  // namespace

bool attend_norms_queries(const Ctx& ctx, const Tensor& q_THC, const ModelConfig& c) {
    Attention a{};
    a.keys.format = entry_rows(ctx, q_THC.dim(2), c.rope_dim);
    return q_THC.dim(0) <= kFewTokens && q_THC.dtype == DType::bf16 && has_tensor_kernel(a);
}

Tensor attend(Ctx& ctx, const Tensor& q_THC, const Param& sinks_H, const ModelConfig& config, int ratio,
              const Tensor& chosen_Tk, const Tensor& places_Tk, const RopeAngles* back, bool is_raw) {
    const OpTimer timer(ctx, OpKind::attend);
    const Step& step = ctx.cuda->step;
    const int64_t n_tokens = q_THC.dim(0), n_heads = q_THC.dim(1), c = q_THC.dim(2);
    VITRINE_ASSERT(n_tokens == step.n_tokens && q_THC.dtype == ctx.activation() && c <= 4 * kThreads);
    const int k = chosen_Tk.empty() ? 0 : static_cast<int>(chosen_Tk.dim(1));
    const int64_t n_entries = !chosen_Tk.empty() ? k : ratio ? step.longest / ratio : 0;
    const int64_t n_keys = std::min<int64_t>(config.sliding_window, step.longest) + n_entries;
    const bool is_few = n_tokens <= kFewTokens, is_watched = watches_mass(ctx);

    const Tensor out = ctx.arena.make(ctx.activation(), q_THC.shape);
    Attention a{};
    a.keys = {step.tokens,
              step.layer(ctx.layer),
              chosen_Tk.empty() ? nullptr : chosen_Tk.as<int32_t>(),
              k,
              config.sliding_window,
              ratio,
              entry_rows(ctx, c, config.rope_dim)};
    a.sinks = sinks_H.view;
    a.n_heads = static_cast<int>(n_heads);
    a.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(c)));
    a.is_rounded = ctx.is_reference();
    if (back) a.cosines = back->cos.f32(), a.sines = back->sin.f32(), a.half = static_cast<int>(back->cos.dim(1));
    VITRINE_ASSERT(!is_raw || (back && attend_norms_queries(ctx, q_THC, config)));
    if (is_raw) a.q_eps = static_cast<float>(config.rms_norm_eps);
    a.chunk = !has_tensor_kernel(a) ? kChunk : is_few ? kFewTensorChunk : kTensorChunk;
    a.n_splits = is_few ? static_cast<int>(std::min<int64_t>((n_keys + a.chunk - 1) / a.chunk, kMaxSplits)) : 1;
    a.n_columns = n_keys;
    MassProbes probes;
    if (is_watched) probes = make_mass_probes(ctx, n_tokens, n_heads, config.sliding_window, n_entries);

    // Scores are kept only for the probes, of groups of tokens; those of a short step until all layers are measured.
    const int64_t group = is_watched ? std::clamp<int64_t>(kScratchFloats / (n_heads * n_keys), 1, n_tokens) : n_tokens;
    const bool is_later = is_watched && is_few && group == n_tokens;
    const auto keep_scores = [&] {
        a.scores = ctx.arena.make(DType::f32, {group, n_heads, n_keys}).f32();
        a.stats = reinterpret_cast<float2*>(ctx.arena.make(DType::f32, {n_tokens, n_heads, 2}).f32());
    };
    if (is_later) keep_scores();
    const Arena::Scope scratch(ctx.arena);
    if (is_watched && !is_later) keep_scores();
    if (a.n_splits > 1) {
        a.partials = ctx.arena.make(DType::f32, {group, a.n_splits, n_heads, c}).f32();
        a.partial_stats = reinterpret_cast<float2*>(ctx.arena.make(DType::f32, {group, a.n_splits, n_heads, 2}).f32());
    }
    for (a.t0 = 0; a.t0 < n_tokens; a.t0 += group) {
        const int64_t n = std::min(group, n_tokens - a.t0);
        with_activation(q_THC.dtype, [&](auto t) {
            using T = decltype(t);
            run(ctx, a, n, static_cast<const T*>(q_THC.data), static_cast<T*>(out.data));
        });
        if (is_watched) measure_mass(ctx, a, n, places_Tk, probes, is_later);
    }
    if (is_watched) publish_mass(ctx, probes, config.sliding_window);
    return out;
}

}  // namespace vitrine::cuda
