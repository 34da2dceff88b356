// What the ranks after the first do while rank 0's Engine lives: they hold their share of the routed experts and answer
// with rows.
#pragma once
#include "engine/model/weights.h"
#include "engine/ops/moe/expert_ranks.h"

namespace vitrine {

// The layer's experts; layer L is the drafter's.
inline const MoeWeights& experts_of_layer(const ModelWeights& w, size_t layer) {
    return layer < w.blocks.size() ? w.blocks[layer].ffn : w.mtp.at(layer - w.blocks.size()).block.ffn;
}

// Returns when rank 0's ExpertRanks has gone.
void answer_calls(ExpertRanks& ranks, const ModelConfig& c, const ModelWeights& w, int n_threads);

}  // namespace vitrine
