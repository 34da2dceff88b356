// Hyper-connections: how N residual streams enter and leave a sub-layer (v4-spec 2.2, 2.4; backward: docs/math/hyper.md).
#pragma once
#include "engine/model/weights.h"
#include "engine/ops/ctx.h"

namespace vitrine {

using HyperForm = cpu::HyperForm;  // how coefficients are made from projections
using cpu::MixingMap;

struct HyperSite {
    Tensor u_TD;       // collapsed input of the sub-layer, before its norm
    Tensor pre_TN;     // mHC: sigma(.) + eps
    Tensor post_TN;    // mHC: 2 sigma(.)
    Tensor comb_TNN;   // C[from][to]; mHC: doubly stochastic up to Sinkhorn's remaining error
    Tensor normed_TD;  // u after the sub-layer's norm, where the site was asked for it
    Tensor mixing_TM;  // on a GPU, few tokens: what comb is still to be made from; hyper_mix makes it and writes it to comb
    HyperForm form;    // beside mixing_TM
};

// Coefficients and collapsed input of one site from the streams X [T, N, D]; form.n = N, and w.fn has form.n_rows() rows.
// FP32 throughout (on the tape: ctx.dtype); u is rounded in `reference`.
HyperSite hyper_site(Ctx& ctx, const Tensor& x_TND, const HyperWeights& w, const HyperForm& form, double rms_norm_eps);

// X'[k] = post[k] F + sum_j C[j][k] X[j]: C transposed acts on the streams as they were before the site. Written to `out_TND`
// (not X; never on the tape) when it is given, else to the arena.
Tensor hyper_mix(Ctx& ctx, const Tensor& x_TND, const HyperSite& site, const Tensor& f_TD, const Tensor& out_TND = {});

// The final collapse: y = sum_j pre[j] X[j], with form.is_head.
Tensor hyper_head(Ctx& ctx, const Tensor& x_TND, const HyperWeights& w, const HyperForm& form, double rms_norm_eps);

// Z[t][j] = X[t][j] + e[t] for every stream (the MTP module's input, v4-spec 6).
Tensor add_to_streams(Ctx& ctx, const Tensor& x_TND, const Tensor& e_TD);

// Softmax over columns plus eps, a column step, then (iters - 1) row and column steps; in place on C [n, n].
template <class T>
void sinkhorn(T* comb, int n, int iters, T eps);

// The GPU's twins: streams, f and u are ctx.activation(), coefficients f32. The head's site has pre and u alone.
namespace cuda {
HyperSite hyper_site(Ctx& ctx, const Tensor& x_TND, const HyperWeights& w, const HyperForm& form, double rms_norm_eps,
                     const Param* norm_D = nullptr);  // given: normed_TD comes along, in the same launch for few tokens
// At least two kernels lie between a site of few tokens and its mix. The mix of few tokens waits for the next site of its streams,
// which makes it in the same launch, as long as x, f and the site's tensors are still there; or for finish_mix, which whoever else
// reads the streams calls before.
Tensor hyper_mix(Ctx& ctx, const Tensor& x_TND, const HyperSite& site, const Tensor& f_TD, const Tensor& out_TND = {});
void finish_mix(Ctx& ctx);
struct StreamMeasures {
    Tensor norms_TN, cosines_TNN;  // cosine similarity; 0 beside a stream of zeros
};
StreamMeasures measure_streams(Ctx& ctx, const Tensor& x_TND);
Tensor ones(Ctx& ctx, Shape shape);  // f32: the plain residual's coefficients on the tape
// Streams in the step's caches (LayerView::streams of layer l), at the tokens' positions + shift. Kept: rows of x are the step's
// tokens, or the last one of each sequence; a sequence without a drafter is passed by.
void keep_streams(Ctx& ctx, const Tensor& x_TND, int l, bool is_last_only, int64_t shift);
Tensor kept_streams(Ctx& ctx, Shape shape_TND, int l);
Tensor sum_with_streams(Ctx& ctx, const Tensor& x_TND, const Tensor& e_TD);  // add_to_streams without a tape
}  // namespace cuda

}  // namespace vitrine
