// Gradients of the router's logits, loads and auxiliary losses (docs/math/moe.md).
#include "engine/ops/router/router_tape.h"

#include <cmath>
#include <vector>

#include "engine/comm/communicator.h"
#include "engine/ops/training.h"

namespace vitrine {
namespace {

// w_j = factor s_j / S over the chosen: ds_j = (factor g_j - sum_i g_i w_i) / S. The choice itself has no gradient.
template <class T>
void weights_backward(const TapedRouting& r, const Tensor& dweights, const Tensor& dlogits, int64_t t) {
    const int64_t k = r.routing.indices_TK.dim(1);
    const auto* chosen = r.routing.indices_TK.row<int32_t>(t);
    const T *s = r.affinity_TE.row<T>(t), *w = r.routing.weights_TK.row<T>(t), *g = dweights.row<T>(t);
    const auto factor = static_cast<T>(r.factor);
    T sum = 0, mixed = 0;
    for (int64_t j = 0; j < k; ++j)
        if (chosen[j] >= 0) sum += s[chosen[j]], mixed += g[j] * w[j];
    if (sum == 0) sum = 1;
    for (int64_t j = 0; j < k; ++j) {
        if (chosen[j] < 0) continue;
        const T ds = r.is_normalised ? (factor * g[j] - mixed) / sum : factor * g[j];
        dlogits.row<T>(t)[chosen[j]] += ds * r.slope_TE.row<T>(t)[chosen[j]];
    }
}

struct Segments {
    std::vector<int64_t> ends;
    int64_t n() const { return static_cast<int64_t>(ends.size()); }
    int64_t begin(int64_t g) const { return g == 0 ? 0 : ends[static_cast<size_t>(g - 1)]; }
    int64_t end(int64_t g) const { return ends[static_cast<size_t>(g)]; }
};

// Counts and summed normalised affinities s' = s / sum(s) by segment: both [G, E].
struct Loads {
    int64_t n_experts;
    std::vector<double> chosen, affinity;
    LayerLoad total(int64_t n_segments) const {
        LayerLoad all{std::vector<double>(n_experts), std::vector<double>(n_experts)};
        for (int64_t g = 0; g < n_segments; ++g)
            for (int64_t e = 0; e < n_experts; ++e)
                all.chosen[e] += chosen[g * n_experts + e], all.affinity[e] += affinity[g * n_experts + e];
        return all;
    }
};

template <class T>
Loads count_loads(Ctx& ctx, const TapedRouting& r, const Segments& segments) {
    const int64_t n_experts = r.affinity_TE.dim(1), k = r.routing.indices_TK.dim(1), n = segments.n() * n_experts;
    Loads loads{n_experts, std::vector<double>(n), std::vector<double>(n)};
    ctx.pool.parallel_for(segments.n(), 1, [&](int64_t g0, int64_t g1) {
        for (int64_t g = g0; g < g1; ++g)
            for (int64_t t = segments.begin(g); t < segments.end(g); ++t) {
                const T* s = r.affinity_TE.row<T>(t);
                double *chosen = loads.chosen.data() + g * n_experts, *affinity = loads.affinity.data() + g * n_experts;
                double sum = 0;
                for (int64_t e = 0; e < n_experts; ++e) sum += s[e];
                for (int64_t e = 0; e < n_experts; ++e) affinity[e] += s[e] / sum;
                for (int64_t j = 0; j < k; ++j)
                    if (const int32_t e = r.routing.indices_TK.row<int32_t>(t)[j]; e >= 0) chosen[e] += 1;
            }
    });
    return loads;
}

// sum_e f_e P_e with f_e = E n_e / sum(n) and P_e = (summed s'_e) / n_tokens; adds weight dL/ds'_e to each of
// coefficients [E].
double balance(const double* chosen, const double* affinity, int64_t n_experts, int64_t n_tokens, double weight,
               double* coefficients) {
    double n_chosen = 0, value = 0;
    for (int64_t e = 0; e < n_experts; ++e) n_chosen += chosen[e];
    for (int64_t e = 0; e < n_experts; ++e) {
        const double each = static_cast<double>(n_experts) * chosen[e] / n_chosen / static_cast<double>(n_tokens);
        value += each * affinity[e];
        coefficients[e] += weight * each;
    }
    return value;
}

// s'_e = s_e / S: ds_j = (c_j - sum_e c_e s'_e) / S.
template <class T>
void balance_backward(const TapedRouting& r, const double* coefficients, const Tensor& dlogits, int64_t t) {
    const int64_t n_experts = r.affinity_TE.dim(1);
    const T *s = r.affinity_TE.row<T>(t), *slope = r.slope_TE.row<T>(t);
    T sum = 0, mixed = 0;
    for (int64_t e = 0; e < n_experts; ++e) sum += s[e], mixed += static_cast<T>(coefficients[e]) * s[e];
    mixed /= sum;
    for (int64_t e = 0; e < n_experts; ++e)
        dlogits.row<T>(t)[e] += (static_cast<T>(coefficients[e]) - mixed) / sum * slope[e];
}

template <class T>
T log_sum_exp(const T* z, int64_t n) {
    T top = z[0], sum = 0;
    for (int64_t e = 1; e < n; ++e) top = std::max(top, z[e]);
    for (int64_t e = 0; e < n; ++e) sum += std::exp(z[e] - top);
    return top + std::log(sum);
}

// sum_t (log sum_e e^z)^2 / T with T = n_whole, tokens of the batch; gradient 2 lse softmax(z) / T.
template <class T>
double z_loss(Ctx& ctx, const TapedRouting& r, int64_t n_whole, double weight) {
    const int64_t n_tokens = r.logits_TE.dim(0), n_experts = r.logits_TE.dim(1);
    const Tensor lse_T = ctx.arena.make(r.logits_TE.dtype, {n_tokens});
    T* lse = lse_T.as<T>();
    ctx.pool.parallel_for(n_tokens, 64, [&](int64_t t0, int64_t t1) {
        for (int64_t t = t0; t < t1; ++t) lse[t] = log_sum_exp(r.logits_TE.row<T>(t), n_experts);
    });
    double value = 0;
    for (int64_t t = 0; t < n_tokens; ++t) value += static_cast<double>(lse[t]) * lse[t];
    ctx.tape->record([=, logits = r.logits_TE](Ctx& c) {
        const Tensor dlogits = c.tape->grad(logits);
        const T scale = static_cast<T>(2 * weight / static_cast<double>(n_whole));
        c.pool.parallel_for(n_tokens, 64, [&](int64_t t0, int64_t t1) {
            for (int64_t t = t0; t < t1; ++t)
                for (int64_t e = 0; e < n_experts; ++e)
                    dlogits.row<T>(t)[e] += scale * lse_T.as<T>()[t] * std::exp(logits.row<T>(t)[e] - lse_T.as<T>()[t]);
        });
    });
    return value / static_cast<double>(n_whole);
}

template <class T>
void record_balance(Ctx& ctx, const TapedRouting& r, const Segments& segments, std::vector<double> coefficients) {
    const int64_t n_experts = r.affinity_TE.dim(1);
    ctx.tape->record([=, coefficients = std::move(coefficients)](Ctx& c) {
        const Tensor dlogits = c.tape->grad(r.logits_TE);
        c.pool.parallel_for(segments.n(), 1, [&](int64_t g0, int64_t g1) {
            for (int64_t g = g0; g < g1; ++g)
                for (int64_t t = segments.begin(g); t < segments.end(g); ++t)
                    balance_backward<T>(r, coefficients.data() + g * n_experts, dlogits, t);
        });
    });
}

template <class T>
void auxiliary(Ctx& ctx, const TapedRouting& r, const Segments& segments) {
    TrainingStep& step = *ctx.training;
    const int64_t n_experts = r.logits_TE.dim(1), n_segments = segments.n();
    const int64_t n_whole = step.whole ? step.whole->n_tokens : r.logits_TE.dim(0);
    const auto n_whole_segments = static_cast<double>(step.whole ? static_cast<int64_t>(step.whole->lengths.size()) : n_segments);
    std::vector<AuxiliaryLoss> losses;
    const Loads loads = count_loads<T>(ctx, r, segments);
    const LayerLoad total = loads.total(n_segments);
    std::vector<double> coefficients(static_cast<size_t>(n_segments * n_experts));  // of s' by segment
    if (step.balance_weight != 0 && !r.is_hash_routed) {
        std::vector<double> same(static_cast<size_t>(n_experts)), chosen = total.chosen;
        if (step.whole) step.whole->ranks->sum(std::span<double>(chosen));  // f_e is the whole batch's, or it would not be balanced
        const double value = balance(chosen.data(), total.affinity.data(), n_experts, n_whole, step.balance_weight, same.data());
        for (size_t i = 0; i < coefficients.size(); ++i) coefficients[i] = same[i % same.size()];
        losses.push_back({"balance", ctx.layer, value, step.balance_weight});
    }
    if (step.sequence_weight != 0 && !r.is_hash_routed) {
        double sum = 0;
        for (int64_t g = 0; g < n_segments; ++g) {
            const int64_t at = g * n_experts;
            sum += balance(loads.chosen.data() + at, loads.affinity.data() + at, n_experts, segments.end(g) - segments.begin(g),
                           step.sequence_weight / n_whole_segments, coefficients.data() + at);
        }
        losses.push_back({"sequence_balance", ctx.layer, sum / n_whole_segments, step.sequence_weight});
    }
    if (!losses.empty()) record_balance<T>(ctx, r, segments, std::move(coefficients));
    if (step.z_weight != 0) losses.push_back({"router_z", ctx.layer, z_loss<T>(ctx, r, n_whole, step.z_weight), step.z_weight});
    if (step.is_recomputation) return;
    step.losses.insert(step.losses.end(), losses.begin(), losses.end());
    const auto layer = static_cast<size_t>(ctx.layer);
    if (step.loads.size() <= layer) step.loads.resize(layer + 1);
    step.loads[layer] = total;
}

}  // namespace

void record_routing(Ctx& ctx, const TapedRouting& r, std::span<const int64_t> segment_ends) {
    const int64_t n_tokens = r.logits_TE.dim(0);
    Segments segments{{segment_ends.begin(), segment_ends.end()}};
    if (segments.ends.empty()) segments.ends.push_back(n_tokens);
    VITRINE_ASSERT(segments.ends.back() == n_tokens && ctx.layer >= 0);
    with_real(ctx.dtype, [&](auto real) {
        using T = decltype(real);
        if (ctx.training) auxiliary<T>(ctx, r, segments);
        ctx.tape->record([=](Ctx& c) {
            if (!c.tape->has_grad(r.routing.weights_TK)) return;
            const Tensor dweights = c.tape->grad(r.routing.weights_TK), dlogits = c.tape->grad(r.logits_TE);
            c.pool.parallel_for(n_tokens, 64, [&](int64_t t0, int64_t t1) {
                for (int64_t t = t0; t < t1; ++t) weights_backward<T>(r, dweights, dlogits, t);
            });
        });
    });
}

}  // namespace vitrine
