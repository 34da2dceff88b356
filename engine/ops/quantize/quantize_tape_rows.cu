// Fake quantisation of cache rows and indexer rows on the tape of a GPU, bit for bit as the CPU's; gradients pass straight through.
#include "engine/ops/quantize/quantize_tape.h"
#include "engine/ops/quantize/rows.cuh"

namespace vitrine::cuda {
namespace {

constexpr int kThreads = 128, kWarps = kThreads / kWarp;

// A warp per 64 columns: FP8 with one scale, and BF16 from column `plain` on.
__global__ void __launch_bounds__(kThreads) quantise_entries(const float* x, float* y, int64_t n_rows, int c, int plain) {
    after_previous();
    const int n_fp8 = (plain + cpu::kEntryBlock - 1) / cpu::kEntryBlock;
    const int per_row = n_fp8 + (c - plain + cpu::kEntryBlock - 1) / cpu::kEntryBlock;
    const int64_t i = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarp;
    const int64_t row = i / per_row;
    if (row >= n_rows) return;
    const int lane = threadIdx.x % kWarp, in_row = static_cast<int>(i - row * per_row);
    const bool is_fp8 = in_row < n_fp8;
    const int first = is_fp8 ? in_row * cpu::kEntryBlock : plain + (in_row - n_fp8) * cpu::kEntryBlock;
    const int end = min(first + cpu::kEntryBlock, is_fp8 ? plain : c);
    x += row * c, y += row * c;
    const int j = first + lane, k = j + kWarp;
    const float u = j < end ? x[j] : 0.0f, v = k < end ? x[k] : 0.0f;
    if (!is_fp8) {
        if (j < end) y[j] = cpu::round_bf16(u);
        if (k < end) y[k] = cpu::round_bf16(v);
        return;
    }
    const float amax = warp_amax(fabsf(u) > fabsf(v) || u != u ? u : v);
    const float s = cpu::e8m0_to_f32(cpu::fp8_scale(amax < cpu::kFp8MinAmax ? cpu::kFp8MinAmax : amax)), inverse = 1.0f / s;
    if (j < end) y[j] = cpu::fp8_decode(cpu::fp8_encode(u * inverse)) * s;
    if (k < end) y[k] = cpu::fp8_decode(cpu::fp8_encode(v * inverse)) * s;
}

// Walsh-Hadamard transform times n^-1/2 of a row in a warp's shared memory, not rounded: as vitrine::walsh.
__device__ inline void walsh(float* x, int n) {
    for (int h = 1; h < n; h *= 2) {
        for (int pair = threadIdx.x % kWarp; pair < n / 2; pair += kWarp) {
            const int i = pair / h * 2 * h + pair % h;
            const float a = x[i], b = x[i + h];
            x[i] = a + b, x[i + h] = a - b;
        }
        __syncwarp();
    }
    const auto f = static_cast<float>(1.0 / sqrt(static_cast<double>(n)));
    for (int i = threadIdx.x % kWarp; i < n; i += kWarp) x[i] *= f;
    __syncwarp();
}

// A warp per row of n values, a power of two. Shared memory: n floats for each.
__global__ void __launch_bounds__(kThreads) quantise_index_rows(const float* x, float* y, int64_t n_rows, int n) {
    after_previous();
    extern __shared__ __align__(16) float rows[];
    const int lane = threadIdx.x % kWarp;
    const int64_t r = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarp;
    if (r >= n_rows) return;
    float* row = rows + threadIdx.x / kWarp * n;
    for (int i = lane; i < n; i += kWarp) row[i] = x[r * n + i];
    __syncwarp();
    walsh(row, n);
    for (int i = lane; i - lane < n; i += kWarp) {
        uint8_t scale;
        const uint8_t code = fp4_block(i < n ? cpu::round_bf16(row[i]) : 0.0f, scale);
        if (i < n) y[r * n + i] = cpu::fp4_decode(code) * cpu::e8m0_to_f32(scale);
    }
}

__global__ void __launch_bounds__(kThreads) index_row_gradients(const float* dy, float* dx, int64_t n_rows, int n,
                                                                bool accumulates) {
    after_previous();
    extern __shared__ __align__(16) float rows[];
    const int lane = threadIdx.x % kWarp;
    const int64_t r = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarp;
    if (r >= n_rows) return;
    float* row = rows + threadIdx.x / kWarp * n;
    for (int i = lane; i < n; i += kWarp) row[i] = dy[r * n + i];
    __syncwarp();
    walsh(row, n);
    for (int i = lane; i < n; i += kWarp) dx[r * n + i] = accumulates ? dx[r * n + i] + row[i] : row[i];
}

__global__ void add_to(const float* from, float* to, int64_t n) {
    after_previous();
    const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i < n) to[i] += from[i];
}

}  // namespace

Tensor cache_rows_on_tape(Ctx& ctx, const Tensor& x_SC, int rope_dim) {
    const int64_t c = x_SC.shape[x_SC.shape.rank - 1], n_rows = x_SC.count() / c, plain = c - rope_dim;
    const int64_t per_row = ceil_div(plain, cpu::kEntryBlock) + ceil_div(rope_dim, cpu::kEntryBlock);
    const Tensor y = ctx.arena.make(DType::f32, x_SC.shape);
    quantise_entries<<<ceil_div(n_rows * per_row, kWarps), kThreads, 0, ctx.cuda->stream()>>>(
        x_SC.f32(), y.f32(), n_rows, static_cast<int>(c), static_cast<int>(plain));
    check_launch(ctx, "fake quantisation of cache rows");
    ctx.tape->record([=](Ctx& b) {
        if (!b.tape->has_grad(y)) return;
        const Tensor dy = b.tape->grad(y);
        const Tape::Flow dx = b.tape->flow(x_SC);
        const int64_t n = y.count();
        if (!dx.accumulates) return b.cuda->copy(dx.gradient.data, dy.data, static_cast<size_t>(n) * sizeof(float));
        add_to<<<ceil_div(n, 256), 256, 0, b.cuda->stream()>>>(dy.f32(), dx.gradient.f32(), n);
        check_launch(b, "gradient of cache rows");
    });
    return y;
}

Tensor index_rows_on_tape(Ctx& ctx, const Tensor& x_SD) {
    const int64_t n = x_SD.shape[x_SD.shape.rank - 1], n_rows = x_SD.count() / n;
    const size_t bytes = static_cast<size_t>(kWarps * n) * sizeof(float);
    VITRINE_ASSERT(bytes <= 48 << 10);
    const Tensor y = ctx.arena.make(DType::f32, x_SD.shape);
    quantise_index_rows<<<ceil_div(n_rows, kWarps), kThreads, bytes, ctx.cuda->stream()>>>(x_SD.f32(), y.f32(), n_rows,
                                                                                          static_cast<int>(n));
    check_launch(ctx, "fake quantisation of index rows");
    ctx.tape->record([=](Ctx& b) {
        if (!b.tape->has_grad(y)) return;
        const Tensor dy = b.tape->grad(y);
        const Tape::Flow dx = b.tape->flow(x_SD);
        index_row_gradients<<<ceil_div(n_rows, kWarps), kThreads, bytes, b.cuda->stream()>>>(
            dy.f32(), dx.gradient.f32(), n_rows, static_cast<int>(n), dx.accumulates);
        check_launch(b, "gradient of index rows");
    });
    return y;
}

}  // namespace vitrine::cuda
