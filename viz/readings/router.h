// What a token's record says about one layer's routing, as the views show it. Scores are FP32 as the router compared
// them.
#pragma once
#include <string>
#include <vector>

#include "engine/telemetry/model_info.h"
#include "engine/telemetry/trace.h"

namespace vitrine::viz {

struct ChosenExpert {
    int rank = 0;  // 1: best (hash layers: the table's order)
    int expert = -1;
    float affinity = 0;   // sqrt(softplus(logit))
    float bias = 0;       // learned layers only: steers the choice, never enters the weight
    float selection = 0;  // affinity + bias
    float weight = 0;
    float margin = 0;  // learned layers only: selection minus the best selection left out
};

struct RouterReading {
    bool is_recorded = false;
    bool is_hash = false;  // chosen by the token id table: no bias, no margin
    std::vector<ChosenExpert> chosen;
    std::vector<float> affinity;  // of every expert; empty: not recorded
    int next_best = -1;           // learned: the best expert left out, -1: every expert was chosen
    float next_selection = 0;
    bool has_recorded_margin = false;
    float recorded_margin = 0;  // as the router published it; equals the last row's margin
    // Learned: the K best by affinity alone, and how that differs from what was chosen.
    std::vector<int> without_bias, would_join, would_leave;
    bool has_norms = false;
    float routed_norm = 0, shared_norm = 0;
    bool has_chosen(int expert) const;
};

RouterReading read_router(const TokenRecord& record, const ModelInfo& model, int layer);

// One sentence in plain words on what decided: the bias's effect, or the token id table.
std::string routing_sentence(const RouterReading& r, const std::string& token_text, int token_id);

}  // namespace vitrine::viz
