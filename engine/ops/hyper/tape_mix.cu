// Mixing of streams on a GPU's tape, forward and backward: each X, F and dY is read once.
#include "engine/ops/hyper/hyper_tape.h"
#include "engine/ops/hyper/tape.cuh"

namespace vitrine::cuda {
namespace {

constexpr int kThreads = 256, kN = 4;  // streams of the fast kernels

struct Mix {
    const float *x, *f, *post, *comb;  // [T, n, d], [T, d], [T, n], [T, n, n]
    int64_t n_tokens;
    int n, d;
    float* y;
};
struct MixGradients {
    const float* dy;
    float *df, *dx, *dpost, *dcomb;
    bool adds_f, adds_x, adds_post, adds_comb;
};
__device__ inline void put(float* p, float v, bool adds) { *p = adds ? *p + v : v; }

// y[t][k] = post[k] f + sum_j comb[j][k] x[j]; a thread makes four columns of four streams.
__global__ void mix_four(Mix a) {
    after_previous();
    const int64_t at = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
    const int per_token = a.d / 4;
    const int64_t t = at / per_token;
    if (t >= a.n_tokens) return;
    const int i = static_cast<int>(at - t * per_token) * 4;
    const float* x = a.x + t * kN * a.d + i;
    const float4 f = load4(a.f + t * a.d + i), post = load4(a.post + t * kN);
    float4 y[kN] = {axpy4(post.x, f, {}), axpy4(post.y, f, {}), axpy4(post.z, f, {}), axpy4(post.w, f, {})};
#pragma unroll
    for (int j = 0; j < kN; ++j) {
        const float4 v = load4(x + j * a.d), c = load4(a.comb + (t * kN + j) * kN);
        y[0] = axpy4(c.x, v, y[0]), y[1] = axpy4(c.y, v, y[1]), y[2] = axpy4(c.z, v, y[2]), y[3] = axpy4(c.w, v, y[3]);
    }
#pragma unroll
    for (int k = 0; k < kN; ++k) store4(a.y + (t * kN + k) * a.d + i, y[k]);
}

// A warp per token: dF = sum_k post[k] G[k], dX[j] += sum_k comb[j][k] G[k], dpost[k] = F . G[k], dcomb[j][k] = X[j] . G[k].
__global__ void __launch_bounds__(kThreads) mix_four_backward(Mix a, MixGradients g) {
    after_previous();
    const int64_t t = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) / kWarp;
    if (t >= a.n_tokens) return;  // whole warps
    const int lane = threadIdx.x % kWarp;
    const float *x = a.x + t * kN * a.d, *f = a.f + t * a.d, *dy = g.dy + t * kN * a.d;
    float *dx = g.dx + t * kN * a.d, *df = g.df + t * a.d;
    const float4 post = load4(a.post + t * kN);
    float4 comb[kN];
#pragma unroll
    for (int j = 0; j < kN; ++j) comb[j] = load4(a.comb + (t * kN + j) * kN);
    float sum[kWarp];  // post, then comb row by row; the rest is zero
#pragma unroll
    for (int i = 0; i < kWarp; ++i) sum[i] = 0;
    for (int i = lane * 4; i < a.d; i += kWarp * 4) {
        float4 from[kN];
#pragma unroll
        for (int k = 0; k < kN; ++k) from[k] = load4(dy + k * a.d + i);
        const float4 into = load4(f + i);
        float4 to = g.adds_f ? load4(df + i) : float4{0, 0, 0, 0};
        to = axpy4(post.x, from[0], axpy4(post.y, from[1], axpy4(post.z, from[2], axpy4(post.w, from[3], to))));
        store4(df + i, to);
#pragma unroll
        for (int k = 0; k < kN; ++k) sum[k] = dot4(into, from[k], sum[k]);
#pragma unroll
        for (int j = 0; j < kN; ++j) {
            const float4 v = load4(x + j * a.d + i), c = comb[j];
            float4 back = g.adds_x ? load4(dx + j * a.d + i) : float4{0, 0, 0, 0};
            back = axpy4(c.x, from[0], axpy4(c.y, from[1], axpy4(c.z, from[2], axpy4(c.w, from[3], back))));
            store4(dx + j * a.d + i, back);
#pragma unroll
            for (int k = 0; k < kN; ++k) sum[kN + j * kN + k] = dot4(v, from[k], sum[kN + j * kN + k]);
        }
    }
    const float total = sum_for_lane(sum);
    if (lane < kN) put(g.dpost + t * kN + lane, total, g.adds_post);
    else if (lane < kN + kN * kN) put(g.dcomb + t * kN * kN + lane - kN, total, g.adds_comb);
}

// ---- any n and d
__global__ void mix_any(Mix a) {
    after_previous();
    const int64_t at = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x, t = at / a.d, i = at % a.d;
    if (t >= a.n_tokens) return;
    for (int k = 0; k < a.n; ++k) {
        float sum = a.post[t * a.n + k] * a.f[at];
        for (int j = 0; j < a.n; ++j) sum = fmaf(a.comb[(t * a.n + j) * a.n + k], a.x[(t * a.n + j) * a.d + i], sum);
        a.y[(t * a.n + k) * a.d + i] = sum;
    }
}
__global__ void mix_any_to_values(Mix a, MixGradients g) {
    after_previous();
    const int64_t at = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x, t = at / a.d, i = at % a.d;
    if (t >= a.n_tokens) return;
    const float* dy = g.dy + t * a.n * a.d + i;
    float to_f = 0;
    for (int k = 0; k < a.n; ++k) to_f = fmaf(a.post[t * a.n + k], dy[k * a.d], to_f);
    put(g.df + at, to_f, g.adds_f);
    for (int j = 0; j < a.n; ++j) {
        float to_x = 0;
        for (int k = 0; k < a.n; ++k) to_x = fmaf(a.comb[(t * a.n + j) * a.n + k], dy[k * a.d], to_x);
        put(g.dx + (t * a.n + j) * a.d + i, to_x, g.adds_x);
    }
}
// A warp per token and pair of a stream that comes in (n: F itself) and one that goes out.
__global__ void mix_any_to_coefficients(Mix a, MixGradients g) {
    after_previous();
    const int64_t at = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) / kWarp;
    const int per_token = (a.n + 1) * a.n, lane = threadIdx.x % kWarp;
    const int64_t t = at / per_token;
    if (t >= a.n_tokens) return;  // whole warps
    const int pair = static_cast<int>(at % per_token), j = pair / a.n, k = pair % a.n;
    const float* in = j < a.n ? a.x + (t * a.n + j) * a.d : a.f + t * a.d;
    const float* dy = g.dy + (t * a.n + k) * a.d;
    float sum = 0;
    for (int i = lane; i < a.d; i += kWarp) sum = fmaf(in[i], dy[i], sum);
    sum = warp_sum(sum);
    if (lane != 0) return;
    if (j < a.n) put(g.dcomb + (t * a.n + j) * a.n + k, sum, g.adds_comb);
    else put(g.dpost + t * a.n + k, sum, g.adds_post);
}

// z[t][j] = x[t][j] + e[t]
__global__ void add_to_all(const float* x, const float* e, int64_t n_tokens, int n, int d, float* z) {
    after_previous();
    const int64_t at = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x, t = at / d, i = at % d;
    if (t >= n_tokens) return;
    for (int j = 0; j < n; ++j) z[(t * n + j) * d + i] = x[(t * n + j) * d + i] + e[at];
}
__global__ void add_to_all_backward(const float* dz, int64_t n_tokens, int n, int d, float* dx, bool adds_x, float* de,
                                    bool adds_e) {
    after_previous();
    const int64_t at = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x, t = at / d, i = at % d;
    if (t >= n_tokens) return;
    float sum = 0;
    for (int j = 0; j < n; ++j) {
        const float g = dz[(t * n + j) * d + i];
        put(dx + (t * n + j) * d + i, g, adds_x);
        sum += g;
    }
    put(de + at, sum, adds_e);
}

__global__ void fill_ones(float* x, int64_t n) {
    after_previous();
    const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
    if (i < n) x[i] = 1;
}

unsigned blocks_for(int64_t n) { return ceil_div(n, kThreads); }

void backward(Ctx& ctx, const Mix& a, const MixGradients& g, bool is_fast) {
    const auto stream = ctx.cuda->stream();
    if (is_fast) {
        mix_four_backward<<<blocks_for(a.n_tokens * kWarp), kThreads, 0, stream>>>(a, g);
    } else {
        mix_any_to_values<<<blocks_for(a.n_tokens * a.d), kThreads, 0, stream>>>(a, g);
        mix_any_to_coefficients<<<blocks_for(a.n_tokens * (a.n + 1) * a.n * kWarp), kThreads, 0, stream>>>(a, g);
    }
    check_launch(ctx, "hyper_mix, backward");
}

}  // namespace

Tensor hyper_mix_on_tape(Ctx& ctx, const Tensor& x_TND, const HyperSite& site, const Tensor& f_TD) {
    const int64_t n_tokens = x_TND.dim(0), n = x_TND.dim(1), d = x_TND.dim(2);
    const Tensor y_TND = ctx.arena.make(DType::f32, x_TND.shape), post = site.post_TN, comb = site.comb_TNN;
    if (n_tokens == 0) return y_TND;
    const Mix mix{x_TND.f32(), f_TD.f32(), post.f32(), comb.f32(), n_tokens, static_cast<int>(n), static_cast<int>(d), y_TND.f32()};
    const auto is_aligned = [](const Tensor& x) { return reinterpret_cast<uintptr_t>(x.data) % 16 == 0; };
    const bool is_fast = n == kN && d % 4 == 0 && is_aligned(x_TND) && is_aligned(f_TD) && is_aligned(post) && is_aligned(comb);
    if (is_fast) mix_four<<<blocks_for(n_tokens * d / 4), kThreads, 0, ctx.cuda->stream()>>>(mix);
    else mix_any<<<blocks_for(n_tokens * d), kThreads, 0, ctx.cuda->stream()>>>(mix);
    check_launch(ctx, "hyper_mix");
    ctx.tape->record([=](Ctx& c) {
        if (!c.tape->has_grad(y_TND)) return;
        const Tensor dy = c.tape->grad(y_TND);
        const Tape::Flow df = c.tape->flow(f_TD), dx = c.tape->flow(x_TND), dpost = c.tape->flow(post), dcomb = c.tape->flow(comb);
        backward(c, mix,
                 {dy.f32(), df.gradient.f32(), dx.gradient.f32(), dpost.gradient.f32(), dcomb.gradient.f32(), df.accumulates,
                  dx.accumulates, dpost.accumulates, dcomb.accumulates},
                 is_fast);
        c.tape->done(y_TND);
    });
    return y_TND;
}

Tensor add_to_streams(Ctx& ctx, const Tensor& x_TND, const Tensor& e_TD) {
    const int64_t n_tokens = x_TND.dim(0);
    const auto n = static_cast<int>(x_TND.dim(1)), d = static_cast<int>(x_TND.dim(2));
    const Tensor z_TND = ctx.arena.make(DType::f32, x_TND.shape);
    if (n_tokens == 0) return z_TND;
    add_to_all<<<blocks_for(n_tokens * d), kThreads, 0, ctx.cuda->stream()>>>(x_TND.f32(), e_TD.f32(), n_tokens, n, d, z_TND.f32());
    check_launch(ctx, "add_to_streams");
    ctx.tape->record([=](Ctx& c) {
        if (!c.tape->has_grad(z_TND)) return;
        const Tensor dz = c.tape->grad(z_TND);
        const Tape::Flow dx = c.tape->flow(x_TND), de = c.tape->flow(e_TD);
        add_to_all_backward<<<blocks_for(n_tokens * d), kThreads, 0, c.cuda->stream()>>>(
            dz.f32(), n_tokens, n, d, dx.gradient.f32(), dx.accumulates, de.gradient.f32(), de.accumulates);
        check_launch(c, "add_to_streams, backward");
        c.tape->done(z_TND);
    });
    return z_TND;
}

Tensor ones(Ctx& ctx, Shape shape) {
    const Tensor x = ctx.arena.make(DType::f32, shape);
    if (x.count() == 0) return x;
    fill_ones<<<blocks_for(x.count()), kThreads, 0, ctx.cuda->stream()>>>(x.f32(), x.count());
    check_launch(ctx, "filling with ones");
    return x;
}

}  // namespace vitrine::cuda
