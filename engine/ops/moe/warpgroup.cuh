// Products of a warpgroup, four warps together, whose operands come straight from shared memory: architecture 9.0a only.
//
// Operands are BF16 and lie at multiples of 1,024 bytes as stages.cuh's `piece` lays them: rows of 128 bytes, eight pieces of each
// turned. "Wide" operands: a row holds 64 outputs of one term, and the other 64 lie kWideHalf bytes behind.
#pragma once
#include <cstdint>

namespace vitrine::cuda {

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
constexpr bool kHasWarpgroups = true;
#else
constexpr bool kHasWarpgroups = false;  // on the host too, which asks nothing
#endif

constexpr uint32_t kWideHalf = 64 * 128;  // of 64 terms

// An operand to the tensor cores: its address, the distance of halves of a wide one, that of eight rows, and how pieces are turned.
__device__ inline uint64_t operand_at(uint32_t address) {
    return (address & 0x3ffffu) >> 4 | static_cast<uint64_t>(kWideHalf >> 4) << 16 | static_cast<uint64_t>(1024 >> 4) << 32 |
           uint64_t{1} << 62;
}

// Before the first product: sums are in their registers. What ordinary stores and copies left in shared memory is shown to products
// before the barrier after which they read it.
__device__ inline void begin_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void show_to_products() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
__device__ inline void end_products() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// Until at most kQueued groups that end_products closed are left.
template <int kQueued>
__device__ inline void wait_for_products() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kQueued) : "memory");
}

// Tells the compiler what it can't see: products in a branch that only some of a warp might take would wait for each other.
__device__ inline int same_in_warp(int x) { return __shfl_sync(~0u, x, 0); }

// c [64, 128] += a [64, 16] b [128, 16]. A lane holds of c rows 16 warp + lane / 4 (c[.][0], c[.][1]) and 8 further, columns
// 8 j + 2 (lane % 4) and the next (c[j]).
template <bool kIsAWide, bool kIsBWide>
__device__ inline void multiply_64x128x16(float (&c)[16][4], uint64_t a, uint64_t b) {
    asm volatile(
        "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15,"
        " %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31,"
        " %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47,"
        " %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "
        "%64, %65, 1, 1, 1, %66, %67;"
        : "+f"(c[0][0]), "+f"(c[0][1]), "+f"(c[0][2]), "+f"(c[0][3]),
          "+f"(c[1][0]), "+f"(c[1][1]), "+f"(c[1][2]), "+f"(c[1][3]),
          "+f"(c[2][0]), "+f"(c[2][1]), "+f"(c[2][2]), "+f"(c[2][3]),
          "+f"(c[3][0]), "+f"(c[3][1]), "+f"(c[3][2]), "+f"(c[3][3]),
          "+f"(c[4][0]), "+f"(c[4][1]), "+f"(c[4][2]), "+f"(c[4][3]),
          "+f"(c[5][0]), "+f"(c[5][1]), "+f"(c[5][2]), "+f"(c[5][3]),
          "+f"(c[6][0]), "+f"(c[6][1]), "+f"(c[6][2]), "+f"(c[6][3]),
          "+f"(c[7][0]), "+f"(c[7][1]), "+f"(c[7][2]), "+f"(c[7][3]),
          "+f"(c[8][0]), "+f"(c[8][1]), "+f"(c[8][2]), "+f"(c[8][3]),
          "+f"(c[9][0]), "+f"(c[9][1]), "+f"(c[9][2]), "+f"(c[9][3]),
          "+f"(c[10][0]), "+f"(c[10][1]), "+f"(c[10][2]), "+f"(c[10][3]),
          "+f"(c[11][0]), "+f"(c[11][1]), "+f"(c[11][2]), "+f"(c[11][3]),
          "+f"(c[12][0]), "+f"(c[12][1]), "+f"(c[12][2]), "+f"(c[12][3]),
          "+f"(c[13][0]), "+f"(c[13][1]), "+f"(c[13][2]), "+f"(c[13][3]),
          "+f"(c[14][0]), "+f"(c[14][1]), "+f"(c[14][2]), "+f"(c[14][3]),
          "+f"(c[15][0]), "+f"(c[15][1]), "+f"(c[15][2]), "+f"(c[15][3])
        : "l"(a), "l"(b), "n"(int{kIsAWide}), "n"(int{kIsBWide}));
}

}  // namespace vitrine::cuda
