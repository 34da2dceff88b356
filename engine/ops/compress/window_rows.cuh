// Window rows on their way to the rings, for the kernel that stores them.
#pragma once
#include "engine/ops/compress/compress.h"
#include "engine/ops/quantize/rows.cuh"
#include "engine/ops/rope/rotate.cuh"

namespace vitrine::cuda {

template <class T>
struct WindowRows {
    const T* kv;  // [T, c]
    const TokenAt* tokens;
    const LayerView* views;
    RowFormat format;
    bool is_normed, is_rounded;
    cpu::PackedMatrix norm;
    float eps;
    const float *cosines, *sines;  // [T, half], or null: rotated already
    int half;
};

template <class T>
WindowRows<T> window_rows(const Ctx& ctx, const WindowInput& in) {
    const Step& step = ctx.cuda->step;
    VITRINE_ASSERT(in.kv_TC.dim(0) == step.n_tokens);
    return {static_cast<const T*>(in.kv_TC.data),
            step.tokens,
            step.layer(ctx.layer),
            entry_rows(ctx, in.kv_TC.dim(1), in.rope_dim),
            in.norm_C != nullptr,
            ctx.is_reference(),
            in.norm_C ? in.norm_C->view : cpu::PackedMatrix{},
            static_cast<float>(in.eps),
            in.angles ? in.angles->cos.f32() : nullptr,
            in.angles ? in.angles->sin.f32() : nullptr,
            in.angles ? static_cast<int>(in.angles->cos.dim(1)) : 0};
}

// Token t's row, by all threads of the block. row: c floats of shared memory.
template <class T>
__device__ void store_window_row(const WindowRows<T>& a, int64_t t, float* row) {
    __shared__ float scratch[kWarp];
    const int c = a.format.c;
    float sum = 0;
    for (int i = threadIdx.x; i < c; i += blockDim.x) {
        row[i] = widen(a.kv[t * c + i]);
        sum += row[i] * row[i];
    }
    if (a.is_normed) {
        sum = block_sum(sum, scratch);
        const float factor = 1.0f / sqrtf(sum / static_cast<float>(c) + a.eps);
        for (int i = threadIdx.x; i < c; i += blockDim.x) {
            const float v = row[i] * factor * element(a.norm, 0, i);
            row[i] = a.is_rounded ? round_bf16(v) : v;
        }
    }
    __syncthreads();
    if (a.cosines)
        rotate_row(row, c, a.cosines + t * a.half, a.sines + t * a.half, a.half, 1, a.is_rounded, threadIdx.x, blockDim.x);
    __syncthreads();
    const TokenAt at = a.tokens[t];
    const LayerView& view = a.views[at.sequence];
    write_entry(a.format, row, view.window + at.position % view.window_capacity * a.format.bytes);
}

}  // namespace vitrine::cuda
