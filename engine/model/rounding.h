// Rounds loaded weights in memory, by the code that packs checkpoints.
#pragma once
#include "engine/base/config/weight_rounding.h"
#include "engine/model/weights.h"

namespace vitrine {

// The part's matrices become FP32 copies that hold what a checkpoint of that format would; the files stay as they are.
RoundedWeights round_weights(ModelWeights& weights, const ModelConfig& config, const WeightRounding& what);

}  // namespace vitrine
