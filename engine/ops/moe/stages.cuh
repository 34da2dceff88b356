// Stages of operands in shared memory for the experts' products on tensor cores: copies that run ahead, and tiles of 8 x 8 values
// on their way to registers.
#pragma once
#include <cstdint>

namespace vitrine::cuda {

// 16 bytes, of which `bytes` (0 or 16) come from global memory and the rest is zero.
__device__ inline void copy_async(uint32_t to, const void* from, int bytes) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
}
__device__ inline void load_matrices(uint32_t (&m)[4], uint32_t from) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
                 : "r"(from)
                 : "memory");
}
// The same, each of the four turned.
__device__ inline void load_turned(uint32_t (&m)[4], uint32_t from) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
                 : "r"(from)
                 : "memory");
}
// Eight columns of a row in a stage: rows have 128 bytes, and their eight pieces are turned so that eight rows meet all banks.
__device__ inline uint32_t piece(int row, int at) { return static_cast<uint32_t>(row * 128 + ((at ^ row) & 7) * 16); }
// Of 64 rows with sixteen pieces: those from the eighth on lie behind the others.
__device__ inline uint32_t wide_piece(int row, int at) { return piece(row, at) + static_cast<uint32_t>(at / 8 * 64 * 128); }

}  // namespace vitrine::cuda
