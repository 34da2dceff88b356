// Linear layers on the tape: master weights, any dtype of activations, gradients.
#pragma once
#include "engine/model/param.h"
#include "engine/ops/ctx.h"

namespace vitrine {

struct TapeLinear {
    bool is_input_detached = false;    // no gradient flows to x (the indexer's inputs, v4-spec 10.3)
    bool is_weight_rounded = false;    // to FP8, where the training step asks for it
    bool is_input_rounded = false;     // as is_weight_rounded
};

// As grouped_linear (groups 1: as linear), from the master of w. x [T, groups*in] -> y [T, groups*out], dtype ctx.dtype.
Tensor grouped_linear_on_tape(Ctx& ctx, const Tensor& x, const Param& w, int groups, TapeLinear options = {});

// The GPU's twin: f32, products as ctx.has_bf16_products says.
namespace cuda {
Tensor grouped_linear_on_tape(Ctx& ctx, const Tensor& x, const Param& w, int groups, TapeLinear options = {});
}  // namespace cuda

}  // namespace vitrine
