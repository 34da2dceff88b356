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

// Both return when rank 0's ExpertRanks has gone.
void answer_on_cpu(ExpertRanks& ranks, const ModelConfig& c, const ModelWeights& w, int n_threads);
// Uploads the share to GPU `gpu` first. Error(out_of_memory), Error(device).
void answer_on_gpu(ExpertRanks& ranks, const ModelConfig& c, const ModelWeights& w, int gpu);

}  // namespace vitrine
