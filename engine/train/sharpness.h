// Curvature of the loss without second derivatives: products with the Hessian from two gradients, its largest eigenvalue by
// power iteration (edge of stability: Cohen et al. 2021, arXiv 2103.00065).
#pragma once
#include <functional>
#include <vector>

namespace vitrine {

// The gradient at x; both have the same length.
using GradientAt = std::function<std::vector<double>(const std::vector<double>& x)>;

// H v at x by [g(x + e v) - g(x - e v)] / 2e, where e v is `step` long; v is not zero.
std::vector<double> hessian_times(const GradientAt& gradient, const std::vector<double>& x, const std::vector<double>& v,
                                  double step);

// The largest eigenvalue of P^-1/2 H P^-1/2 at x, P the diagonal `scale` (empty: 1; where it is 0 nothing moves), as the Rayleigh
// quotient after at most kPowerSteps products from the direction `from`, which is never above it; ends when it changes by less
// than 1e-3 of itself. Where that leads to a negative one of larger modulus, as many again with this one subtracted. NaN where
// `from` is zero.
inline constexpr int kPowerSteps = 20;
double largest_curvature(const GradientAt& gradient, const std::vector<double>& x, std::vector<double> from, double step,
                         const std::vector<double>& scale = {});

}  // namespace vitrine
