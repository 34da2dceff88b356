// The ordinary residual connection x + F(x): one stream, no weights.
#include <algorithm>

#include "engine/model/residual/residual.h"

namespace vitrine {
namespace {

Tensor ones(Ctx& ctx, Shape shape) {
    if constexpr (kHasCuda)
        if (ctx.cuda) return cuda::ones(ctx, shape);
    const Tensor x = ctx.arena.make(ctx.dtype, shape);
    with_real(ctx.dtype, [&](auto real) { std::fill_n(x.as<decltype(real)>(), x.count(), decltype(real){1}); });
    return x;
}

}  // namespace

// u is the stream itself, the same memory: what flows back to it is the stream's gradient.
HyperSite plain_site(Ctx& ctx, const Tensor& x_TND) {
    const int64_t n_tokens = x_TND.dim(0);
    return {x_TND.reshaped({n_tokens, x_TND.dim(2)}), ones(ctx, {n_tokens, 1}), ones(ctx, {n_tokens, 1}),
            ones(ctx, {n_tokens, 1, 1})};
}

const Residual kPlainResidual{ResidualKind::plain, "plain", 1, nullptr, nullptr};

}  // namespace vitrine
