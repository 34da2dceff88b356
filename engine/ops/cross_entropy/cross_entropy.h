// Cross-entropy of next tokens: the language model's loss, by position.
#pragma once
#include <span>

#include "engine/ops/ctx.h"

namespace vitrine {

struct CrossEntropy {
    double value = 0;       // mean over the counted positions [nats]; 0 when there is none
    int64_t n_counted = 0;
    Tensor losses_T;        // of each position [nats], dtype of the logits; 0 where ignored
};

// logits [T, V] of the tape's dtype; targets [T] in [0, V), or -1: not counted. Leaves a node that adds weight times the
// gradient of the mean to the logits' gradient: backward needs no other start. l_t = log sum_v e^z_v - z_target.
CrossEntropy cross_entropy(Ctx& ctx, const Tensor& logits_TV, std::span<const int32_t> targets, double weight = 1);

// The GPU's twin, f32: waits for the value, and for all that the step has asked to read before it (Device::collect).
namespace cuda {
CrossEntropy cross_entropy(Ctx& ctx, const Tensor& logits_TV, std::span<const int32_t> targets, double weight = 1);
}  // namespace cuda

}  // namespace vitrine
