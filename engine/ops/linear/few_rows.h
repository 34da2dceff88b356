// Products of few rows: several matrices that read the same x, in one launch. A row's bits depend on nothing but the row and the
// matrix.
#pragma once
#include <span>

#include "engine/device/cpu/kernels.h"
#include "engine/ops/ctx.h"

namespace vitrine::cuda {

// y [n_rows, w.out] (f32 or bf16) = W x; `groups` > 1: W's blocks of rows meet groups of x's columns.
struct FewRows {
    cpu::PackedMatrix w;
    void* y = nullptr;
    DType dtype = DType::f32;
    int groups = 1;
    bool is_quantised = false;  // x passes through FP8 first
};
constexpr int kMaxFewRows = 8;  // products in one launch

// On tensor cores: x [n_rows, groups * in], bf16; weights of any mixture of formats that takes_few_rows.
bool takes_few_rows(const cpu::PackedMatrix& w, int groups);
void multiply_on_tensor_cores(Ctx& ctx, const Tensor& x, std::span<const FewRows> products);
// The same of x normed as `rmsnorm` would, for products that takes_normed_rows: every warp norms the rows itself. x is older than
// the kernel queued last, whose end these products wait for only at their own.
bool takes_normed_rows(std::span<const FewRows> products);
void multiply_normed_on_tensor_cores(Ctx& ctx, const Tensor& x, const cpu::PackedMatrix& norm, double eps,
                                     std::span<const FewRows> products);
// On FP32 lanes: weights of one format, any of them; x, f32 or bf16, is as it is multiplied (is_quantised is not looked at).
void multiply_on_lanes(Ctx& ctx, const Tensor& x, std::span<const FewRows> products);

}  // namespace vitrine::cuda
