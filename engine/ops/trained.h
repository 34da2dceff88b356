// How ops on the tape read a weight.
#pragma once
#include "engine/model/param.h"
#include "engine/ops/ctx.h"

namespace vitrine {

// The weight in ctx.dtype: its master; or, without a master (a frozen packed weight, an evaluation), widened into the arena.
Tensor trained_value(Ctx& ctx, const Param& w);

// Whether the tape collects the gradient of w.
inline bool is_trained(const Ctx& ctx, const Param& w) { return !w.master.empty() && ctx.tape->is_bound(w.master); }

}  // namespace vitrine
