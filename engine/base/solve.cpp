// Cholesky's decomposition and two triangular solves, in FP64.
#include "engine/base/solve.h"

#include <cmath>

namespace vitrine {

void solve_positive(std::vector<double>& a, std::vector<double>& b, int64_t n, int64_t m) {
    const auto at = [n](int64_t i, int64_t j) { return static_cast<size_t>(i * n + j); };
    for (int64_t i = 0; i < n; ++i)
        for (int64_t j = 0; j <= i; ++j) {
            double sum = a[at(i, j)];
            for (int64_t k = 0; k < j; ++k) sum -= a[at(i, k)] * a[at(j, k)];
            a[at(i, j)] = i == j ? std::sqrt(sum) : sum / a[at(j, j)];
        }
    const auto row = [&](int64_t i) { return b.data() + i * m; };
    for (int64_t i = 0; i < n; ++i) {
        for (int64_t k = 0; k < i; ++k)
            for (int64_t c = 0; c < m; ++c) row(i)[c] -= a[at(i, k)] * row(k)[c];
        for (int64_t c = 0; c < m; ++c) row(i)[c] /= a[at(i, i)];
    }
    for (int64_t i = n; i-- > 0;) {
        for (int64_t k = i + 1; k < n; ++k)
            for (int64_t c = 0; c < m; ++c) row(i)[c] -= a[at(k, i)] * row(k)[c];
        for (int64_t c = 0; c < m; ++c) row(i)[c] /= a[at(i, i)];
    }
}

}  // namespace vitrine
