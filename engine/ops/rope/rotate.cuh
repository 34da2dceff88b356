// Rotation inside kernels: a layer's frequencies by value, and the angles and pairs as the CPU forms them.
#pragma once
#include <cstdint>
#include <vector>

#include "engine/base/error.h"

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

#ifdef __CUDACC__
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
#endif

}  // namespace vitrine::cuda
