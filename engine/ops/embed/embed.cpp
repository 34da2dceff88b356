// Embedding rows, expanded to the residual streams.
#include "engine/ops/embed/embed.h"

#include <cstring>

#include "engine/ops/quantize/quantize.h"
#include "engine/ops/trained.h"

namespace vitrine {
namespace {

// A row's gradient is the sum over its tokens and streams, in their order, so that it does not depend on threads.
Tensor embed_on_tape(Ctx& ctx, const Param& table, std::span<const int32_t> ids, int n_streams, int pad_id) {
    if constexpr (kHasCuda)
        if (ctx.cuda) return cuda::embed_on_tape(ctx, table, ids, n_streams, pad_id);
    const int64_t d = table.shape[1], n = n_streams, n_ids = static_cast<int64_t>(ids.size());
    const Tensor x = ctx.arena.make(ctx.dtype, {n_ids, n, d}), value = trained_value(ctx, table);
    const Tensor kept = ctx.arena.make<int32_t>({n_ids});  // the caller's ids may be gone by then
    std::memcpy(kept.data, ids.data(), ids.size_bytes());
    with_real(ctx.dtype, [&](auto real) {
        using T = decltype(real);
        for (int64_t t = 0; t < n_ids; ++t)
            for (int64_t j = 0; j < n; ++j) std::memcpy(x.row<T>(t) + j * d, value.as<T>() + ids[t] * d, d * sizeof(T));
        if (!is_trained(ctx, table)) return;
        const Tensor master = table.master;
        ctx.tape->record([=](Ctx& c) {
            if (!c.tape->has_grad(x)) return;
            const Tensor dx = c.tape->grad(x), dw = c.tape->grad(master);
            for (int64_t t = 0; t < n_ids; ++t) {
                if (kept.as<int32_t>()[t] == pad_id) continue;
                T* row = dw.template as<T>() + kept.as<int32_t>()[t] * d;
                for (int64_t j = 0; j < n; ++j)
                    for (int64_t i = 0; i < d; ++i) row[i] += dx.template row<T>(t)[j * d + i];
            }
        });
    });
    return x;
}

}  // namespace

Tensor embed_streams(Ctx& ctx, const Param& table_VD, std::span<const int32_t> ids, int n_streams, int pad_id) {
    const OpTimer timer(ctx, OpKind::embed);
    if constexpr (kHasCuda)
        if (ctx.infers_on_gpu()) return cuda::embed_streams(ctx, table_VD, n_streams);
    if (ctx.tape) return embed_on_tape(ctx, table_VD, ids, n_streams, pad_id);
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
