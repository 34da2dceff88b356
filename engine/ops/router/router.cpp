// The router: sqrt(softplus) affinities, biased selection, unbiased weights.
#include "engine/ops/router/router.h"

#include <algorithm>
#include <cmath>

#include "engine/ops/linear/linear.h"
#include "engine/ops/order.h"

namespace vitrine {
namespace {

// The k best of score+bias by (score descending, index ascending); returns the best score left out, -inf if none.
float choose(const float* score, const float* bias, int n, int k, int32_t* chosen) {
    std::vector<int32_t> order(n);
    for (int e = 0; e < n; ++e) order[e] = e;
    const auto key = [&](int32_t e) { return bias ? score[e] + bias[e] : score[e]; };
    const auto better = [&](int32_t a, int32_t b) {
        const uint32_t ka = order_key(key(a)), kb = order_key(key(b));
        return ka != kb ? ka > kb : a < b;
    };
    const int shown = std::min(n, k + 1);
    std::partial_sort(order.begin(), order.begin() + shown, order.end(), better);
    std::copy_n(order.begin(), k, chosen);
    return n > k ? key(order[k]) : -INFINITY;
}

}  // namespace

float sqrt_softplus(float z) { return std::sqrt(std::max(z, 0.0f) + std::log1p(std::exp(-std::abs(z)))); }

Routing route(Ctx& ctx, const Tensor& x_TD, std::span<const int32_t> ids, const MoeWeights& w, const ModelConfig& c,
              bool is_hash_routed, const Tensor& forced_TK) {
    const int64_t n_tokens = x_TD.dim(0), n_experts = c.n_experts, k = c.n_experts_per_tok;
    const Tensor logits_TE = linear(ctx, x_TD, w.gate, {.quantise_input = false, .round_output = false});
    const OpTimer timer(ctx, OpKind::route);
    Tensor scores_TE = ctx.arena.make(DType::f32, {n_tokens, n_experts});
    Routing r{ctx.arena.make(DType::i32, {n_tokens, k}), ctx.arena.make(DType::f32, {n_tokens, k})};
    Tensor margin_T = ctx.arena.make(DType::f32, {n_tokens, 1}), bias_E = ctx.arena.make(DType::f32, {n_experts});
    if (!is_hash_routed) w.bias.widen_row(0, bias_E.f32());

    for (int64_t t = 0; t < n_tokens; ++t) {
        const float* z = logits_TE.row<float>(t);
        float* s = scores_TE.row<float>(t);
        for (int64_t e = 0; e < n_experts; ++e) s[e] = sqrt_softplus(z[e]);
        auto* chosen = r.indices_TK.row<int32_t>(t);
        if (is_hash_routed) {
            for (int64_t j = 0; j < k; ++j)
                chosen[j] = w.tid2eid.view.dtype == DType::i64
                                ? static_cast<int32_t>(static_cast<const int64_t*>(w.tid2eid.view.data)[ids[t] * k + j])
                                : static_cast<const int32_t*>(w.tid2eid.view.data)[ids[t] * k + j];
        } else {
            const float left_out = choose(s, bias_E.f32(), static_cast<int>(n_experts), static_cast<int>(k), chosen);
            *margin_T.row<float>(t) = s[chosen[k - 1]] + bias_E.f32()[chosen[k - 1]] - left_out;
        }
        if (!forced_TK.empty()) std::copy_n(forced_TK.row<int32_t>(t), k, chosen);
        float sum = 0;
        for (int64_t j = 0; j < k; ++j) sum += s[chosen[j]];
        const auto factor = static_cast<float>(c.routed_scaling_factor);
        for (int64_t j = 0; j < k; ++j)
            r.weights_TK.row<float>(t)[j] = c.norm_topk_prob ? s[chosen[j]] / sum * factor : s[chosen[j]] * factor;
    }
    const int ne = static_cast<int>(n_experts), nk = static_cast<int>(k);
    if (ctx.wants(kRouterLogits)) ctx.publish(kRouterLogits, logits_TE, 1, ne);
    if (ctx.wants(kRouterScores)) ctx.publish(kRouterScores, scores_TE, 1, ne);
    if (ctx.wants(kRouterIndices)) ctx.publish(kRouterIndices, r.indices_TK, 1, nk);
    if (ctx.wants(kRouterWeights)) ctx.publish(kRouterWeights, r.weights_TK, 1, nk);
    if (!is_hash_routed && ctx.wants(kRouterMargin)) ctx.publish(kRouterMargin, margin_T, 1, 1);
    return r;
}

}  // namespace vitrine
