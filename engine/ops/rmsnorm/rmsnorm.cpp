// RMSNorm, with and without weight.
#include "engine/ops/rmsnorm/rmsnorm.h"

namespace vitrine {
Tensor rmsnorm(Ctx& ctx, const Tensor& x_TD, const Param& weight_D, double eps) {
    const OpTimer timer(ctx, OpKind::norm);
    const int64_t d = weight_D.shape.count(), n_rows = x_TD.count() / d;
    Tensor y = ctx.arena.make(DType::f32, x_TD.shape), w = ctx.arena.make(DType::f32, {d});
    weight_D.widen_row(0, w.f32());
    const float* wp = w.f32();
    ctx.pool.parallel_for(n_rows, 32, [&](int64_t r0, int64_t r1) {
        for (int64_t r = r0; r < r1; ++r)
            cpu::kernels().rms_row(x_TD.f32() + r * d, wp, d, static_cast<float>(eps), ctx.is_reference(), y.f32() + r * d);
    });
    return y;
}

void rmsnorm_heads(Ctx& ctx, const Tensor& x_THC, double eps) {
    const OpTimer timer(ctx, OpKind::norm);
    const int64_t c = x_THC.dim(2), n_rows = x_THC.count() / c;
    ctx.pool.parallel_for(n_rows, 64, [&](int64_t r0, int64_t r1) {
        for (int64_t r = r0; r < r1; ++r) {
            float* x = x_THC.f32() + r * c;
            cpu::kernels().rms_row(x, nullptr, c, static_cast<float>(eps), ctx.is_reference(), x);
        }
    });
}

}  // namespace vitrine
