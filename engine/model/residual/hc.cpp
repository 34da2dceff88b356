// Hyper-connections without constraint (arXiv 2409.19606): what mHC is compared with.
//
// pre, post and the mixing matrix are alpha tanh(m r) + b, with the same projections and RMS factor as mHC; so is the head's
// pre. Deviation: the paper's head sums the streams; here it starts as that sum and may learn.
#include <algorithm>

#include "engine/model/residual/residual.h"

namespace vitrine {
namespace {

HyperForm form(const ModelConfig& c, bool is_head) { return {.map = MixingMap::free, .n = c.hc_mult, .is_head = is_head}; }

// The paper's start, a residual connection exactly: sub-layer k reads stream k mod n and writes to all, and the mixing matrix
// is the identity whatever `identity` says. The head sums.
void start_base(const ModelConfig& c, const HyperStart& at, std::span<float> base) {
    const auto n = static_cast<size_t>(c.hc_mult);
    std::fill(base.begin(), base.end(), at.is_head ? 1.0f : 0.0f);
    if (at.is_head) return;
    base[static_cast<size_t>(at.site) % n] = 1;
    for (size_t j = 0; j < n; ++j) base[n + j] = base[2 * n + j * n + j] = 1;
}

}  // namespace

const Residual kHyperConnections{ResidualKind::hc, "hc", 16, form, start_base};

}  // namespace vitrine
