// The second stage of sums over tokens on a GPU: partial sums, a row each, added up in their order.
#pragma once
#include "engine/ops/ctx.h"

namespace vitrine::cuda {

// to[i] (+)= the sum over rows of partial[row][i] for i < width, f32; rows lie ld apart. The order depends on n_rows alone.
// accumulates false: to[i] is overwritten.
void add_row_sums(Ctx& ctx, const float* partial, int64_t n_rows, int64_t ld, int64_t width, float* to, bool accumulates);

}  // namespace vitrine::cuda
