// How ops on the tape read a weight.
#include "engine/ops/trained.h"

#include <algorithm>
#include <vector>

#include "engine/ops/linear/convert.h"

namespace vitrine {

Tensor trained_value(Ctx& ctx, const Param& w) {
    if (!w.master.empty() && w.master.dtype == ctx.dtype) return w.master;
    const Tensor x = ctx.arena.make(ctx.dtype, w.shape);
    if constexpr (kHasCuda)
        if (ctx.cuda) {
            cuda::widen_weights(ctx, w.view, 0, w.view.out, x.data, x.dtype);
            return x;
        }
    const int64_t n_rows = w.view.out, n_cols = w.view.in;
    std::vector<float> row(static_cast<size_t>(n_cols));
    for (int64_t r = 0; r < n_rows; ++r) {
        w.widen_row(r, row.data());
        with_real(ctx.dtype, [&](auto real) { std::copy_n(row.data(), n_cols, x.as<decltype(real)>() + r * n_cols); });
    }
    return x;
}

}  // namespace vitrine
