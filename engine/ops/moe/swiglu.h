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
inline float swiglu_backward_row(const float* gate, const float* up, const float* dh, int64_t n, float limit, float weight,
                                 float* h, float* dgate, float* dup) {
    return cpu::kernels().swiglu_backward_row(gate, up, dh, n, limit, weight, h, dgate, dup);
}
inline double swiglu_backward_row(const double* gate, const double* up, const double* dh, int64_t n, double limit,
                                  double weight, double* h, double* dgate, double* dup) {
    double dweight = 0;
    for (int64_t i = 0; i < n; ++i) {
        const double g = std::min(gate[i], limit), u = std::clamp(up[i], -limit, limit);
        const double sigma = 1 / (1 + std::exp(-g)), silu = g * sigma, d = weight * dh[i];
        dweight += dh[i] * (silu * u);
        h[i] = weight * silu * u;
        dgate[i] = gate[i] <= limit ? d * u * sigma * (1 + g * (1 - sigma)) : 0;
        dup[i] = up[i] == u ? d * silu : 0;
    }
    return dweight;
}

}  // namespace vitrine
