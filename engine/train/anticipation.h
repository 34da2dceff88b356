// Experts chosen by older weights (Anticipatory Routing, v4-spec 10.4): what a forward pass chose, kept until its batch's turn.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "engine/model/v4.h"
#include "engine/ops/training.h"
#include "engine/train/data/data.h"

namespace vitrine {

struct ExpertChoices {
    int64_t n_tokens = 0;
    std::vector<std::vector<int32_t>> by_layer;  // [L (+ MTP)] of [T, K]; empty: the layer published none
    // As a Forced whose tensors point into this. n_layers counts the MTP module's.
    Forced forced(int n_layers) const;
};

// One token's experts in one layer; n_tokens must be set before.
void keep_choice(ExpertChoices& choices, int token, int layer, std::span<const int32_t> experts);

std::vector<Segment> segments_of(const TrainBatch& batch);

// One forward pass without gradients by the weights as they are. `like`: the training step that it must choose as, of which
// fake quantisation, delayed scales and the indexer's phase count; nullptr: plain weights, sparse CSA.
ExpertChoices choose_experts(Ctx& ctx, const ModelConfig& c, const ModelWeights& w, const TrainBatch& batch, bool has_mtp,
                             const TrainingStep* like = nullptr);
// A control that tells age from noise: the choices `now`, in which each token changes as many experts as `old` would have
// changed, against random others.
ExpertChoices random_control(const ExpertChoices& old, const ExpertChoices& now, int n_experts, uint64_t seed);
// Share of choices in which two differ: 0 = the same experts, in any order.
double churn(const ExpertChoices& a, const ExpertChoices& b);

}  // namespace vitrine
