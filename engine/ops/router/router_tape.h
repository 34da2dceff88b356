// What a router leaves for training: gradients of its logits, loads, auxiliary losses.
#pragma once
#include <span>

#include "engine/ops/ctx.h"
#include "engine/ops/router/router.h"

namespace vitrine {

// One layer's routing as backward needs it; all in ctx.dtype but the indices.
struct TapedRouting {
    Tensor logits_TE, affinity_TE;
    Tensor slope_TE;              // d affinity / d logit
    Routing routing;
    double factor;                // routed_scaling_factor
    bool is_normalised, is_hash_routed;
};

void record_routing(Ctx& ctx, const TapedRouting& r, std::span<const int64_t> segment_ends);

}  // namespace vitrine
