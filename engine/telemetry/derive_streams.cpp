// Hyper-connections over many tokens, in FP64: gains, shapes of mixing matrices, use of the streams.
#include "engine/telemetry/derive_streams.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "engine/base/error.h"

namespace vitrine {

double larger(double a, double b) { return std::isnan(b) ? b : std::max(a, b); }

namespace {

double smaller(double a, double b) { return std::isnan(b) ? b : std::min(a, b); }

using Matrix = std::vector<double>;

// Spectral radius: |A^(2^k)|^(1/2^k), the logarithm of the norm kept apart. Complex pairs and defective matrices need no case of
// their own: what is left after 50 squarings is a factor |kappa|^(2^-50).
double spectral_radius(Matrix a, int n) {
    constexpr int kSquarings = 50;
    Matrix next(a.size());
    double log_norm = 0, weight = 1;  // ln |A^(2^k)| / 2^k so far
    for (int k = 0; k <= kSquarings; ++k) {
        double norm = 0;
        for (double x : a) norm = std::hypot(norm, x);
        if (!(norm > 0) || !std::isfinite(norm)) return norm > 0 ? norm : 0;
        log_norm += weight * std::log(norm);
        for (double& x : a) x /= norm;
        if (k == kSquarings) break;
        for (int i = 0; i < n; ++i)
            for (int j = 0; j < n; ++j) {
                double sum = 0;
                for (int l = 0; l < n; ++l) sum += a[i * n + l] * a[l * n + j];
                next[i * n + j] = sum;
            }
        a.swap(next);
        weight /= 2;
    }
    return std::exp(log_norm);
}

// The second compound matrix: its eigenvalues are the products of two eigenvalues, so its radius is |lambda1 lambda2|.
Matrix compound(const Matrix& a, int n) {
    std::vector<std::pair<int, int>> pairs;
    for (int i = 0; i < n; ++i)
        for (int j = i + 1; j < n; ++j) pairs.emplace_back(i, j);
    Matrix out;
    for (const auto& [i, j] : pairs)
        for (const auto& [k, l] : pairs) out.push_back(a[i * n + k] * a[j * n + l] - a[i * n + l] * a[j * n + k]);
    return out;
}

// |C - P|² = |C|² + n - 2 sum_j C[j][perm(j)]: the nearest permutation has the largest sum.
double distance_to_permutation(const Matrix& c, int n) {
    constexpr int kMost = 8;
    if (n > kMost) return std::numeric_limits<double>::quiet_NaN();
    std::vector<int> order(static_cast<size_t>(n));
    std::iota(order.begin(), order.end(), 0);
    double best = std::numeric_limits<double>::infinity();
    do {
        double sum = 0;
        for (int j = 0; j < n; ++j)
            for (int k = 0; k < n; ++k) {
                const double d = c[j * n + k] - (order[static_cast<size_t>(j)] == k);
                sum += d * d;
            }
        best = std::min(best, sum);
    } while (std::next_permutation(order.begin(), order.end()));
    return std::sqrt(best);
}

double row_entropy(const Matrix& c, int n) {
    double total = 0;
    for (int j = 0; j < n; ++j) {
        double sum = 0;
        for (int k = 0; k < n; ++k) sum += std::abs(c[j * n + k]);
        for (int k = 0; k < n && sum > 0; ++k) {
            const double p = std::abs(c[j * n + k]) / sum;
            if (p > 0) total -= p * std::log2(p);
        }
    }
    return total / n;
}

Matrix identity(int n) {
    Matrix p(static_cast<size_t>(n) * n);
    for (int j = 0; j < n; ++j) p[static_cast<size_t>(j * n + j)] = 1;
    return p;
}

void widen(Gain& g, const Gain& other) {
    g.forward = larger(g.forward, other.forward), g.backward = larger(g.backward, other.backward);
    g.min_column = smaller(g.min_column, other.min_column);
    g.max_log_column = larger(g.max_log_column, other.max_log_column);
}
void add(Gain& g, const Gain& other, double weight) {
    g.forward += weight * other.forward, g.backward += weight * other.backward;
    g.min_column += weight * other.min_column, g.max_log_column += weight * other.max_log_column;
}
void add_errors(SiteGain& g, std::span<const float> comb, int n) {
    for (int j = 0; j < n; ++j) {
        double row = 0, column = 0;
        for (int k = 0; k < n; ++k) row += comb[j * n + k], column += comb[k * n + j];
        g.row_error = larger(g.row_error, std::abs(row - 1));
        g.column_error = larger(g.column_error, std::abs(column - 1));
    }
}

}  // namespace

void act_on(std::span<const float> comb, const std::vector<double>& product, std::vector<double>& next, int n) {
    // new stream k = sum_j C[j][k] * old_j: the map is C^T, applied on the left.
    for (int k = 0; k < n; ++k)
        for (int i = 0; i < n; ++i) {
            double sum = 0;
            for (int j = 0; j < n; ++j) sum += static_cast<double>(comb[j * n + k]) * product[j * n + i];
            next[k * n + i] = sum;
        }
}

Gain gain_of(const std::vector<double>& product, int n) {
    Gain g{0, 0, std::numeric_limits<double>::infinity(), 0};
    for (int j = 0; j < n; ++j) {
        double row = 0, column = 0, sum = 0;
        for (int k = 0; k < n; ++k) {
            row += std::abs(product[j * n + k]), column += std::abs(product[k * n + j]);
            sum += product[k * n + j];
        }
        g.forward = larger(g.forward, row);
        g.backward = larger(g.backward, column);
        g.min_column = smaller(g.min_column, sum);
        const double log_column = sum > 0 ? std::abs(std::log(sum)) : std::numeric_limits<double>::infinity();
        g.max_log_column = larger(g.max_log_column, std::isnan(sum) ? sum : log_column);
    }
    return g;
}

MixingShape mixing_shape(std::span<const float> comb, int n) {
    VITRINE_ASSERT(n > 0 && comb.size() == static_cast<size_t>(n) * n);
    const Matrix c(comb.begin(), comb.end());
    MixingShape s;
    for (double x : c)
        if (!std::isfinite(x)) {
            constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
            return {kNaN, kNaN, kNaN, kNaN};
        }
    s.sigma_min = singular_values(c, n).back();
    const double first = spectral_radius(c, n);
    s.lambda2 = n > 1 && first > 0 ? spectral_radius(compound(c, n), n * (n - 1) / 2) / first : 0;
    s.distance_permutation = distance_to_permutation(c, n);
    s.entropy = row_entropy(c, n);
    return s;
}

std::vector<SiteGain> gains_over_tokens(const std::vector<std::span<const float>>& combs, int n) {
    VITRINE_ASSERT(n > 0);
    if (combs.empty()) return {};
    const size_t nn = static_cast<size_t>(n) * n, n_tokens = combs[0].size() / nn;
    constexpr double kFar = std::numeric_limits<double>::infinity();
    std::vector<SiteGain> gains(combs.size());
    for (SiteGain& g : gains) g.mean = g.alone_mean = {0, 0, 0, 0}, g.alone_max = g.max = {0, 0, kFar, 0};
    const Matrix unit = identity(n);
    Matrix product, next(nn), mean(nn);
    for (size_t t = 0; t < n_tokens; ++t) {
        product = unit;
        for (size_t s = 0; s < combs.size(); ++s) {
            VITRINE_ASSERT(combs[s].size() == n_tokens * nn);
            const auto comb = combs[s].subspan(t * nn, nn);
            add_errors(gains[s], comb, n);
            act_on(comb, unit, next, n);
            const Gain alone = gain_of(next, n);
            widen(gains[s].alone_max, alone), add(gains[s].alone_mean, alone, 1.0 / static_cast<double>(n_tokens));
            act_on(comb, product, next, n);
            product.swap(next);
            const Gain g = gain_of(product, n);
            widen(gains[s].max, g);
            add(gains[s].mean, g, 1.0 / static_cast<double>(n_tokens));
        }
    }
    product = unit;
    for (size_t s = 0; s < combs.size() && n_tokens > 0; ++s) {
        std::fill(mean.begin(), mean.end(), 0.0);
        for (size_t i = 0; i < combs[s].size(); ++i) mean[i % nn] += combs[s][i];
        std::vector<float> mean32(nn);
        for (size_t i = 0; i < nn; ++i) mean32[i] = static_cast<float>(mean[i] / static_cast<double>(n_tokens));
        act_on(mean32, product, next, n);
        product.swap(next);
        gains[s].of_mean = gain_of(product, n);
    }
    return gains;
}

double effective_rank(std::span<const float> norms, std::span<const float> cosines) {
    const size_t n = norms.size();
    VITRINE_ASSERT(n > 0 && cosines.size() == n * n);
    Matrix gram(n * n);  // X X^T: its singular values are the squares of those of X
    for (size_t i = 0; i < n * n; ++i) gram[i] = static_cast<double>(cosines[i]) * norms[i / n] * norms[i % n];
    std::vector<double> sigma = singular_values(gram, static_cast<int>(n));
    double sum = 0, entropy = 0;
    for (double& s : sigma) sum += s = std::sqrt(s);
    if (!(sum > 0)) return std::isnan(sum) ? sum : 0;
    for (double s : sigma)
        if (s > 0) entropy -= s / sum * std::log(s / sum);
    return std::exp(entropy);
}

StreamUse stream_use(std::span<const float> x, int n) {
    VITRINE_ASSERT(n > 1 && x.size() % static_cast<size_t>(n) == 0);
    const auto rows = static_cast<size_t>(n), d = x.size() / rows;
    std::vector<double> gram(rows * rows);
    for (size_t i = 0; i < rows; ++i)
        for (size_t j = 0; j <= i; ++j) {
            double sum = 0;
            for (size_t c = 0; c < d; ++c) sum += static_cast<double>(x[i * d + c]) * x[j * d + c];
            gram[i * rows + j] = gram[j * rows + i] = sum;
        }
    std::vector<float> norms(rows), cosines(rows * rows);
    StreamUse use;
    double squares = 0;
    for (size_t i = 0; i < rows; ++i) {
        squares += gram[i * rows + i];
        norms[i] = static_cast<float>(std::sqrt(gram[i * rows + i]));
        for (size_t j = 0; j < rows; ++j) {
            const double both = std::sqrt(gram[i * rows + i] * gram[j * rows + j]),
                         cosine = both > 0 ? gram[i * rows + j] / both : 0;
            cosines[i * rows + j] = static_cast<float>(cosine);
            if (j < i) use.cosine += 2 * cosine / (n * (n - 1.0));
        }
    }
    use.norm = std::sqrt(squares / n), use.rank = effective_rank(norms, cosines);
    return use;
}

std::vector<double> stream_shares(std::span<const float> weights, std::span<const float> norms) {
    VITRINE_ASSERT(norms.size() == weights.size() || norms.size() == 1);
    std::vector<double> share(weights.size());
    double sum = 0;
    for (size_t j = 0; j < share.size(); ++j)
        sum += share[j] = std::abs(static_cast<double>(weights[j]) * norms[norms.size() == 1 ? 0 : j]);
    for (double& s : share) s = sum > 0 ? s / sum : sum;
    return share;
}

}  // namespace vitrine
