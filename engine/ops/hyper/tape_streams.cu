// Streams of a site on a GPU's tape: projections and collapse, and their backward. For four streams, fn lies in shared memory and
// every X is read once; projections are FP32 products: what they decide is too sensitive for fewer digits.
#include <algorithm>

#include "engine/ops/hyper/tape.cuh"

namespace vitrine::cuda {
namespace {

constexpr int kN = 4;                     // streams of the fast kernels
constexpr int kThreads = 256, kWarps = kThreads / kWarp;
constexpr int kColumns = 1536;            // of fn in shared memory at a time, at most
constexpr int kBlocks = 132;              // pieces of tokens: sums depend on shapes alone

struct Slabs {
    int width, columns, count;            // of a row of X; of a slab, a multiple of 128; slabs
};
Slabs slabs_of(int64_t width, int64_t most) {
    const int64_t count = (width + most - 1) / most;
    const int64_t columns = ((width + count - 1) / count + 127) / 128 * 128;
    return {static_cast<int>(width), static_cast<int>(columns), static_cast<int>((width + columns - 1) / columns)};
}

// Rows of fn [n_rows, width], columns [first, first + columns), into shared memory; beyond the width: zeros.
__device__ void load_slab(const float* fn, int n_rows, const Slabs& s, int first, float* to) {
    for (int i = threadIdx.x * 4; i < n_rows * s.columns; i += blockDim.x * 4) {
        const int row = i / s.columns, col = first + i % s.columns;
        store4(to + i, col < s.width ? load4(fn + static_cast<int64_t>(row) * s.width + col) : float4{0, 0, 0, 0});
    }
}

// ---- forward. kParts warps share kTokens tokens, each multiplies kRows rows of fn; lanes lie along the columns. kIsSplit: a slab
// is a block's (y), which leaves its sums, that of squares last, in `slabs` [slabs, T, R + 1].
template <int kRows, int kParts, bool kIsSplit>
__global__ void __launch_bounds__(kThreads) project(const __grid_constant__ Form f, SiteRows a, Slabs s, float* slabs) {
    constexpr int kTokens = 8, kTile = kTokens * kWarps / kParts, kAll = kRows * kParts;
    static_assert(kTokens * kRows % kWarp == 0);
    extern __shared__ float4 slab_memory[];
    __shared__ float m[kTile][kAll], factors[kTile], pre[kTile][kN];
    after_previous();
    float* const fn = reinterpret_cast<float*>(slab_memory);
    const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, part = warp % kParts, first = warp / kParts * kTokens;
    const int64_t n_tiles = (a.n_tokens + kTile - 1) / kTile;
    for (int64_t tile = blockIdx.x; tile < n_tiles; tile += gridDim.x) {
        const int64_t t0 = tile * kTile + first;
        const int n_here = static_cast<int>(a.n_tokens - t0 < kTokens ? a.n_tokens - t0 : kTokens);  // may be negative
        const float* const x = a.x + t0 * s.width;
        float sum[kTokens * kRows], square[kTokens];
#pragma unroll
        for (int i = 0; i < kTokens * kRows; ++i) sum[i] = 0;
#pragma unroll
        for (int i = 0; i < kTokens; ++i) square[i] = 0;
        const int slab0 = kIsSplit ? static_cast<int>(blockIdx.y) : 0, n_slabs = kIsSplit ? 1 : s.count;
        for (int slab = slab0; slab < slab0 + n_slabs; ++slab) {
            const int col0 = slab * s.columns;
            if (n_slabs > 1 || tile == blockIdx.x) {
                __syncthreads();
                load_slab(a.fn, kAll, s, col0, fn);
                __syncthreads();
            }
            const int n_columns = s.width - col0 < s.columns ? s.width - col0 : s.columns;
            float4 next[kTokens];
            const auto load = [&](int col) {
#pragma unroll
                for (int t = 0; t < kTokens; ++t)
                    next[t] = t < n_here && col < n_columns ? load4(x + t * s.width + col0 + col) : float4{0, 0, 0, 0};
            };
            load(lane * 4);
            for (int col = lane * 4; col < n_columns; col += kWarp * 4) {
                float4 v[kTokens];
#pragma unroll
                for (int t = 0; t < kTokens; ++t) v[t] = next[t];
                load(col + kWarp * 4);
                if (part == 0) {
#pragma unroll
                    for (int t = 0; t < kTokens; ++t) square[t] = dot4(v[t], v[t], square[t]);
                }
#pragma unroll
                for (int r = 0; r < kRows; ++r) {
                    const float4 w = load4(fn + (part * kRows + r) * s.columns + col);
#pragma unroll
                    for (int t = 0; t < kTokens; ++t) sum[t * kRows + r] = dot4(w, v[t], sum[t * kRows + r]);
                }
            }
        }
#pragma unroll
        for (int set = 0; set < kTokens * kRows / kWarp; ++set) {
            float values[kWarp];
#pragma unroll
            for (int i = 0; i < kWarp; ++i) values[i] = sum[set * kWarp + i];
            const float total = sum_for_lane(values);
            const int i = set * kWarp + lane;
            m[first + i / kRows][part * kRows + i % kRows] = total;
        }
#pragma unroll
        for (int t = 0; t < kTokens; ++t) {
            const float total = warp_sum(square[t]);
            if (part == 0 && lane == 0)
                factors[first + t] = kIsSplit ? total : rsqrtf(total / static_cast<float>(s.width) + a.rms_eps);
        }
        __syncthreads();
        const int64_t tile0 = tile * kTile;
        if constexpr (kIsSplit) {
            float* to = slabs + (slab0 * a.n_tokens + tile0) * (kAll + 1);
            for (int i = threadIdx.x; i < kTile * (kAll + 1); i += kThreads) {
                const int t = i / (kAll + 1), q = i % (kAll + 1);
                if (tile0 + t < a.n_tokens) to[i] = q < kAll ? m[t][q] : factors[t];
            }
            __syncthreads();
        } else {
            for (int i = threadIdx.x; i < kTile * kAll; i += kThreads)
                if (tile0 + i / kAll < a.n_tokens) a.m[tile0 * kAll + i] = m[i / kAll][i % kAll];
            for (int i = threadIdx.x; i < kTile * kN; i += kThreads) {
                const int t = i / kN, j = i % kN;
                const float v = pre_of(f, z_of(f, a, j, m[t][j], factors[t]));
                pre[t][j] = v;
                if (tile0 + t >= a.n_tokens) continue;
                a.pre[(tile0 + t) * kN + j] = v;
                if (j == 0) a.factor[tile0 + t] = factors[t];
            }
            __syncthreads();
            for (int t = warp; t < kTile && tile0 + t < a.n_tokens; t += kWarps) {  // what was just read lies in the caches
                const float* from = a.x + (tile0 + t) * s.width;
                for (int i = lane * 4; i < a.d; i += kWarp * 4) {
                    float4 u{0, 0, 0, 0};
#pragma unroll
                    for (int j = 0; j < kN; ++j) u = axpy4(pre[t][j], load4(from + j * a.d + i), u);
                    store4(a.u + (tile0 + t) * a.d + i, u);
                }
            }
        }
    }
}

// What follows the slabs' sums: a warp per token.
template <int kAll>
__global__ void __launch_bounds__(kThreads)
    collapse_slabs(const __grid_constant__ Form f, SiteRows a, Slabs s, const float* slabs) {
    after_previous();
    const int64_t t = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) / kWarp;
    if (t >= a.n_tokens) return;  // whole warps
    const int lane = threadIdx.x % kWarp;
    float sum = 0, square = 0;
    for (int slab = 0; slab < s.count; ++slab) {
        const float* from = slabs + (slab * a.n_tokens + t) * (kAll + 1);
        sum += lane < kAll ? from[lane] : 0.0f, square += from[kAll];
    }
    const float factor = rsqrtf(square / static_cast<float>(s.width) + a.rms_eps);
    if (lane < kAll) a.m[t * kAll + lane] = sum;
    const float mine = lane < kN ? pre_of(f, z_of(f, a, lane, sum, factor)) : 0.0f;
    if (lane < kN) a.pre[t * kN + lane] = mine;
    if (lane == 0) a.factor[t] = factor;
    float pre[kN];
#pragma unroll
    for (int j = 0; j < kN; ++j) pre[j] = __shfl_sync(~0u, mine, j);
    const float* from = a.x + t * s.width;
#pragma unroll 4
    for (int i = lane * 4; i < a.d; i += kWarp * 4) {
        float4 u{0, 0, 0, 0};
#pragma unroll
        for (int j = 0; j < kN; ++j) u = axpy4(pre[j], load4(from + j * a.d + i), u);
        store4(a.u + t * a.d + i, u);
    }
}

// ---- forward, any form: a warp per token, m is there.
__global__ void collapse(const __grid_constant__ Form f, SiteRows a) {
    after_previous();
    const int64_t t = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) / kWarp;
    if (t >= a.n_tokens) return;  // whole warps
    const int lane = threadIdx.x % kWarp, width = f.n * a.d;
    const float* x = a.x + t * width;
    float square = 0;
    for (int i = lane; i < width; i += kWarp) square = fmaf(x[i], x[i], square);
    const float factor = rsqrtf(warp_sum(square) / static_cast<float>(width) + a.rms_eps);
    if (lane == 0) a.factor[t] = factor;
    float pre[kMaxStreams];
    for (int j = 0; j < f.n; ++j) {
        pre[j] = pre_of(f, z_of(f, a, j, a.m[t * f.n_rows + j], factor));
        if (lane == 0) a.pre[t * f.n + j] = pre[j];
    }
    for (int i = lane; i < a.d; i += kWarp) {
        float u = 0;
        for (int j = 0; j < f.n; ++j) u = fmaf(pre[j], x[j * a.d + i], u);
        a.u[t * a.d + i] = u;
    }
}

// ---- dpre[t][j] = pre[t][j] + du[t] . X[t][j]; a warp per token.
template <bool kIsFast>
__global__ void collapse_to_pre(const __grid_constant__ Form f, SiteRows a, SiteGradients g) {
    after_previous();
    const int64_t t = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) / kWarp;
    if (t >= a.n_tokens) return;
    const int lane = threadIdx.x % kWarp, n = kIsFast ? kN : f.n;
    const float *du = g.du + t * a.d, *x = a.x + t * n * a.d;
    float sum[kIsFast ? kN : kMaxStreams];
    for (int j = 0; j < n; ++j) sum[j] = 0;
    if constexpr (kIsFast) {
        for (int i = lane * 4; i < a.d; i += kWarp * 4) {
            const float4 v = load4(du + i);
#pragma unroll
            for (int j = 0; j < kN; ++j) sum[j] = dot4(v, load4(x + j * a.d + i), sum[j]);
        }
    } else {
        for (int i = lane; i < a.d; i += kWarp)
            for (int j = 0; j < n; ++j) sum[j] = fmaf(du[i], x[j * a.d + i], sum[j]);
    }
    for (int j = 0; j < n; ++j) {
        const float total = warp_sum(sum[j]);
        if (lane == 0) g.dpre[t * n + j] = (g.pre ? g.pre[t * n + j] : 0.0f) + total;
    }
}

// ---- dX and dfn. A thread owns four columns: its dfn stays in registers over the block's tokens, which it takes four at a time.
struct Staged {  // of tokens, in shared memory
    static constexpr int kTokens = 128;
    float pre[kTokens][kN], shared[kTokens];
};

template <int kRows, int kMost>
__global__ void __launch_bounds__(kMost) to_streams(SiteRows a, SiteGradients g, Slabs s, int64_t chunk) {
    constexpr int kTokens = 4;
    extern __shared__ float4 slab_memory[];
    __shared__ Staged staged;
    after_previous();
    float* const fn = reinterpret_cast<float*>(slab_memory);
    float* const dm = fn + kRows * s.columns;  // [Staged::kTokens / 4][kRows][4 tokens]
    const int col0 = static_cast<int>(blockIdx.y) * s.columns, mine = threadIdx.x * 4, col = col0 + mine;
    const bool is_active = mine < s.columns && col < s.width;
    const int j = is_active ? col / a.d : 0, i = col - j * a.d;
    const int64_t begin = blockIdx.x * chunk, end = begin + chunk < a.n_tokens ? begin + chunk : a.n_tokens;
    load_slab(a.fn, kRows, s, col0, fn);
    float4 dfn[kRows];
#pragma unroll
    for (int q = 0; q < kRows; ++q) dfn[q] = {0, 0, 0, 0};
    for (int64_t t0 = begin; t0 < end; t0 += Staged::kTokens) {
        const int n_staged = static_cast<int>(end - t0 < Staged::kTokens ? end - t0 : Staged::kTokens);
        __syncthreads();
        for (int e = threadIdx.x; e < Staged::kTokens * kRows; e += blockDim.x) {
            const int t = e / kRows, q = e % kRows;
            dm[(t / kTokens * kRows + q) * kTokens + t % kTokens] = t < n_staged ? g.dm[(t0 + t) * kRows + q] : 0.0f;
        }
        for (int e = threadIdx.x; e < n_staged * kN; e += blockDim.x) staged.pre[e / kN][e % kN] = a.pre[t0 * kN + e];
        for (int e = threadIdx.x; e < n_staged; e += blockDim.x) staged.shared[e] = g.shared[t0 + e];
        __syncthreads();
        const float *x_at = a.x + t0 * s.width + col, *du_at = g.du ? g.du + t0 * a.d + i : nullptr, *dm_at = dm;
        float* dx_at = g.dx + t0 * s.width + col;
#pragma unroll 1
        for (int t4 = 0; t4 < n_staged && is_active; t4 += kTokens) {
            float4 x[kTokens], to[kTokens];
#pragma unroll
            for (int k = 0; k < kTokens; ++k) {
                x[k] = to[k] = {0, 0, 0, 0};
                if (t4 + k >= n_staged) continue;
                x[k] = load4(x_at + k * s.width);
                if (g.accumulates) to[k] = load4(dx_at + k * s.width);
                if (du_at) to[k] = axpy4(staged.pre[t4 + k][j], load4(du_at + k * a.d), to[k]);
                to[k] = axpy4(staged.shared[t4 + k], x[k], to[k]);
            }
#pragma unroll
            for (int q = 0; q < kRows; ++q) {
                const float4 w = load4(fn + q * s.columns + mine), of = load4(dm_at + q * kTokens);
                to[0] = axpy4(of.x, w, to[0]), to[1] = axpy4(of.y, w, to[1]);
                to[2] = axpy4(of.z, w, to[2]), to[3] = axpy4(of.w, w, to[3]);
                dfn[q] = axpy4(of.w, x[3], axpy4(of.z, x[2], axpy4(of.y, x[1], axpy4(of.x, x[0], dfn[q]))));
                if (q % 2) asm volatile("" ::: "memory");  // or the rows ahead are loaded too early for the registers there are
            }
#pragma unroll
            for (int k = 0; k < kTokens; ++k)
                if (t4 + k < n_staged) store4(dx_at + k * s.width, to[k]);
            x_at += kTokens * s.width, dx_at += kTokens * s.width, dm_at += kTokens * kRows;
            if (du_at) du_at += kTokens * a.d;
        }
    }
    if (!g.dfn || !is_active) return;
#pragma unroll
    for (int q = 0; q < kRows; ++q) store4(g.dfn + (static_cast<int64_t>(blockIdx.x) * kRows + q) * s.width + col, dfn[q]);
}

// ---- dX, any form, without what fn takes part in.
__global__ void collapse_to_x(const __grid_constant__ Form f, SiteRows a, SiteGradients g) {
    after_previous();
    const int64_t at = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x, width = static_cast<int64_t>(f.n) * a.d;
    if (at >= a.n_tokens * width) return;
    const int64_t t = at / width;
    const int j = static_cast<int>(at % width) / a.d, i = static_cast<int>(at % width) % a.d;
    float sum = g.accumulates ? g.dx[at] : 0.0f;
    if (g.du) sum = fmaf(a.pre[t * f.n + j], g.du[t * a.d + i], sum);
    g.dx[at] = fmaf(g.shared[t], a.x[at], sum);
}

// Calls f with the rows of fn that the fast kernels know.
template <class F>
void with_rows(int n_rows, F&& f) {
    if (n_rows == 4) f(std::integral_constant<int, 4>{});
    else if (n_rows == 24) f(std::integral_constant<int, 24>{});
    else f(std::integral_constant<int, 32>{});
}

unsigned warps_for(int64_t n_tokens) { return ceil_div(n_tokens * kWarp, kThreads); }

}  // namespace

bool is_fast(const Form& f, const SiteRows& a) {
    const auto is_aligned = [](const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; };
    return f.n == kN && a.d % 4 == 0 && (f.n_rows == 4 || f.n_rows == 24 || f.n_rows == 32) && is_aligned(a.x) && is_aligned(a.fn);
}

void launch_collapse(Ctx& ctx, const Form& f, const SiteRows& a, bool has_products) {
    if (has_products) {
        collapse<<<warps_for(a.n_tokens), kThreads, 0, ctx.cuda->stream()>>>(f, a);
        return check_launch(ctx, "hyper_site, collapse");
    }
    with_rows(f.n_rows, [&](auto rows) {
        constexpr int kParts = rows() > 4 ? 2 : 1, kTile = 8 * kWarps / kParts;
        const int64_t width = static_cast<int64_t>(kN) * a.d;
        const Slabs s = slabs_of(width, rows() > 24 ? 1024 : kColumns);
        const bool is_split = s.count > 1;
        const Arena::Scope scratch(ctx.arena);
        float* slabs = is_split ? ctx.arena.make(DType::f32, {s.count, a.n_tokens, rows() + 1}).f32() : nullptr;
        const size_t bytes = sizeof(float) * rows() * static_cast<size_t>(s.columns);
        const auto kernel = is_split ? project<rows() / kParts, kParts, true> : project<rows() / kParts, kParts, false>;
        allow_shared(ctx, kernel, bytes);
        const auto n_slabs = static_cast<unsigned>(s.count);  // a block keeps its slab for all its tiles
        const dim3 grid(std::min(ceil_div(a.n_tokens, kTile), std::max(kBlocks / n_slabs, 1u)), n_slabs);
        kernel<<<grid, kThreads, bytes, ctx.cuda->stream()>>>(f, a, s, slabs);
        if (is_split) collapse_slabs<rows()><<<warps_for(a.n_tokens), kThreads, 0, ctx.cuda->stream()>>>(f, a, s, slabs);
    });
    check_launch(ctx, "hyper_site, projections");
}

void launch_collapse_to_pre(Ctx& ctx, const Form& f, const SiteRows& a, const SiteGradients& g) {
    const auto kernel = is_fast(f, a) ? collapse_to_pre<true> : collapse_to_pre<false>;
    kernel<<<warps_for(a.n_tokens), kThreads, 0, ctx.cuda->stream()>>>(f, a, g);
    check_launch(ctx, "hyper_site, collapse backward");
}

namespace {
struct Pieces {
    int64_t tokens, count;
};
int most_threads(const Form& f) { return f.n_rows > 24 ? 256 : 384; }
// All slabs of all pieces are about kBlocks blocks.
Pieces pieces_of(const Form& f, const SiteRows& a) {
    const int64_t most = std::max(1, kBlocks / slabs_of(static_cast<int64_t>(kN) * a.d, most_threads(f) * 4).count);
    const int64_t tokens = std::max<int64_t>(4, (a.n_tokens + most - 1) / most);
    return {tokens, (a.n_tokens + tokens - 1) / tokens};
}
}  // namespace
int64_t n_fn_pieces(const Form& f, const SiteRows& a) { return pieces_of(f, a).count; }

void launch_to_streams(Ctx& ctx, const Form& f, const SiteRows& a, const SiteGradients& g) {
    if (!is_fast(f, a)) {
        const int64_t count = a.n_tokens * f.n * a.d;
        collapse_to_x<<<ceil_div(count, kThreads), kThreads, 0, ctx.cuda->stream()>>>(f, a, g);
        return check_launch(ctx, "hyper_site, streams backward");
    }
    with_rows(f.n_rows, [&](auto rows) {
        constexpr int kMost = rows() > 24 ? 256 : 384;
        const Slabs s = slabs_of(static_cast<int64_t>(kN) * a.d, kMost * 4);
        const size_t bytes = sizeof(float) * rows() * static_cast<size_t>(s.columns + Staged::kTokens);
        const auto kernel = to_streams<rows(), kMost>;
        allow_shared(ctx, kernel, bytes);
        const Pieces pieces = pieces_of(f, a);
        const dim3 grid(static_cast<unsigned>(pieces.count), static_cast<unsigned>(s.count));
        kernel<<<grid, s.columns / 4, bytes, ctx.cuda->stream()>>>(a, g, s, pieces.tokens);
    });
    check_launch(ctx, "hyper_site, streams backward");
}

}  // namespace vitrine::cuda
