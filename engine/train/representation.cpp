// Redundancy of experts, and a linear probe, in FP64 and in one order.
#include "engine/train/representation.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "engine/base/error.h"
#include "engine/base/solve.h"

namespace vitrine {
namespace {

using Values = std::vector<double>;

double dot(const float* a, const float* b, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(a[i]) * b[i];
    return sum;
}

// Products of the tokens' outputs of one expert, diagonal 0: what the unbiased HSIC wants.
Values gram_of(const float* outputs, int64_t n_tokens, int64_t width) {
    Values k(static_cast<size_t>(n_tokens * n_tokens));
    for (int64_t t = 0; t < n_tokens; ++t)
        for (int64_t u = 0; u < t; ++u) {
            const double v = dot(outputs + t * width, outputs + u * width, width);
            k[static_cast<size_t>(t * n_tokens + u)] = k[static_cast<size_t>(u * n_tokens + t)] = v;
        }
    return k;
}

// HSIC_1 of Song 2012, times n (n - 3), which cancels: tr(K L) + 1'K1 1'L1 / ((n-1)(n-2)) - 2 / (n-2) 1'K L 1.
double hsic(const Values& k, const Values& l, int64_t n) {
    double trace = 0, sum_k = 0, sum_l = 0, both = 0;
    for (int64_t t = 0; t < n; ++t) {
        double row_k = 0, row_l = 0;
        for (int64_t u = 0; u < n; ++u) {
            const auto at = static_cast<size_t>(t * n + u);
            trace += k[at] * l[at], row_k += k[at], row_l += l[at];
        }
        sum_k += row_k, sum_l += row_l, both += row_k * row_l;
    }
    const auto d = static_cast<double>(n);
    return trace + sum_k * sum_l / ((d - 1) * (d - 2)) - 2 / (d - 2) * both;
}

struct Rows {
    const float* values;
    int64_t width, begin, end;
    const float* row(int64_t r) const { return values + r * width; }
    Values mean() const {
        Values m(static_cast<size_t>(width));
        for (int64_t r = begin; r < end; ++r)
            for (int64_t i = 0; i < width; ++i) m[static_cast<size_t>(i)] += row(r)[i];
        for (double& v : m) v /= static_cast<double>(end - begin);
        return m;
    }
};

// The map [D, M] from centred x to centred y.
Values fit(const Rows& x, const Rows& y, const Values& x_mean, const Values& y_mean) {
    constexpr double kRidge = 1e-6;  // of the mean diagonal: directions that x does not have
    const int64_t d = x.width, m = y.width;
    Values gram(static_cast<size_t>(d * d)), map(static_cast<size_t>(d * m)), c(static_cast<size_t>(d));
    for (int64_t r = x.begin; r < x.end; ++r) {
        for (int64_t i = 0; i < d; ++i) c[static_cast<size_t>(i)] = x.row(r)[i] - x_mean[static_cast<size_t>(i)];
        for (int64_t i = 0; i < d; ++i) {
            const double v = c[static_cast<size_t>(i)];
            double *to_gram = gram.data() + i * d, *to_map = map.data() + i * m;
            for (int64_t j = 0; j < d; ++j) to_gram[j] += v * c[static_cast<size_t>(j)];
            for (int64_t j = 0; j < m; ++j) to_map[j] += v * (y.row(r)[j] - y_mean[static_cast<size_t>(j)]);
        }
    }
    double trace = 0;
    for (int64_t i = 0; i < d; ++i) trace += gram[static_cast<size_t>(i * d + i)];
    const double ridge = std::max(kRidge * trace / static_cast<double>(d), std::numeric_limits<double>::min());
    for (int64_t i = 0; i < d; ++i) gram[static_cast<size_t>(i * d + i)] += ridge;
    solve_positive(gram, map, d, m);
    return map;
}

// Squared errors and squared deviations of one half, predicted from the other.
struct Squares {
    double error = 0, deviation = 0, values = 0;
};
Squares predict(const Rows& x, const Rows& y, const Rows& x_fit, const Rows& y_fit) {
    const Values x_mean = x_fit.mean(), y_mean = y_fit.mean(), own_mean = y.mean(),
                 map = fit(x_fit, y_fit, x_mean, y_mean);
    Squares s;
    for (int64_t r = x.begin; r < x.end; ++r) {
        Values guess = y_mean;
        for (int64_t i = 0; i < x.width; ++i) {
            const double v = x.row(r)[i] - x_mean[static_cast<size_t>(i)];
            for (int64_t j = 0; j < y.width; ++j)
                guess[static_cast<size_t>(j)] += v * map[static_cast<size_t>(i * y.width + j)];
        }
        for (int64_t j = 0; j < y.width; ++j) {
            const double error = y.row(r)[j] - guess[static_cast<size_t>(j)],
                         off = y.row(r)[j] - own_mean[static_cast<size_t>(j)];
            s.error += error * error, s.deviation += off * off, s.values += std::pow(y.row(r)[j], 2);
        }
    }
    return s;
}

}  // namespace

Redundancy expert_redundancy(std::span<const float> outputs, int64_t n_experts, int64_t n_tokens) {
    VITRINE_ASSERT(n_experts > 1 && n_tokens > 0 && outputs.size() % static_cast<size_t>(n_experts * n_tokens) == 0);
    const int64_t width = static_cast<int64_t>(outputs.size()) / (n_experts * n_tokens);
    const auto of = [&](int64_t e, int64_t t) { return outputs.data() + (e * n_tokens + t) * width; };
    std::vector<Values> grams;
    Values norms, self;
    for (int64_t e = 0; e < n_experts; ++e) {
        for (int64_t t = 0; t < n_tokens; ++t) norms.push_back(std::sqrt(dot(of(e, t), of(e, t), width)));
        if (n_tokens < 4) continue;
        grams.push_back(gram_of(of(e, 0), n_tokens, width));
        self.push_back(hsic(grams.back(), grams.back(), n_tokens));
    }
    Redundancy r{0, -1};
    double cka = 0;
    for (int64_t a = 0; a < n_experts; ++a)
        for (int64_t b = 0; b < a; ++b) {
            double sum = 0;
            for (int64_t t = 0; t < n_tokens; ++t) {
                const double both =
                    norms[static_cast<size_t>(a * n_tokens + t)] * norms[static_cast<size_t>(b * n_tokens + t)];
                if (both > 0) sum += dot(of(a, t), of(b, t), width) / both;
            }
            sum /= static_cast<double>(n_tokens);
            r.cosine += sum, r.most = std::max(r.most, sum);
            if (grams.empty()) continue;
            const auto i = static_cast<size_t>(a), j = static_cast<size_t>(b);
            const double scale = std::sqrt(std::max(0.0, self[i]) * std::max(0.0, self[j]));
            if (scale > 0) cka += hsic(grams[i], grams[j], n_tokens) / scale;
        }
    const double n_pairs = static_cast<double>(n_experts * (n_experts - 1)) / 2;
    r.cosine /= n_pairs;
    if (!grams.empty()) r.cka = cka / n_pairs;
    return r;
}

double linear_probe_r2(std::span<const float> x, std::span<const float> y, int64_t n_rows) {
    constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
    if (n_rows == 0) return kNone;
    const int64_t d = static_cast<int64_t>(x.size()) / n_rows, m = static_cast<int64_t>(y.size()) / n_rows,
                  half = n_rows / 2;
    if (half < 2 * (d + 1)) return kNone;
    const Rows x0{x.data(), d, 0, half}, x1{x.data(), d, half, n_rows}, y0{y.data(), m, 0, half},
        y1{y.data(), m, half, n_rows};
    const Squares first = predict(x0, y0, x1, y1), second = predict(x1, y1, x0, y0);
    const double deviation = first.deviation + second.deviation, rounding = 1e-20 * (first.values + second.values);
    return deviation > rounding ? 1 - (first.error + second.error) / deviation : kNone;
}

}  // namespace vitrine
