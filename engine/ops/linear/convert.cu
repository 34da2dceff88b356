// Operands of the GPU's products: one pass over activations or weights each.
#include "engine/ops/linear/convert.h"

#include <algorithm>

#include "engine/ops/linear/packed.cuh"

namespace vitrine::cuda {
namespace {

constexpr int kThreads = 256, kFp8Block = 128;

template <class X, class Y>
__global__ void convert(const X* x, int64_t n, Y* y) {
    for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += static_cast<int64_t>(gridDim.x) * blockDim.x)
        y[i] = narrow<Y>(widen(x[i]));
}

// A warp per block of 128 values of a row; NaN makes its block NaN.
template <class X, class Y>
__global__ void fp8_blocks(const X* x, int64_t n_rows, int64_t width, int64_t ldx, Y* y, int64_t ldy) {
    const int64_t per_row = (width + kFp8Block - 1) / kFp8Block;
    const int64_t at = static_cast<int64_t>(blockIdx.x) * (blockDim.x / kWarp) + threadIdx.x / kWarp;
    if (at >= n_rows * per_row) return;
    const int64_t row = at / per_row, first = at % per_row * kFp8Block + threadIdx.x % kWarp;
    float v[kFp8Block / kWarp], amax = 0;
    bool has_nan = false;
#pragma unroll
    for (int i = 0; i < kFp8Block / kWarp; ++i) {
        const int64_t col = first + i * kWarp;
        v[i] = col < width ? widen(x[row * ldx + col]) : 0;
        amax = fmaxf(amax, fabsf(v[i]));
        has_nan |= v[i] != v[i];
    }
    amax = fmaxf(warp_max(amax), cpu::kFp8MinAmax);
    const uint8_t code = __any_sync(~0u, has_nan) ? 255 : cpu::fp8_scale(amax);
    const float scale = cpu::e8m0_to_f32(code), inverse = 1.0f / scale;
#pragma unroll
    for (int i = 0; i < kFp8Block / kWarp; ++i) {
        const int64_t col = first + i * kWarp;
        if (col < width) y[row * ldy + col] = narrow<Y>(cpu::fp8_decode(cpu::fp8_encode(v[i] * inverse)) * scale);
    }
}

// A chunk of 16 bytes per thread.
template <DType D, class Y>
__global__ void widen_rows(cpu::PackedMatrix w, int64_t row0, int64_t n_rows, bool is_whole, Y* y) {
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
        const float four[4] = {v.x * scale, v.y * scale, v.z * scale, v.w * scale};
#pragma unroll
        for (int i = 0; i < 4; ++i)
            if (col + 4 * part + i < w.in) to[4 * part + i] = narrow<Y>(four[i]);
    }
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
    fp8_blocks<<<ceil_div(n_blocks, kThreads / kWarp), kThreads, 0, ctx.cuda->stream()>>>(
        static_cast<const X*>(x), n_rows, width, ldx, static_cast<Y*>(y), ldy);
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

void round_to_bf16(Ctx& ctx, const Tensor& x, const Tensor& y) { launch_convert<float, bf16>(ctx, x, y); }

Tensor fp8_rows(Ctx& ctx, const Tensor& x, int64_t width) {
    const Tensor y = ctx.arena.make(DType::bf16, x.shape);
    with_activation(x.dtype, [&](auto from) {
        launch_fp8<decltype(from), bf16>(ctx, x.data, x.count() / width, width, width, y.data, width);
    });
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

}  // namespace vitrine::cuda
