// The rounding steps of the `reference` numerics (v4-spec 3.3, 3.8, 4.6). The formats themselves are in device/cpu/formats.h.
#pragma once
#include "engine/ops/ctx.h"

namespace vitrine {

// Rounds x to BF16 in place when the numerics are `reference`; nothing otherwise. The one place where op outputs are rounded.
void round_output(const Ctx& ctx, const Tensor& x);

// Replaces each row by what survives FP8 with one power-of-two scale per `block` columns (the last block may be short).
void simulate_fp8_rows(const Ctx& ctx, const Tensor& x, int block);

// Walsh-Hadamard transform of length n (a power of two) times n^-1/2, in place: symmetric, its own inverse.
void walsh(float* x, int n);
void walsh(double* x, int n);

// The same, then BF16 (v4-spec 4.6.3).
void hadamard(float* x, int n);

// FP4 with one power-of-two scale per 32 values, in place (v4-spec 4.6.4).
void simulate_fp4(float* x, int n);

}  // namespace vitrine
