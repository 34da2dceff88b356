// Manifold-constrained hyper-connections: coefficients, Sinkhorn, collapse and mixing.
#include "engine/ops/hyper/hyper.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "engine/ops/hyper/hyper_tape.h"
#include "engine/ops/quantize/quantize.h"
#include "engine/ops/linear/linear.h"
#include "engine/ops/trained.h"
#include "engine/ops/training.h"

namespace vitrine {
namespace {

constexpr int64_t kTokens = 64;  // a piece of the parallel loops: its streams fit the L2 cache

// u = sum_j pre[j] X[j], rounded in `reference`.
void collapse(const Ctx& ctx, const float* x, const float* pre, int64_t n_tokens, int64_t n, int64_t d, float* u) {
    cpu::hyper_kernels<float>().collapse(x, pre, n_tokens, n, d, u);
    if (ctx.is_reference() && !ctx.tape)
        for (int64_t t = 0; t < n_tokens; ++t) cpu::kernels().round_row(u + t * d, d);
}
void collapse(const Ctx&, const double* x, const double* pre, int64_t n_tokens, int64_t n, int64_t d, double* u) {
    cpu::hyper_kernels<double>().collapse(x, pre, n_tokens, n, d, u);
}

// |scale m r| / (|scale m r| + |base|) over the rows that make the mixing matrix: how much of it the token decides.
template <class T>
double dynamic_share(const HyperValues& v) {
    const int64_t first = 2 * v.form.n, n_rows = v.form.n_rows(), n_tokens = v.m_TR.dim(0);
    const double scale = std::abs(static_cast<double>(v.scale.as<T>()[2]));
    double base = 0, sum = 0;
    for (int64_t r = first; r < n_rows; ++r) base += std::pow(static_cast<double>(v.base_R.as<T>()[r]), 2);
    for (int64_t t = 0; t < n_tokens; ++t) {
        double dynamic = 0;
        for (int64_t r = first; r < n_rows; ++r) dynamic += std::pow(static_cast<double>(v.m_TR.row<T>(t)[r]), 2);
        dynamic = std::sqrt(dynamic) * static_cast<double>(v.factor_T.as<T>()[t]) * scale;
        if (dynamic > 0) sum += dynamic / (dynamic + std::sqrt(base));
    }
    return sum / static_cast<double>(n_tokens);
}

// Adds |w_i| |x_i| over their sum to `shares` [N]; x [N, D] empty: norms of 1.
template <class T>
void add_shares(const T* w, const T* x, int64_t n, int64_t d, double* shares) {
    std::vector<double> parts(static_cast<size_t>(n));
    double sum = 0;
    for (int64_t i = 0; i < n; ++i) {
        double square = x ? 0 : 1;
        for (int64_t j = 0; x && j < d; ++j) square += static_cast<double>(x[i * d + j]) * x[i * d + j];
        sum += parts[static_cast<size_t>(i)] = std::abs(static_cast<double>(w[i])) * std::sqrt(square);
    }
    for (int64_t i = 0; i < n && sum > 0; ++i) shares[i] += parts[static_cast<size_t>(i)] / sum;
}

// Streams in what the site reads and where it writes, by token and then over tokens in their order.
template <class T>
void measure_streams(Ctx& ctx, const HyperValues& v, HyperStats& stats) {
    const int64_t n_tokens = v.x_TND.dim(0), n = v.x_TND.dim(1), d = v.x_TND.dim(2);
    std::vector<double> parts(static_cast<size_t>(2 * n_tokens * n));
    ctx.pool.parallel_for(n_tokens, kTokens, [&](int64_t t0, int64_t t1) {
        for (int64_t t = t0; t < t1; ++t) {
            add_shares(v.site.pre_TN.row<T>(t), v.x_TND.row<T>(t), n, d, parts.data() + 2 * t * n);
            add_shares(v.site.post_TN.row<T>(t), static_cast<const T*>(nullptr), n, d, parts.data() + (2 * t + 1) * n);
        }
    });
    stats.reads.assign(static_cast<size_t>(n), 0), stats.writes = stats.reads;
    for (int64_t t = 0; t < n_tokens; ++t)
        for (int64_t i = 0; i < n; ++i) {
            stats.reads[static_cast<size_t>(i)] +=
                parts[static_cast<size_t>(2 * t * n + i)] / static_cast<double>(n_tokens);
            stats.writes[static_cast<size_t>(i)] +=
                parts[static_cast<size_t>((2 * t + 1) * n + i)] / static_cast<double>(n_tokens);
        }
}

// Everything of a site (or of the head, whose u alone is used outside) that backward reads again.
HyperValues site_values(Ctx& ctx, const Tensor& x_TND, const HyperWeights& w, const HyperForm& form, double rms_norm_eps) {
    const int64_t n_tokens = x_TND.dim(0), n = x_TND.dim(1), d = x_TND.dim(2), n_rows = form.n_rows();
    VITRINE_ASSERT(form.n == n && w.fn.shape[0] == n_rows && x_TND.dtype == ctx.dtype);
    HyperValues v;
    v.form = form;
    v.x_TND = x_TND;
    // The RMS factor is applied after the product (v4-spec 2.2, step 2).
    const Tensor x_TW = x_TND.reshaped({n_tokens, n * d});
    if (ctx.tape) v.fn_RW = trained_value(ctx, w.fn);
    v.m_TR = ctx.tape ? projections_on_tape(ctx, x_TW, v.fn_RW)
                      : linear(ctx, x_TW, w.fn, {.quantise_input = false, .round_output = false});
    v.base_R = trained_value(ctx, w.base), v.scale = trained_value(ctx, w.scale);
    v.factor_T = ctx.arena.make(ctx.dtype, {n_tokens});
    v.site.u_TD = ctx.arena.make(ctx.dtype, {n_tokens, d});
    v.site.pre_TN = ctx.arena.make(ctx.dtype, {n_tokens, n});
    if (!form.is_head) v.site.post_TN = ctx.arena.make(ctx.dtype, {n_tokens, n});
    if (!form.is_head) v.site.comb_TNN = ctx.arena.make(ctx.dtype, {n_tokens, n, n});
    with_real(ctx.dtype, [&](auto real) {
        using T = decltype(real);
        const auto& k = cpu::hyper_kernels<T>();
        ctx.pool.parallel_for(n_tokens, kTokens, [&](int64_t t0, int64_t t1) {
            k.factors(x_TND.row<T>(t0), t1 - t0, n * d, rms_norm_eps, v.factor_T.as<T>() + t0);
            k.split(form, v.rows<T>(t0), t1 - t0);
            collapse(ctx, x_TND.row<T>(t0), v.site.pre_TN.row<T>(t0), t1 - t0, n, d, v.site.u_TD.row<T>(t0));
        });
    });
    if (ctx.training && ctx.training->wants_hyper_stats && !ctx.training->is_recomputation && !form.is_head) {
        HyperStats stats{ctx.layer, 0};
        with_real(ctx.dtype, [&](auto real) {
            stats.dynamic = dynamic_share<decltype(real)>(v);
            measure_streams<decltype(real)>(ctx, v, stats);
        });
        ctx.training->hypers.push_back(std::move(stats));
    }
    if (ctx.tape) record_hyper_site(ctx, v, w);
    return v;
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

HyperSite hyper_site(Ctx& ctx, const Tensor& x_TND, const HyperWeights& w, const HyperForm& form, double rms_norm_eps) {
    const OpTimer timer(ctx, OpKind::hyper);
    if constexpr (kHasCuda)
        if (ctx.infers_on_gpu()) return cuda::hyper_site(ctx, x_TND, w, form, rms_norm_eps);
    if constexpr (kHasCuda)
        if (ctx.cuda) return cuda::hyper_site_on_tape(ctx, x_TND, w, form, rms_norm_eps);
    return site_values(ctx, x_TND, w, form, rms_norm_eps).site;
}

Tensor hyper_mix(Ctx& ctx, const Tensor& x_TND, const HyperSite& site, const Tensor& f_TD, const Tensor& out_TND) {
    const OpTimer timer(ctx, OpKind::hyper);
    if constexpr (kHasCuda)
        if (ctx.infers_on_gpu()) return cuda::hyper_mix(ctx, x_TND, site, f_TD, out_TND);
    if (ctx.tape) {
        VITRINE_ASSERT(out_TND.empty());
        return hyper_mix_on_tape(ctx, x_TND, site, f_TD);
    }
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

Tensor hyper_head(Ctx& ctx, const Tensor& x_TND, const HyperWeights& w, const HyperForm& form, double rms_norm_eps) {
    const OpTimer timer(ctx, OpKind::hyper);
    VITRINE_ASSERT(form.is_head);
    if constexpr (kHasCuda)
        if (ctx.infers_on_gpu()) return cuda::hyper_site(ctx, x_TND, w, form, rms_norm_eps).u_TD;
    if constexpr (kHasCuda)
        if (ctx.cuda) return cuda::hyper_site_on_tape(ctx, x_TND, w, form, rms_norm_eps).u_TD;
    return site_values(ctx, x_TND, w, form, rms_norm_eps).site.u_TD;
}

Tensor add_to_streams(Ctx& ctx, const Tensor& x_TND, const Tensor& e_TD) {
    if constexpr (kHasCuda)
        if (ctx.infers_on_gpu()) return cuda::sum_with_streams(ctx, x_TND, e_TD);
    if constexpr (kHasCuda)
        if (ctx.cuda) return cuda::add_to_streams(ctx, x_TND, e_TD);
    const int64_t n = x_TND.dim(1), d = x_TND.dim(2), n_tokens = x_TND.dim(0);
    const Tensor z_TND = ctx.arena.make(ctx.dtype, x_TND.shape);
    with_real(ctx.dtype, [&](auto real) {
        using T = decltype(real);
        ctx.pool.parallel_for(n_tokens * n, kTokens, [&](int64_t r0, int64_t r1) {
            for (int64_t r = r0; r < r1; ++r) {
                const T *x = x_TND.as<T>() + r * d, *e = e_TD.row<T>(r / n);
                for (int64_t i = 0; i < d; ++i) z_TND.as<T>()[r * d + i] = x[i] + e[i];
            }
        });
        if (!ctx.tape) return round_output(ctx, z_TND);
        ctx.tape->record([=](Ctx& c) {
            if (!c.tape->has_grad(z_TND)) return;
            const Tensor dz = c.tape->grad(z_TND), dx = c.tape->grad(x_TND), de = c.tape->grad(e_TD);
            c.pool.parallel_for(n_tokens, kTokens, [&](int64_t t0, int64_t t1) {
                for (int64_t r = t0 * n; r < t1 * n; ++r) {
                    const T* g = dz.template as<T>() + r * d;
                    T *to_x = dx.template as<T>() + r * d, *to_e = de.template row<T>(r / n);
                    for (int64_t i = 0; i < d; ++i) to_x[i] += g[i], to_e[i] += g[i];
                }
            });
        });
    });
    return z_TND;
}

}  // namespace vitrine
