// AdamW with decoupled decay (Loshchilov and Hutter, arXiv 1711.05101; v4-spec 10.2), for many weights in one call.
#pragma once
#include <span>

#include "engine/ops/ctx.h"

namespace vitrine {

struct AdamW {
    double lr, beta1, beta2, eps, weight_decay;
    double gradient_scale = 1;   // clipping
};

struct AdamWSlice {              // equal counts, one dtype (f32 or f64); weight, mean and square are overwritten
    Tensor weight, gradient, mean, square;
    bool decays;
    int64_t t;                   // updates of this weight, this one included: bias correction
    Tensor bf16{};               // on a GPU, if not empty: the new weight's copy is left there
};

// Sums over the elements of one weight, in double: what its update amounts to.
struct UpdateSums {
    double weight = 0, update = 0;  // squares of the weight before the step and of what the step added
    double surprise = 0;            // squares of g / sqrt(v): about 1 each while the mean square keeps up with the gradient
    int64_t count = 0;
};

// w <- w (1 - lr decay); m <- b1 m + (1-b1) g; v <- b2 v + (1-b2) g^2; w <- w - lr/(1-b1^t) m / (sqrt(v/(1-b2^t)) + eps).
// Elements are independent; sums go by chunks in a fixed order. One UpdateSums per slice.
std::vector<UpdateSums> adamw(Ctx& ctx, const AdamW& a, std::span<const AdamWSlice> slices);

// The GPU's twin, for f32 in its memory (ctx.cuda is set); waits for the sums.
namespace cuda {
std::vector<UpdateSums> adamw(Ctx& ctx, const AdamW& a, std::span<const AdamWSlice> slices);
}  // namespace cuda

}  // namespace vitrine
