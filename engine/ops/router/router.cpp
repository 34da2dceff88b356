// The router: sqrt(softplus) affinities, choice by variant, unbiased weights. Inference and the tape share every line
// of it.
#include "engine/ops/router/router.h"

#include <algorithm>
#include <cmath>

#include "engine/ops/linear/linear.h"
#include "engine/ops/router/choice.h"
#include "engine/ops/router/router_tape.h"

namespace vitrine {
namespace {

// s = sqrt(ln(1 + e^z)) and ds/dz = sigma(z) / 2s. Far below 0 the logarithm is lost, and s is e^(z/2).
template <class T>
T affinity_of(T z, T* slope) {
    const T e = std::exp(-std::abs(z));
    const T s = z < -30 ? std::exp(z / 2) : std::sqrt(std::max(z, T{0}) + std::log1p(e));
    if (slope) *slope = z < -30 ? s / 2 : (z >= 0 ? 1 : e) / (1 + e) / (2 * s);
    return s;
}

int32_t table_entry(const Param& table, int64_t i) {
    return table.view.dtype == DType::i64 ? static_cast<int32_t>(static_cast<const int64_t*>(table.view.data)[i])
                                          : static_cast<const int32_t*>(table.view.data)[i];
}

template <class T>
struct Rows {
    const MoeWeights& w;
    const ModelConfig& c;
    std::span<const int32_t> ids;
    bool is_hash_routed;
    Tensor forced, logits, affinity, slope, margin;  // forced, slope: may be empty
    const float* bias;
    Routing r;

    void route(int64_t t0, int64_t t1) const {
        const int64_t n_experts = logits.dim(1);
        std::vector<float> narrow(static_cast<size_t>(2 * n_experts));
        for (int64_t t = t0; t < t1; ++t) {
            const T* z = logits.row<T>(t);
            T* s = affinity.row<T>(t);
            for (int64_t e = 0; e < n_experts; ++e) {
                s[e] = affinity_of(z[e], slope.empty() ? nullptr : slope.row<T>(t) + e);
                narrow[static_cast<size_t>(e)] = static_cast<float>(s[e]);
            }
            choose(t, narrow.data(), narrow.data() + n_experts);
            weigh(t, s);
        }
    }
    void choose(int64_t t, const float* s, float* scratch) const {
        const int64_t k = r.indices_TK.dim(1);
        auto* chosen = r.indices_TK.row<int32_t>(t);
        if (is_hash_routed)
            for (int64_t j = 0; j < k; ++j) chosen[j] = table_entry(w.tid2eid, ids[t] * c.n_experts_per_tok + j);
        else
            *margin.row<float>(t) = choice_of(c.variants.router)(
                {s, bias, c.n_experts, static_cast<int>(k), c.variants.router_top_p, scratch}, chosen);
        if (!forced.empty()) std::copy_n(forced.row<int32_t>(t), k, chosen);
    }
    void weigh(int64_t t, const T* s) const {
        const int64_t k = r.indices_TK.dim(1);
        const auto* chosen = r.indices_TK.row<int32_t>(t);
        const auto factor = static_cast<T>(c.routed_scaling_factor);
        T sum = 0;
        for (int64_t j = 0; j < k; ++j)
            if (chosen[j] >= 0) sum += s[chosen[j]];
        if (sum == 0) sum = 1;  // all vanish: weights of 0, not NaN
        for (int64_t j = 0; j < k; ++j)
            r.weights_TK.row<T>(t)[j] = chosen[j] < 0      ? T{0}
                                        : c.norm_topk_prob ? s[chosen[j]] / sum * factor
                                                           : s[chosen[j]] * factor;
    }
};

Tensor as_f32(Ctx& ctx, const Tensor& x) {
    if (x.dtype == DType::f32) return x;
    const Tensor y = ctx.arena.make(DType::f32, x.shape);
    std::copy_n(x.as<double>(), x.count(), y.f32());
    return y;
}

}  // namespace

float sqrt_softplus(float z) {
    return affinity_of<float>(z, nullptr);
}

Routing route(Ctx& ctx, const Tensor& x_TD, std::span<const int32_t> ids, const MoeWeights& w, const ModelConfig& c,
              bool is_hash_routed, const Tensor& forced_TK, std::span<const int64_t> segment_ends) {
    if constexpr (kHasCuda)
        if (ctx.cuda)
            return ctx.tape ? cuda::route_on_tape(ctx, x_TD, ids, w, c, is_hash_routed, forced_TK, segment_ends)
                            : cuda::route(ctx, x_TD, w, c, is_hash_routed, forced_TK);
    const int64_t n_tokens = x_TD.dim(0), n_experts = c.n_experts;
    const int most = is_hash_routed || ctx.tape ? c.n_experts_per_tok : c.n_experts;
    const int64_t k = ctx.active_experts > 0 ? std::min(ctx.active_experts, most) : c.n_experts_per_tok;
    VITRINE_ASSERT(forced_TK.empty() || forced_TK.dim(1) >= k);
    const DType dtype = ctx.tape ? ctx.dtype : DType::f32;
    const Tensor logits_TE = linear(ctx, x_TD, w.gate, {.quantise_input = false, .round_output = false});
    const OpTimer timer(ctx, OpKind::route);
    const Tensor scores_TE = ctx.arena.make(dtype, {n_tokens, n_experts});
    const Tensor slope_TE = ctx.tape ? ctx.arena.make(dtype, {n_tokens, n_experts}) : Tensor{};
    const Routing r{ctx.arena.make(DType::i32, {n_tokens, k}), ctx.arena.make(dtype, {n_tokens, k})};
    const Tensor margin_T = ctx.arena.make(DType::f32, {n_tokens, 1}), bias_E = ctx.arena.make(DType::f32, {n_experts});
    if (!is_hash_routed) w.bias.widen_row(0, bias_E.f32());
    with_real(dtype, [&](auto real) {
        const Rows<decltype(real)> rows{w,         c,        ids,      is_hash_routed, forced_TK, logits_TE,
                                        scores_TE, slope_TE, margin_T, bias_E.f32(),   r};
        ctx.pool.parallel_for(n_tokens, 64, [&](int64_t t0, int64_t t1) { rows.route(t0, t1); });
    });
    const int ne = static_cast<int>(n_experts), nk = static_cast<int>(k);
    if (ctx.wants(kRouterLogits)) ctx.publish(kRouterLogits, as_f32(ctx, logits_TE), 1, ne);
    if (ctx.wants(kRouterScores)) ctx.publish(kRouterScores, as_f32(ctx, scores_TE), 1, ne);
    if (ctx.wants(kRouterIndices)) ctx.publish(kRouterIndices, r.indices_TK, 1, nk);
    if (ctx.wants(kRouterWeights)) ctx.publish(kRouterWeights, as_f32(ctx, r.weights_TK), 1, nk);
    if (!is_hash_routed && ctx.wants(kRouterMargin)) ctx.publish(kRouterMargin, margin_T, 1, 1);
    if (ctx.tape)
        record_routing(ctx,
                       {logits_TE, scores_TE, slope_TE, r, c.routed_scaling_factor, c.norm_topk_prob, is_hash_routed},
                       segment_ends);
    return r;
}

}  // namespace vitrine
