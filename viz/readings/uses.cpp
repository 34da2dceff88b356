// When each compressed entry of one layer was last used.
#include "viz/readings/uses.h"

namespace vitrine::viz {

bool EntryUses::update(const Timeline& timeline, const Trace* trace, const ModelInfo& model, int layer) {
    if (model_ != &model || layer_ != layer) walk_.restart();
    model_ = &model, layer_ = layer;
    if (layer < 0 || layer >= model.config.n_layers() || model.config.layers[layer].ratio == 0) {
        uses_.clear();
        return false;
    }
    const LayerConfig config = model.config.layers[layer];
    if (config.kind() == LayerKind::hca) {  // closed form: every token from the completing one on
        const auto n = static_cast<int64_t>(timeline.tokens.size());
        uses_.resize(static_cast<size_t>(n / config.ratio));
        for (size_t e = 0; e < uses_.size(); ++e)
            uses_[e] = {n - 1, n - static_cast<int64_t>(e + 1) * config.ratio + 1};
        return false;
    }
    const auto visit = [&](int64_t index, const TokenInfo&, const TokenRecord& record) {
        const auto n_visible = static_cast<size_t>((index + 1) / config.ratio);
        if (uses_.size() < n_visible) uses_.resize(n_visible);
        for (const int32_t e : record.ints(kIndexTopk, layer).data)
            if (e >= 0 && static_cast<size_t>(e) < n_visible) uses_[e].last = index, ++uses_[e].count;
    };
    constexpr int64_t kBudget = 20000;  // picks a frame
    return walk_.advance(
        timeline, trace, kBudget, 1 + model.config.index_topk / 8, [this] { uses_.clear(); }, visit);
}

}  // namespace vitrine::viz
