// The mixture of experts on the tape: master weights, any dtype of activations, gradients.
#pragma once
#include "engine/ops/moe/moe.h"

namespace vitrine {

// As moe. Gradients flow to x, to the routing's weights, and to the masters of the experts that had tokens.
Tensor moe_on_tape(Ctx& ctx, const Tensor& x_TD, const Routing& routing, const MoeWeights& w, const ModelConfig& c);

}  // namespace vitrine
