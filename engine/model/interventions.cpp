// Interventions: their checks, and what needs no attention.
#include "engine/model/interventions.h"

#include <algorithm>
#include <numeric>

#include "engine/base/rng.h"

namespace vitrine {

std::vector<Issue> validate(const Interventions& edits, const ModelConfig& c, const std::string& model) {
    std::vector<Issue> issues;
    const auto wrong = [&](const std::string& key, const std::string& value, const std::string& expected) {
        issues.push_back({model, key, value, "expected " + expected, ""});
    };
    const auto n_layers = static_cast<size_t>(c.n_layers());
    if (!edits.layers.empty() && edits.layers.size() != n_layers)
        wrong("interventions", std::to_string(edits.layers.size()) + " layers", std::to_string(n_layers) + ", or none");
    for (size_t l = 0; l < std::min(edits.layers.size(), n_layers); ++l) {
        const LayerIntervention& e = edits.layers[l];
        const std::string key = "interventions, layer " + std::to_string(l) + ", ";
        const LayerKind kind = c.layers[l].kind();
        const bool is_csa = kind == LayerKind::csa, is_removed = e.entries == EntryChoice::none;
        if (e.entries != EntryChoice::as_trained && !is_csa && !(is_removed && kind == LayerKind::hca))
            wrong(key + "entries", std::to_string(static_cast<int>(e.entries)), "a CSA layer, or none of an HCA layer");
        if (e.topk < 0 || (e.topk > 0 && !is_csa))
            wrong(key + "topk", std::to_string(e.topk), "at least 1 of a CSA layer");
        if (e.window < 0 || e.window > c.sliding_window)
            wrong(key + "window", std::to_string(e.window), "1 to " + std::to_string(c.sliding_window));
        for (const int32_t id : e.removed_experts)
            if (id < 0 || id >= c.n_experts)
                wrong(key + "removed_experts", std::to_string(id), "0 to " + std::to_string(c.n_experts - 1));
    }
    return issues;
}

ModelConfig edited_config(const ModelConfig& c, const LayerIntervention& edit) {
    ModelConfig edited = c;
    if (edit.topk > 0) edited.index_topk = edit.topk;
    if (edit.window > 0) edited.sliding_window = edit.window;
    return edited;
}

void remove_experts(const Routing& routing, const std::vector<int32_t>& experts) {
    const int64_t n = routing.indices_TK.count();
    for (int64_t i = 0; i < n; ++i) {
        int32_t& id = routing.indices_TK.as<int32_t>()[i];
        if (std::find(experts.begin(), experts.end(), id) == experts.end()) continue;
        id = -1, routing.weights_TK.f32()[i] = 0;
    }
}

std::vector<int32_t> random_entries(int64_t n, int64_t k, uint64_t seed, int layer, int64_t position) {
    const CounterRng rng(mix64(seed + static_cast<uint64_t>(layer)), static_cast<uint64_t>(position));
    std::vector<int32_t> all(static_cast<size_t>(n));
    std::iota(all.begin(), all.end(), 0);
    k = std::min(k, n);
    for (int64_t i = 0; i < k; ++i) {
        const auto left = static_cast<uint64_t>(n - i);
        std::swap(all[static_cast<size_t>(i)],
                  all[static_cast<size_t>(i) + static_cast<size_t>(rng.bits(static_cast<uint64_t>(i)) % left)]);
    }
    all.resize(static_cast<size_t>(k));
    std::sort(all.begin(), all.end());
    return all;
}

}  // namespace vitrine
