// What a token's record says about one layer's routing.
#include "viz/readings/router.h"

#include <algorithm>

#include "engine/telemetry/derive.h"
#include "viz/widgets/number.h"

namespace vitrine::viz {
namespace {

bool contains(const std::vector<int>& list, int v) {
    return std::find(list.begin(), list.end(), v) != list.end();
}

std::string expert_list(std::vector<int> experts) {
    std::sort(experts.begin(), experts.end());
    std::string s = experts.size() == 1 ? "expert " : "experts ";
    for (size_t i = 0; i < experts.size(); ++i) {
        if (i > 0) s += i + 1 == experts.size() ? " and " : ", ";
        s += std::to_string(experts[i]);
    }
    return s;
}

// Selection scores, margins and the choice that affinity alone would have made.
void read_selection(RouterReading& r, const std::vector<float>& bias) {
    std::vector<float> selection(r.affinity);
    for (size_t e = 0; e < selection.size(); ++e) selection[e] += bias[e];
    for (const int e : top_indices(selection, static_cast<int>(r.chosen.size()) + 1)) {
        if (r.has_chosen(e)) continue;
        r.next_best = e, r.next_selection = selection[e];
        break;
    }
    for (ChosenExpert& c : r.chosen) {
        if (c.expert < 0 || static_cast<size_t>(c.expert) >= bias.size()) continue;
        c.bias = bias[c.expert];
        c.selection = selection[c.expert];
        if (r.next_best >= 0) c.margin = c.selection - r.next_selection;
    }
    r.without_bias = top_indices(r.affinity, static_cast<int>(r.chosen.size()));
    for (const int e : r.without_bias)
        if (!r.has_chosen(e)) r.would_join.push_back(e);
    for (const ChosenExpert& c : r.chosen)
        if (!contains(r.without_bias, c.expert)) r.would_leave.push_back(c.expert);
}

}  // namespace

bool RouterReading::has_chosen(int expert) const {
    return std::any_of(chosen.begin(), chosen.end(), [expert](const ChosenExpert& c) { return c.expert == expert; });
}

RouterReading read_router(const TokenRecord& record, const ModelInfo& model, int layer) {
    RouterReading r;
    if (layer < 0 || layer >= model.config.n_layers()) return r;
    r.is_hash = model.config.layers[layer].is_hash_routed;
    const auto indices = record.ints(kRouterIndices, layer);
    const auto weights = record.floats(kRouterWeights, layer);
    const auto scores = record.floats(kRouterScores, layer);
    if (indices.empty() || weights.data.size() != indices.data.size()) return r;
    r.is_recorded = true;
    r.affinity.assign(scores.data.begin(), scores.data.end());
    for (size_t i = 0; i < indices.data.size(); ++i) {
        if (indices[i] < 0) continue;  // a slot that a router by mass left empty
        ChosenExpert c{.rank = static_cast<int>(i) + 1, .expert = indices[i], .weight = weights[i]};
        if (c.expert >= 0 && static_cast<size_t>(c.expert) < r.affinity.size()) {
            c.affinity = c.selection = r.affinity[c.expert];
        }
        r.chosen.push_back(c);
    }
    if (!r.is_hash) {
        const bool has_bias = static_cast<size_t>(layer) < model.router_bias.size() &&
                              model.router_bias[layer].size() == r.affinity.size() && !r.affinity.empty();
        if (has_bias) read_selection(r, model.router_bias[layer]);
        const auto margin = record.floats(kRouterMargin, layer);
        if (!margin.empty()) r.has_recorded_margin = true, r.recorded_margin = margin[0];
    }
    const auto norms = record.floats(kMlpNorms, layer);
    if (norms.data.size() >= 2) r.has_norms = true, r.routed_norm = norms[0], r.shared_norm = norms[1];
    return r;
}

std::string routing_sentence(const RouterReading& r, const std::string& token_text, int token_id) {
    if (r.is_hash) {
        return "Chosen by the token id table: token " + std::to_string(token_id) + " (\"" + token_text +
               "\") always goes to these experts in this layer. No score and no bias takes part in the choice; "
               "the affinities only set the weights.";
    }
    if (r.without_bias.empty()) return "The router's bias is not known here, so the choice without it can't be told.";
    if (r.would_join.empty()) return "Without the bias the same experts would have been chosen.";
    const bool is_one = r.would_join.size() == 1;
    return "Without the bias " + expert_list(r.would_join) + " would have been chosen instead of " +
           expert_list(r.would_leave) + (is_one ? ": its affinity is higher." : ": their affinities are higher.");
}

}  // namespace vitrine::viz
