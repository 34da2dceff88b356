// Coefficients of a site on the GPU, as every kernel of hyper-connections makes them (v4-spec 2.2).
#pragma once
#include <algorithm>

#include "engine/ops/kernel.cuh"
#include "engine/ops/hyper/hyper.h"

namespace vitrine::cuda {

constexpr int kMaxStreams = 16, kMaxRows = 2 * kMaxStreams + kMaxStreams * kMaxStreams;
constexpr int kMaxMixing = 16;  // of sites of few tokens

// What HyperForm holds, and the permutations of mHC-lite.
struct Form {
    MixingMap map;
    int n, n_rows, n_mixing, iters;
    float eps;
    bool is_head;
    uint8_t permutation[24][cpu::kMaxPermutedStreams];
};

inline Form as_form(const HyperForm& f) {
    Form g{f.map, f.n, f.n_rows(), f.is_head ? 0 : f.n_mixing(), f.iters, static_cast<float>(f.eps), f.is_head, {}};
    if (f.map != MixingMap::permutations) return g;
    const auto& table = cpu::permutation_table(f.n);
    for (int p = 0; p < 24; ++p) std::copy_n(table[p], cpu::kMaxPermutedStreams, g.permutation[p]);
    return g;
}

__device__ inline float sigmoid(float z) {
    const float e = expf(-fabsf(z));
    return (z >= 0 ? 1.0f : e) / (1.0f + e);
}

// One warp, c [n, n] in shared memory: thread a owns row a, then column a (v4-spec 2.2).
__device__ inline void sinkhorn_of(float* c, int n, int iters, float eps) {
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
__device__ inline void sinkhorn_of_four(float* c, int iters, float eps) {
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
    v *= __fdividef(1.0f, over(v, 4, false) + eps);
    for (int i = 1; i < iters; ++i) {
        v *= __fdividef(1.0f, over(v, 1, false) + eps);
        v *= __fdividef(1.0f, over(v, 4, false) + eps);
    }
    __syncwarp();  // both halves have read
    if (threadIdx.x < 16) c[lane] = v;
    __syncwarp();
}

// c [n, n] from the softmax over permutations z [n_mixing]; n <= 4, one warp.
__device__ inline void mix_permutations(const float* z, const Form& form, float* c) {
    const int p = threadIdx.x;
    const float mine = p < form.n_mixing ? z[p] : -INFINITY, e = expf(mine - warp_max(mine));
    const float weight = e / warp_sum(e);
    for (int j = 0; j < form.n; ++j)
        for (int k = 0; k < form.n; ++k) {
            const float sum = warp_sum(p < form.n_mixing && form.permutation[p][j] == k ? weight : 0.0f);
            if (p == 0) c[j * form.n + k] = sum;
        }
    __syncwarp();
}

// Which part of the coefficients row q belongs to: pre, post or the mixing matrix.
__device__ inline int part_of(const Form& form, int q) { return q < form.n ? 0 : q < 2 * form.n ? 1 : 2; }

// z of row q: h = m r there, r the RMS factor; scale is that of the row's part.
__device__ inline float coefficient(const Form& form, float base, float scale, int q, float h) {
    const int part = part_of(form, q);
    if (form.map == MixingMap::free) h = tanhf(h);
    const float v = h * scale + base;
    if (form.map == MixingMap::free || part == 2) return v;
    return part == 0 ? sigmoid(v) + form.eps : 2 * sigmoid(v);
}
__device__ inline float coefficient(const Form& form, const cpu::PackedMatrix& base, const cpu::PackedMatrix& scale, int q,
                                    float h) {
    return coefficient(form, element(base, 0, q), element(scale, 0, part_of(form, q)), q, h);
}

// One warp: the mixing matrix from z [n_mixing] in shared memory; z itself or `mixed` [n * n] of shared memory holds it.
__device__ inline float* mixing_matrix(const Form& form, float* z, float* mixed) {
    if (form.map == MixingMap::permutations) return mix_permutations(z, form, mixed), mixed;
    if (form.map == MixingMap::sinkhorn && form.n == 4) sinkhorn_of_four(z, form.iters, form.eps);
    else if (form.map == MixingMap::sinkhorn) sinkhorn_of(z, form.n, form.iters, form.eps);
    return z;
}

// One warp: coefficients of token t from z [n_rows] in shared memory, those of the mixing matrix as they are.
__device__ inline void write_unmixed(const Form& form, const float* z, int64_t t, float* pre, float* post, float* mixing) {
    const int n = form.n;
    for (int i = threadIdx.x; i < n; i += kWarp) pre[t * n + i] = z[i];
    if (form.is_head) return;
    for (int i = threadIdx.x; i < n; i += kWarp) post[t * n + i] = z[n + i];
    for (int i = threadIdx.x; i < form.n_mixing; i += kWarp) mixing[t * form.n_mixing + i] = z[2 * n + i];
}

// The same with the mixing matrix made (pre null: none). `mixed`: [n * n] of shared memory.
__device__ inline void write_coefficients(const Form& form, float* z, float* mixed, int64_t t, float* pre, float* post,
                                          float* comb) {
    const int n = form.n;
    if (!pre) return;
    for (int i = threadIdx.x; i < n; i += kWarp) pre[t * n + i] = z[i];
    if (form.is_head) return;
    const float* c = mixing_matrix(form, z + 2 * n, mixed);
    for (int i = threadIdx.x; i < n * n; i += kWarp) comb[t * n * n + i] = c[i];
    for (int i = threadIdx.x; i < n; i += kWarp) post[t * n + i] = z[n + i];
}

// Mixing matrices comb [T, n, n] that a site of few tokens leaves to be made from `mixing` [T, n_mixing]: 20 iterations
// of one warp a token. A kernel before the mix does that in blocks of its own, beside the kernel before it; else the
// mix does.
struct Mixing {
    Form form;
    const float* mixing = nullptr;
    float* comb = nullptr;
    // Token t, by the first warp of a block, before after_previous(): in a kernel behind one that waited for one that came
    // after the site.
    __device__ void make(int64_t t) const {
        __shared__ float scratch[2 * kMaxMixing];
        if (threadIdx.x >= kWarp) return;
        for (int i = threadIdx.x; i < form.n_mixing; i += kWarp) scratch[i] = __ldcg(mixing + t * form.n_mixing + i);
        __syncwarp();
        const float* c = mixing_matrix(form, scratch, scratch + kMaxMixing);
        for (int i = threadIdx.x; i < form.n * form.n; i += kWarp) comb[t * form.n * form.n + i] = c[i];
    }
};
// Of the site queued last, if nobody took them: whoever does makes them.
Mixing take_mixing(const Ctx& ctx);

// Few tokens: projections, coefficients, collapse and the norm after it in one launch (hyper_few.cu).
bool fits_few(const Ctx& ctx, const Tensor& x_TND, const HyperWeights& w, const HyperForm& form);
HyperSite few_sites(Ctx& ctx, const Tensor& x_TND, const HyperWeights& w, const HyperForm& form, double rms_norm_eps,
                    const Param* norm_D);

// A mix of few tokens whose result y nobody has read yet.
struct WaitingMix {
    Tensor x_TND, f_TD, y_TND;
    HyperSite site;
    bool has_matrix;  // comb is there, else it is made from the site's mixing_TM
};
// The mix that makes x, for a site of this form to make along; null: x is there, now at the latest.
std::shared_ptr<WaitingMix> take_mix(Ctx& ctx, const Tensor& x_TND, const HyperForm& form);

}  // namespace vitrine::cuda
