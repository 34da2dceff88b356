// RMSNorm, with and without weight.
#include "engine/ops/rmsnorm/rmsnorm.h"

#include <cmath>

#include "engine/ops/quantize/quantize.h"

namespace vitrine {
namespace {

// Four partial sums: the order depends on n alone, and the loop vectorises.
float mean_square(const float* x, int64_t n) {
    float s[16] = {};
    int64_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (int k = 0; k < 16; ++k) s[k] += x[i + k] * x[i + k];
    for (; i < n; ++i) s[i % 16] += x[i] * x[i];
    float sum = 0;
    for (float v : s) sum += v;
    return sum / static_cast<float>(n);
}

}  // namespace

Tensor rmsnorm(Ctx& ctx, const Tensor& x_TD, const Param& weight_D, double eps) {
    const OpTimer timer(ctx, OpKind::norm);
    const int64_t d = weight_D.shape.count(), n_rows = x_TD.count() / d;
    Tensor y = ctx.arena.make(DType::f32, x_TD.shape), w = ctx.arena.make(DType::f32, {d});
    weight_D.widen_row(0, w.f32());
    const float* wp = w.f32();
    ctx.pool.parallel_for(n_rows, 32, [&](int64_t r0, int64_t r1) {
        for (int64_t r = r0; r < r1; ++r) {
            const float* in = x_TD.f32() + r * d;
            float* out = y.f32() + r * d;
            const float f = 1.0f / std::sqrt(mean_square(in, d) + static_cast<float>(eps));
            for (int64_t i = 0; i < d; ++i) out[i] = wp[i] * (in[i] * f);
        }
    });
    round_output(ctx, y);
    return y;
}

void rmsnorm_heads(Ctx& ctx, const Tensor& x_THC, double eps) {
    const OpTimer timer(ctx, OpKind::norm);
    const int64_t c = x_THC.dim(2), n_rows = x_THC.count() / c;
    ctx.pool.parallel_for(n_rows, 64, [&](int64_t r0, int64_t r1) {
        for (int64_t r = r0; r < r1; ++r) {
            float* x = x_THC.f32() + r * c;
            const float f = 1.0f / std::sqrt(mean_square(x, c) + static_cast<float>(eps));
            for (int64_t i = 0; i < c; ++i) x[i] *= f;
        }
    });
    round_output(ctx, x_THC);
}

}  // namespace vitrine
