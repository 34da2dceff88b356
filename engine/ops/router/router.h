// The router: affinities, which experts a token uses, and with what weight (v4-spec 5.1).
#pragma once
#include <span>

#include "engine/model/weights.h"
#include "engine/ops/ctx.h"

namespace vitrine {

struct Routing {
    Tensor indices_TK;  // i32; score-routed: best first; hash-routed: table order
    Tensor weights_TK;  // f32; of the unbiased affinities, normalised, times routed_scaling_factor
};

// x [T, D], ids [T] (for hash-routed layers). Ties: lowest expert. FP32 in both numerics.
// forced [T, K] i32 (empty: none) replaces the choice; the weights still come from the affinities.
Routing route(Ctx& ctx, const Tensor& x_TD, std::span<const int32_t> ids, const MoeWeights& w, const ModelConfig& c,
              bool is_hash_routed, const Tensor& forced_TK = {});

// sqrt(ln(1 + e^z)), stable for large |z|.
float sqrt_softplus(float z);

}  // namespace vitrine
