// Rotary position embedding on the tape of a GPU: angles of a list of positions, rotation into a new tensor and back.
#include <algorithm>

#include "engine/ops/kernel.cuh"
#include "engine/ops/linear/copies.h"
#include "engine/ops/rmsnorm/rmsnorm.h"
#include "engine/ops/rope/rope.h"
#include "engine/ops/rope/rotate.cuh"

namespace vitrine::cuda {
namespace {

constexpr int kRowThreads = 256;

__global__ void angles_of(const int32_t* positions, int64_t n, const __grid_constant__ Frequencies f, float* cosines,
                          float* sines) {
    after_previous();
    const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i < n) cos_sin(positions[i / f.n], f.at[i % f.n], cosines[i], sines[i]);
}

// y = x, or y += x, with the last 2 * half of each row's c columns rotated; x and y [rows, c], a row of angles serves n_heads rows.
struct Rotation {
    const float *x, *cosines, *sines;
    float* y;
    bf16* copy;  // of y, or null
    unsigned n_rows, n_heads, c, half;
    float sign;
    bool accumulates;
    __device__ void pair(unsigned row, unsigned i, float& a, float& b) const {
        const unsigned angle = row / n_heads * half + i;
        rotate_pair(a, b, cosines[angle], sign * sines[angle]);
    }
};

// The four columns from `column` on of a row, rotated.
__device__ inline void rotate_four(const Rotation& r, unsigned row, unsigned column, float4& v) {
    const unsigned rest = r.c - 2 * r.half;
    if (column < rest) return;
    r.pair(row, (column - rest) / 2, v.x, v.y);
    r.pair(row, (column - rest) / 2 + 1, v.z, v.w);
}

// A thread per four columns; c and the rotated columns are multiples of four.
__global__ void rotate_fours(const Rotation r) {
    after_previous();
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x, per_row = r.c / 4;
    if (i >= r.n_rows * per_row) return;
    const unsigned row = i / per_row, column = (i - row * per_row) * 4;
    float4 v = reinterpret_cast<const float4*>(r.x)[i];
    rotate_four(r, row, column, v);
    float4* to = reinterpret_cast<float4*>(r.y) + i;
    if (r.accumulates) {
        const float4 old = *to;
        v.x += old.x, v.y += old.y, v.z += old.z, v.w += old.w;
    }
    *to = v;
    if (!r.copy) return;
    const __nv_bfloat162 pairs[2] = {__floats2bfloat162_rn(v.x, v.y), __floats2bfloat162_rn(v.z, v.w)};
    reinterpret_cast<uint2*>(r.copy)[i] = *reinterpret_cast<const uint2*>(pairs);
}

// Any shape: a thread per column that rests and per pair.
__global__ void rotate_any(const Rotation r) {
    after_previous();
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x, rest = r.c - 2 * r.half, per_row = rest + r.half;
    if (i >= r.n_rows * per_row) return;
    const unsigned row = i / per_row, unit = i - row * per_row;
    const int64_t first = static_cast<int64_t>(row) * r.c;
    const auto put = [&](unsigned at, float v) {
        r.y[first + at] = r.accumulates ? r.y[first + at] + v : v;
        if (r.copy) r.copy[first + at] = narrow<bf16>(r.y[first + at]);
    };
    if (unit < rest) return put(unit, r.x[first + unit]);
    const unsigned at = rest + 2 * (unit - rest);
    float a = r.x[first + at], b = r.x[first + at + 1];
    r.pair(row, unit - rest, a, b);
    put(at, a), put(at + 1, b);
}

__device__ inline float dot(const float4& a, const float4& b) { return a.x * b.x + a.y * b.y + a.z * b.z + a.w * b.w; }
template <int kLanes>
__device__ inline float lanes_sum(float x) {
#pragma unroll
    for (int i = kLanes / 2; i > 0; i /= 2) x += __shfl_xor_sync(~0u, x, i);
    return x;
}

// kLanes threads per row, four columns at a time: y = x / sqrt(mean(x^2) + eps), rotated; c and the rotated columns are multiples
// of four.
template <int kLanes>
__global__ void __launch_bounds__(kRowThreads) norm_rotate(const Rotation r, float eps, float* factors) {
    after_previous();
    const unsigned i = (blockIdx.x * kRowThreads + threadIdx.x) / kLanes, row = min(i, r.n_rows - 1), lane = threadIdx.x % kLanes;
    const auto* x = reinterpret_cast<const float4*>(r.x + static_cast<int64_t>(row) * r.c);
    auto* y = reinterpret_cast<float4*>(r.y + static_cast<int64_t>(row) * r.c);
    float sum = 0;
    for (unsigned j = lane; j < r.c / 4; j += kLanes) sum += dot(x[j], x[j]);
    const float factor = 1.0f / sqrtf(lanes_sum<kLanes>(sum) / static_cast<float>(r.c) + eps);
    if (i >= r.n_rows) return;
    if (lane == 0) factors[row] = factor;
    for (unsigned j = lane; j < r.c / 4; j += kLanes) {
        float4 v = x[j];
        v.x *= factor, v.y *= factor, v.z *= factor, v.w *= factor;
        rotate_four(r, row, 4 * j, v);
        y[j] = v;
    }
}

// With g = what flows to y (r.x), rotated back, and f the row's factor: y of r = or += f (g - x f^2 mean(g x)).
template <int kLanes>
__global__ void __launch_bounds__(kRowThreads) norm_rotate_backward(const Rotation r, const float* values, const float* factors) {
    after_previous();
    const unsigned i = (blockIdx.x * kRowThreads + threadIdx.x) / kLanes, row = min(i, r.n_rows - 1), lane = threadIdx.x % kLanes;
    const auto* dy = reinterpret_cast<const float4*>(r.x + static_cast<int64_t>(row) * r.c);
    const auto* x = reinterpret_cast<const float4*>(values + static_cast<int64_t>(row) * r.c);
    auto* dx = reinterpret_cast<float4*>(r.y + static_cast<int64_t>(row) * r.c);
    float sum = 0;
    for (unsigned j = lane; j < r.c / 4; j += kLanes) {
        float4 g = dy[j];
        rotate_four(r, row, 4 * j, g);
        sum += dot(g, x[j]);
    }
    const float factor = factors[row], mean = lanes_sum<kLanes>(sum) / static_cast<float>(r.c) * factor * factor;
    if (i >= r.n_rows) return;
    for (unsigned j = lane; j < r.c / 4; j += kLanes) {
        float4 g = dy[j];
        const float4 v = x[j];
        rotate_four(r, row, 4 * j, g);
        g.x = factor * (g.x - v.x * mean), g.y = factor * (g.y - v.y * mean);
        g.z = factor * (g.z - v.z * mean), g.w = factor * (g.w - v.w * mean);
        if (r.accumulates) {
            const float4 old = dx[j];
            g.x += old.x, g.y += old.y, g.z += old.z, g.w += old.w;
        }
        dx[j] = g;
    }
}

Rotation rotation_of(const Tensor& x, const Tensor& y, const RopeAngles& angles, int sign, bool accumulates,
                     const Tensor& copy = {}) {
    const Shape& s = x.shape;
    VITRINE_ASSERT(s[0] * s[1] * std::max<int64_t>(s[2], kWarp) < int64_t{1} << 32);
    return {x.f32(),
            angles.cos.f32(),
            angles.sin.f32(),
            y.f32(),
            copy.empty() ? nullptr : static_cast<bf16*>(copy.data),
            static_cast<unsigned>(s[0] * s[1]),
            static_cast<unsigned>(s[1]),
            static_cast<unsigned>(s[2]),
            static_cast<unsigned>(angles.cos.dim(1)),
            static_cast<float>(sign),
            accumulates};
}
bool is_wide(const Rotation& r) { return r.c % 4 == 0 && r.half % 2 == 0; }

void rotate(Ctx& ctx, const Rotation& r) {
    const int64_t n = static_cast<int64_t>(r.n_rows) * (is_wide(r) ? r.c / 4 : r.c - r.half);
    const auto kernel = is_wide(r) ? rotate_fours : rotate_any;
    kernel<<<ceil_div(n, 256), 256, 0, ctx.cuda->stream()>>>(r);
    check_launch(ctx, "rope on the tape");
}

}  // namespace

RopeAngles rope_angles(Ctx& ctx, std::span<const int64_t> positions, const std::vector<double>& frequencies) {
    const Frequencies f = frequencies_of(frequencies);
    const std::vector<int32_t> list(positions.begin(), positions.end());
    const RopeAngles a{ctx.arena.make(DType::f32, {static_cast<int64_t>(list.size()), f.n}),
                       ctx.arena.make(DType::f32, {static_cast<int64_t>(list.size()), f.n})};
    const int64_t n = a.cos.count();
    angles_of<<<ceil_div(n, 128), 128, 0, ctx.cuda->stream()>>>(ctx.cuda->ints(list), n, f, a.cos.f32(), a.sin.f32());
    check_launch(ctx, "rope angles");
    return a;
}

Tensor rope_on_tape(Ctx& ctx, const Tensor& x_THC, const RopeAngles& angles, int sign) {
    const Tensor y = ctx.arena.make(DType::f32, x_THC.shape);
    // Keys (one head) and what is rotated back are multiplied next.
    const Tensor copy = sign < 0 || x_THC.dim(1) == 1 ? bf16_with(ctx, y) : Tensor{};
    rotate(ctx, rotation_of(x_THC, y, angles, sign, false, copy));
    ctx.tape->record([=](Ctx& c) {
        if (!c.tape->has_grad(y)) return;
        const Tensor dy = c.tape->grad(y);
        const Tape::Flow dx = c.tape->flow(x_THC);
        rotate(c, rotation_of(dy, dx.gradient, angles, -sign, dx.accumulates));
        c.tape->done(y);
    });
    return y;
}

Tensor norm_and_rope_on_tape(Ctx& ctx, const Tensor& x_THC, double eps, const RopeAngles& angles) {
    const Tensor y = ctx.arena.make(DType::f32, x_THC.shape), factors = ctx.arena.make(DType::f32, {x_THC.dim(0), x_THC.dim(1)});
    const Rotation r = rotation_of(x_THC, y, angles, 1, false);
    if (!is_wide(r)) return rope_on_tape(ctx, vitrine::rmsnorm_heads(ctx, x_THC, eps), angles, 1);
    const bool is_narrow = r.c <= 64;
    const unsigned grid = ceil_div(static_cast<int64_t>(r.n_rows) * (is_narrow ? 16 : 32), kRowThreads);
    const auto forward = is_narrow ? norm_rotate<16> : norm_rotate<32>;
    forward<<<grid, kRowThreads, 0, ctx.cuda->stream()>>>(r, static_cast<float>(eps), factors.f32());
    check_launch(ctx, "norm and rope on the tape");
    ctx.tape->record([=](Ctx& c) {
        if (!c.tape->has_grad(y)) return;
        const Tensor dy = c.tape->grad(y);
        const Tape::Flow dx = c.tape->flow(x_THC);
        const auto backward = is_narrow ? norm_rotate_backward<16> : norm_rotate_backward<32>;
        backward<<<grid, kRowThreads, 0, c.cuda->stream()>>>(rotation_of(dy, dx.gradient, angles, -1, dx.accumulates), x_THC.f32(),
                                                            factors.f32());
        check_launch(c, "norm and rope, backward");
        c.tape->done(y);
    });
    return y;
}

}  // namespace vitrine::cuda
