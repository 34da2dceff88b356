// Columns put beside each other, on the tape.
#pragma once
#include "engine/ops/ctx.h"

namespace vitrine {

// x [T, H, A], y [T, B] -> [T, H, A + B]: every head of a row gets the same y behind its own columns. With a tape only.
Tensor append_columns(Ctx& ctx, const Tensor& x_THA, const Tensor& y_TB);

}  // namespace vitrine
