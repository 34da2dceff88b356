// Products of few rows on tensor cores: several matrices that read the same x, in one launch.
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

// Whether `multiply_few_rows` takes w split in `groups`.
bool takes_few_rows(const cpu::PackedMatrix& w, int groups);
// x [n_rows, groups * in], bf16. A row's bits depend on nothing but the row and the matrix. At most kMaxFewRows products.
void multiply_few_rows(Ctx& ctx, const Tensor& x, std::span<const FewRows> products);

}  // namespace vitrine::cuda
