// What a training step on a GPU multiplies: values and weights as BF16, rounded first where fake quantisation asks for it.
#pragma once
#include <map>
#include <span>
#include <utility>

#include "engine/model/param.h"
#include "engine/ops/ctx.h"

namespace vitrine::cuda {

// What a product's weight is to fake quantisation (FakeQuant): dense projections and the shared expert may be rounded to FP8,
// routed experts to FP4. plain: never.
enum class WeightUse : uint8_t { plain, dense, routed };

// In TrainingStep::on_gpu. By address, and for values whether they were rounded to FP8, for weights by their use and type.
struct StepCopies {
    std::map<std::pair<const void*, bool>, Tensor> values;
    std::map<std::pair<const void*, int>, Tensor> weights;
};

// x (f32, contiguous) as BF16, of x's shape, in ctx.arena; made once until `forget_values`. For forward: backward captures the
// Tensor. `rounds`: first to FP8 per row of the last dimension and 128 columns, if the step asks for FP8 activations;
// Error(bad_input) if it asks for one scale per tensor.
Tensor bf16_value(Ctx& ctx, const Tensor& x, bool rounds = false);
// The same, for a kernel that writes y anyway: memory that it must fill with the BF16 of y, and that bf16_value(y) then gives.
// Empty where nothing is to be written: products in FP32, or no training step. Not for backward.
Tensor bf16_with(Ctx& ctx, const Tensor& y);
// Not remembered: for gradients and whatever else backward makes.
Tensor bf16_copy(Ctx& ctx, const Tensor& x);
// Whenever memory of ctx.arena is given back: copies are known by addresses. At the start of a block, and after a recomputed one.
void forget_values(Ctx& ctx);

// The copy that Masters keeps; empty where there is none, or where the step rounds weights of this use.
Tensor kept_copy(const Ctx& ctx, const Param& w, WeightUse use);
// Writes them from the masters.
void write_kept_copies(Ctx& ctx, std::span<const Param* const> params);

// w as BF16, kept or made once a step (in ctx.cuda->kept(); without a training step in ctx.arena).
Tensor bf16_weight(Ctx& ctx, const Param& w, WeightUse use = WeightUse::plain);
// Weights of one shape [rows, cols] one behind the other, [n, rows, cols], in one launch. Known by the first one.
Tensor bf16_weights(Ctx& ctx, std::span<const Param* const> same_shape, WeightUse use = WeightUse::plain);
// FP32: x and the master themselves where nothing is rounded.
Tensor f32_value(Ctx& ctx, const Tensor& x, bool rounds);
Tensor f32_weight(Ctx& ctx, const Param& w, WeightUse use = WeightUse::plain);
// As bf16_weights, in FP32, where the step asks for rounding.
Tensor f32_weights(Ctx& ctx, std::span<const Param* const> same_shape, WeightUse use);

// By ctx.has_bf16_products: what goes into gemm.
Tensor product_value(Ctx& ctx, const Tensor& x, bool rounds = false);
Tensor product_weight(Ctx& ctx, const Param& w, WeightUse use = WeightUse::plain);

}  // namespace vitrine::cuda
