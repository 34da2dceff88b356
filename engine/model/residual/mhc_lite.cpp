// mHC-lite: the mixing matrix is a convex combination of all permutation matrices (arXiv 2601.05732).
//
// The n! weights are a softmax of as many logits, so every row and column sums to 1 without iterations (n at most 4).
// pre, post and the head are those of mHC.
#include <algorithm>

#include "engine/model/residual/residual.h"

namespace vitrine {
namespace {

HyperForm form(const ModelConfig& c, bool is_head) {
    return {.map = MixingMap::permutations, .n = c.hc_mult, .eps = c.hc_eps, .is_head = is_head};
}

// As mHC. A permutation's logit is `identity` for every stream that it leaves in its place: the weight of a permutation is
// the product of the entries that mHC's start has there, before normalisation.
void start_base(const ModelConfig& c, const HyperStart& at, std::span<float> base) {
    std::fill(base.begin(), base.end(), 0.0f);
    if (at.is_head) return;
    const HyperForm f = form(c, false);
    const auto& to = cpu::permutation_table(f.n);
    for (int p = 0; p < f.n_mixing(); ++p)
        for (int j = 0; j < f.n; ++j)
            if (to[p][j] == j) base[static_cast<size_t>(2 * f.n + p)] += static_cast<float>(at.identity);
}

}  // namespace

const Residual kMhcLite{ResidualKind::mhc_lite, "mhc_lite", cpu::kMaxPermutedStreams, form, start_base};

}  // namespace vitrine
