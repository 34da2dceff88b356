// What the router's kernels share: affinities, and a warp's choice of the best experts.
#pragma once
#include "engine/ops/kernel.cuh"

namespace vitrine::cuda {

// As affinity_of of the CPU's twin: s = sqrt(ln(1 + e^z)), e^(z/2) where the logarithm is lost.
__device__ inline float affinity_of(float z) {
    return z < -30 ? expf(z / 2) : sqrtf(fmaxf(z, 0) + log1pf(expf(-fabsf(z))));
}
// ds/dz, of s = affinity_of(z).
__device__ inline float affinity_slope(float z, float s) {
    if (z < -30) return s / 2;
    const float e = expf(-fabsf(z));
    return (z >= 0 ? 1 : e) / (1 + e) / (2 * s);
}

// Unsigned integers in the order of the floats, -0 as +0 (engine/ops/order.h).
__device__ inline uint32_t key_of(float x) {
    const uint32_t bits = __float_as_uint(x + 0.0f);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
__device__ inline uint64_t warp_best(uint64_t x) {
    for (int i = kWarp / 2; i > 0; i /= 2) {
        const uint64_t other = __shfl_xor_sync(~0u, static_cast<unsigned long long>(x), i);
        if (other > x) x = other;
    }
    return x;
}

// The k best of score [E], equal scores by the lower expert; what is taken is marked in `is_taken`. Returns by how much the last
// one exceeds the best left out.
__device__ inline float choose_best(const float* score, int64_t n_experts, int k, uint8_t* is_taken, int32_t* chosen) {
    const int lane = threadIdx.x % kWarp;
    float last = 0;
    for (int j = 0; j <= k; ++j) {
        uint64_t best = 0;  // key above, ~expert below: of equal keys the lower expert is the greater
        for (int64_t e = lane; e < n_experts; e += kWarp) {
            const uint64_t candidate = static_cast<uint64_t>(key_of(score[e])) << 32 | static_cast<uint32_t>(~e);
            if (!is_taken[e] && candidate > best) best = candidate;
        }
        best = warp_best(best);
        if (best == 0) return INFINITY;  // nobody is left out
        const auto expert = static_cast<int32_t>(~static_cast<uint32_t>(best));
        if (j == k) return last - score[expert];
        last = score[expert];
        if (lane == 0) chosen[j] = expert, is_taken[expert] = 1;
        __syncwarp();
    }
    return 0;
}

}  // namespace vitrine::cuda
