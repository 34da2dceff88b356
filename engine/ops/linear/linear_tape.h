// Linear layers on the tape: master weights, any dtype of activations, gradients.
#pragma once
#include "engine/model/param.h"
#include "engine/ops/ctx.h"

namespace vitrine {

// As grouped_linear (groups 1: as linear), from the master of w. x [T, groups*in] -> y [T, groups*out], dtype ctx.dtype.
// is_input_detached: no gradient flows to x (the indexer's inputs, v4-spec 10.3).
Tensor grouped_linear_on_tape(Ctx& ctx, const Tensor& x, const Param& w, int groups, bool is_input_detached = false);

}  // namespace vitrine
