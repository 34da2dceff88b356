// Rotary position embedding on the GPU: angles of the step's tokens, rotation in place.
#include "engine/ops/kernel.cuh"
#include "engine/ops/rmsnorm/rmsnorm.h"
#include "engine/ops/rope/rope.h"
#include "engine/ops/rope/rotate.cuh"

namespace vitrine::cuda {
namespace {

__global__ void token_angles(const TokenAt* tokens, int64_t n, Frequencies f, float* cosines, float* sines) {
    after_previous();
    const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i < n) cos_sin(tokens[i / f.n].position, f.at[i % f.n], cosines[i], sines[i]);
}

// One thread per pair of x [T, H, c]: the last 2 * half of a row's c columns are rotated.
template <class T>
__global__ void rotate_rows(T* x, const float* cosines, const float* sines, int64_t n_pairs, int n_heads, int c,
                            int half, float sign, bool is_rounded) {
    after_previous();
    const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= n_pairs) return;
    const int64_t row = i / half, pair = i - row * half, angle = row / n_heads * half + pair;
    T* at = x + row * c + (c - 2 * half) + 2 * pair;
    float a = widen(at[0]), b = widen(at[1]);
    rotate_pair(a, b, cosines[angle], sign * sines[angle]);
    at[0] = narrow<T>(is_rounded ? round_bf16(a) : a);
    at[1] = narrow<T>(is_rounded ? round_bf16(b) : b);
}

// A warp per row of x [T, H, c], 16 bytes at a time: norm without weight, then rotation; each is rounded.
template <class T>
__global__ void norm_rotate_rows(T* x, const float* cosines, const float* sines, int64_t n_rows, int n_heads, int c,
                                 int half, float eps, bool is_rounded) {
    after_previous();
    constexpr int kWide = 16 / sizeof(T);
    struct alignas(16) Some {
        T at[kWide];
    };
    const int64_t row = static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y, angle = row / n_heads * half;
    if (row >= n_rows) return;
    x += row * c;
    float sum = 0;
    for (int i = threadIdx.x * kWide; i < c; i += kWarp * kWide) {
        const Some v = *reinterpret_cast<const Some*>(x + i);
#pragma unroll
        for (int j = 0; j < kWide; ++j) sum += widen(v.at[j]) * widen(v.at[j]);
    }
    const float factor = 1.0f / sqrtf(warp_sum(sum) / static_cast<float>(c) + eps);
    const int rest = c - 2 * half;
    for (int i = threadIdx.x * kWide; i < c; i += kWarp * kWide) {
        Some v = *reinterpret_cast<const Some*>(x + i);
#pragma unroll
        for (int j = 0; j < kWide; j += 2) {
            float a = widen(v.at[j]) * factor, b = widen(v.at[j + 1]) * factor;
            if (is_rounded) a = round_bf16(a), b = round_bf16(b);
            if (i + j >= rest) {
                const int64_t pair = angle + (i + j - rest) / 2;
                rotate_pair(a, b, cosines[pair], sines[pair]);
                if (is_rounded) a = round_bf16(a), b = round_bf16(b);
            }
            v.at[j] = narrow<T>(a), v.at[j + 1] = narrow<T>(b);
        }
        *reinterpret_cast<Some*>(x + i) = v;
    }
}

}  // namespace

RopeAngles rope_angles(Ctx& ctx, const std::vector<double>& frequencies) {
    const OpTimer timer(ctx, OpKind::rope);
    const Frequencies f = frequencies_of(frequencies);
    const Step& step = ctx.cuda->step;
    const RopeAngles a{ctx.arena.make(DType::f32, {step.n_tokens, f.n}),
                       ctx.arena.make(DType::f32, {step.n_tokens, f.n})};
    const int64_t n = a.cos.count();
    token_angles<<<ceil_div(n, 128), 128, 0, ctx.cuda->stream()>>>(step.tokens, n, f, a.cos.f32(), a.sin.f32());
    check_launch(ctx, "rope angles");
    return a;
}

Tensor apply_rope(Ctx& ctx, const Tensor& x_THC, const RopeAngles& angles, int sign) {
    const OpTimer timer(ctx, OpKind::rope);
    const int64_t half = angles.cos.dim(1), n_pairs = x_THC.dim(0) * x_THC.dim(1) * half;
    with_activation(x_THC.dtype, [&](auto t) {
        using T = decltype(t);
        rotate_rows<<<ceil_div(n_pairs, 256), 256, 0, ctx.cuda->stream()>>>(
            static_cast<T*>(x_THC.data), angles.cos.f32(), angles.sin.f32(), n_pairs, static_cast<int>(x_THC.dim(1)),
            static_cast<int>(x_THC.dim(2)), static_cast<int>(half), static_cast<float>(sign), ctx.is_reference());
    });
    check_launch(ctx, "rope");
    return x_THC;
}

Tensor norm_and_rotate(Ctx& ctx, const Tensor& x_THC, double eps, const RopeAngles& angles) {
    const int64_t c = x_THC.dim(2), half = angles.cos.dim(1), n_rows = x_THC.dim(0) * x_THC.dim(1);
    if (c % 8 != 0) return cuda::apply_rope(ctx, cuda::rmsnorm_heads(ctx, x_THC, eps), angles);
    const OpTimer timer(ctx, OpKind::rope);
    with_activation(x_THC.dtype, [&](auto t) {
        using T = decltype(t);
        const dim3 block(kWarp, 4);
        norm_rotate_rows<<<ceil_div(n_rows, block.y), block, 0, ctx.cuda->stream()>>>(
            static_cast<T*>(x_THC.data), angles.cos.f32(), angles.sin.f32(), n_rows, static_cast<int>(x_THC.dim(1)),
            static_cast<int>(c), static_cast<int>(half), static_cast<float>(eps), ctx.is_reference());
    });
    check_launch(ctx, "norm and rope");
    return x_THC;
}

}  // namespace vitrine::cuda
