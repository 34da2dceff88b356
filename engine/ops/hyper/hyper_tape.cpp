// Backward of hyper-connections: sites, mixing, head (derived in docs/math/hyper.md).
#include "engine/ops/hyper/hyper_tape.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "engine/ops/linear/matmul.h"
#include "engine/ops/trained.h"
#include "engine/ops/training.h"

namespace vitrine {
namespace {

constexpr int64_t kTokens = 64;

Tensor zeros(Ctx& ctx, Shape shape) {
    const Tensor x = ctx.arena.make(ctx.dtype, shape);
    with_real(ctx.dtype, [&](auto real) { std::fill_n(x.as<decltype(real)>(), x.count(), decltype(real){0}); });
    return x;
}

// The gradient of a coefficient, or zeros where nothing has flowed to it.
Tensor gradient_or_zeros(Ctx& ctx, const Tensor& x) {
    return ctx.tape->has_grad(x) ? ctx.tape->grad(x) : zeros(ctx, x.shape);
}

// Sums of the pieces, in their order.
template <class T>
void add_sums(const Tensor& sums, int64_t first, const Tensor& gradient) {
    for (int64_t p = 0; p < sums.dim(0); ++p)
        for (int64_t i = 0; i < gradient.count(); ++i) gradient.as<T>()[i] += sums.row<T>(p)[first + i];
}

template <class T>
struct SiteBackward {
    const HyperValues& v;
    Tensor du, dpre, dpost, dcomb, dx;  // post and comb: empty at the head
    // Scratch: [T, rows]; [T]; [pieces, rows + 3], base and scale of each piece.
    Tensor dm, dfactor, sums;

    void piece(int64_t t0, int64_t t1) const {
        const auto& k = cpu::hyper_kernels<T>();
        const int64_t n = v.form.n, d = v.x_TND.dim(2), count = t1 - t0;
        const T* x = v.x_TND.row<T>(t0);
        T* piece_sums = sums.row<T>(t0 / kTokens);
        const auto at = [t0](const Tensor& a) { return a.empty() ? nullptr : a.row<T>(t0); };
        if (!du.empty()) k.collapse_to_pre(x, du.row<T>(t0), count, n, d, dpre.row<T>(t0));
        T* df = dfactor.as<T>() + t0;
        k.split_backward(v.form, v.rows<T>(t0),
                         {dpre.row<T>(t0), at(dpost), at(dcomb), dm.row<T>(t0), df, piece_sums, piece_sums + v.form.n_rows()},
                         count);
        // r = (mean x² + eps)^(-1/2): dr/dx = -r³ x / (n d)
        for (int64_t t = 0; t < count; ++t) {
            const T r = v.factor_T.as<T>()[t0 + t];
            df[t] *= -r * r * r / static_cast<T>(n * d);
        }
        k.collapse_to_x(x, du.row<T>(t0), v.site.pre_TN.row<T>(t0), df, count, n, d, dx.row<T>(t0));
        k.project_to_x(dm.row<T>(t0), v.fn_RW.as<T>(), count, v.form.n_rows(), n * d, dx.row<T>(t0));
    }
    // dfn: a piece of consecutive tokens each, added up in their order.
    void to_fn(Ctx& ctx, const Tensor& dfn) const {
        constexpr int64_t kLong = 256;
        const int64_t n_tokens = v.x_TND.dim(0), width = v.form.n * v.x_TND.dim(2), rows = v.form.n_rows();
        const Tensor parts = zeros(ctx, {(n_tokens + kLong - 1) / kLong, rows * width});
        ctx.pool.parallel_for(n_tokens, kLong, [&](int64_t t0, int64_t t1) {
            cpu::hyper_kernels<T>().project_to_fn(dm.row<T>(t0), v.x_TND.row<T>(t0), t1 - t0, rows, width,
                                                  parts.row<T>(t0 / kLong));
        });
        add_sums<T>(parts, 0, dfn);
    }
};

// post f, written to every stream, against what the streams are then.
template <class T>
WriteStats measure_write(Ctx& ctx, const Tensor& post_TN, const Tensor& f_TD, const Tensor& y_TND) {
    const int64_t n_tokens = y_TND.dim(0), n = y_TND.dim(1), d = y_TND.dim(2);
    std::vector<double> shares(static_cast<size_t>(n_tokens)), cosines(static_cast<size_t>(n_tokens));
    ctx.pool.parallel_for(n_tokens, kTokens, [&](int64_t t0, int64_t t1) {
        for (int64_t t = t0; t < t1; ++t) {
            const T *f = f_TD.row<T>(t), *y = y_TND.row<T>(t);
            double ff = 0, pp = 0, yy = 0, wy = 0;
            for (int64_t i = 0; i < d; ++i) ff += static_cast<double>(f[i]) * f[i];
            for (int64_t k = 0; k < n; ++k) {
                const double post = post_TN.row<T>(t)[k];
                double fy = 0;
                for (int64_t i = 0; i < d; ++i) {
                    const double v = y[k * d + i];
                    yy += v * v, fy += v * f[i];
                }
                pp += post * post, wy += post * fy;
            }
            if (!(yy > 0)) continue;
            shares[static_cast<size_t>(t)] = std::sqrt(pp * ff / yy);
            if (pp * ff > 0) cosines[static_cast<size_t>(t)] = wy / std::sqrt(pp * ff * yy);
        }
    });
    const auto mean = [&](const std::vector<double>& v) {
        return std::accumulate(v.begin(), v.end(), 0.0) / static_cast<double>(n_tokens);
    };
    return {ctx.layer, mean(shares), mean(cosines)};
}

}  // namespace

Tensor projections_on_tape(Ctx& ctx, const Tensor& x_TW, const Tensor& fn_RW) {
    const int64_t n_tokens = x_TW.dim(0), width = x_TW.dim(1), n_rows = fn_RW.dim(0);
    const Tensor m = ctx.arena.make(ctx.dtype, {n_tokens, n_rows});
    with_real(ctx.dtype, [&](auto real) {
        using T = decltype(real);
        const T *x = x_TW.as<T>(), *fn = fn_RW.as<T>();
        matmul_nt(ctx, matrix(x, n_tokens, width), matrix(fn, n_rows, width), m.as<T>(), n_rows, false);
    });
    return m;
}

void record_hyper_site(Ctx& ctx, const HyperValues& v, const HyperWeights& w) {
    const Tensor fn = is_trained(ctx, w.fn) ? w.fn.master : Tensor{};
    const Tensor base = is_trained(ctx, w.base) ? w.base.master : Tensor{};
    const Tensor scale = is_trained(ctx, w.scale) ? w.scale.master : Tensor{};
    ctx.tape->record([=](Ctx& c) {
        Tape& tape = *c.tape;
        const HyperSite& s = v.site;
        const bool has_mixing = !v.form.is_head;
        if (!tape.has_grad(s.u_TD) && !tape.has_grad(s.pre_TN) &&
            !(has_mixing && (tape.has_grad(s.post_TN) || tape.has_grad(s.comb_TNN))))
            return;
        const int64_t n_tokens = v.x_TND.dim(0), n_pieces = (n_tokens + kTokens - 1) / kTokens;
        const Tensor none;
        with_real(c.dtype, [&](auto real) {
            using T = decltype(real);
            const SiteBackward<T> op{v,
                                     gradient_or_zeros(c, s.u_TD),
                                     tape.grad(s.pre_TN),
                                     has_mixing ? gradient_or_zeros(c, s.post_TN) : none,
                                     has_mixing ? gradient_or_zeros(c, s.comb_TNN) : none,
                                     tape.grad(v.x_TND),
                                     zeros(c, v.m_TR.shape),
                                     zeros(c, {n_tokens}),
                                     zeros(c, {n_pieces, v.form.n_rows() + 3})};
            c.pool.parallel_for(n_tokens, kTokens, [&](int64_t t0, int64_t t1) { op.piece(t0, t1); });
            if (!fn.empty()) op.to_fn(c, tape.grad(fn));
            if (!base.empty()) add_sums<T>(op.sums, 0, tape.grad(base));
            if (!scale.empty()) add_sums<T>(op.sums, v.form.n_rows(), tape.grad(scale));
        });
        for (const Tensor& made : {s.u_TD, s.pre_TN, s.post_TN, s.comb_TNN}) tape.done(made);
    });
}

Tensor hyper_mix_on_tape(Ctx& ctx, const Tensor& x_TND, const HyperSite& site, const Tensor& f_TD) {
    if constexpr (kHasCuda)
        if (ctx.cuda) return cuda::hyper_mix_on_tape(ctx, x_TND, site, f_TD);
    const int64_t n_tokens = x_TND.dim(0), n = x_TND.dim(1), d = x_TND.dim(2);
    const Tensor y_TND = ctx.arena.make(ctx.dtype, x_TND.shape), post = site.post_TN, comb = site.comb_TNN;
    with_real(ctx.dtype, [&](auto real) {
        using T = decltype(real);
        const auto streams = [=](int64_t t0, int64_t t1) {
            return cpu::HyperStreams<T>{t1 - t0,          n, d, x_TND.row<T>(t0), f_TD.row<T>(t0), post.row<T>(t0),
                                        comb.row<T>(t0)};
        };
        ctx.pool.parallel_for(n_tokens, kTokens, [&](int64_t t0, int64_t t1) {
            cpu::hyper_kernels<T>().mix(streams(t0, t1), y_TND.row<T>(t0));
        });
        if (ctx.training && ctx.training->wants_hyper_stats && !ctx.training->is_recomputation)
            ctx.training->writes.push_back(measure_write<T>(ctx, post, f_TD, y_TND));
        ctx.tape->record([=](Ctx& c) {
            if (!c.tape->has_grad(y_TND)) return;
            const Tensor dy = c.tape->grad(y_TND), df = c.tape->grad(f_TD), dx = c.tape->grad(x_TND);
            const Tensor dpost = c.tape->grad(post), dcomb = c.tape->grad(comb);
            // The kernel writes the coefficients' gradients, which may hold something already.
            const Tensor new_post = c.arena.make(c.dtype, post.shape), new_comb = c.arena.make(c.dtype, comb.shape);
            c.pool.parallel_for(n_tokens, kTokens, [&](int64_t t0, int64_t t1) {
                cpu::hyper_kernels<T>().mix_backward(streams(t0, t1), dy.template row<T>(t0), df.template row<T>(t0),
                                                     dx.template row<T>(t0), new_post.template row<T>(t0),
                                                     new_comb.template row<T>(t0));
                for (int64_t i = t0 * n; i < t1 * n; ++i) dpost.template as<T>()[i] += new_post.template as<T>()[i];
                for (int64_t i = t0 * n * n; i < t1 * n * n; ++i)
                    dcomb.template as<T>()[i] += new_comb.template as<T>()[i];
            });
            c.tape->done(y_TND);
        });
    });
    return y_TND;
}

}  // namespace vitrine
