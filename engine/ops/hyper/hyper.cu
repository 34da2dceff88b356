// Hyper-connections on a GPU: a block of threads per token makes coefficients and the collapsed input; another kernel mixes.
#include <algorithm>

#include "engine/device/cuda/kernel.cuh"
#include "engine/ops/hyper/hyper.h"
#include "engine/ops/linear/linear.h"

namespace vitrine::cuda {
namespace {

constexpr int kMaxStreams = 16, kMaxRows = 2 * kMaxStreams + kMaxStreams * kMaxStreams;

// What HyperForm holds, and the permutations of mHC-lite.
struct Form {
    MixingMap map;
    int n, n_rows, n_mixing, iters;
    float eps;
    bool is_head;
    uint8_t permutation[24][cpu::kMaxPermutedStreams];
};

Form as_form(const HyperForm& f) {
    Form g{f.map, f.n, f.n_rows(), f.is_head ? 0 : f.n_mixing(), f.iters, static_cast<float>(f.eps), f.is_head, {}};
    if (f.map != MixingMap::permutations) return g;
    const auto& table = cpu::permutation_table(f.n);
    for (int p = 0; p < 24; ++p) std::copy_n(table[p], cpu::kMaxPermutedStreams, g.permutation[p]);
    return g;
}

__device__ float sigmoid(float z) {
    const float e = expf(-fabsf(z));
    return (z >= 0 ? 1.0f : e) / (1.0f + e);
}

// One warp, c [n, n] in shared memory: thread a owns row a, then column a (v4-spec 2.2).
__device__ void sinkhorn_of(float* c, int n, int iters, float eps) {
    const int a = threadIdx.x;
    if (a < n) {
        float top = c[a * n], sum = 0;
        for (int k = 1; k < n; ++k) top = fmaxf(top, c[a * n + k]);
        for (int k = 0; k < n; ++k) sum += c[a * n + k] = expf(c[a * n + k] - top);
        for (int k = 0; k < n; ++k) c[a * n + k] = c[a * n + k] / sum + eps;
    }
    for (int step = 1; step < 2 * iters; ++step) {
        __syncwarp();
        const int group = step % 2 ? 1 : n, member = step % 2 ? n : 1;  // columns first
        if (a < n) {
            float sum = 0;
            for (int b = 0; b < n; ++b) sum += c[a * group + b * member];
            const float inverse = 1.0f / (sum + eps);
            for (int b = 0; b < n; ++b) c[a * group + b * member] *= inverse;
        }
    }
    __syncwarp();
}

// The same for four streams in registers: lane 4j + k holds c[j][k]; the warp's halves do the same work.
__device__ void sinkhorn_of_four(float* c, int iters, float eps) {
    const int lane = threadIdx.x % 16;
    const auto over = [](float x, int first, bool is_max) {
        for (int i = first; i < 4 * first; i *= 2) {
            const float other = __shfl_xor_sync(~0u, x, i);
            x = is_max ? fmaxf(x, other) : x + other;
        }
        return x;
    };
    float v = c[lane];
    v = expf(v - over(v, 1, true));
    v = v / over(v, 1, false) + eps;
    v *= 1.0f / (over(v, 4, false) + eps);
    for (int i = 1; i < iters; ++i) {
        v *= 1.0f / (over(v, 1, false) + eps);
        v *= 1.0f / (over(v, 4, false) + eps);
    }
    if (threadIdx.x < 16) c[lane] = v;
    __syncwarp();
}

// c [n, n] from the softmax over permutations z [n_mixing]; n <= 4, one warp.
__device__ void mix_permutations(const float* z, const Form& form, float* c) {
    const int p = threadIdx.x;
    const float mine = p < form.n_mixing ? z[p] : -INFINITY, e = p < form.n_mixing ? expf(mine - warp_max(mine)) : (warp_max(mine), 0.0f);
    const float weight = e / warp_sum(e);
    for (int j = 0; j < form.n; ++j)
        for (int k = 0; k < form.n; ++k) {
            const float sum = warp_sum(p < form.n_mixing && form.permutation[p][j] == k ? weight : 0.0f);
            if (p == 0) c[j * form.n + k] = sum;
        }
    __syncwarp();
}

// One block per token. x [T, n, D], m [T, n_rows] -> pre, post [T, n], comb [T, n, n], u [T, D].
template <class A>
__global__ void site(const A* x, const float* m, cpu::PackedMatrix base, cpu::PackedMatrix scale, const __grid_constant__ Form form,
                     int d, float rms_eps, float* pre, float* post, float* comb, A* u) {
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
    for (int q = threadIdx.x; q < form.n_rows; q += blockDim.x) {
        const int part = q < n ? 0 : q < 2 * n ? 1 : 2;
        float h = m[t * form.n_rows + q] * factor;
        if (form.map == MixingMap::free) h = tanhf(h);
        float v = h * element(scale, 0, part) + element(base, 0, q);
        if (form.map != MixingMap::free && part < 2) v = part == 0 ? sigmoid(v) + form.eps : 2 * sigmoid(v);
        z[q] = v;
    }
    __syncthreads();
    if (threadIdx.x < kWarp && !form.is_head) {
        float* c = z + 2 * n;
        if (form.map == MixingMap::permutations) mix_permutations(c, form, mixed), c = mixed;
        else if (form.map == MixingMap::sinkhorn && n == 4) sinkhorn_of_four(c, form.iters, form.eps);
        else if (form.map == MixingMap::sinkhorn) sinkhorn_of(c, n, form.iters, form.eps);
        for (int i = threadIdx.x; i < n * n; i += kWarp) comb[t * n * n + i] = c[i];
        for (int i = threadIdx.x; i < n; i += kWarp) post[t * n + i] = z[n + i];
    }
    for (int i = threadIdx.x; i < n; i += blockDim.x) pre[t * n + i] = z[i];
    for (int i = threadIdx.x; i < d; i += blockDim.x) {
        float sum = 0;
        for (int j = 0; j < n; ++j) sum += z[j] * widen(x[j * d + i]);
        u[t * d + i] = narrow<A>(sum);
    }
}

// y[t][k] = post[k] f + sum_j comb[j][k] x[j]; a thread makes one channel of every stream.
template <class A>
__global__ void mix(const A* x, const A* f, const float* post, const float* comb, int n, int d, A* y) {
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

// norm [T, n], cosine [T, n, n] of the streams; one block per token.
template <class A>
__global__ void measure(const A* x, int n, int d, float* norms, float* cosines) {
    __shared__ float norm[kMaxStreams], scratch[kWarp];
    const int64_t t = blockIdx.x;
    x += t * n * d;
    const auto product = [&](int j, int k) {
        float sum = 0;
        for (int i = threadIdx.x; i < d; i += blockDim.x) sum += widen(x[j * d + i]) * widen(x[k * d + i]);
        return block_sum(sum, scratch);
    };
    for (int j = 0; j < n; ++j) {
        const float v = sqrtf(product(j, j));
        if (threadIdx.x == 0) norm[j] = v, norms[t * n + j] = v;
    }
    __syncthreads();
    for (int j = 0; j < n; ++j)
        for (int k = 0; k <= j; ++k) {
            const float both = norm[j] * norm[k], v = both > 0 ? product(j, k) / both : 0.0f;
            if (threadIdx.x == 0) cosines[(t * n + j) * n + k] = cosines[(t * n + k) * n + j] = v;
        }
}

int threads_for(int64_t width) { return width >= 4096 ? 1024 : width >= 1024 ? 512 : 128; }

}  // namespace

HyperSite hyper_site(Ctx& ctx, const Tensor& x_TND, const HyperWeights& w, const HyperForm& form, double rms_norm_eps) {
    const int64_t n_tokens = x_TND.dim(0), n = x_TND.dim(1), d = x_TND.dim(2), n_rows = form.n_rows();
    VITRINE_ASSERT(form.n == n && w.fn.shape[0] == n_rows && n <= kMaxStreams && n_rows <= kMaxRows);
    const Tensor m_TR = cuda::linear(ctx, x_TND.reshaped({n_tokens, n * d}), w.fn, {.quantise_input = false, .round_output = false});
    HyperSite s;
    s.u_TD = ctx.arena.make(x_TND.dtype, {n_tokens, d});
    s.pre_TN = ctx.arena.make(DType::f32, {n_tokens, n});
    s.post_TN = ctx.arena.make(DType::f32, {n_tokens, n});
    s.comb_TNN = ctx.arena.make(DType::f32, {n_tokens, n, n});
    with_activation(x_TND.dtype, [&](auto a) {
        using A = decltype(a);
        site<<<static_cast<unsigned>(n_tokens), threads_for(n * d), 0, ctx.cuda->stream()>>>(
            static_cast<const A*>(x_TND.data), m_TR.f32(), w.base.view, w.scale.view, as_form(form), static_cast<int>(d),
            static_cast<float>(rms_norm_eps), s.pre_TN.f32(), s.post_TN.f32(), s.comb_TNN.f32(), static_cast<A*>(s.u_TD.data));
    });
    check_launch(ctx, "hyper_site");
    return s;
}

Tensor hyper_mix(Ctx& ctx, const Tensor& x_TND, const HyperSite& site, const Tensor& f_TD, const Tensor& out_TND) {
    const int64_t n_tokens = x_TND.dim(0), n = x_TND.dim(1), d = x_TND.dim(2);
    const Tensor y_TND = out_TND.empty() ? ctx.arena.make(x_TND.dtype, x_TND.shape) : out_TND;
    VITRINE_ASSERT(f_TD.dtype == x_TND.dtype && y_TND.dtype == x_TND.dtype);
    with_activation(x_TND.dtype, [&](auto a) {
        using A = decltype(a);
        const dim3 grid(ceil_div(d, 128), static_cast<unsigned>(n_tokens));
        mix<<<grid, 128, 0, ctx.cuda->stream()>>>(static_cast<const A*>(x_TND.data), static_cast<const A*>(f_TD.data),
                                                  site.post_TN.f32(), site.comb_TNN.f32(), static_cast<int>(n),
                                                  static_cast<int>(d), static_cast<A*>(y_TND.data));
    });
    check_launch(ctx, "hyper_mix");
    return y_TND;
}

StreamMeasures measure_streams(Ctx& ctx, const Tensor& x_TND) {
    const int64_t n_tokens = x_TND.dim(0), n = x_TND.dim(1), d = x_TND.dim(2);
    const StreamMeasures s{ctx.arena.make(DType::f32, {n_tokens, n}), ctx.arena.make(DType::f32, {n_tokens, n, n})};
    with_activation(x_TND.dtype, [&](auto a) {
        measure<<<static_cast<unsigned>(n_tokens), 128, 0, ctx.cuda->stream()>>>(
            static_cast<const decltype(a)*>(x_TND.data), static_cast<int>(n), static_cast<int>(d), s.norms_TN.f32(),
            s.cosines_TNN.f32());
    });
    check_launch(ctx, "measure_streams");
    return s;
}

}  // namespace vitrine::cuda
