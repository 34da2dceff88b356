// V4's own residual connections: mixing matrices made doubly stochastic by Sinkhorn (v4-spec 2.2; arXiv 2512.24880).
#include <algorithm>

#include "engine/model/residual/residual.h"

namespace vitrine {
namespace {

HyperForm form(const ModelConfig& c, bool is_head) {
    return {.map = MixingMap::sinkhorn, .n = c.hc_mult, .iters = c.hc_sinkhorn_iters, .eps = c.hc_eps, .is_head = is_head};
}

// pre = 1/2, post = 1; the mixing logits favour the diagonal by `identity` (4 streams: 5 gives 0.98 on it, 0 mixes evenly).
// The random rows of fn, times alpha, are what tells the streams apart at first.
void start_base(const ModelConfig& c, const HyperStart& at, std::span<float> base) {
    std::fill(base.begin(), base.end(), 0.0f);
    for (int j = 0; j < c.hc_mult && !at.is_head; ++j)
        base[static_cast<size_t>(2 * c.hc_mult + j * c.hc_mult + j)] = static_cast<float>(at.identity);
}

}  // namespace

const Residual kMhc{ResidualKind::mhc, "mhc", 16, form, start_base};

}  // namespace vitrine
