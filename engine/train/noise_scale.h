// Gradient-noise scale: from what batch size on a gradient hardly says more than that of a larger batch
// (McCandlish et al. 2018, 1812.06162: B_simple = tr(Sigma) / |G|^2). Of gradients in the CPU's memory.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "engine/train/metrics.h"

namespace vitrine {

struct GradientNoise {
    double trace = 0;   // of the covariance of one token's gradient
    double square = 0;  // |G|^2 of the expected gradient
};
// From the gradients of `n_part` of a batch's n tokens (means over tokens): difference = |G_part - G|^2, whole = |G|^2.
// Both are unbiased where sequences are independent and equally long: the difference has an expectation of tr(Sigma)
// (1/n_part - 1/n), |G|^2 that of the expected gradient and tr(Sigma) / n. So `square` may be negative. (Their appendix
// A.1 takes the difference of two norms; the norm of the difference varies less.)
GradientNoise gradient_noise(double difference, double whole, int64_t n_part, int64_t n);

// Means over the last steps that measured it, about ten: the ratio of two noisy numbers would be nothing.
class NoiseScale {
  public:
    void add(const GradientNoise& now);
    // gradient_noise.trace and .square of `now`; gradient_noise.scale [tokens] of the means, while |G|^2 is positive.
    void report(const GradientNoise& now, ScalarList& out) const;
    GradientNoise means;  // not divided by the weight of their steps, which is the same for both
};

// Gradients of leaves as they were for a part of a batch, by leaf; empty where none was asked for.
struct PartGradient {
    int64_t n_counted = 0;  // tokens
    std::vector<std::vector<std::byte>> by_leaf;
};
// As they are now, of leaves for which is_active(leaf index).
PartGradient copy_gradients(const Masters& masters, const std::function<bool(size_t)>& is_active, int64_t n_counted);
// Sum over those leaves of the squared distance from the gradients that are there now.
double squared_distance(Ctx& ctx, const Masters& masters, const PartGradient& part);

}  // namespace vitrine
