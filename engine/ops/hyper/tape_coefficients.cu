// Coefficients of a site on a GPU's tape, forward and backward: a thread per token, Sinkhorn in its registers.
#include "engine/ops/hyper/tape.cuh"

namespace vitrine::cuda {
namespace {

constexpr int kThreads = 128, kMostPermutations = 24;

// Kernels are made for Sinkhorn of N streams, whose values lie in registers, and for any map and number of streams (N = 0).
template <int N>
constexpr int kStreamsOf = N > 0 ? N : kMaxStreams;
template <int N>
constexpr int kRowsOf = N > 0 ? 2 * N + N * N : kMaxRows;

// f(i) for i < n. kMost > 0: n is at most that, and the loop is unrolled: indices are constants and arrays lie in registers.
template <int kMost, class F>
__device__ inline void each(int n, F&& f) {
    if constexpr (kMost > 0) {
#pragma unroll
        for (int i = 0; i < kMost; ++i)
            if (i < n) f(i);
    } else {
#pragma unroll 1
        for (int i = 0; i < n; ++i) f(i);
    }
}

// ---- Sinkhorn of c [n, n]: the softmax of rows plus eps, then steps 0, 1, ...: columns, rows, columns, ... Each divides a group
// by S, its sum plus eps. S of step s and group a goes to sums[(s n + a) stride] (null: nowhere), so that backward can undo the
// steps.
template <int N>
struct Sinkhorn {
    int n_streams, iters;
    float eps;
    float* sums;
    int64_t stride;

    __device__ int n() const { return N > 0 ? N : n_streams; }
    // Element b of group a.
    template <bool kIsRows>
    __device__ int at(int a, int b) const { return kIsRows ? a * n() + b : b * n() + a; }

    __device__ void softmax(float* c) const {
        each<N>(n(), [&](int j) {
            float top = c[at<true>(j, 0)], sum = 0;
            each<N>(n(), [&](int k) { top = fmaxf(top, c[at<true>(j, k)]); });
            each<N>(n(), [&](int k) { sum += c[at<true>(j, k)] = expf(c[at<true>(j, k)] - top); });
            const float inverse = 1.0f / sum;
            each<N>(n(), [&](int k) { c[at<true>(j, k)] *= inverse; });
        });
    }
    template <bool kIsRows>
    __device__ void step(float* c, int s) const {
        each<N>(n(), [&](int a) {
            float sum = eps;
            each<N>(n(), [&](int b) { sum += c[at<kIsRows>(a, b)]; });
            if (sums) sums[(s * n() + a) * stride] = sum;
            const float inverse = 1.0f / sum;
            each<N>(n(), [&](int b) { c[at<kIsRows>(a, b)] *= inverse; });
        });
    }
    // y = c / S: dc = (dy - sum dy y) / S, and c = y S.
    template <bool kIsRows>
    __device__ void step_back(float* y, float* g, int s) const {
        each<N>(n(), [&](int a) {
            const float sum = sums[(s * n() + a) * stride], inverse = 1.0f / sum;
            float dot = 0;
            each<N>(n(), [&](int b) { dot = fmaf(g[at<kIsRows>(a, b)], y[at<kIsRows>(a, b)], dot); });
            each<N>(n(), [&](int b) {
                const int i = at<kIsRows>(a, b);
                g[i] = (g[i] - dot) * inverse, y[i] *= sum;
            });
        });
    }
    __device__ void forward(float* c) const {
        softmax(c);
        each<N * N>(n() * n(), [&](int i) { c[i] += eps; });
        step<false>(c, 0);
#pragma unroll 1
        for (int i = 1; i < iters; ++i) step<true>(c, 2 * i - 1), step<false>(c, 2 * i);
    }
    // g: the gradient of the result, then of z. c: scratch.
    __device__ void backward(const float* z, float* c, float* g) const {
        each<N * N>(n() * n(), [&](int i) { c[i] = z[i]; });
        forward(c);
#pragma unroll 1
        for (int i = iters - 1; i > 0; --i) step_back<false>(c, g, 2 * i), step_back<true>(c, g, 2 * i - 1);
        step_back<false>(c, g, 0);
        each<N * N>(n() * n(), [&](int i) { c[i] = z[i]; });  // not c - eps, which has lost the digits of small ones
        softmax(c);
        each<N>(n(), [&](int j) {
            float dot = 0;
            each<N>(n(), [&](int k) { dot = fmaf(g[at<true>(j, k)], c[at<true>(j, k)], dot); });
            each<N>(n(), [&](int k) { g[at<true>(j, k)] = c[at<true>(j, k)] * (g[at<true>(j, k)] - dot); });
        });
    }
};

// ---- the mixture of permutations: z [n_mixing] to weights, in place
__device__ void softmax_of(float* z, int count) {
    float top = z[0], sum = 0;
    for (int p = 1; p < count; ++p) top = fmaxf(top, z[p]);
    for (int p = 0; p < count; ++p) sum += z[p] = expf(z[p] - top);
    for (int p = 0; p < count; ++p) z[p] /= sum;
}
__device__ void mix_of_permutations(const Form& f, float* z, float* comb) {
    softmax_of(z, f.n_mixing);
    for (int i = 0; i < f.n * f.n; ++i) comb[i] = 0;
#pragma unroll 1
    for (int p = 0; p < f.n_mixing; ++p)
        for (int j = 0; j < f.n; ++j) comb[j * f.n + f.permutation[p][j]] += z[p];
}
// dcomb [n, n] to dz [n_mixing]; z becomes the weights.
__device__ void permutations_back(const Form& f, float* z, const float* dcomb, float* dz) {
    softmax_of(z, f.n_mixing);
    float dot = 0;
    for (int p = 0; p < f.n_mixing; ++p) {
        float g = 0;
        for (int j = 0; j < f.n; ++j) g += dcomb[j * f.n + f.permutation[p][j]];
        dot = fmaf(g, z[p], dot), dz[p] = g;
    }
    for (int p = 0; p < f.n_mixing; ++p) dz[p] = z[p] * (dz[p] - dot);
}

// Of one token: h and z by row of fn.
template <int N>
struct Token {
    const Form& f;
    const SiteRows& a;
    const float* m;
    float r;  // the RMS factor
    __device__ Token(const Form& form, const SiteRows& site, int64_t t)
        : f(form), a(site), m(site.m + t * form.n_rows), r(site.factor[t]) {}
    __device__ int n() const { return N > 0 ? N : f.n; }
    __device__ bool is_free() const { return N == 0 && f.map == MixingMap::free; }
    __device__ bool is_sinkhorn() const { return N > 0 || f.map == MixingMap::sinkhorn; }
    __device__ bool is_permutations() const { return N == 0 && f.map == MixingMap::permutations; }
    __device__ int part(int q) const { return q < n() ? 0 : q < 2 * n() ? 1 : 2; }
    __device__ float h(int q) const { return is_free() ? tanhf(m[q] * r) : m[q] * r; }
    __device__ float z(int q) const { return fmaf(h(q), a.scale[part(q)], a.base[q]); }
};

// post [T, n] and comb [T, n, n].
template <int N>
__global__ void __launch_bounds__(kThreads) mixing(const __grid_constant__ Form f, SiteRows a) {
    after_previous();
    const int64_t t = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
    if (t >= a.n_tokens) return;
    const Token<N> token(f, a, t);
    const int n = token.n();
    float *post = a.post + t * n, *comb = a.comb + t * n * n;
    each<N>(n, [&](int k) {
        const float z = token.z(n + k);
        post[k] = token.is_free() ? z : 2 * sigmoid(z);
    });
    float c[kStreamsOf<N> * kStreamsOf<N>];
    if (token.is_permutations()) {
        float z[kMostPermutations];
        each<0>(f.n_mixing, [&](int p) { z[p] = token.z(2 * n + p); });
        mix_of_permutations(f, z, c);
    } else {
        each<N * N>(n * n, [&](int i) { c[i] = token.z(2 * n + i); });
        if (token.is_sinkhorn()) Sinkhorn<N>{n, f.iters, f.eps, nullptr, 0}.forward(c);
    }
    each<N * N>(n * n, [&](int i) { comb[i] = c[i]; });
}

// dm [T, R], shared [T], and partial [blocks, R + 3]: sums of dz and of dz h over the block's tokens. sums: Sinkhorn's scratch.
template <int N>
__global__ void __launch_bounds__(kThreads)
    mixing_backward(const __grid_constant__ Form f, SiteRows a, SiteGradients g, float* sums, float* partial) {
    after_previous();
    constexpr int kRows = kRowsOf<N>, kSquare = kStreamsOf<N> * kStreamsOf<N>, kWarps = kThreads / kWarp;
    __shared__ float totals[kWarps][kRows + 3];
    const int64_t at = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
    const bool is_there = at < a.n_tokens;
    const int64_t t = is_there ? at : a.n_tokens - 1;  // beyond the last: its values, counted as nothing
    const Token<N> token(f, a, t);
    const int n = token.n(), n_gates = f.is_head ? n : 2 * n;
    float dz[kRows];
    each<2 * N>(n_gates, [&](int q) {
        const float* of = q < n ? g.dpre : g.post;
        const float from = of ? of[t * n + (q < n ? q : q - n)] : 0.0f, s = sigmoid(token.z(q));
        dz[q] = token.is_free() ? from : from * (q < n ? 1.0f : 2.0f) * s * (1 - s);
    });
    if (!f.is_head) {
        float dc[kSquare];
        each<N * N>(n * n, [&](int i) { dc[i] = g.comb ? g.comb[t * n * n + i] : 0.0f; });
        if (token.is_permutations()) {
            float weights[kMostPermutations];
            each<0>(f.n_mixing, [&](int p) { weights[p] = token.z(2 * n + p); });
            permutations_back(f, weights, dc, dz + 2 * n);
        } else {
            if (token.is_sinkhorn()) {
                float z[kSquare], scratch[kSquare];
                each<N * N>(n * n, [&](int i) { z[i] = token.z(2 * n + i); });
                Sinkhorn<N>{n, f.iters, f.eps, sums + at, static_cast<int64_t>(gridDim.x) * kThreads}.backward(z, scratch, dc);
            }
            each<N * N>(n * n, [&](int i) { dz[2 * n + i] = dc[i]; });
        }
    }
    const int warp = threadIdx.x / kWarp;
    float dr = 0, scales[3] = {0, 0, 0};
    each<N == 0 ? 0 : kRows>(f.n_rows, [&](int q) {
        const float h = token.h(q), v = is_there ? dz[q] : 0.0f, total = warp_sum(v);
        if (threadIdx.x % kWarp == 0) totals[warp][q] = total;
        const int part = token.part(q);
        scales[0] += part == 0 ? v * h : 0, scales[1] += part == 1 ? v * h : 0, scales[2] += part == 2 ? v * h : 0;
        float dh = v * a.scale[part];
        if (token.is_free()) dh *= 1 - h * h;
        dr = fmaf(dh, token.m[q], dr);
        if (is_there) g.dm[t * f.n_rows + q] = dh * token.r;
    });
    // r = (mean x^2 + eps)^(-1/2): dr/dx = -r^3 x / (n d)
    if (is_there) g.shared[t] = -dr * token.r * token.r * token.r / static_cast<float>(n * a.d);
#pragma unroll
    for (int p = 0; p < 3; ++p) {
        const float total = warp_sum(scales[p]);
        if (threadIdx.x % kWarp == 0) totals[warp][f.n_rows + p] = total;
    }
    __syncthreads();
    for (int q = threadIdx.x; q < f.n_rows + 3; q += kThreads) {
        float sum = 0;
        for (int w = 0; w < kWarps; ++w) sum += totals[w][q];
        partial[static_cast<int64_t>(blockIdx.x) * (f.n_rows + 3) + q] = sum;
    }
}

bool is_small(const Form& f) { return f.n == 4 && f.map == MixingMap::sinkhorn; }

}  // namespace

void launch_mixing(Ctx& ctx, const Form& f, const SiteRows& a) {
    const unsigned grid = ceil_div(a.n_tokens, kThreads);
    const auto kernel = is_small(f) ? mixing<4> : mixing<0>;
    kernel<<<grid, kThreads, 0, ctx.cuda->stream()>>>(f, a);
    check_launch(ctx, "hyper_site, mixing");
}

Tensor launch_mixing_backward(Ctx& ctx, const Form& f, const SiteRows& a, const SiteGradients& g) {
    const unsigned grid = ceil_div(a.n_tokens, kThreads);
    const bool is_sinkhorn = !f.is_head && f.map == MixingMap::sinkhorn;
    const int64_t n_sums = is_sinkhorn ? static_cast<int64_t>(2 * f.iters - 1) * f.n : 0;
    const Tensor partial = ctx.arena.make(DType::f32, {grid, f.n_rows + 3});
    const Tensor sums = is_sinkhorn ? ctx.arena.make(DType::f32, {n_sums, static_cast<int64_t>(grid) * kThreads}) : Tensor{};
    const auto kernel = is_small(f) ? mixing_backward<4> : mixing_backward<0>;
    kernel<<<grid, kThreads, 0, ctx.cuda->stream()>>>(f, a, g, static_cast<float*>(sums.data), partial.f32());
    check_launch(ctx, "hyper_site, mixing backward");
    return partial;
}

}  // namespace vitrine::cuda
