// Numbers derived from probes, in FP64: singular values and errors of mixing matrices, composite gain, expert load.
#include "engine/telemetry/derive.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "engine/base/error.h"
#include "engine/telemetry/derive_streams.h"

namespace vitrine {

// Singular values by one-sided Jacobi rotations of the columns: small matrices, full relative accuracy, no dependency
// on how a library orders or thresholds them. Descending.
std::vector<double> singular_values(std::vector<double> a, int n) {
    constexpr int kMaxSweeps = 60;
    constexpr double kTolerance = 1e-15;
    for (int sweep = 0, rotated = 1; sweep < kMaxSweeps && rotated; ++sweep) {
        rotated = 0;
        for (int p = 0; p < n; ++p) {
            for (int q = p + 1; q < n; ++q) {
                double alpha = 0, beta = 0, gamma = 0;
                for (int i = 0; i < n; ++i) {
                    const double x = a[i * n + p], y = a[i * n + q];
                    alpha += x * x, beta += y * y, gamma += x * y;
                }
                if (std::abs(gamma) <= kTolerance * std::sqrt(alpha * beta)) continue;
                rotated = 1;
                const double zeta = (beta - alpha) / (2 * gamma);
                const double t = std::copysign(1.0, zeta) / (std::abs(zeta) + std::hypot(1.0, zeta));
                const double cos = 1 / std::hypot(1.0, t), sin = cos * t;
                for (int i = 0; i < n; ++i) {
                    const double x = a[i * n + p], y = a[i * n + q];
                    a[i * n + p] = cos * x - sin * y;
                    a[i * n + q] = sin * x + cos * y;
                }
            }
        }
    }
    std::vector<double> sigma(n);
    for (int q = 0; q < n; ++q) {
        double norm = 0;
        for (int i = 0; i < n; ++i) norm = std::hypot(norm, a[i * n + q]);
        sigma[q] = norm;
    }
    std::sort(sigma.begin(), sigma.end(), std::greater<>());
    return sigma;
}

MixingStats mixing_stats(std::span<const float> comb, int n) {
    VITRINE_ASSERT(n > 0 && comb.size() == static_cast<size_t>(n) * n);
    MixingStats s;
    const std::vector<double> c(comb.begin(), comb.end());
    double to_identity = 0, to_uniform = 0;
    for (int j = 0; j < n; ++j) {
        double row = 0, column = 0;
        for (int k = 0; k < n; ++k) {
            row += c[j * n + k];
            column += c[k * n + j];
            const double d = c[j * n + k] - (j == k), u = c[j * n + k] - 1.0 / n;
            to_identity += d * d, to_uniform += u * u;
        }
        s.row_error = larger(s.row_error, std::abs(row - 1));
        s.column_error = larger(s.column_error, std::abs(column - 1));
    }
    s.distance_identity = std::sqrt(to_identity);
    s.distance_uniform = std::sqrt(to_uniform);
    if (!std::isfinite(to_identity)) {
        s.sigma1 = s.sigma2 = std::numeric_limits<double>::quiet_NaN();
        return s;
    }
    const std::vector<double> sigma = singular_values(c, n);
    s.sigma1 = sigma[0];
    s.sigma2 = n > 1 ? sigma[1] : 0;
    return s;
}

std::vector<Gain> composite_gain(const std::vector<std::span<const float>>& combs, int n) {
    VITRINE_ASSERT(n > 0);
    std::vector<double> product(static_cast<size_t>(n) * n), next(product.size());
    for (int j = 0; j < n; ++j) product[j * n + j] = 1;
    std::vector<Gain> gains;
    gains.reserve(combs.size());
    for (const auto& comb : combs) {
        VITRINE_ASSERT(comb.size() == product.size());
        act_on(comb, product, next, n);
        product.swap(next);
        const Gain g = gain_of(product, n);
        gains.push_back(g);
    }
    return gains;
}

LoadStats load_stats(std::span<const int64_t> counts) {
    LoadStats s;
    if (counts.empty()) return s;
    s.max_entropy = std::log2(static_cast<double>(counts.size()));
    s.total = std::accumulate(counts.begin(), counts.end(), int64_t{0});
    s.n_dead = static_cast<int>(std::count(counts.begin(), counts.end(), 0));
    if (s.total == 0) return s;
    const double mean = static_cast<double>(s.total) / static_cast<double>(counts.size());
    s.max_violation = static_cast<double>(*std::max_element(counts.begin(), counts.end())) / mean - 1;
    for (const int64_t c : counts) {
        const double p = static_cast<double>(c) / static_cast<double>(s.total);
        if (c > 0) s.entropy -= p * std::log2(p);
    }
    return s;
}

std::vector<int> top_indices(std::span<const float> scores, int k) {
    std::vector<int> order(scores.size());
    std::iota(order.begin(), order.end(), 0);
    const auto n = std::min(scores.size(), static_cast<size_t>(std::max(k, 0)));
    // NaN ranks last, so that the order stays strict and weak whatever a broken model publishes.
    const auto better = [scores](int a, int b) {
        const bool nan_a = std::isnan(scores[a]), nan_b = std::isnan(scores[b]);
        if (nan_a != nan_b) return nan_b;
        if (!nan_a && scores[a] != scores[b]) return scores[a] > scores[b];
        return a < b;
    };
    std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(n), order.end(), better);
    order.resize(n);
    return order;
}

}  // namespace vitrine
