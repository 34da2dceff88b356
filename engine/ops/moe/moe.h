// The mixture of experts: clamped SwiGLU experts, grouped by expert, plus the shared expert (v4-spec 5.2).
#pragma once
#include "engine/model/weights.h"
#include "engine/ops/ctx.h"
#include "engine/ops/router/router.h"

namespace vitrine {

// x [T, D] -> y [T, D]. Each expert's rows are one GEMM; a token's contributions are summed in ascending expert order, the
// shared expert last, so the result does not depend on threads. h = w * silu(min(g, limit)) * clamp(u, +-limit) before w2.
Tensor moe(Ctx& ctx, const Tensor& x_TD, const Routing& routing, const MoeWeights& w, const ModelConfig& c);

// The GPU's twin: x and the result are ctx.activation(). The experts of a layer lie at equal distances in its memory.
namespace cuda {
Tensor moe(Ctx& ctx, const Tensor& x_TD, const Routing& routing, const MoeWeights& w, const ModelConfig& c);
}  // namespace cuda

}  // namespace vitrine
