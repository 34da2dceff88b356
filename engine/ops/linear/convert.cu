// Operands of the GPU's products: one pass over activations or weights each.
#include "engine/ops/linear/convert.h"

#include <algorithm>

#include "engine/ops/linear/packed.cuh"

namespace vitrine::cuda {
namespace {

constexpr int kThreads = 256, kFp8Block = 128;

template <class X, class Y>
__global__ void convert(const X* x, int64_t n, Y* y) {
    after_previous();
    for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < n;
         i += static_cast<int64_t>(gridDim.x) * blockDim.x)
        y[i] = narrow<Y>(widen(x[i]));
}

// A warp per block of 128 values of a row, four neighbours a lane; NaN makes its block NaN.
template <class X, class Y>
__global__ void fp8_blocks(const X* x, int64_t n_rows, int64_t width, int64_t ldx, Y* y, int64_t ldy, bool is_whole) {
    after_previous();
    const int64_t per_row = (width + kFp8Block - 1) / kFp8Block;
    const int64_t at = static_cast<int64_t>(blockIdx.x) * (blockDim.x / kWarp) + threadIdx.x / kWarp;
    if (at >= n_rows * per_row) return;
    const int64_t row = at / per_row, col = at % per_row * kFp8Block + threadIdx.x % kWarp * 4;
    const float4 v = col < width ? load_four(x + row * ldx + col, width - col, is_whole) : float4{0, 0, 0, 0};
    const Fp8Scale s = fp8_scale_of(v);
    if (col >= width) return;
    const float4 q = {through_fp8(v.x, s), through_fp8(v.y, s), through_fp8(v.z, s), through_fp8(v.w, s)};
    store_four(y + row * ldy + col, q, width - col, is_whole);
}

// A chunk of 16 bytes per thread.
template <DType D, class Y>
__global__ void widen_rows(cpu::PackedMatrix w, int64_t row0, int64_t n_rows, bool is_whole, Y* y) {
    after_previous();
    const int64_t per_row = (w.in + kChunk<D> - 1) / kChunk<D>;
    const int64_t at = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (at >= n_rows * per_row) return;
    const int64_t row = at / per_row, c = at % per_row, col = c * kChunk<D>;
    const uint4 raw = load_chunk<D>(w, row0 + row, c, is_whole);
    const float scale = scale_at<D>(w, row0 + row, col);
    Y* to = y + row * w.in + col;
#pragma unroll
    for (int part = 0; part < kChunk<D> / 4; ++part) {
        const float4 v = widen_four<D>(raw, part);
        const int64_t left = w.in - col - 4 * part;
        if (left > 0) store_four(to + 4 * part, {v.x * scale, v.y * scale, v.z * scale, v.w * scale}, left, is_whole);
    }
}

// Every weight as a sum of kTerms BF16 numbers, each the rounded rest: 8 bits of an FP32 mantissa a term. Term i of row r is row
// i n_rows + r of y.
template <DType D>
__global__ void split_rows(cpu::PackedMatrix w, int64_t row0, int64_t n_rows, bool is_whole, bf16* y) {
    after_previous();
    const int64_t per_row = (w.in + kChunk<D> - 1) / kChunk<D>;
    const int64_t at = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (at >= n_rows * per_row) return;
    const int64_t row = at / per_row, c = at % per_row, col = c * kChunk<D>;
    const uint4 raw = load_chunk<D>(w, row0 + row, c, is_whole);
    const float scale = scale_at<D>(w, row0 + row, col);
#pragma unroll
    for (int part = 0; part < kChunk<D> / 4; ++part) {
        const float4 v = widen_four<D>(raw, part);
        const int64_t left = w.in - col - 4 * part;
        float rest[4] = {v.x * scale, v.y * scale, v.z * scale, v.w * scale};
        for (int term = 0; term < kTerms && left > 0; ++term) {
            float rounded[4];
#pragma unroll
            for (int i = 0; i < 4; ++i) rounded[i] = round_bf16(rest[i]), rest[i] -= rounded[i];
            bf16* to = y + (term * n_rows + row) * w.in + col + 4 * part;
            store_four(to, {rounded[0], rounded[1], rounded[2], rounded[3]}, left, is_whole);
        }
    }
}

// y [n_rows, n] = the sum of the terms' products in x [n_rows, kTerms n], the smallest first.
template <class Y>
__global__ void add_terms(const float* x, int64_t n_rows, int64_t n, Y* y, int64_t ldy) {
    after_previous();
    const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= n_rows * n) return;
    const float* from = x + i / n * kTerms * n + i % n;
    float sum = 0;
#pragma unroll
    for (int term = kTerms - 1; term >= 0; --term) sum += from[term * n];
    y[i / n * ldy + i % n] = narrow<Y>(sum);
}

template <class X, class Y>
void launch_convert(Ctx& ctx, const Tensor& x, const Tensor& y) {
    VITRINE_ASSERT(dtype_bits(x.dtype) == 8 * sizeof(X) && dtype_bits(y.dtype) == 8 * sizeof(Y));
    if (x.count() == 0) return;
    const unsigned n_blocks = std::min(ceil_div(x.count(), kThreads * 4), 4096u);
    convert<<<n_blocks, kThreads, 0, ctx.cuda->stream()>>>(static_cast<const X*>(x.data), x.count(), static_cast<Y*>(y.data));
    check_launch(ctx, "converting");
}

template <class X, class Y>
void launch_fp8(Ctx& ctx, const void* x, int64_t n_rows, int64_t width, int64_t ldx, void* y, int64_t ldy) {
    const int64_t n_blocks = n_rows * ((width + kFp8Block - 1) / kFp8Block);
    if (n_blocks == 0) return;
    const bool is_whole = width % 4 == 0 && ldx % 4 == 0 && ldy % 4 == 0;
    fp8_blocks<<<ceil_div(n_blocks, kThreads / kWarp), kThreads, 0, ctx.cuda->stream()>>>(
        static_cast<const X*>(x), n_rows, width, ldx, static_cast<Y*>(y), ldy, is_whole);
    check_launch(ctx, "simulating FP8");
}

}  // namespace

Tensor as_dtype(Ctx& ctx, const Tensor& x, DType to) {
    if (x.dtype == to) return x;
    const Tensor y = ctx.arena.make(to, x.shape);
    if (to == DType::bf16) launch_convert<float, bf16>(ctx, x, y);
    else launch_convert<bf16, float>(ctx, x, y);
    return y;
}

Tensor fp8_rows(Ctx& ctx, const Tensor& x, int64_t width) {
    const Tensor y = ctx.arena.make(DType::bf16, x.shape);
    with_activation(x.dtype, [&](auto from) {
        launch_fp8<decltype(from), bf16>(ctx, x.data, x.count() / width, width, width, y.data, width);
    });
    return y;
}

Tensor fp8_values(Ctx& ctx, const Tensor& x, int64_t width) {
    const Tensor y = ctx.arena.make(DType::f32, x.shape);
    launch_fp8<float, float>(ctx, x.f32(), x.count() / width, width, width, y.f32(), width);
    return y;
}

void simulate_fp8(Ctx& ctx, const Tensor& x, int64_t n_rows, int64_t width, int64_t ld) {
    with_activation(x.dtype,
                    [&](auto type) { launch_fp8<decltype(type), decltype(type)>(ctx, x.data, n_rows, width, ld, x.data, ld); });
}

void widen_weights(Ctx& ctx, const cpu::PackedMatrix& w, int64_t row0, int64_t row1, void* to, DType dtype) {
    const int64_t n_chunks = (row1 - row0) * ((w.in + chunk_of(w.dtype) - 1) / chunk_of(w.dtype));
    with_format(w, [&](auto format) {
        with_activation(dtype, [&](auto into) {
            using Y = decltype(into);
            widen_rows<decltype(format)::value><<<ceil_div(n_chunks, kThreads), kThreads, 0, ctx.cuda->stream()>>>(
                w, row0, row1 - row0, has_whole_chunks(w), static_cast<Y*>(to));
        });
    });
    check_launch(ctx, "widening weights");
}

void split_weights(Ctx& ctx, const cpu::PackedMatrix& w, int64_t row0, int64_t row1, void* to) {
    const int64_t n_chunks = (row1 - row0) * ((w.in + chunk_of(w.dtype) - 1) / chunk_of(w.dtype));
    with_format(w, [&](auto format) {
        split_rows<decltype(format)::value><<<ceil_div(n_chunks, kThreads), kThreads, 0, ctx.cuda->stream()>>>(
            w, row0, row1 - row0, has_whole_chunks(w), static_cast<bf16*>(to));
    });
    check_launch(ctx, "splitting weights");
}

void add_split_products(Ctx& ctx, const float* x, int64_t n_rows, int64_t n, void* y, DType dtype, int64_t ldy) {
    with_activation(dtype, [&](auto type) {
        using Y = decltype(type);
        add_terms<<<ceil_div(n_rows * n, kThreads), kThreads, 0, ctx.cuda->stream()>>>(x, n_rows, n, static_cast<Y*>(y), ldy);
    });
    check_launch(ctx, "adding products");
}

}  // namespace vitrine::cuda
