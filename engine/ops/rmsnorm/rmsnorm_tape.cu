// RMSNorm on a GPU's tape: y = w x r; dx = r (g - x r^2 mean(g x)), g = w dy; dw = sum over rows of dy x r (docs/math/rmsnorm.md).
#include <algorithm>

#include "engine/ops/kernel.cuh"
#include "engine/ops/linear/copies.h"
#include "engine/ops/rmsnorm/rmsnorm.h"
#include "engine/ops/row_sums.h"
#include "engine/ops/trained.h"

namespace vitrine::cuda {
namespace {

constexpr int kThreads = 256;

// Rows of d values; w null: no weight. y_bf16 null: no copy. dw: partial sums [gridDim.x, d], or null.
struct Rows {
    const float *x, *w;
    int64_t n_rows;
    int d;
    float eps;
    float *y, *factors;
    bf16* y_bf16;
};
struct Gradients {
    const float* dy;
    float *dx, *dw;
    bool accumulates;
    int per_group;  // consecutive rows of a group of lanes
};

template <int kLanes>
__device__ float lane_sum(float x) {
    for (int i = kLanes / 2; i > 0; i /= 2) x += __shfl_xor_sync(~0u, x, i);
    return x;
}
__device__ float4 four_at(const float* p) { return *reinterpret_cast<const float4*>(p); }
__device__ float dot(float4 a, float4 b) { return a.x * b.x + a.y * b.y + a.z * b.z + a.w * b.w; }
__device__ float4 times(float4 a, float4 b) { return {a.x * b.x, a.y * b.y, a.z * b.z, a.w * b.w}; }
__device__ float4 times(float4 a, float b) { return {a.x * b, a.y * b, a.z * b, a.w * b}; }

// A row to kLanes lanes, kFours times four values a lane; d is a multiple of 4 and at most 4 kLanes kFours.
template <int kLanes, int kFours>
__global__ void norm_forward(Rows a) {
    after_previous();
    const int64_t row = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) / kLanes;
    const bool is_there = row < a.n_rows;
    const float* x = a.x + row * a.d;
    float4 v[kFours];
    float sum = 0;
#pragma unroll
    for (int j = 0; j < kFours; ++j) {
        const int i = (j * kLanes + threadIdx.x % kLanes) * 4;
        v[j] = is_there && i < a.d ? four_at(x + i) : float4{0, 0, 0, 0};
        sum += dot(v[j], v[j]);
    }
    const float factor = 1.0f / sqrtf(lane_sum<kLanes>(sum) / static_cast<float>(a.d) + a.eps);
    if (!is_there) return;
    if (threadIdx.x % kLanes == 0) a.factors[row] = factor;
#pragma unroll
    for (int j = 0; j < kFours; ++j) {
        const int i = (j * kLanes + threadIdx.x % kLanes) * 4;
        if (i >= a.d) break;
        const float4 y = times(a.w ? times(four_at(a.w + i), v[j]) : v[j], factor);
        *reinterpret_cast<float4*>(a.y + row * a.d + i) = y;
        if (!a.y_bf16) continue;
        auto* copy = reinterpret_cast<__nv_bfloat162*>(a.y_bf16 + row * a.d + i);
        copy[0] = __floats2bfloat162_rn(y.x, y.y), copy[1] = __floats2bfloat162_rn(y.z, y.w);
    }
}

// A group of lanes takes g.per_group consecutive rows and keeps its share of dw in registers.
template <int kLanes, int kFours>
__global__ void norm_backward(Rows a, Gradients g) {
    after_previous();
    __shared__ __align__(16) float total[4 * kLanes * kFours];
    constexpr int kGroups = kThreads / kLanes;
    const int lane = threadIdx.x % kLanes, group = threadIdx.x / kLanes;
    const int64_t row0 = (static_cast<int64_t>(blockIdx.x) * kGroups + group) * g.per_group;
    float4 dw[kFours];
#pragma unroll
    for (int j = 0; j < kFours; ++j) dw[j] = {0, 0, 0, 0};
    for (int r = 0; r < g.per_group; ++r) {
        const int64_t row = row0 + r;
        const bool is_there = row < a.n_rows;
        const float factor = is_there ? a.factors[row] : 0.0f;
        float4 x[kFours], dy[kFours];
        float sum = 0;
#pragma unroll
        for (int j = 0; j < kFours; ++j) {
            const int i = (j * kLanes + lane) * 4;
            const bool has = is_there && i < a.d;
            x[j] = has ? four_at(a.x + row * a.d + i) : float4{0, 0, 0, 0};
            dy[j] = has ? four_at(g.dy + row * a.d + i) : float4{0, 0, 0, 0};
            const float4 both = times(times(dy[j], x[j]), factor);
            dw[j] = {dw[j].x + both.x, dw[j].y + both.y, dw[j].z + both.z, dw[j].w + both.w};
            if (a.w && has) dy[j] = times(four_at(a.w + i), dy[j]);
            sum += dot(dy[j], x[j]);
        }
        const float shared = lane_sum<kLanes>(sum) / static_cast<float>(a.d) * factor * factor;
#pragma unroll
        for (int j = 0; j < kFours; ++j) {
            const int i = (j * kLanes + lane) * 4;
            if (!is_there || i >= a.d) continue;
            float4* to = reinterpret_cast<float4*>(g.dx + row * a.d + i);
            const float4 was = g.accumulates ? *to : float4{0, 0, 0, 0};
            *to = {was.x + factor * (dy[j].x - x[j].x * shared), was.y + factor * (dy[j].y - x[j].y * shared),
                   was.z + factor * (dy[j].z - x[j].z * shared), was.w + factor * (dy[j].w - x[j].w * shared)};
        }
    }
    if (!g.dw) return;
    for (int turn = 0; turn < kGroups; ++turn) {  // groups in their order
        if (turn == group)
#pragma unroll
            for (int j = 0; j < kFours; ++j) {
                auto* to = reinterpret_cast<float4*>(total) + j * kLanes + lane;
                const float4 was = turn == 0 ? float4{0, 0, 0, 0} : *to;
                *to = {was.x + dw[j].x, was.y + dw[j].y, was.z + dw[j].z, was.w + dw[j].w};
            }
        __syncthreads();
    }
    for (int i = threadIdx.x; i < a.d; i += kThreads) g.dw[static_cast<int64_t>(blockIdx.x) * a.d + i] = total[i];
}

// ---- any d: a warp per row, values read twice
__global__ void any_norm_forward(Rows a) {
    after_previous();
    const int64_t row = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) / kWarp;
    if (row >= a.n_rows) return;  // whole warps
    const int lane = threadIdx.x % kWarp;
    const float* x = a.x + row * a.d;
    float sum = 0;
    for (int i = lane; i < a.d; i += kWarp) sum += x[i] * x[i];
    const float factor = 1.0f / sqrtf(warp_sum(sum) / static_cast<float>(a.d) + a.eps);
    if (lane == 0) a.factors[row] = factor;
    for (int i = lane; i < a.d; i += kWarp) {
        const float y = (a.w ? a.w[i] : 1.0f) * x[i] * factor;
        a.y[row * a.d + i] = y;
        if (a.y_bf16) a.y_bf16[row * a.d + i] = narrow<bf16>(y);
    }
}
__global__ void any_norm_to_input(Rows a, Gradients g) {
    after_previous();
    const int64_t row = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) / kWarp;
    if (row >= a.n_rows) return;
    const int lane = threadIdx.x % kWarp;
    const float *x = a.x + row * a.d, *dy = g.dy + row * a.d, factor = a.factors[row];
    float sum = 0;
    for (int i = lane; i < a.d; i += kWarp) sum += (a.w ? a.w[i] : 1.0f) * dy[i] * x[i];
    const float shared = warp_sum(sum) / static_cast<float>(a.d) * factor * factor;
    for (int i = lane; i < a.d; i += kWarp) {
        float& to = g.dx[row * a.d + i];
        const float v = factor * ((a.w ? a.w[i] : 1.0f) * dy[i] - x[i] * shared);
        to = g.accumulates ? to + v : v;
    }
}
// blockIdx.x: a piece of g.per_group rows; a thread per column.
__global__ void any_norm_to_weight(Rows a, Gradients g) {
    after_previous();
    const int64_t row0 = static_cast<int64_t>(blockIdx.x) * g.per_group;
    const int64_t row1 = row0 + g.per_group < a.n_rows ? row0 + g.per_group : a.n_rows;
    for (int i = threadIdx.x; i < a.d; i += kThreads) {
        float sum = 0;
        for (int64_t r = row0; r < row1; ++r) sum += g.dy[r * a.d + i] * a.x[r * a.d + i] * a.factors[r];
        g.dw[blockIdx.x * static_cast<int64_t>(a.d) + i] = sum;
    }
}

// Calls f with lanes and fours for rows of d; false: no such form.
template <class F>
bool with_split(int64_t d, F&& f) {
    if (d % 4 != 0) return false;
    if (d <= 64) f(std::integral_constant<int, 16>{}, std::integral_constant<int, 1>{});
    else if (d <= 128) f(std::integral_constant<int, 32>{}, std::integral_constant<int, 1>{});
    else if (d <= 256) f(std::integral_constant<int, 32>{}, std::integral_constant<int, 2>{});
    else if (d <= 512) f(std::integral_constant<int, 32>{}, std::integral_constant<int, 4>{});
    else if (d <= 1024) f(std::integral_constant<int, 32>{}, std::integral_constant<int, 8>{});
    else if (d <= 2048) f(std::integral_constant<int, 32>{}, std::integral_constant<int, 16>{});
    else return false;
    return true;
}

bool is_aligned(const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }
bool are_aligned(const Rows& a) { return is_aligned(a.x) && is_aligned(a.w) && is_aligned(a.y) && is_aligned(a.y_bf16); }

void forward(Ctx& ctx, const Rows& a) {
    const auto stream = ctx.cuda->stream();
    const bool is_split = are_aligned(a) && with_split(a.d, [&](auto lanes, auto fours) {
        norm_forward<lanes(), fours()><<<ceil_div(a.n_rows * lanes(), kThreads), kThreads, 0, stream>>>(a);
    });
    if (!is_split) any_norm_forward<<<ceil_div(a.n_rows * kWarp, kThreads), kThreads, 0, stream>>>(a);
    check_launch(ctx, "rmsnorm");
}

// dw: the master's gradient, or empty.
void backward(Ctx& ctx, const Rows& a, Gradients g, const Tensor& dw) {
    constexpr int64_t kManyBlocks = 512;
    const auto stream = ctx.cuda->stream();
    const auto partial = [&](int64_t n_blocks) {
        if (!dw.empty()) g.dw = ctx.arena.make(DType::f32, {n_blocks, a.d}).f32();
        return static_cast<unsigned>(n_blocks);
    };
    int64_t n_blocks = 0;
    const bool is_split = are_aligned(a) && is_aligned(g.dy) && is_aligned(g.dx) && with_split(a.d, [&](auto lanes, auto fours) {
        const int64_t groups = kThreads / lanes();
        g.per_group = static_cast<int>(std::clamp<int64_t>(a.n_rows / (groups * kManyBlocks), 1, 64));
        n_blocks = ceil_div(a.n_rows, groups * g.per_group);
        const unsigned grid = partial(n_blocks);
        norm_backward<lanes(), fours()><<<grid, kThreads, 0, stream>>>(a, g);
    });
    if (!is_split) {
        any_norm_to_input<<<ceil_div(a.n_rows * kWarp, kThreads), kThreads, 0, stream>>>(a, g);
        g.per_group = static_cast<int>(std::clamp<int64_t>(a.n_rows / kManyBlocks, 1, 64));
        n_blocks = ceil_div(a.n_rows, g.per_group);
        const unsigned grid = partial(n_blocks);
        if (g.dw) any_norm_to_weight<<<grid, kThreads, 0, stream>>>(a, g);
    }
    check_launch(ctx, "rmsnorm, backward");
    if (g.dw) add_row_sums(ctx, g.dw, n_blocks, a.d, a.d, dw.f32(), true);
}

}  // namespace

Tensor rmsnorm_on_tape(Ctx& ctx, const Tensor& x, const Param* weight, int64_t d, double eps) {
    const int64_t n_rows = x.count() / d;
    const Tensor y = ctx.arena.make(DType::f32, x.shape), factors = ctx.arena.make(DType::f32, {n_rows});
    if (n_rows == 0) return y;
    const Tensor w = weight ? trained_value(ctx, *weight) : Tensor{};
    const Tensor master = weight && is_trained(ctx, *weight) ? weight->master : Tensor{};
    const Tensor copy = weight ? bf16_with(ctx, y) : Tensor{};  // without a weight no product follows
    const Rows rows{x.f32(), weight ? w.f32() : nullptr, n_rows, static_cast<int>(d), static_cast<float>(eps), y.f32(),
                    factors.f32(), static_cast<bf16*>(copy.data)};
    forward(ctx, rows);
    ctx.tape->record([=](Ctx& c) {
        if (!c.tape->has_grad(y)) return;
        const Tensor dy = c.tape->grad(y);
        const Tape::Flow dx = c.tape->flow(x);
        backward(c, rows, {dy.f32(), dx.gradient.f32(), nullptr, dx.accumulates, 1},
                 master.empty() ? Tensor{} : c.tape->grad(master));
        c.tape->done(y);
    });
    return y;
}

}  // namespace vitrine::cuda
