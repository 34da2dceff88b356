// Clamped SwiGLU of one row, forward and backward, in both dtypes (v4-spec 5.2).
#pragma once
#include <algorithm>
#include <cmath>

#include "engine/device/cpu/kernels.h"

namespace vitrine {

// h = weight silu(min(gate, limit)) clamp(up, +-limit)
inline void swiglu_row(const float* gate, const float* up, int64_t n, float limit, float weight, float* h) {
    cpu::kernels().swiglu_row(gate, up, n, limit, weight, false, h);
}
inline void swiglu_row(const double* gate, const double* up, int64_t n, double limit, double weight, double* h) {
    for (int64_t i = 0; i < n; ++i) {
        const double g = std::min(gate[i], limit), u = std::clamp(up[i], -limit, limit);
        h[i] = weight * (g / (1 + std::exp(-g))) * u;
    }
}

// From dh: the gradients of gate and up (0 where they were clamped), h once more; returns the gradient of weight. dup
// may be dh.
template <class T>
T swiglu_backward_row(const T* gate, const T* up, int64_t n, T limit, T weight, const T* dh, T* h, T* dgate, T* dup) {
    T dweight = 0;
    for (int64_t i = 0; i < n; ++i) {
        const T g = std::min(gate[i], limit), u = std::clamp(up[i], -limit, limit);
        const T sigma = 1 / (1 + std::exp(-g)), silu = g * sigma, d = weight * dh[i];
        dweight += dh[i] * (silu * u);
        h[i] = weight * silu * u;
        dgate[i] = gate[i] <= limit ? d * u * sigma * (1 + g * (1 - sigma)) : T{0};
        dup[i] = up[i] == u ? d * silu : T{0};
    }
    return dweight;
}

}  // namespace vitrine
