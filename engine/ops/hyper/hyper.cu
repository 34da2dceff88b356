// Hyper-connections on a GPU: a block of threads per token makes coefficients and the collapsed input; another kernel mixes.
#include <algorithm>
#include <utility>

#include "engine/ops/deliveries.h"
#include "engine/ops/kernel.cuh"
#include "engine/ops/hyper/coefficients.cuh"
#include "engine/ops/hyper/hyper.h"
#include "engine/ops/linear/linear.h"
#include "engine/ops/linear/packed.cuh"
#include "engine/ops/rmsnorm/rmsnorm.h"

namespace vitrine::cuda {
namespace {

// One block per token. x [T, n, D], m [T, n_rows] -> pre, post [T, n], comb [T, n, n], u [T, D].
template <class A>
__global__ void site(const A* x, const float* m, cpu::PackedMatrix base, cpu::PackedMatrix scale, const __grid_constant__ Form form,
                     int d, float rms_eps, float* pre, float* post, float* comb, A* u) {
    after_previous();
    __shared__ float z[kMaxRows], mixed[kMaxStreams * kMaxStreams], scratch[kWarp];
    const int64_t t = blockIdx.x;
    const int n = form.n, width = n * d;
    x += t * width;
    float squares = 0;
    for (int i = threadIdx.x; i < width; i += blockDim.x) {
        const float v = widen(x[i]);
        squares += v * v;
    }
    const float factor = rsqrtf(block_sum(squares, scratch) / static_cast<float>(width) + rms_eps);
    for (int q = threadIdx.x; q < form.n_rows; q += blockDim.x)
        z[q] = coefficient(form, base, scale, q, m[t * form.n_rows + q] * factor);
    __syncthreads();
    if (threadIdx.x < kWarp) write_coefficients(form, z, mixed, t, pre, post, comb);
    for (int i = threadIdx.x; i < d; i += blockDim.x) {
        float sum = 0;
        for (int j = 0; j < n; ++j) sum += z[j] * widen(x[j * d + i]);
        u[t * d + i] = narrow<A>(sum);
    }
}

// Eight channels, as they lie side by side at an aligned address.
struct Eight {
    float at[8];
};
__device__ Eight load_eight(const float* x) {
    const float4 a = *reinterpret_cast<const float4*>(x), b = *reinterpret_cast<const float4*>(x + 4);
    return {{a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w}};
}
__device__ Eight load_eight(const bf16* x) {
    const uint4 u = *reinterpret_cast<const uint4*>(x);
    const float2 a = bf16_pair(u.x), b = bf16_pair(u.y), c = bf16_pair(u.z), d = bf16_pair(u.w);
    return {{a.x, a.y, b.x, b.y, c.x, c.y, d.x, d.y}};
}
__device__ void store_eight(float* y, const Eight& v) {
    reinterpret_cast<float4*>(y)[0] = {v.at[0], v.at[1], v.at[2], v.at[3]};
    reinterpret_cast<float4*>(y)[1] = {v.at[4], v.at[5], v.at[6], v.at[7]};
}
__device__ void store_eight(bf16* y, const Eight& v) {
    const auto pair = [&](int i) {
        const __nv_bfloat162 two = __floats2bfloat162_rn(v.at[i], v.at[i + 1]);
        return *reinterpret_cast<const uint32_t*>(&two);
    };
    *reinterpret_cast<uint4*>(y) = {pair(0), pair(2), pair(4), pair(6)};
}
// What the kernels below take: four streams, read once, eight channels of each a thread.
bool is_of_four(int64_t n, int64_t d) { return n == 4 && d % 8 == 0 && d <= 8 * 1024; }

// As `site`; a thread per eight channels.
template <class A>
__global__ void site_of_four(const A* x, const float* m, cpu::PackedMatrix base, cpu::PackedMatrix scale,
                             const __grid_constant__ Form form, int d, float rms_eps, float* pre, float* post, float* comb, A* u) {
    after_previous();
    __shared__ float z[kMaxRows], mixed[kMaxStreams * kMaxStreams], scratch[kWarp];
    const int64_t t = blockIdx.x;
    const int i = static_cast<int>(threadIdx.x) * 8;
    Eight of[4] = {};
    float squares = 0;
    for (int j = 0; j < 4 && i < d; ++j) {
        of[j] = load_eight(x + (t * 4 + j) * d + i);
        for (const float v : of[j].at) squares += v * v;
    }
    const float factor = rsqrtf(block_sum(squares, scratch) / static_cast<float>(4 * d) + rms_eps);
    for (int q = threadIdx.x; q < form.n_rows; q += blockDim.x)
        z[q] = coefficient(form, base, scale, q, m[t * form.n_rows + q] * factor);
    __syncthreads();
    if (i < d) {
        Eight sum = {};
        for (int j = 0; j < 4; ++j)
            for (int c = 0; c < 8; ++c) sum.at[c] += z[j] * of[j].at[c];
        store_eight(u + t * d + i, sum);
    }
    if (threadIdx.x < kWarp) write_coefficients(form, z, mixed, t, pre, post, comb);
}

// As `mix`; a thread makes eight channels of every stream.
template <class A>
__global__ void mix_of_four(const A* x, const A* f, const float* post, const float* comb, int64_t count, int d, A* y) {
    after_previous();
    const int64_t at = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * 8, t = at / d, i = at % d;
    if (at >= count) return;
    const Eight into = load_eight(f + at);
    Eight of[4];
    for (int j = 0; j < 4; ++j) of[j] = load_eight(x + (t * 4 + j) * d + i);
    for (int k = 0; k < 4; ++k) {
        Eight sum;
        for (int c = 0; c < 8; ++c) {
            sum.at[c] = post[t * 4 + k] * into.at[c];
            for (int j = 0; j < 4; ++j) sum.at[c] += comb[(t * 4 + j) * 4 + k] * of[j].at[c];
        }
        store_eight(y + (t * 4 + k) * d + i, sum);
    }
}

// y[t][k] = post[k] f + sum_j comb[j][k] x[j]; a thread makes one channel of every stream.
template <class A>
__global__ void mix(const A* x, const A* f, const float* post, const float* comb, int n, int d, A* y) {
    after_previous();
    const int64_t t = blockIdx.y;
    const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
    if (i >= d) return;
    const float into = widen(f[t * d + i]);
    for (int k = 0; k < n; ++k) {
        float sum = post[t * n + k] * into;
        for (int j = 0; j < n; ++j) sum += comb[(t * n + j) * n + k] * widen(x[(t * n + j) * d + i]);
        y[(t * n + k) * d + i] = narrow<A>(sum);
    }
}

// The same for few tokens, whose mixing matrix is still to be made. Its projections are older than the kernel before this one, so
// that it is made while that one runs.
template <class A>
__global__ void mix_few(const A* x, const A* f, const float* post, const float* mixing,
                        const __grid_constant__ Form form, int d, float* comb, bool has_matrix, A* y) {
    __shared__ float z[kMaxStreams * kMaxStreams], mixed[kMaxStreams * kMaxStreams], made[kMaxStreams * kMaxStreams];
    const int64_t t = blockIdx.y;
    const int n = form.n;
    if (threadIdx.x < kWarp && !has_matrix) {
        for (int i = threadIdx.x; i < form.n_mixing; i += kWarp) z[i] = __ldcg(mixing + t * form.n_mixing + i);
        __syncwarp();
        const float* c = mixing_matrix(form, z, mixed);
        for (int i = threadIdx.x; i < n * n; i += kWarp) {
            made[i] = c[i];
            if (blockIdx.x == 0) comb[t * n * n + i] = c[i];
        }
    }
    after_previous();
    if (has_matrix && static_cast<int>(threadIdx.x) < n * n) made[threadIdx.x] = comb[t * n * n + threadIdx.x];
    __syncthreads();
    const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
    if (i >= d) return;
    const float into = widen(f[t * d + i]);
    float from[4];
    for (int k = 0; k < n; ++k) {
        float sum = post[t * n + k] * into;
        for (int j = 0; j < n; ++j) {
            if (k == 0 && j < 4) from[j] = widen(x[(t * n + j) * d + i]);
            sum += made[j * n + k] * (j < 4 ? from[j] : widen(x[(t * n + j) * d + i]));
        }
        y[(t * n + k) * d + i] = narrow<A>(sum);
    }
}

// norm [T, n], cosine [T, n, n] of streams x [T, n, d].
template <class A>
struct StreamsJob {
    const A* x;
    int n, d;
    int64_t n_tokens;
    float *norms, *cosines;
};

constexpr int kMeasureThreads = 256, kMeasureWarps = kMeasureThreads / kWarp;

// grid: (tokens, calls). Products of kAtATime streams with one another are made in one pass over the channels.
template <class A>
__global__ void __launch_bounds__(kMeasureThreads) measure(const __grid_constant__ Jobs<StreamsJob<A>> jobs) {
    after_previous();
    constexpr int kAtATime = 4;
    __shared__ float sums[kMeasureWarps][kAtATime * kAtATime], product[kMaxStreams][kMaxStreams];
    const StreamsJob<A>& job = jobs.at[blockIdx.y];
    const int64_t t = blockIdx.x;
    if (t >= job.n_tokens) return;
    const int n = job.n, d = job.d, lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
    const A* x = job.x + t * n * d;
    for (int j0 = 0; j0 < n; j0 += kAtATime)
        for (int k0 = 0; k0 <= j0; k0 += kAtATime) {
            float sum[kAtATime][kAtATime] = {};
            for (int i = threadIdx.x; i < d; i += kMeasureThreads) {
                float a[kAtATime], b[kAtATime];
#pragma unroll
                for (int j = 0; j < kAtATime; ++j) {
                    a[j] = j0 + j < n ? widen(x[(j0 + j) * d + i]) : 0.0f;
                    b[j] = k0 + j < n ? widen(x[(k0 + j) * d + i]) : 0.0f;
                }
#pragma unroll
                for (int j = 0; j < kAtATime; ++j)
#pragma unroll
                    for (int k = 0; k < kAtATime; ++k) sum[j][k] += a[j] * b[k];
            }
#pragma unroll
            for (int j = 0; j < kAtATime; ++j)
#pragma unroll
                for (int k = 0; k < kAtATime; ++k) {
                    const float all = warp_sum(sum[j][k]);
                    if (lane == 0) sums[warp][j * kAtATime + k] = all;
                }
            __syncthreads();
            if (threadIdx.x < kAtATime * kAtATime) {
                const int j = j0 + threadIdx.x / kAtATime, k = k0 + threadIdx.x % kAtATime;
                float all = 0;
                for (int w = 0; w < kMeasureWarps; ++w) all += sums[w][threadIdx.x];
                if (j < n && k <= j) product[j][k] = product[k][j] = all;
            }
            __syncthreads();
        }
    for (int i = threadIdx.x; i < n * n; i += kMeasureThreads) {
        const int j = i / n, k = i % n;
        const float both = sqrtf(product[j][j]) * sqrtf(product[k][k]);
        job.cosines[t * n * n + i] = both > 0 ? product[j][k] / both : 0.0f;
        if (j == k) job.norms[t * n + j] = sqrtf(product[j][j]);
    }
}

template <class A>
void launch(Device& device, const Jobs<StreamsJob<A>>& jobs) {
    int64_t n_tokens = 0;
    for (int i = 0; i < jobs.n; ++i) n_tokens = std::max(n_tokens, jobs.at[i].n_tokens);
    measure<<<dim3(static_cast<unsigned>(n_tokens), static_cast<unsigned>(jobs.n)), kMeasureThreads, 0, device.stream()>>>(jobs);
    device.check(cudaGetLastError(), "measures of streams");
}

int threads_for(int64_t width) { return width >= 4096 ? 1024 : width >= 1024 ? 512 : 128; }

}  // namespace

HyperSite hyper_site(Ctx& ctx, const Tensor& x_TND, const HyperWeights& w, const HyperForm& form, double rms_norm_eps,
                     const Param* norm_D) {
    if (fits_few(ctx, x_TND, w, form)) return few_sites(ctx, x_TND, w, form, rms_norm_eps, norm_D);
    finish_mix(ctx);
    const int64_t n_tokens = x_TND.dim(0), n = x_TND.dim(1), d = x_TND.dim(2), n_rows = form.n_rows();
    VITRINE_ASSERT(form.n == n && w.fn.shape[0] == n_rows && n <= kMaxStreams && n_rows <= kMaxRows);
    const LinearOptions wide{.quantise_input = false, .round_output = false};
    const Tensor m_TR = cuda::linear(ctx, x_TND.reshaped({n_tokens, n * d}), w.fn, wide);
    HyperSite s;
    s.u_TD = ctx.arena.make(x_TND.dtype, {n_tokens, d});
    s.pre_TN = ctx.arena.make(DType::f32, {n_tokens, n});
    s.post_TN = ctx.arena.make(DType::f32, {n_tokens, n});
    s.comb_TNN = ctx.arena.make(DType::f32, {n_tokens, n, n});
    with_activation(x_TND.dtype, [&](auto a) {
        using A = decltype(a);
        const bool is_four = is_of_four(n, d);
        const auto kernel = is_four ? site_of_four<A> : site<A>;
        const unsigned threads = is_four ? ceil_div(d / 8, kWarp) * kWarp : static_cast<unsigned>(threads_for(n * d));
        kernel<<<static_cast<unsigned>(n_tokens), threads, 0, ctx.cuda->stream()>>>(
            static_cast<const A*>(x_TND.data), m_TR.f32(), w.base.view, w.scale.view, as_form(form), static_cast<int>(d),
            static_cast<float>(rms_norm_eps), s.pre_TN.f32(), s.post_TN.f32(), s.comb_TNN.f32(), static_cast<A*>(s.u_TD.data));
    });
    check_launch(ctx, "hyper_site");
    if (norm_D) s.normed_TD = cuda::rmsnorm(ctx, s.u_TD, *norm_D, rms_norm_eps);
    return s;
}

void finish_mix(Ctx& ctx) {
    const auto mix = std::exchange(ctx.cuda->deliveries().waiting_mix, nullptr);
    if (!mix) return;
    const int64_t n_tokens = mix->x_TND.dim(0), d = mix->x_TND.dim(2);
    const HyperSite& site = mix->site;
    with_activation(mix->x_TND.dtype, [&](auto a) {
        using A = decltype(a);
        mix_few<<<dim3(ceil_div(d, 128), static_cast<unsigned>(n_tokens)), 128, 0, ctx.cuda->stream()>>>(
            static_cast<const A*>(mix->x_TND.data), static_cast<const A*>(mix->f_TD.data), site.post_TN.f32(),
            site.mixing_TM.f32(), as_form(site.form), static_cast<int>(d), site.comb_TNN.f32(), mix->has_matrix,
            static_cast<A*>(mix->y_TND.data));
    });
    check_launch(ctx, "hyper_mix");
}

Mixing take_mixing(const Ctx& ctx) {
    const std::shared_ptr<Mixing> mixing = std::exchange(ctx.cuda->deliveries().mixing, nullptr);
    return mixing ? *mixing : Mixing{};
}

std::shared_ptr<WaitingMix> take_mix(Ctx& ctx, const Tensor& x_TND, const HyperForm& form) {
    const auto& mix = ctx.cuda->deliveries().waiting_mix;
    if (mix && mix->y_TND.data == x_TND.data && !form.is_head && mix->site.form.map == form.map && mix->site.form.n == form.n &&
        mix->site.form.iters == form.iters && mix->site.form.eps == form.eps && form.n <= 4)
        return std::exchange(ctx.cuda->deliveries().waiting_mix, nullptr);
    finish_mix(ctx);
    return nullptr;
}

Tensor hyper_mix(Ctx& ctx, const Tensor& x_TND, const HyperSite& site, const Tensor& f_TD, const Tensor& out_TND) {
    const int64_t n_tokens = x_TND.dim(0), n = x_TND.dim(1), d = x_TND.dim(2);
    const Tensor y_TND = out_TND.empty() ? ctx.arena.make(x_TND.dtype, x_TND.shape) : out_TND;
    VITRINE_ASSERT(f_TD.dtype == x_TND.dtype && y_TND.dtype == x_TND.dtype);
    finish_mix(ctx);
    if (!site.mixing_TM.empty()) {
        Deliveries& d = ctx.cuda->deliveries();
        const bool has_matrix = !d.mixing || d.mixing->mixing != site.mixing_TM.f32();
        d.mixing = nullptr;
        d.waiting_mix = std::make_shared<WaitingMix>(WaitingMix{x_TND, f_TD, y_TND, site, has_matrix});
        return y_TND;
    }
    with_activation(x_TND.dtype, [&](auto a) {
        using A = decltype(a);
        const auto *x = static_cast<const A*>(x_TND.data), *f = static_cast<const A*>(f_TD.data);
        const float *post = site.post_TN.f32(), *comb = site.comb_TNN.f32();
        auto* y = static_cast<A*>(y_TND.data);
        const auto stream = ctx.cuda->stream();
        const auto width = static_cast<int>(d);
        if (is_of_four(n, d))
            mix_of_four<<<ceil_div(n_tokens * d, 8 * 128), 128, 0, stream>>>(x, f, post, comb, n_tokens * d, width, y);
        else
            mix<<<dim3(ceil_div(d, 128), static_cast<unsigned>(n_tokens)), 128, 0, stream>>>(x, f, post, comb, static_cast<int>(n),
                                                                                          width, y);
    });
    check_launch(ctx, "hyper_mix");
    return y_TND;
}

StreamMeasures measure_streams(Ctx& ctx, const Tensor& x_TND) {
    const int64_t n_tokens = x_TND.dim(0), n = x_TND.dim(1), d = x_TND.dim(2);
    const StreamMeasures s{ctx.arena.make(DType::f32, {n_tokens, n}), ctx.arena.make(DType::f32, {n_tokens, n, n})};
    with_activation(x_TND.dtype, [&](auto a) {
        using A = decltype(a);
        const StreamsJob<A> job{static_cast<const A*>(x_TND.data), static_cast<int>(n), static_cast<int>(d), n_tokens,
                                s.norms_TN.f32(), s.cosines_TNN.f32()};
        if (n_tokens <= kFewRows) return ctx.cuda->deliveries().measure_later(job, launch<A>);
        launch<A>(*ctx.cuda, {{job}, 1});
    });
    return s;
}

}  // namespace vitrine::cuda
