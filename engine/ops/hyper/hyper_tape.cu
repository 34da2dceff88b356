// Sites and the head on a GPU's tape: the passes in their order, and what backward keeps (docs/math/hyper.md).
#include "engine/ops/hyper/hyper_tape.h"

#include "engine/device/cuda/blas.h"
#include "engine/ops/hyper/tape.cuh"
#include "engine/ops/row_sums.h"
#include "engine/ops/trained.h"

namespace vitrine::cuda {
namespace {

Gemm product(int64_t m, int64_t n, int64_t k, int64_t lda, int64_t ldb) {
    return {m, n, k, lda, ldb, n, DType::f32, DType::f32};
}

const float* gradient_of(const Ctx& ctx, const Tensor& x) {
    return !x.empty() && ctx.tape->has_grad(x) ? ctx.tape->grad(x).f32() : nullptr;
}

struct Masters {  // empty: not trained
    Tensor fn, base, scale;
};

void backward(Ctx& ctx, const Form& f, const SiteRows& a, const Tensor& x_TND, const HyperSite& s, const Masters& w) {
    SiteGradients g{gradient_of(ctx, s.u_TD), gradient_of(ctx, s.pre_TN), gradient_of(ctx, s.post_TN),
                    gradient_of(ctx, s.comb_TNN)};
    if (!g.du && !g.pre && !g.post && !g.comb) return;
    const int64_t n_rows = f.n_rows, width = static_cast<int64_t>(f.n) * a.d;
    const auto scratch = [&](Shape shape) { return ctx.arena.make(DType::f32, shape).f32(); };
    g.dpre = const_cast<float*>(g.pre);
    if (g.du) g.dpre = scratch({a.n_tokens, f.n}), launch_collapse_to_pre(ctx, f, a, g);
    g.dm = scratch({a.n_tokens, n_rows}), g.shared = scratch({a.n_tokens});
    const Tensor sums = launch_mixing_backward(ctx, f, a, g);
    if (!w.base.empty()) add_row_sums(ctx, sums.f32(), sums.dim(0), n_rows + 3, n_rows, ctx.tape->grad(w.base).f32(), true);
    if (!w.scale.empty())
        add_row_sums(ctx, sums.f32() + n_rows, sums.dim(0), n_rows + 3, w.scale.count(), ctx.tape->grad(w.scale).f32(), true);

    const Tape::Flow dx = ctx.tape->flow(x_TND);
    g.dx = dx.gradient.f32(), g.accumulates = dx.accumulates;
    const bool fast = is_fast(f, a);
    const int64_t n_pieces = fast ? n_fn_pieces(f, a) : 0;
    if (fast && !w.fn.empty()) g.dfn = scratch({n_pieces, n_rows * width});
    launch_to_streams(ctx, f, a, g);
    if (fast) {
        if (g.dfn) add_row_sums(ctx, g.dfn, n_pieces, n_rows * width, n_rows * width, ctx.tape->grad(w.fn).f32(), true);
        return;
    }
    Gemm to_x = product(a.n_tokens, width, n_rows, n_rows, width);
    to_x.b_is_kn = to_x.accumulates = true;
    gemm(*ctx.cuda, to_x, g.dm, a.fn, g.dx);
    if (w.fn.empty()) return;
    Gemm to_fn = product(n_rows, width, a.n_tokens, n_rows, width);
    to_fn.a_is_km = to_fn.b_is_kn = to_fn.accumulates = true;
    gemm(*ctx.cuda, to_fn, g.dm, a.x, ctx.tape->grad(w.fn).f32());
}

}  // namespace

HyperSite hyper_site_on_tape(Ctx& ctx, const Tensor& x_TND, const HyperWeights& w, const HyperForm& form, double rms_norm_eps) {
    const int64_t n_tokens = x_TND.dim(0), n = x_TND.dim(1), d = x_TND.dim(2), n_rows = form.n_rows();
    VITRINE_ASSERT(form.n == n && w.fn.shape[0] == n_rows && x_TND.dtype == DType::f32 && n <= kMaxStreams && n_rows <= kMaxRows);
    const auto make = [&](Shape shape) { return ctx.arena.make(DType::f32, shape); };
    HyperSite s;
    s.u_TD = make({n_tokens, d}), s.pre_TN = make({n_tokens, n});
    if (!form.is_head) s.post_TN = make({n_tokens, n}), s.comb_TNN = make({n_tokens, n, n});
    if (n_tokens == 0) return s;
    const Form f = as_form(form);
    const auto data = [](const Tensor& x) { return static_cast<float*>(x.data); };
    const SiteRows a{x_TND.f32(), data(trained_value(ctx, w.fn)), data(trained_value(ctx, w.base)),
                     data(trained_value(ctx, w.scale)), n_tokens, static_cast<int>(d), static_cast<float>(rms_norm_eps),
                     data(make({n_tokens, n_rows})), data(make({n_tokens})), data(s.pre_TN), data(s.post_TN), data(s.comb_TNN),
                     data(s.u_TD)};
    const bool fast = is_fast(f, a);
    if (!fast) gemm(*ctx.cuda, product(n_tokens, n_rows, n * d, n * d, n * d), a.x, a.fn, a.m);
    launch_collapse(ctx, f, a, !fast);
    if (!form.is_head) launch_mixing(ctx, f, a);
    const auto trained = [&](const Param& p) { return is_trained(ctx, p) ? p.master : Tensor{}; };
    const Masters masters{trained(w.fn), trained(w.base), trained(w.scale)};
    ctx.tape->record([=](Ctx& c) {
        backward(c, f, a, x_TND, s, masters);
        for (const Tensor& made : {s.u_TD, s.pre_TN, s.post_TN, s.comb_TNN}) c.tape->done(made);
    });
    return s;
}

}  // namespace vitrine::cuda
