// The statistics of the measures: conditional information with its null, means, ratios.
#pragma once
#include <cstdint>
#include <vector>

#include "experiments/curriculum/suite.h"

namespace vitrine::inner {

using curriculum::Interval;

// Tokens of a text with the experts that they went to.
struct Occurrences {
    int n_domains = 0, n_experts = 0, k = 0;
    std::vector<int32_t> token, domain, sample;  // of each occurrence
    std::vector<int32_t> experts;                // k of each, -1 = none
    size_t size() const { return token.size(); }
};

// I(expert; domain | token id) in bits: the plug-in estimate, which is too large on finite texts, and what it comes to
// when the domains are shuffled among the occurrences of each token id, where the truth is 0.
struct Information {
    double plug_in = 0, null_mean = 0, null_highest = 0;  // of the shuffles
    double corrected() const { return plug_in - null_mean; }
    Interval interval;  // of `corrected`, 95 %, from leaving out a tenth of the samples at a time
};
Information information(const Occurrences& o, int n_shuffles, uint64_t seed);

struct Mean {
    int n = 0;
    double value = 0;
    Interval interval;  // 95 %, Student's t over the values; lowest = highest = value for fewer than two
};
Mean mean_of(const std::vector<double>& values);
// Sum of `above` over sum of `below`, pairs of the same things; 95 % by linearising the ratio (Cochran 1977, 6.4). NaN
// when the sum below is 0.
Mean ratio_of_sums(const std::vector<double>& above, const std::vector<double>& below);

// Largest load of an expert over the mean load, less 1.
double max_violation(const std::vector<double>& loads);

}  // namespace vitrine::inner
