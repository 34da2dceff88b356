// Rotary position embedding on the tape of a GPU: angles of a list of positions, rotation into a new tensor and back.
#include "engine/ops/kernel.cuh"
#include "engine/ops/rope/rope.h"
#include "engine/ops/rope/rotate.cuh"

namespace vitrine::cuda {
namespace {

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
    unsigned n_rows, n_heads, c, half;
    float sign;
    bool accumulates;
    __device__ void pair(unsigned row, unsigned i, float& a, float& b) const {
        const unsigned angle = row / n_heads * half + i;
        rotate_pair(a, b, cosines[angle], sign * sines[angle]);
    }
};

// A thread per four columns; c and the rotated columns are multiples of four.
__global__ void rotate_fours(const Rotation r) {
    after_previous();
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x, per_row = r.c / 4, rest = r.c - 2 * r.half;
    if (i >= r.n_rows * per_row) return;
    const unsigned row = i / per_row, column = (i - row * per_row) * 4;
    float4 v = reinterpret_cast<const float4*>(r.x)[i];
    if (column >= rest) {
        r.pair(row, (column - rest) / 2, v.x, v.y);
        r.pair(row, (column - rest) / 2 + 1, v.z, v.w);
    }
    float4* to = reinterpret_cast<float4*>(r.y) + i;
    if (r.accumulates) {
        const float4 old = *to;
        v.x += old.x, v.y += old.y, v.z += old.z, v.w += old.w;
    }
    *to = v;
}

// Any shape: a thread per column that rests and per pair.
__global__ void rotate_any(const Rotation r) {
    after_previous();
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x, rest = r.c - 2 * r.half, per_row = rest + r.half;
    if (i >= r.n_rows * per_row) return;
    const unsigned row = i / per_row, unit = i - row * per_row;
    const float* x = r.x + static_cast<int64_t>(row) * r.c;
    float* y = r.y + static_cast<int64_t>(row) * r.c;
    if (unit < rest) {
        y[unit] = r.accumulates ? y[unit] + x[unit] : x[unit];
        return;
    }
    const unsigned at = rest + 2 * (unit - rest);
    float a = x[at], b = x[at + 1];
    r.pair(row, unit - rest, a, b);
    y[at] = r.accumulates ? y[at] + a : a;
    y[at + 1] = r.accumulates ? y[at + 1] + b : b;
}

void rotate(Ctx& ctx, const Tensor& x, const Tensor& y, const RopeAngles& angles, int sign, bool accumulates) {
    const Shape& s = x.shape;
    const Rotation r{x.f32(),
                     angles.cos.f32(),
                     angles.sin.f32(),
                     y.f32(),
                     static_cast<unsigned>(s[0] * s[1]),
                     static_cast<unsigned>(s[1]),
                     static_cast<unsigned>(s[2]),
                     static_cast<unsigned>(angles.cos.dim(1)),
                     static_cast<float>(sign),
                     accumulates};
    const bool is_wide = r.c % 4 == 0 && r.half % 2 == 0;
    const int64_t n = s[0] * s[1] * (is_wide ? s[2] / 4 : s[2] - r.half);
    VITRINE_ASSERT(n < int64_t{1} << 31);
    const auto kernel = is_wide ? rotate_fours : rotate_any;
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
    rotate(ctx, x_THC, y, angles, sign, false);
    ctx.tape->record([=](Ctx& c) {
        if (!c.tape->has_grad(y)) return;
        const Tensor dy = c.tape->grad(y);
        const Tape::Flow dx = c.tape->flow(x_THC);
        rotate(c, dy, dx.gradient, angles, -sign, dx.accumulates);
    });
    return y;
}

}  // namespace vitrine::cuda
