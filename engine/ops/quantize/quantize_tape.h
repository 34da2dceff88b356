// Fake quantisation on the tape: values as the packed formats hold them, gradients as if nothing had been rounded (v4-spec 10.5).
//
// Each looks at ctx.training->quant by itself: call it where the format would round, and get x or the weight back unchanged when
// the step does not ask. Values are bit for bit what the checkpoint writer and the packed cache hold. FP64 is rounded to FP32
// first. Derivations: docs/math/moe.md.
#pragma once
#include <cstddef>
#include <unordered_map>
#include <vector>

#include "engine/model/param.h"
#include "engine/ops/ctx.h"
#include "engine/ops/training.h"

namespace vitrine {

// Rounded weights of one step, by the address of their master: made at first use, shared by every use and by recomputation.
// They are of the moment: a step that has moved the weights takes a new TrainingStep or clears this.
struct RoundedWeights {
    std::unordered_map<const void*, std::vector<std::byte>> by_master;
};

// ---- weights, in place of trained_value(ctx, w); the gradient goes to the master as ever
Tensor dense_weight(Ctx& ctx, const Param& w);                       // FP8 by 128x128 if fp8_weights
Tensor expert_weight(Ctx& ctx, const Param& w, bool is_shared);      // routed: FP4 if fp4_experts; shared: as dense

// ---- activations
// x [T, n] as an FP8 linear sees it (a scale per row and 128 columns, or one) if fp8_activations. No node: the linear's backward
// adds its gradient to that of x itself, and uses these values for that of its weight. `site`: master of the weight that reads x,
// for delayed scaling.
Tensor linear_input(Ctx& ctx, const Tensor& x_TN, const void* site = nullptr);
// One row in place, for callers that own their rows. Only if asks_fp8_activations(ctx).
bool asks_fp8_activations(const Ctx& ctx);
void round_fp8_row(float* x, int64_t n, int64_t block);
void round_fp8_row(double* x, int64_t n, int64_t block);
// The same with one scale: of x's own largest magnitude, which is returned, or of the one that `site` had before.
float round_fp8_tensor(float* x, int64_t n, const DelayedScales* delayed, const void* site);
float round_fp8_tensor(double* x, int64_t n, const DelayedScales* delayed, const void* site);
void keep_largest(DelayedScales& delayed, const void* site, float largest);

// Window rows and entries x [S, C] as the packed cache holds them, if fp8_cache: the last rope_dim columns in BF16, the rest
// FP8 with one scale per 64. A new value with a node.
Tensor cache_rows(Ctx& ctx, const Tensor& x_SC, int rope_dim);
// Indexer queries or keys x [.., D], D along the last dimension, if fp4_index: Hadamard, then FP4 with one scale per 32. A new
// value with a node (the transform is its own inverse). Error(bad_input) unless D is a power of two.
Tensor index_rows(Ctx& ctx, const Tensor& x_SD);

// The GPU's twins, where they are asked for. What is rounded to 0 or saturates is not counted there.
namespace cuda {
Tensor cache_rows_on_tape(Ctx& ctx, const Tensor& x_SC, int rope_dim);
Tensor index_rows_on_tape(Ctx& ctx, const Tensor& x_SD);
}  // namespace cuda

}  // namespace vitrine
