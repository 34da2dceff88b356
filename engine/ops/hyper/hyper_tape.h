// Hyper-connections on the tape: what a site keeps for its backward.
#pragma once
#include "engine/ops/hyper/hyper.h"

namespace vitrine {

struct HyperValues {
    HyperForm form;
    Tensor x_TND, m_TR;      // streams, projections before the RMS factor
    Tensor factor_T;         // r of each token
    Tensor fn_RW, base_R, scale;  // values of the weights
    HyperSite site;          // of the head: u and pre alone

    // From token t on, as the kernels take them.
    template <class T>
    cpu::HyperRows<T> rows(int64_t t) const {
        const auto at = [t](const Tensor& x) { return x.empty() ? nullptr : x.row<T>(t); };
        return {m_TR.row<T>(t), factor_T.as<T>() + t, base_R.as<T>(), scale.as<T>(), at(site.pre_TN), at(site.post_TN),
                at(site.comb_TNN)};
    }
};

// m = fn x, without a node of its own: the site's backward goes on to fn and x.
Tensor projections_on_tape(Ctx& ctx, const Tensor& x_TW, const Tensor& fn_RW);

// Gradients of u, pre, post and comb go to x, fn, base and scale.
void record_hyper_site(Ctx& ctx, const HyperValues& v, const HyperWeights& w);

// As hyper_mix; gradients go to X, F, post and comb.
Tensor hyper_mix_on_tape(Ctx& ctx, const Tensor& x_TND, const HyperSite& site, const Tensor& f_TD);

// The GPU's twins, f32. The head's site has u and pre alone.
namespace cuda {
HyperSite hyper_site_on_tape(Ctx& ctx, const Tensor& x_TND, const HyperWeights& w, const HyperForm& form, double rms_norm_eps);
Tensor hyper_mix_on_tape(Ctx& ctx, const Tensor& x_TND, const HyperSite& site, const Tensor& f_TD);
Tensor add_to_streams(Ctx& ctx, const Tensor& x_TND, const Tensor& e_TD);
}  // namespace cuda

}  // namespace vitrine
