// Stacks of mixing matrices, by the engine's own Sinkhorn op in FP64.
#include "experiments/x02_sinkhorn/stacks.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "engine/base/error.h"
#include "engine/base/rng.h"
#include "engine/ops/hyper/hyper.h"
#include "engine/telemetry/derive.h"

namespace vitrine::lab {
namespace {

constexpr double kEps = 1e-6;        // hc_eps
using Matrix = std::vector<double>;  // [n, n]

Matrix product(const Matrix& a, const Matrix& b, int n) {
    Matrix c(a.size(), 0.0);
    for (int i = 0; i < n; ++i)
        for (int k = 0; k < n; ++k)
            for (int j = 0; j < n; ++j) c[i * n + j] += a[i * n + k] * b[k * n + j];
    return c;
}

class Normals {  // one stream of N(0, 1) per stack
  public:
    Normals(uint64_t seed, uint64_t stack) : rng_(seed, stack) {}
    double next() { return rng_.normal(i_++); }

  private:
    CounterRng rng_;
    uint64_t i_ = 0;
};

// Softmax over all permutations of products of logits: exactly doubly stochastic (mHC-lite).
Matrix permutation_mixture(const Matrix& z, int n) {
    std::vector<int> p(n);
    std::iota(p.begin(), p.end(), 0);
    std::vector<double> scores;
    std::vector<std::vector<int>> all;
    do {
        double s = 0;
        for (int i = 0; i < n; ++i) s += z[i * n + p[i]];
        scores.push_back(s), all.push_back(p);
    } while (std::next_permutation(p.begin(), p.end()));
    const double top = *std::max_element(scores.begin(), scores.end());
    double sum = 0;
    for (double& s : scores) sum += s = std::exp(s - top);
    Matrix b(z.size(), 0.0);
    for (size_t k = 0; k < all.size(); ++k)
        for (int i = 0; i < n; ++i) b[i * n + all[k][i]] += scores[k] / sum;
    return b;
}

class Stack {
  public:
    Stack(const StackShape& s, uint64_t seed, uint64_t index)
        : s_(s), normals_(seed, index), common_(s.streams * s.streams) {
        for (double& z : common_) z = normals_.next();
    }
    Matrix next() {  // B of the next layer
        const int n = s_.streams;
        Matrix z(common_.size());
        if (s_.kind == MatrixKind::unconstrained) {
            for (int i = 0; i < n * n; ++i) z[i] = (i % (n + 1) == 0) + s_.noise * normals_.next();
            return z;
        }
        for (size_t i = 0; i < z.size(); ++i)
            z[i] = s_.scale * (s_.is_independent ? normals_.next() : common_[i] + s_.spread * normals_.next());
        if (s_.kind == MatrixKind::permutations) return permutation_mixture(z, n);
        sinkhorn(z.data(), n, s_.iterations, kEps);
        Matrix b(z.size());
        for (int i = 0; i < n; ++i)
            for (int j = 0; j < n; ++j) b[j * n + i] = z[i * n + j];
        return b;
    }
    Matrix composite() {
        Matrix p = next();
        for (int l = 1; l < s_.layers; ++l) p = product(next(), p, s_.streams);
        return p;
    }

  private:
    const StackShape& s_;
    Normals normals_;
    Matrix common_;
};

double median(std::vector<double> v) {
    VITRINE_ASSERT(!v.empty());
    const auto middle = v.begin() + static_cast<int64_t>(v.size() / 2);
    std::nth_element(v.begin(), middle, v.end());
    return *middle;
}

Spread spread(const std::vector<double>& v) {
    return {median(v), *std::min_element(v.begin(), v.end()), *std::max_element(v.begin(), v.end())};
}

uint64_t repeat_seed(const StackShape& s, int repeat) {
    return s.seed * 1000 + static_cast<uint64_t>(repeat);
}

}  // namespace

ColumnSums column_sums(const StackShape& s, int repeats) {
    std::vector<double> largest, smallest, tops, bottoms;
    ColumnSums out;
    const int n = s.streams;
    for (int r = 0; r < repeats; ++r) {
        double max = 0, min = INFINITY;
        for (int i = 0; i < s.draws; ++i) {
            const Matrix p = Stack(s, repeat_seed(s, r), static_cast<uint64_t>(i)).composite();
            double top = 0, bottom = INFINITY;
            for (int j = 0; j < n; ++j) {
                double column = 0, row = 0;
                for (int k = 0; k < n; ++k) column += p[k * n + j], row += p[j * n + k];
                top = std::max(top, column), bottom = std::min(bottom, column);
                out.row_error = std::max(out.row_error, std::abs(row - 1));
            }
            tops.push_back(top), bottoms.push_back(bottom);
            max = std::max(max, top), min = std::min(min, bottom);
        }
        largest.push_back(max), smallest.push_back(min);
    }
    out.largest = spread(largest), out.smallest = spread(smallest);
    out.typical_largest = median(tops), out.typical_smallest = median(bottoms);
    return out;
}

Spread typical_gain(const StackShape& s, int repeats) {
    std::vector<double> medians;
    const int n = s.streams;
    for (int r = 0; r < repeats; ++r) {
        std::vector<double> gains;
        for (int i = 0; i < s.draws; ++i) {
            const Matrix p = Stack(s, repeat_seed(s, r), static_cast<uint64_t>(i)).composite();
            double gain = 0;
            for (int j = 0; j < n; ++j) {
                double row = 0;
                for (int k = 0; k < n; ++k) row += std::abs(p[j * n + k]);
                gain = std::max(gain, row);
            }
            gains.push_back(gain);
        }
        medians.push_back(median(gains));
    }
    return spread(medians);
}

Mixing mixing(const StackShape& s) {
    std::vector<double> sigmas, lambdas;
    const int n = s.streams;
    for (int i = 0; i < s.draws; ++i) {
        const Matrix b = Stack(s, s.seed, static_cast<uint64_t>(i)).next();
        std::vector<float> c(b.size());
        for (int j = 0; j < n; ++j)
            for (int k = 0; k < n; ++k) c[k * n + j] = static_cast<float>(b[j * n + k]);
        sigmas.push_back(mixing_stats(c, n).sigma2);
        // Deflated by the mean (eigenvalue 1), what is left shrinks by |lambda_2| a step: growth over many squarings.
        Matrix m(b);
        for (double& x : m) x -= 1.0 / n;
        double log_norm = 0;
        constexpr int kSquarings = 24;
        for (int k = 0; k < kSquarings; ++k) {
            double norm = 0;
            for (const double x : m) norm = std::max(norm, std::abs(x));
            if (norm == 0) break;
            for (double& x : m) x /= norm;
            log_norm += std::log(norm) / std::pow(2.0, k);
            m = product(m, m, n);
        }
        lambdas.push_back(std::exp(log_norm));
    }
    return {median(sigmas), median(lambdas)};
}

}  // namespace vitrine::lab
