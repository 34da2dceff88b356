// Hyper-connections on a GPU's tape: what the passes of a site hand to each other (docs/math/hyper.md).
#pragma once
#include "engine/ops/hyper/coefficients.cuh"
#include "engine/ops/kernel.cuh"

namespace vitrine::cuda {

// A site's values, all f32 and contiguous. R = form.n_rows, W = n d.
struct SiteRows {
    const float *x, *fn;              // [T, n, d], [R, W]
    const float *base, *scale;        // [R], [3] (head: [1])
    int64_t n_tokens;
    int d;
    float rms_eps;
    float *m, *factor;                // [T, R] before the RMS factor, [T]
    float *pre, *post, *comb, *u;     // post, comb: null at the head
};

// Gradients on their way through a site.
struct SiteGradients {
    const float *du, *pre, *post, *comb;  // of the loss; null: nothing has flowed there
    float *dpre;                          // [T, n], all of it
    float *dm, *shared;                   // [T, R]; [T], dx += shared x
    float *dx;
    bool accumulates;                     // dx holds something
    float *dfn;                           // [pieces, R, W] partial sums, or null
};

__device__ inline float4 load4(const float* p) { return *reinterpret_cast<const float4*>(p); }
__device__ inline void store4(float* p, float4 v) { *reinterpret_cast<float4*>(p) = v; }
__device__ inline float dot4(float4 a, float4 b, float sum) {
    return fmaf(a.w, b.w, fmaf(a.z, b.z, fmaf(a.y, b.y, fmaf(a.x, b.x, sum))));
}
__device__ inline float4 axpy4(float a, float4 x, float4 y) {
    return {fmaf(a, x.x, y.x), fmaf(a, x.y, y.y), fmaf(a, x.z, y.z), fmaf(a, x.w, y.w)};
}

// h and z of row q; r: the RMS factor.
__device__ inline float h_of(const Form& f, float m, float r) { return f.map == MixingMap::free ? tanhf(m * r) : m * r; }
__device__ inline float z_of(const Form& f, const SiteRows& a, int q, float m, float r) {
    return fmaf(h_of(f, m, r), a.scale[part_of(f, q)], a.base[q]);
}
__device__ inline float pre_of(const Form& f, float z) { return f.map == MixingMap::free ? z : sigmoid(z) + f.eps; }

// Lane l gets the warp's sum of v[l].
__device__ inline float sum_for_lane(float (&v)[kWarp]) {
#pragma unroll
    for (int half = kWarp / 2; half > 0; half /= 2) {
        const bool is_upper = threadIdx.x & half;
#pragma unroll
        for (int i = 0; i < half; ++i) {
            const float send = is_upper ? v[i] : v[i + half], keep = is_upper ? v[i + half] : v[i];
            v[i] = keep + __shfl_xor_sync(~0u, send, half);
        }
    }
    return v[0];
}

// Whether the kernels for four streams and rows of whole float4 run this; any other form takes plain loops and cuBLAS.
bool is_fast(const Form& f, const SiteRows& a);

// m (unless it is there: has_products), factor, pre and u.
void launch_collapse(Ctx& ctx, const Form& f, const SiteRows& a, bool has_products);
// post and comb from m.
void launch_mixing(Ctx& ctx, const Form& f, const SiteRows& a);
// dpre = g.pre + du . X
void launch_collapse_to_pre(Ctx& ctx, const Form& f, const SiteRows& a, const SiteGradients& g);
// dm and shared; sums of dz (base) and dz h (scale): [pieces, R + 3], in the arena.
Tensor launch_mixing_backward(Ctx& ctx, const Form& f, const SiteRows& a, const SiteGradients& g);
// dx (+)= pre du + shared x + fn^T dm and the partial sums of dfn, for is_fast; otherwise without what fn takes part in.
int64_t n_fn_pieces(const Form& f, const SiteRows& a);
void launch_to_streams(Ctx& ctx, const Form& f, const SiteRows& a, const SiteGradients& g);

}  // namespace vitrine::cuda
