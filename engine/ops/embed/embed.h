// Embedding rows, expanded to N equal residual streams (v4-spec 2.1).
#pragma once
#include <span>

#include "engine/model/param.h"
#include "engine/ops/ctx.h"

namespace vitrine {

// ids (each in [0, V)) -> X [T, N, D]. No scaling. `reference`: BF16 values. The row of pad_id (-1: of none) takes no gradient.
Tensor embed_streams(Ctx& ctx, const Param& table_VD, std::span<const int32_t> ids, int n_streams, int pad_id = -1);

// The GPU's twins, for the step's tokens and on the tape; and the rows of x [T, ..] that end a sequence's part of the batch,
// [n_sequences, ..].
namespace cuda {
Tensor embed_streams(Ctx& ctx, const Param& table_VD, int n_streams);
Tensor embed_on_tape(Ctx& ctx, const Param& table_VD, std::span<const int32_t> ids, int n_streams, int pad_id);
Tensor last_rows(Ctx& ctx, const Tensor& x_TND);
}  // namespace cuda

}  // namespace vitrine
