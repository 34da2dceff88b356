// Paired comparisons of two treatments of the same items: exact tests and intervals that several experiments share.
#pragma once
#include <cstdint>
#include <vector>

namespace vitrine::lab {

struct Estimate {
    double value = 0, lowest = 0, highest = 0;  // 95 %
    bool is_above(double x) const { return lowest > x; }
    bool is_below(double x) const { return highest < x; }
};
// Two yes/no results for each item. A test looks only at items on which they differ (McNemar 1947).
struct Pairs {
    int n = 0, n_only_a = 0, n_only_b = 0, n_both = 0;
    void add(bool a, bool b) { ++n, n_only_a += a && !b, n_only_b += b && !a, n_both += a && b; }
    double share_a() const { return n ? static_cast<double>(n_both + n_only_a) / n : 0; }
    double share_b() const { return n ? static_cast<double>(n_both + n_only_b) / n : 0; }
    double difference() const { return share_b() - share_a(); }
    Estimate change() const;  // the difference with its interval (Newcombe 1998, method 10)
    // Two-sided, exact: the chance of a split at least this uneven were both equally likely (binomial, 1/2). 1 without
    // any item on which they differ.
    double p_value() const;
};
Pairs pairs_of(const std::vector<bool>& a, const std::vector<bool>& b);

// One text's sums: what was measured, over how many tokens.
struct TextSum {
    double sum = 0;
    int64_t n = 0;
};
// Mean per token of b - a over the same texts. The interval resamples texts, whose tokens hang together (percentile
// bootstrap of 2,000 draws, the same ones for the same seed).
Estimate paired_difference(const std::vector<TextSum>& a, const std::vector<TextSum>& b, uint64_t seed);

// Share of `chosen` that `predicted` names; ids below 0 are no choice. 1 when nothing was chosen.
double recall(const std::vector<int32_t>& predicted, const std::vector<int32_t>& chosen);
// The k best of scores, best first; ties: the lowest index.
std::vector<int32_t> best_indices(const std::vector<double>& scores, int k);

}  // namespace vitrine::lab
