// A model from nothing, in memory: weights for training, not for a test of mechanisms (that is engine/model/init.h).
#pragma once
#include "engine/base/config/training_config.h"
#include "engine/model/weights.h"

namespace vitrine {

// F32 weights of `config`, MTP module included. Matrices normal with deviation init_std (embedding, hyper-connections, aligned
// experts and the router's first row: times their factor); norms 1; sinks, position biases and
// selection biases 0; bases and scales of hyper-connections as their variant starts, from init_alpha and init_identity
// (engine/model/residual). A tensor's values depend on (seed, its name, its shape) alone.
ModelWeights fresh_weights(const ModelConfig& config, const TrainConfig& train);

}  // namespace vitrine
