// RMSNorm, with and without weight.
#include "engine/ops/rmsnorm/rmsnorm.h"

#include <cmath>

#include "engine/ops/trained.h"

namespace vitrine {
namespace {

// y = w x r, r = 1/sqrt(mean(x^2) + eps). With g = w dy: dx = r (g - x r^2 mean(g x)), dw = sum over rows of dy x r.
// Derived in docs/math/rmsnorm.md. Rows are independent; dw is summed by columns, so that no two threads write the same.
template <class T>
struct NormRows {
    const T *x, *w;  // w null: ones
    int64_t n_rows, d;
    double eps;

    T factor(int64_t r) const {
        const T* v = x + r * d;
        T sum = 0;
        for (int64_t i = 0; i < d; ++i) sum += v[i] * v[i];
        return 1 / std::sqrt(sum / static_cast<T>(d) + static_cast<T>(eps));
    }
    void forward(Ctx& ctx, T* y, T* factors) const {
        ctx.pool.parallel_for(n_rows, 32, [&](int64_t r0, int64_t r1) {
            for (int64_t r = r0; r < r1; ++r) {
                const T f = factors[r] = factor(r);
                for (int64_t i = 0; i < d; ++i) y[r * d + i] = (w ? w[i] : T{1}) * x[r * d + i] * f;
            }
        });
    }
    void backward(Ctx& ctx, const T* factors, const T* dy, T* dx, T* dw) const {
        ctx.pool.parallel_for(n_rows, 32, [&](int64_t r0, int64_t r1) {
            for (int64_t r = r0; r < r1; ++r) {
                const T *v = x + r * d, *g = dy + r * d;
                const T f = factors[r];
                T dot = 0;
                for (int64_t i = 0; i < d; ++i) dot += (w ? w[i] * g[i] : g[i]) * v[i];
                const T shared = dot / static_cast<T>(d) * f * f;
                for (int64_t i = 0; i < d; ++i) dx[r * d + i] += f * ((w ? w[i] * g[i] : g[i]) - v[i] * shared);
            }
        });
        if (!dw) return;
        ctx.pool.parallel_for(d, 64, [&](int64_t i0, int64_t i1) {
            for (int64_t r = 0; r < n_rows; ++r)
                for (int64_t i = i0; i < i1; ++i) dw[i] += dy[r * d + i] * x[r * d + i] * factors[r];
        });
    }
};

// weight: may be null.
Tensor norm_on_tape(Ctx& ctx, const Tensor& x, const Param* weight, int64_t d, double eps) {
    if constexpr (kHasCuda)
        if (ctx.cuda) return cuda::rmsnorm_on_tape(ctx, x, weight, d, eps);
    const int64_t n_rows = x.count() / d;
    const Tensor y = ctx.arena.make(ctx.dtype, x.shape), factors = ctx.arena.make(ctx.dtype, {n_rows});
    const Tensor w = weight ? trained_value(ctx, *weight) : Tensor{};
    const Tensor master = weight && is_trained(ctx, *weight) ? weight->master : Tensor{};
    with_real(ctx.dtype, [&](auto real) {
        using T = decltype(real);
        const NormRows<T> op{x.as<T>(), weight ? w.as<T>() : nullptr, n_rows, d, eps};
        op.forward(ctx, y.as<T>(), factors.as<T>());
        ctx.tape->record([=](Ctx& c) {
            if (!c.tape->has_grad(y)) return;
            op.backward(c, factors.as<T>(), c.tape->grad(y).template as<T>(), c.tape->grad(x).template as<T>(),
                        master.empty() ? nullptr : c.tape->grad(master).template as<T>());
            c.tape->done(y);
        });
    });
    return y;
}

}  // namespace

Tensor rmsnorm(Ctx& ctx, const Tensor& x_TD, const Param& weight_D, double eps) {
    const OpTimer timer(ctx, OpKind::norm);
    const int64_t d = weight_D.shape.count(), n_rows = x_TD.count() / d;
    if constexpr (kHasCuda)
        if (ctx.infers_on_gpu()) return cuda::rmsnorm(ctx, x_TD, weight_D, eps);
    if (ctx.tape) return norm_on_tape(ctx, x_TD, &weight_D, d, eps);
    Tensor y = ctx.arena.make(DType::f32, x_TD.shape), w = ctx.arena.make(DType::f32, {d});
    weight_D.widen_row(0, w.f32());
    const float* wp = w.f32();
    ctx.pool.parallel_for(n_rows, 32, [&](int64_t r0, int64_t r1) {
        for (int64_t r = r0; r < r1; ++r)
            cpu::kernels().rms_row(x_TD.f32() + r * d, wp, d, static_cast<float>(eps), ctx.is_reference(), y.f32() + r * d);
    });
    return y;
}

Tensor rmsnorm_heads(Ctx& ctx, const Tensor& x_THC, double eps) {
    const OpTimer timer(ctx, OpKind::norm);
    const int64_t c = x_THC.dim(2), n_rows = x_THC.count() / c;
    if constexpr (kHasCuda)
        if (ctx.infers_on_gpu()) return cuda::rmsnorm_heads(ctx, x_THC, eps);
    if (ctx.tape) return norm_on_tape(ctx, x_THC, nullptr, c, eps);
    ctx.pool.parallel_for(n_rows, 64, [&](int64_t r0, int64_t r1) {
        for (int64_t r = r0; r < r1; ++r) {
            float* x = x_THC.f32() + r * c;
            cpu::kernels().rms_row(x, nullptr, c, static_cast<float>(eps), ctx.is_reference(), x);
        }
    });
    return x_THC;
}

}  // namespace vitrine
