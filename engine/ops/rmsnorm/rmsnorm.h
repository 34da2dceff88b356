// RMSNorm: y = w * x / sqrt(mean(x^2) + eps), FP32 inside (v4-spec 2.3, 3.2).
#pragma once
#include "engine/model/param.h"
#include "engine/ops/ctx.h"

namespace vitrine {

// Over the last dimension of x [T, D]; weight [D]. `reference`: y is rounded to BF16.
Tensor rmsnorm(Ctx& ctx, const Tensor& x_TD, const Param& weight_D, double eps);

// Without a weight, over each head of x [T, H, C]: in place, or a new tensor on the tape. `reference`: computed in FP32, one
// rounding at the end. Deviation: the official code rounds to BF16 at every step of it (v4-spec 3.2.3); the other published
// implementations compute as here.
Tensor rmsnorm_heads(Ctx& ctx, const Tensor& x_THC, double eps);

// The GPU's twins; rmsnorm gives a new tensor of ctx.activation(), rmsnorm_heads works in place.
namespace cuda {
Tensor rmsnorm(Ctx& ctx, const Tensor& x_TD, const Param& weight_D, double eps);
Tensor rmsnorm_heads(Ctx& ctx, const Tensor& x_THC, double eps);
// On the tape, rows of d values; weight: may be null.
Tensor rmsnorm_on_tape(Ctx& ctx, const Tensor& x, const Param* weight, int64_t d, double eps);
}  // namespace cuda

}  // namespace vitrine
