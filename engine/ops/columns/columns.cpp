// Columns put beside each other: the gradient of the shared part is the sum over heads.
#include "engine/ops/columns/columns.h"

#include <algorithm>

namespace vitrine {

Tensor append_columns(Ctx& ctx, const Tensor& x_THA, const Tensor& y_TB) {
    VITRINE_ASSERT(ctx.tape && x_THA.dim(0) == y_TB.dim(0));
    const int64_t n_tokens = x_THA.dim(0), n_heads = x_THA.dim(1), a = x_THA.dim(2), b = y_TB.dim(1);
    const Tensor z = ctx.arena.make(ctx.dtype, {n_tokens, n_heads, a + b});
    with_real(ctx.dtype, [&](auto real) {
        using T = decltype(real);
        ctx.pool.parallel_for(n_tokens, 32, [&](int64_t t0, int64_t t1) {
            for (int64_t r = t0 * n_heads; r < t1 * n_heads; ++r) {
                std::copy_n(x_THA.as<T>() + r * a, a, z.as<T>() + r * (a + b));
                std::copy_n(y_TB.row<T>(r / n_heads), b, z.as<T>() + r * (a + b) + a);
            }
        });
        ctx.tape->record([=](Ctx& c) {
            if (!c.tape->has_grad(z)) return;
            const T* dz = c.tape->grad(z).template as<T>();
            T *dx = c.tape->grad(x_THA).template as<T>(), *dy = c.tape->grad(y_TB).template as<T>();
            c.pool.parallel_for(n_tokens, 32, [&](int64_t t0, int64_t t1) {
                for (int64_t r = t0 * n_heads; r < t1 * n_heads; ++r) {
                    for (int64_t i = 0; i < a; ++i) dx[r * a + i] += dz[r * (a + b) + i];
                    for (int64_t i = 0; i < b; ++i) dy[r / n_heads * b + i] += dz[r * (a + b) + a + i];
                }
            });
        });
    });
    return z;
}

}  // namespace vitrine
