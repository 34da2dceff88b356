// What vectors say about each other: outputs of experts for the same tokens, tokens behind a compressed entry.
#pragma once
#include <cstdint>
#include <limits>
#include <span>

namespace vitrine {

// How alike experts are that see the same tokens (v4 chooses few for each token; here all are asked).
struct Redundancy {
    double cosine = 0;  // of two experts' outputs for a token: mean over pairs and tokens
    double most = 0;    // of the pair whose mean over tokens is largest
    // Linear centred kernel alignment (Kornblith 2019, arXiv 1905.00414) with the unbiased HSIC (Song 2012, Nguyen
    // 2020, arXiv 2010.15327), mean over pairs: 1 = the same up to rotation and scale, 0 in the mean for independent
    // ones. NaN below 4 tokens.
    double cka = std::numeric_limits<double>::quiet_NaN();
};
// outputs [E, T, D], E at least 2. An output of zeros has cosine 0.
Redundancy expert_redundancy(std::span<const float> outputs, int64_t n_experts, int64_t n_tokens);

// R² of y [N, M] predicted from x [N, D] by least squares with an intercept (Alain and Bengio 2016, arXiv 1610.01644):
// each half of the rows is predicted by the map that fits the other half, squared errors and deviations from the half's
// mean are summed over rows and columns. May be negative. NaN when a half has fewer than 2 (D + 1) rows or y does not
// vary.
double linear_probe_r2(std::span<const float> x, std::span<const float> y, int64_t n_rows);

}  // namespace vitrine
