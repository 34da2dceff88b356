// The router: affinities, which experts a token uses, and with what weight (v4-spec 5.1).
#pragma once
#include <span>

#include "engine/model/weights.h"
#include "engine/ops/ctx.h"

namespace vitrine {

// K is n_experts_per_tok, or what ctx.active_experts asks for: fewer, and on the CPU without a tape more where the layer is
// routed by score.
struct Routing {
    Tensor indices_TK;  // i32; routed by score: best first, -1 where top_p needs no more; hash-routed: table order
    Tensor weights_TK;  // dtype of activations; of the unbiased affinities, normalised, times routed_scaling_factor; 0 at -1
};

// x [T, D], ids [T] (for hash-routed layers). Which experts: the variant c.variants.router (choice.h), the table tid2eid in
// hash-routed layers, or forced [T, >= K] i32 when it is not empty; the weights come from the affinities in every case. Ties:
// lowest expert. FP32 in both numerics. FP64 scores are compared as FP32.
//
// With a tape, gradients reach the logits through the weights, and through what ctx.training asks for: "balance",
// "sequence_balance" (mean over the segments that end at segment_ends; empty: one), "router_z". The first two rest in
// hash-routed layers, whose choice nothing can balance. Loads and values are left in ctx.training (docs/math/moe.md).
Routing route(Ctx& ctx, const Tensor& x_TD, std::span<const int32_t> ids, const MoeWeights& w, const ModelConfig& c,
              bool is_hash_routed, const Tensor& forced_TK = {}, std::span<const int64_t> segment_ends = {});

// sqrt(ln(1 + e^z)), stable for large |z|.
float sqrt_softplus(float z);

// The GPU's twin; token ids are those of the step. Variants of the router other than topk_bias and topk: Error(bad_input).
namespace cuda {
Routing route(Ctx& ctx, const Tensor& x_TD, const MoeWeights& w, const ModelConfig& c, bool is_hash_routed,
              const Tensor& forced_TK = {});
// With a tape: token ids are the host's. The values of losses and loads are there after Device::collect.
Routing route_on_tape(Ctx& ctx, const Tensor& x_TD, std::span<const int32_t> ids, const MoeWeights& w, const ModelConfig& c,
                      bool is_hash_routed, const Tensor& forced_TK, std::span<const int64_t> segment_ends);
}  // namespace cuda

}  // namespace vitrine
