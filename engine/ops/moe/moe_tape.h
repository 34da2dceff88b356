// The mixture of experts on the tape: master weights, any dtype of activations, gradients.
#pragma once
#include "engine/ops/moe/moe.h"

namespace vitrine {

// As moe. Gradients flow to x, to the routing's weights, and to the masters of the experts that had tokens.
Tensor moe_on_tape(Ctx& ctx, const Tensor& x_TD, const Routing& routing, const MoeWeights& w, const ModelConfig& c);

// The GPU's twin, in f32 or with products on BF16 inputs (ctx.has_bf16_products; extents that are no multiples of 8 stay in f32).
// Masters of a layer's experts lie at equal distances, for w1, w2 and w3 each, and so do their gradients. ExpertStats are not made.
namespace cuda {
Tensor moe_on_tape(Ctx& ctx, const Tensor& x_TD, const Routing& routing, const MoeWeights& w, const ModelConfig& c);
}  // namespace cuda

}  // namespace vitrine
