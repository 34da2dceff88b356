// What every .cu file of the ops starts from: launches, activation types, widening of packed weights, sums over warps.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "engine/base/error.h"
#include "engine/device/cpu/formats.h"
#include "engine/device/cuda/device.h"
#include "engine/ops/ctx.h"

namespace vitrine::cuda {

using bf16 = __nv_bfloat16;
constexpr int kWarp = 32;

// Throws Error(device) if the launch before it was refused.
inline void check_launch(const Ctx& ctx, const char* kernel) { ctx.cuda->check(cudaGetLastError(), kernel); }
// Before a launch with this much dynamic shared memory. Never less than was asked for before: a captured step launches
// a kernel again with the sizes of its own layers, and may be held to the limit that the kernel has by then.
template <class Kernel>
void allow_shared(const Ctx& ctx, Kernel kernel, size_t bytes) {
    cudaFuncAttributes now{};
    ctx.cuda->check(cudaFuncGetAttributes(&now, kernel), "asking for shared memory");
    const int wanted = static_cast<int>(bytes) > now.maxDynamicSharedSizeBytes ? static_cast<int>(bytes)
                                                                               : now.maxDynamicSharedSizeBytes;
    ctx.cuda->check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, wanted),
                    "asking for shared memory");
}
inline unsigned ceil_div(int64_t a, int64_t b) { return static_cast<unsigned>((a + b - 1) / b); }

// In every kernel, before it reads what others wrote: waits until all that was queued before is done and seen. A captured step
// may start a kernel while the one before it runs (behind a product made ahead, while the two before it run), see GpuRunner.
__device__ inline void after_previous() {
#if __CUDA_ARCH__ >= 900
    cudaGridDependencySynchronize();
    cudaTriggerProgrammaticLaunchCompletion();
#endif
}

__device__ inline float widen(float x) { return x; }
__device__ inline float widen(bf16 x) { return __bfloat162float(x); }
__device__ inline float widen(__half x) { return __half2float(x); }
template <class T>
__device__ inline T narrow(float x) {
    if constexpr (sizeof(T) == 2) return __float2bfloat16_rn(x);
    else return x;
}
__device__ inline float round_bf16(float x) { return __bfloat162float(__float2bfloat16_rn(x)); }

// Calls f(T{}) with the element type of activations of dtype t: bf16 or f32.
template <class F>
void with_activation(DType t, F&& f) {
    VITRINE_ASSERT(t == DType::f32 || t == DType::bf16);
    if (t == DType::bf16) f(bf16{});
    else f(float{});
}

// Element (row, col) of a packed matrix in the GPU's memory; for small tensors and table rows, not for inner loops.
__device__ inline float element(const cpu::PackedMatrix& w, int64_t row, int64_t col) {
    const int64_t i = row * w.in + col;
    switch (w.dtype) {
        case DType::f32: return static_cast<const float*>(w.data)[i];
        case DType::bf16: return widen(static_cast<const bf16*>(w.data)[i]);
        case DType::f16: return widen(static_cast<const __half*>(w.data)[i]);
        default: break;
    }
    const int64_t block = row / w.block_rows * ((w.in + w.block_cols - 1) / w.block_cols) + col / w.block_cols;
    const float scale = w.scale_dtype == DType::f32 ? static_cast<const float*>(w.scale)[block]
                                                    : cpu::e8m0_to_f32(static_cast<const uint8_t*>(w.scale)[block]);
    const auto* bytes = static_cast<const uint8_t*>(w.data);
    if (w.dtype == DType::f8_e4m3) return cpu::fp8_decode(bytes[i]) * scale;
    return cpu::fp4_decode(static_cast<uint8_t>(bytes[i / 2] >> (i % 2 * 4) & 15)) * scale;
}

__device__ inline float warp_sum(float x) {
    for (int i = kWarp / 2; i > 0; i /= 2) x += __shfl_xor_sync(~0u, x, i);
    return x;
}
__device__ inline float warp_max(float x) {
    for (int i = kWarp / 2; i > 0; i /= 2) x = fmaxf(x, __shfl_xor_sync(~0u, x, i));
    return x;
}
// Over the block, every thread gets it; in a fixed order. `scratch`: 32 floats of shared memory.
__device__ inline float block_sum(float x, float* scratch) {
    x = warp_sum(x);
    const int warp = threadIdx.x / kWarp, n_warps = (blockDim.x + kWarp - 1) / kWarp;
    __syncthreads();
    if (threadIdx.x % kWarp == 0) scratch[warp] = x;
    __syncthreads();
    float sum = 0;
    for (int i = 0; i < n_warps; ++i) sum += scratch[i];
    return sum;
}

}  // namespace vitrine::cuda
