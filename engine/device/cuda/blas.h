// Dense products by cuBLAS, opened at first use: a machine without it runs everything else and is told what is missing.
#pragma once
#include "engine/device/cuda/device.h"
#include "engine/tensor/tensor.h"

namespace vitrine::cuda {

// C [m, n] (row-major, ldc between rows) = A [m, k] B [n, k]^T, FP32 accumulation in an order of cuBLAS's choice, the same at
// every call of the same shape. A and B are both bf16 or both f32; C is f32, or bf16 when they are. `batch` > 1: that many
// products, `stride_*` elements apart. Error(device) when cuBLAS is missing or refuses.
struct Gemm {
    int64_t m, n, k, lda, ldb, ldc;
    DType input, output;
    int64_t batch = 1, stride_a = 0, stride_b = 0, stride_c = 0;
    bool a_is_km = false;      // A lies there as [k, m]: its transpose is used
    bool b_is_kn = false;      // B lies there as [k, n]
    bool accumulates = false;  // C += instead of C =
    bool may_use_tf32 = false; // f32 inputs may be rounded to TF32; else products are FP32
};
void gemm(Device& device, const Gemm& g, const void* a, const void* b, void* c);

}  // namespace vitrine::cuda
