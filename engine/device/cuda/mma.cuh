// Tensor-core products of 16 x 8 x 16 BF16 tiles with FP32 sums, and their operands' way out of shared memory.
#pragma once
#include <cuda_bf16.h>

#include <cstdint>

namespace vitrine::cuda {

// Four 8 x 8 tiles; lanes 8 i .. 8 i + 7 give the addresses of tile i's rows (16 bytes each).
__device__ inline void load_tiles(uint32_t (&r)[4], const __nv_bfloat16* row) {
    const auto at = static_cast<uint32_t>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at)
                 : "memory");
}
// The same, each tile transposed.
__device__ inline void load_tiles_transposed(uint32_t (&r)[4], const __nv_bfloat16* row) {
    const auto at = static_cast<uint32_t>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at)
                 : "memory");
}

// sum [16, 8] += a [16, 16] b [16, 8]. A lane holds rows lane/4 and lane/4 + 8, columns 2 (lane % 4) and the next, of
// sum.
__device__ inline void mma(float (&sum)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, "
        "%2, %3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

}  // namespace vitrine::cuda
