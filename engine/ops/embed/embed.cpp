// Embedding rows, expanded to the residual streams.
#include "engine/ops/embed/embed.h"

#include <cstring>

#include "engine/ops/quantize/quantize.h"

namespace vitrine {

Tensor embed_streams(Ctx& ctx, const Param& table_VD, std::span<const int32_t> ids, int n_streams) {
    const OpTimer timer(ctx, OpKind::embed);
    const int64_t d = table_VD.shape[1];
    Tensor x_TND = ctx.arena.make(DType::f32, {static_cast<int64_t>(ids.size()), n_streams, d});
    for (size_t t = 0; t < ids.size(); ++t) {
        float* x = x_TND.row<float>(static_cast<int64_t>(t));
        table_VD.widen_row(ids[t], x);
        for (int j = 1; j < n_streams; ++j) std::memcpy(x + j * d, x, d * sizeof(float));
    }
    round_output(ctx, x_TND);
    return x_TND;
}

}  // namespace vitrine
