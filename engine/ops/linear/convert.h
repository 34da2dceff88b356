// Operands of the GPU's products: activations and weights as BF16 or FP32, and the FP8 simulation of rows.
#pragma once
#include "engine/device/cpu/kernels.h"
#include "engine/ops/ctx.h"

namespace vitrine::cuda {

// x as dtype `to` (f32 or bf16), in the arena, or x itself when it is.
Tensor as_dtype(Ctx& ctx, const Tensor& x, DType to);
// Rows of `width` of x after the FP8 simulation in blocks of 128: bf16, exact but for magnitudes below 2^-126.
Tensor fp8_rows(Ctx& ctx, const Tensor& x, int64_t width);
// As f32, of x in f32: bit for bit what cpu::fp8_simulate makes.
Tensor fp8_values(Ctx& ctx, const Tensor& x, int64_t width);
// The same in place, for n_rows rows of `width` that lie ld elements apart.
void simulate_fp8(Ctx& ctx, const Tensor& x, int64_t n_rows, int64_t width, int64_t ld);
// Rows [row0, row1) of w widened to f32 or bf16 at `to`, w.in apart.
void widen_weights(Ctx& ctx, const cpu::PackedMatrix& w, int64_t row0, int64_t row1, void* to, DType dtype);

// Weights that BF16 can't hold, for products with BF16 rows on tensor cores: each is the sum of three BF16 numbers (exactly, unless
// it is tiny). Rows [row0, row1) of w give 3 (row1 - row0) rows at `to`, first terms first.
constexpr int kTerms = 3;
void split_weights(Ctx& ctx, const cpu::PackedMatrix& w, int64_t row0, int64_t row1, void* to);
// From the products x [n_rows, 3 n]: y [n_rows, n], ldy apart.
void add_split_products(Ctx& ctx, const float* x, int64_t n_rows, int64_t n, void* y, DType dtype, int64_t ldy);

}  // namespace vitrine::cuda
