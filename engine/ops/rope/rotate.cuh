// Rotation inside kernels: a layer's frequencies by value, and the angles and pairs as the CPU forms them.
#pragma once
#include <vector>

#include "engine/ops/kernel.cuh"

namespace vitrine::cuda {

// Travels as a kernel's argument, so that a captured step needs no host memory.
struct Frequencies {
    static constexpr int kMost = 256;
    float at[kMost];
    int n;
};
inline Frequencies frequencies_of(const std::vector<double>& f) {
    VITRINE_ASSERT(f.size() <= Frequencies::kMost);
    Frequencies out;
    out.n = static_cast<int>(f.size());
    for (size_t i = 0; i < f.size(); ++i) out.at[i] = static_cast<float>(f[i]);
    return out;
}

// The angle is an FP32 product, its cosine and sine are exact to FP32.
__device__ inline void cos_sin(int64_t position, float frequency, float& cosine, float& sine) {
    double s, c;
    sincos(static_cast<double>(__fmul_rn(static_cast<float>(position), frequency)), &s, &c);
    cosine = static_cast<float>(c), sine = static_cast<float>(s);
}
// (a, b) by an angle; products are rounded one by one, as on the CPU.
__device__ inline void rotate_pair(float& a, float& b, float cosine, float sine) {
    const float x = __fsub_rn(__fmul_rn(a, cosine), __fmul_rn(b, sine));
    b = __fadd_rn(__fmul_rn(a, sine), __fmul_rn(b, cosine));
    a = x;
}
// The last 2 * half of a row's c columns, in shared memory, by threads `thread`, thread + n_threads, ..; sign -1: back.
__device__ inline void rotate_row(float* row, int c, const float* cosines, const float* sines, int half, float sign,
                                  bool is_rounded, int thread, int n_threads) {
    float* last = row + c - 2 * half;
    for (int i = thread; i < half; i += n_threads) {
        float a = last[2 * i], b = last[2 * i + 1];
        rotate_pair(a, b, cosines[i], sign * sines[i]);
        last[2 * i] = is_rounded ? round_bf16(a) : a;
        last[2 * i + 1] = is_rounded ? round_bf16(b) : b;
    }
}

}  // namespace vitrine::cuda
