// Manifold-constrained hyper-connections: coefficients, Sinkhorn, collapse and mixing.
#include "engine/ops/hyper/hyper.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "engine/ops/linear/linear.h"

namespace vitrine {
namespace {

float sigmoid(float x) { return 1.0f / (1.0f + std::exp(-x)); }

// fn . vec(X) [T, n_out]; the RMS factor is applied after the product (v4-spec 2.2, step 2), by the caller, row by row.
Tensor projections(Ctx& ctx, const Tensor& x_TND, const Param& fn) {
    return linear(ctx, x_TND.reshaped({x_TND.dim(0), x_TND.dim(1) * x_TND.dim(2)}), fn,
                  {.quantise_input = false, .round_output = false});
}

float rms_factor(const float* x, int64_t n, double eps) {
    return 1.0f / std::sqrt(cpu::kernels().dot(x, x, n) / static_cast<float>(n) + static_cast<float>(eps));
}

// y = sum_j a[j] X[j], rounded in `reference`.
void collapse(const Ctx& ctx, const float* x_ND, const float* a, int64_t n, int64_t d, float* y) {
    std::vector<const float*> rows(static_cast<size_t>(n));
    for (int64_t j = 0; j < n; ++j) rows[j] = x_ND + j * d;
    cpu::kernels().weighted_sum(rows.data(), a, n, d, ctx.is_reference(), y);
}

}  // namespace

template <class T>
void sinkhorn(T* comb, int n, int iters, T eps) {
    const auto columns = [&] {
        for (int k = 0; k < n; ++k) {
            T sum = 0;
            for (int j = 0; j < n; ++j) sum += comb[j * n + k];
            for (int j = 0; j < n; ++j) comb[j * n + k] /= sum + eps;
        }
    };
    for (int j = 0; j < n; ++j) {
        T* row = comb + j * n;
        const T top = *std::max_element(row, row + n);
        T sum = 0;
        for (int k = 0; k < n; ++k) sum += row[k] = std::exp(row[k] - top);
        for (int k = 0; k < n; ++k) row[k] = row[k] / sum + eps;
    }
    columns();
    for (int i = 1; i < iters; ++i) {
        for (int j = 0; j < n; ++j) {
            T sum = 0;
            for (int k = 0; k < n; ++k) sum += comb[j * n + k];
            for (int k = 0; k < n; ++k) comb[j * n + k] /= sum + eps;
        }
        columns();
    }
}
template void sinkhorn<float>(float*, int, int, float);
template void sinkhorn<double>(double*, int, int, double);

HyperSite hyper_site(Ctx& ctx, const Tensor& x_TND, const HyperWeights& w, const ModelConfig& c) {
    const OpTimer timer(ctx, OpKind::hyper);
    const int64_t n_tokens = x_TND.dim(0), n = x_TND.dim(1), d = x_TND.dim(2);
    const auto eps = static_cast<float>(c.hc_eps);
    const Tensor m = projections(ctx, x_TND, w.fn);
    Tensor base = ctx.arena.make(DType::f32, {w.base.shape.count()}), scale = ctx.arena.make(DType::f32, {3});
    w.base.widen_row(0, base.f32());
    w.scale.widen_row(0, scale.f32());
    const float *b = base.f32(), *s = scale.f32();
    HyperSite site{ctx.arena.make(DType::f32, {n_tokens, d}), ctx.arena.make(DType::f32, {n_tokens, n}),
                   ctx.arena.make(DType::f32, {n_tokens, n}), ctx.arena.make(DType::f32, {n_tokens, n, n})};
    ctx.pool.parallel_for(n_tokens, 8, [&](int64_t t0, int64_t t1) {
        for (int64_t t = t0; t < t1; ++t) {
            const float* z = m.row<float>(t);
            const float r = rms_factor(x_TND.row<float>(t), n * d, c.rms_norm_eps);
            float *pre = site.pre_TN.row<float>(t), *post = site.post_TN.row<float>(t), *comb = site.comb_TNN.row<float>(t);
            for (int64_t j = 0; j < n; ++j) {
                pre[j] = sigmoid(z[j] * r * s[0] + b[j]) + eps;
                post[j] = 2 * sigmoid(z[n + j] * r * s[1] + b[n + j]);
            }
            for (int64_t i = 0; i < n * n; ++i) comb[i] = z[2 * n + i] * r * s[2] + b[2 * n + i];
            sinkhorn(comb, static_cast<int>(n), c.hc_sinkhorn_iters, eps);
            collapse(ctx, x_TND.row<float>(t), pre, n, d, site.u_TD.row<float>(t));
        }
    });
    return site;
}

Tensor hyper_mix(Ctx& ctx, const Tensor& x_TND, const HyperSite& site, const Tensor& f_TD, const Tensor& out_TND) {
    const OpTimer timer(ctx, OpKind::hyper);
    const int64_t n = x_TND.dim(1), d = x_TND.dim(2);
    const Tensor y_TND = out_TND.empty() ? ctx.arena.make(DType::f32, x_TND.shape) : out_TND;
    ctx.pool.parallel_for(x_TND.dim(0), 8, [&](int64_t t0, int64_t t1) {
        std::vector<const float*> rows(static_cast<size_t>(n + 1));
        std::vector<float> a(static_cast<size_t>(n + 1));
        for (int64_t t = t0; t < t1; ++t) {
            const float *x = x_TND.row<float>(t), *f = f_TD.row<float>(t);
            const float *post = site.post_TN.row<float>(t), *comb = site.comb_TNN.row<float>(t);
            rows[0] = f;
            for (int64_t j = 0; j < n; ++j) rows[j + 1] = x + j * d;
            for (int64_t k = 0; k < n; ++k) {
                a[0] = post[k];
                for (int64_t j = 0; j < n; ++j) a[j + 1] = comb[j * n + k];
                cpu::kernels().weighted_sum(rows.data(), a.data(), n + 1, d, ctx.is_reference(), y_TND.row<float>(t) + k * d);
            }
        }
    });
    return y_TND;
}

Tensor hyper_head(Ctx& ctx, const Tensor& x_TND, const HyperWeights& w, const ModelConfig& c) {
    const OpTimer timer(ctx, OpKind::hyper);
    const int64_t n = x_TND.dim(1), d = x_TND.dim(2);
    const Tensor m = projections(ctx, x_TND, w.fn);
    Tensor y_TD = ctx.arena.make(DType::f32, {x_TND.dim(0), d});
    for (int64_t t = 0; t < x_TND.dim(0); ++t) {
        float* pre = m.row<float>(t);
        const float r = rms_factor(x_TND.row<float>(t), n * d, c.rms_norm_eps);
        for (int64_t j = 0; j < n; ++j)
            pre[j] = sigmoid(pre[j] * r * w.scale.value(0) + w.base.value(j)) + static_cast<float>(c.hc_eps);
        collapse(ctx, x_TND.row<float>(t), pre, n, d, y_TD.row<float>(t));
    }
    return y_TD;
}

Tensor add_to_streams(Ctx& ctx, const Tensor& x_TND, const Tensor& e_TD) {
    const int64_t n = x_TND.dim(1), d = x_TND.dim(2), n_tokens = x_TND.dim(0);
    const Tensor z_TND = ctx.arena.make(ctx.dtype, x_TND.shape);
    with_real(ctx.dtype, [&](auto real) {
        using T = decltype(real);
        for (int64_t t = 0; t < n_tokens; ++t)
            for (int64_t i = 0; i < n * d; ++i) z_TND.row<T>(t)[i] = x_TND.row<T>(t)[i] + e_TD.row<T>(t)[i % d];
        if (!ctx.tape) return;
        ctx.tape->record([=](Ctx& c) {
            if (!c.tape->has_grad(z_TND)) return;
            const Tensor dz = c.tape->grad(z_TND), dx = c.tape->grad(x_TND), de = c.tape->grad(e_TD);
            for (int64_t t = 0; t < n_tokens; ++t)
                for (int64_t i = 0; i < n * d; ++i) {
                    dx.template row<T>(t)[i] += dz.template row<T>(t)[i];
                    de.template row<T>(t)[i % d] += dz.template row<T>(t)[i];
                }
        });
    });
    return z_TND;
}

}  // namespace vitrine
