// The ordinary residual connection x + F(x): one stream, no weights.
#include <algorithm>

#include "engine/model/residual/residual.h"

namespace vitrine {
namespace {

int n_rows(const ModelConfig&, bool) { return 0; }

Tensor ones(Ctx& ctx, Shape shape) {
    const Tensor x = ctx.arena.make(ctx.dtype, shape);
    with_real(ctx.dtype, [&](auto real) { std::fill_n(x.as<decltype(real)>(), x.count(), decltype(real){1}); });
    return x;
}

// u is the stream itself, the same memory: what flows back to it is the stream's gradient.
HyperSite site(Ctx& ctx, const Tensor& x_TND, const HyperWeights&, const ModelConfig&) {
    const int64_t n_tokens = x_TND.dim(0);
    return {x_TND.reshaped({n_tokens, x_TND.dim(2)}), ones(ctx, {n_tokens, 1}), ones(ctx, {n_tokens, 1}),
            ones(ctx, {n_tokens, 1, 1})};
}

Tensor head(Ctx&, const Tensor& x_TND, const HyperWeights&, const ModelConfig&) {
    return x_TND.reshaped({x_TND.dim(0), x_TND.dim(2)});
}

void start_base(const ModelConfig&, const HyperStart&, std::span<float>) {}

}  // namespace

const Residual kPlainResidual{ResidualKind::plain, "plain", 1, n_rows, site, head, start_base};

}  // namespace vitrine
