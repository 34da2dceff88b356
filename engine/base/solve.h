// Linear equations of a symmetric positive definite matrix, for fits of least squares.
#pragma once
#include <cstdint>
#include <vector>

namespace vitrine {

// A X = B for the m columns of B [n, m] by Cholesky's A = L L'. Of A [n, n] the lower half is read, and overwritten
// with L; B with X. The order of sums is fixed. NaN where A is not positive definite.
void solve_positive(std::vector<double>& a, std::vector<double>& b, int64_t n, int64_t m);

}  // namespace vitrine
