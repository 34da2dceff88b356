// Exact McNemar, Newcombe's interval, paired bootstrap over texts, recall.
#include "experiments/statistics.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "engine/base/error.h"
#include "engine/base/rng.h"
#include "experiments/curriculum/suite.h"

namespace vitrine::lab {

double Pairs::p_value() const {
    const int n_differ = n_only_a + n_only_b, k = std::min(n_only_a, n_only_b);
    double tail = 0;
    for (int i = 0; i <= k; ++i)
        tail += std::exp(std::lgamma(n_differ + 1.0) - std::lgamma(i + 1.0) - std::lgamma(n_differ - i + 1.0) -
                         n_differ * std::log(2.0));
    return std::min(1.0, 2 * tail);
}

Estimate Pairs::change() const {
    if (n == 0) return {0, -1, 1};
    const int n_a = n_both + n_only_a, n_b = n_both + n_only_b;
    const double a = share_a(), b = share_b(), d = difference(), neither = n - n_both - n_only_a - n_only_b;
    const curriculum::Interval of_a = curriculum::wilson(n_a, n), of_b = curriculum::wilson(n_b, n);
    const double margins = static_cast<double>(n_a) * (n - n_a) * static_cast<double>(n_b) * (n - n_b);
    double phi = 0;
    if (margins > 0) {
        const double cross = n_both * neither - static_cast<double>(n_only_a) * n_only_b;
        phi = (cross > 0 ? std::max(cross - n / 2.0, 0.0) : cross) / std::sqrt(margins);
    }
    const auto distance = [phi](double x, double y) {
        return std::sqrt(std::max(0.0, x * x - 2 * phi * x * y + y * y));
    };
    return {d, d - distance(b - of_b.lowest, of_a.highest - a), d + distance(of_b.highest - b, a - of_a.lowest)};
}

Pairs pairs_of(const std::vector<bool>& a, const std::vector<bool>& b) {
    VITRINE_ASSERT(a.size() == b.size());
    Pairs p;
    for (size_t i = 0; i < a.size(); ++i) p.add(a[i], b[i]);
    return p;
}

Estimate paired_difference(const std::vector<TextSum>& a, const std::vector<TextSum>& b, uint64_t seed) {
    VITRINE_ASSERT(a.size() == b.size());
    constexpr int kDraws = 2000;
    const size_t n = a.size();
    const auto mean = [&](auto&& pick) {
        double sum = 0;
        int64_t tokens = 0;
        for (size_t i = 0; i < n; ++i) {
            const size_t at = pick(i);
            VITRINE_ASSERT(a[at].n == b[at].n);
            sum += b[at].sum - a[at].sum, tokens += a[at].n;
        }
        return tokens ? sum / static_cast<double>(tokens) : 0;
    };
    Estimate e;
    e.value = mean([](size_t i) { return i; });
    std::vector<double> draws;
    for (int d = 0; d < kDraws; ++d) {
        const CounterRng rng(seed, static_cast<uint64_t>(d));
        draws.push_back(mean([&](size_t i) { return static_cast<size_t>(rng.bits(i) % n); }));
    }
    std::sort(draws.begin(), draws.end());
    e.lowest = draws[static_cast<size_t>(0.025 * kDraws)], e.highest = draws[static_cast<size_t>(0.975 * kDraws) - 1];
    return e;
}

double recall(const std::vector<int32_t>& predicted, const std::vector<int32_t>& chosen) {
    int n = 0, n_found = 0;
    for (const int32_t c : chosen) {
        if (c < 0) continue;
        ++n, n_found += std::find(predicted.begin(), predicted.end(), c) != predicted.end();
    }
    return n ? static_cast<double>(n_found) / n : 1;
}

std::vector<int32_t> best_indices(const std::vector<double>& scores, int k) {
    std::vector<int32_t> order(scores.size());
    std::iota(order.begin(), order.end(), 0);
    const auto n = std::min(order.size(), static_cast<size_t>(k));
    std::partial_sort(order.begin(), order.begin() + static_cast<int64_t>(n), order.end(), [&](int32_t a, int32_t b) {
        const double x = scores[static_cast<size_t>(a)], y = scores[static_cast<size_t>(b)];
        return x != y ? x > y : a < b;
    });
    order.resize(n);
    return order;
}

}  // namespace vitrine::lab
