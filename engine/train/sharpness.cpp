// Curvature from gradients.
#include "engine/train/sharpness.h"

#include <cmath>
#include <limits>

namespace vitrine {
namespace {

double dot(const std::vector<double>& a, const std::vector<double>& b) {
    double sum = 0;
    for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
    return sum;
}

}  // namespace

std::vector<double> hessian_times(const GradientAt& gradient, const std::vector<double>& x, const std::vector<double>& v,
                                  double step) {
    const double scale = step / std::sqrt(dot(v, v));
    std::vector<double> at = x;
    for (size_t i = 0; i < at.size(); ++i) at[i] += scale * v[i];
    std::vector<double> product = gradient(at);
    for (size_t i = 0; i < at.size(); ++i) at[i] = x[i] - scale * v[i];
    const std::vector<double> behind = gradient(at);
    for (size_t i = 0; i < product.size(); ++i) product[i] = (product[i] - behind[i]) / (2 * scale);
    return product;
}

double largest_curvature(const GradientAt& gradient, const std::vector<double>& x, std::vector<double> from, double step,
                         const std::vector<double>& scale) {
    const auto scaled = [&](size_t i) { return scale.empty() ? 1 : scale[i]; };
    // The eigenvalue of P^-1 H that lies farthest from `shift`.
    const auto farthest_from = [&](double shift, std::vector<double> v) {
        double value = std::numeric_limits<double>::quiet_NaN();
        for (int k = 0; k < kPowerSteps; ++k) {
            double square = 0;
            const double before = value;
            for (size_t i = 0; i < v.size(); ++i) {
                if (scaled(i) == 0) v[i] = 0;
                square += scaled(i) * v[i] * v[i];
            }
            if (!(square > 0) || !std::isfinite(square)) return value;
            for (double& f : v) f /= std::sqrt(square);
            const std::vector<double> product = hessian_times(gradient, x, v, step);
            value = dot(v, product);
            if (std::abs(value - before) < 1e-3 * std::abs(value)) break;
            for (size_t i = 0; i < v.size(); ++i) v[i] = scaled(i) == 0 ? 0 : product[i] / scaled(i) - shift * v[i];
        }
        return value;
    };
    const double value = farthest_from(0, from);
    return value < 0 ? farthest_from(value, std::move(from)) : value;
}

}  // namespace vitrine
