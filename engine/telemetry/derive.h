// Numbers derived from probes, computed once for panels, dumps and tests alike (v4-spec 11; MaxVio: arXiv 2408.15664).
#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace vitrine {

// Everything about one mixing matrix C [n, n] (C[from][to]); new streams are C^T times the old ones.
struct MixingStats {
    double row_error = 0, column_error = 0;     // max |sum - 1| over rows, columns of C
    double sigma1 = 0, sigma2 = 0;              // largest singular values
    double distance_identity = 0, distance_uniform = 0;  // Frobenius
};
MixingStats mixing_stats(std::span<const float> comb, int n);

// Amax gain of the composite map P = C_s^T ... C_1^T: forward = max absolute row sum, backward = max absolute column sum of P.
// What a maximum hides: the streams that fade. Column j sums what all later streams hold of stream j before these sites.
struct Gain {
    double forward = 1, backward = 1;
    double min_column = 1;      // smallest column sum of P (signed)
    double max_log_column = 0;  // max |ln(column sum)|; infinite where a sum is not positive
};
// combs: consecutive [n, n] matrices in the order they act. One Gain after each.
std::vector<Gain> composite_gain(const std::vector<std::span<const float>>& combs, int n);

// Load over a span of tokens, from counts[e] = how often expert e was chosen.
struct LoadStats {
    double max_violation = 0;                   // max load / mean load - 1
    double entropy = 0, max_entropy = 0;        // [bit]
    int n_dead = 0;                             // experts never chosen
    int64_t total = 0;
};
LoadStats load_stats(std::span<const int64_t> counts);

// Indices of the k largest of `scores`, best first, lowest index on ties (-0 equals +0).
std::vector<int> top_indices(std::span<const float> scores, int k);

}  // namespace vitrine
