// Rotary position embedding on the last R dimensions, interleaved pairs, with YaRN's frequencies (v4-spec 3.4).
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "engine/base/config/model_config.h"
#include "engine/ops/ctx.h"

namespace vitrine {

// f_i of the angle t*f_i, i < R/2. Compressed layers have their own base and, if configured, YaRN; there is no magnitude factor.
std::vector<double> rope_frequencies(const ModelConfig& c, bool is_compressed_layer);

// cos and sin of t*f_i for a list of positions, made once per forward pass: [n, R/2] each. The angle is the FP32 product of the
// FP32 numbers t and f_i, as both the official code and the Hugging Face implementation form it: at long range its rounding is
// part of what the model was trained with, and with FP64 angles near-ties of the indexer fall differently from position 1,000 on.
struct RopeAngles {
    Tensor cos, sin;
};
// Of ctx.dtype.
RopeAngles rope_angles(Ctx& ctx, std::span<const int64_t> positions, const std::vector<double>& frequencies);

// Rotates the last R of the C dimensions of x [T, H, C] by angle row t (sign -1: back): in place, or a new tensor on the tape.
// `reference`: result rounded.
Tensor apply_rope(Ctx& ctx, const Tensor& x_THC, const RopeAngles& angles, int sign = 1);

// rmsnorm_heads, then apply_rope; a GPU does both in one pass.
Tensor norm_and_rope(Ctx& ctx, const Tensor& x_THC, double eps, const RopeAngles& angles);

// The GPU's twins: angles (f32) of the step's tokens, and rotation in place of f32 or bf16 rows.
namespace cuda {
RopeAngles rope_angles(Ctx& ctx, const std::vector<double>& frequencies);
Tensor apply_rope(Ctx& ctx, const Tensor& x_THC, const RopeAngles& angles, int sign = 1);
// rmsnorm_heads and apply_rope in one pass, with the same roundings.
Tensor norm_and_rotate(Ctx& ctx, const Tensor& x_THC, double eps, const RopeAngles& angles);
// With a tape: angles of these positions, and a new tensor with its node.
RopeAngles rope_angles(Ctx& ctx, std::span<const int64_t> positions, const std::vector<double>& frequencies);
Tensor rope_on_tape(Ctx& ctx, const Tensor& x_THC, const RopeAngles& angles, int sign);
Tensor norm_and_rope_on_tape(Ctx& ctx, const Tensor& x_THC, double eps, const RopeAngles& angles);
}  // namespace cuda

}  // namespace vitrine
