// Numbers derived from hyper-connections over many tokens: gains along the depth, shape of a mixing matrix, use of the streams.
//
// Matrices as in derive.h: C[from][to], new streams are C^T times the old ones. For probes and for training alike.
#pragma once
#include <span>
#include <vector>

#include "engine/telemetry/derive.h"

namespace vitrine {

// Of one mixing matrix, besides MixingStats.
struct MixingShape {
    double sigma_min = 0;             // smallest singular value: 0 loses a direction of the streams
    double lambda2 = 0;               // modulus of the second eigenvalue: how slowly repeated mixing evens the streams out
    double distance_permutation = 0;  // Frobenius, to the nearest of the n! permutations (n <= 8; else NaN)
    double entropy = 0;               // [bit] mean over rows, of |c| / sum |c|; 0: permutation, log2 n: uniform
};
MixingShape mixing_shape(std::span<const float> comb, int n);

// Of one site over all tokens, as training and tables want it.
struct SiteGain {
    double row_error = 0, column_error = 0;          // largest of the site's own matrices
    Gain alone_mean, alone_max;                      // of the site's own map: over tokens (max's min_column: smallest)
    Gain mean, max;                                  // composite up to this site: over tokens (mean's min_column: mean too)
    Gain of_mean;                                    // composite of the token-mean matrices
};
// combs[s]: site s of every token, [T, n, n], in the order they act. One SiteGain each.
std::vector<SiteGain> gains_over_tokens(const std::vector<std::span<const float>>& combs, int n);

// exp(entropy of sigma / sum sigma) of streams X [n, d], from their norms [n] and cosines [n, n]: 1 = all the same, n = orthogonal
// and equally long.
double effective_rank(std::span<const float> norms, std::span<const float> cosines);

// Of streams X [n, d] themselves, n at least 2.
struct StreamUse {
    double norm = 0;    // root of the mean of their squared L2 norms
    double cosine = 0;  // mean over pairs of streams
    double rank = 0;    // effective_rank
};
StreamUse stream_use(std::span<const float> x, int n);

// Share of each stream in what a site reads (weights pre) or, with norms of one value, in where it writes (weights post):
// |w_j| norm_j over their sum. Zeros where all are zero.
std::vector<double> stream_shares(std::span<const float> weights, std::span<const float> norms);

// ---- what derive.cpp and this share
// Singular values of a [n, n], descending.
std::vector<double> singular_values(std::vector<double> a, int n);
// next = C^T product
void act_on(std::span<const float> comb, const std::vector<double>& product, std::vector<double>& next, int n);
Gain gain_of(const std::vector<double>& product, int n);
// A broken number must read as broken: std::max would drop a NaN on its right.
double larger(double a, double b);

}  // namespace vitrine
