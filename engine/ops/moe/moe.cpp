// The mixture of experts as grouped GEMMs.
#include "engine/ops/moe/moe.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "engine/base/reader.h"
#include "engine/ops/linear/linear.h"
#include "engine/ops/moe/expert_ranks.h"
#include "engine/ops/moe/moe_tape.h"
#include "engine/ops/moe/plan.h"
#include "engine/ops/quantize/quantize.h"

namespace vitrine {
namespace {

struct Piece {                 // output rows [o0, o1) of one group
    const Group* group;
    int64_t o0, o1;
};

std::vector<Piece> cut(const std::vector<Group>& groups, const Param ExpertWeights::*matrix) {
    std::vector<Piece> pieces;
    for (const Group& g : groups) {
        const auto& view = (g.expert->*matrix).view;
        const int64_t grain = linear_grain(view, g.end - g.begin);
        for (int64_t o = 0; o < view.out; o += grain) pieces.push_back({&g, o, std::min(o + grain, view.out)});
    }
    return pieces;
}

bool is_quantised(const cpu::PackedMatrix& w) { return w.dtype == DType::f8_e4m3 || w.dtype == DType::fp4_e2m1; }

// What the experts read: x as the routed ones' format asks for, and as the shared one's does.
struct Inputs {
    Tensor routed_TD, shared_TD;  // [T, D] each; the same one where both ask for the same
};

// Quantised once for all routed experts, and once more only where the shared expert's format is of the other sort.
Inputs inputs_of(Ctx& ctx, const Tensor& x_TD, const MoeWeights& w) {
    const Tensor routed = quantised_input(ctx, x_TD, w.experts[0].w1.view);
    if (w.shared.w1.empty() || is_quantised(w.shared.w1.view) == is_quantised(w.experts[0].w1.view)) return {routed, routed};
    return {routed, quantised_input(ctx, x_TD, w.shared.w1.view)};
}

// Rows of x by slot, of these groups: [slots, D].
Tensor gathered(Ctx& ctx, const Inputs& x, const MoePlan& plan, const std::vector<Group>& groups) {
    const int64_t d = x.routed_TD.dim(1);
    Tensor x_SD = ctx.arena.make(DType::f32, {static_cast<int64_t>(plan.slots.size()), d});
    for (size_t i = 0, end = 0; i < groups.size(); i = end) {  // runs of groups that lie side by side
        for (end = i + 1; end < groups.size() && groups[end].begin == groups[end - 1].end;) ++end;
        const int64_t first = groups[i].begin;
        const int64_t first_shared = groups[end - 1].is_shared ? groups[end - 1].begin : groups[end - 1].end;
        ctx.pool.parallel_for(groups[end - 1].end - first, 16, [&](int64_t s0, int64_t s1) {
            for (int64_t s = first + s0; s < first + s1; ++s)
                std::memcpy(x_SD.row<float>(s), (s < first_shared ? x.routed_TD : x.shared_TD).row<float>(plan.slots[s].token),
                            d * sizeof(float));
        });
    }
    return x_SD;
}

// The rows of these groups' slots: y [slots, D] f32, the others stay as they are.
void expert_rows(Ctx& ctx, const Inputs& x, const float* weights, const MoePlan& plan, const std::vector<Group>& groups,
                 const ModelConfig& c, const Tensor& y_SD) {
    const int64_t n_tokens = x.routed_TD.dim(0), d = x.routed_TD.dim(1), n_slots = y_SD.dim(0);
    const auto weight_of = [&](const Slot& s) { return s.choice < 0 ? 1.0f : weights[s.choice]; };
    const int64_t width = std::max(c.expert_width, c.shared_width());
    const auto limit = static_cast<float>(c.swiglu_limit);
    const bool is_reference = ctx.is_reference();
    const Tensor x_SD = n_tokens == 1 ? Tensor{} : gathered(ctx, x, plan, groups);
    const int64_t ldx = n_tokens == 1 ? 0 : d;  // one token: each of its slots reads the same row
    const auto input = [&](const Group& g) {
        return n_tokens > 1 ? x_SD.row<float>(g.begin) : (g.is_shared ? x.shared_TD : x.routed_TD).f32();
    };

    Tensor h_SI = ctx.arena.make(DType::f32, {n_slots, width}), u_SI = ctx.arena.make(DType::f32, {n_slots, width});
    const auto up = cut(groups, &ExpertWeights::w1);
    ctx.pool.parallel_for(static_cast<int64_t>(up.size()), 1, [&](int64_t p0, int64_t p1) {
        for (int64_t p = p0; p < p1 && !ctx.stop.stop_requested(); ++p) {
            const auto [g, o0, o1] = up[p];
            const int64_t m = g->end - g->begin;
            float *hp = h_SI.row<float>(g->begin), *uptr = u_SI.row<float>(g->begin);
            linear_rows(ctx, g->expert->w1.view, input(*g), ldx, m, hp, width, o0, o1);
            linear_rows(ctx, g->expert->w3.view, input(*g), ldx, m, uptr, width, o0, o1);
            for (int64_t s = g->begin; s < g->end; ++s) {
                float* h = h_SI.row<float>(s) + o0;
                cpu::kernels().swiglu_row(h, u_SI.row<float>(s) + o0, o1 - o0, limit, weight_of(plan.slots[s]), is_reference, h);
            }
        }
    });
    ctx.check_stop();
    for (const Group& g : groups) {  // no copy: the hidden rows are ours
        const auto& view = g.expert->w2.view;
        if (!is_reference || !is_quantised(view)) continue;
        for (int64_t s = g.begin; s < g.end; ++s)
            simulate_fp8_rows(ctx, {h_SI.row<float>(s), DType::f32, {1, view.in}}, 128);
    }

    const auto down = cut(groups, &ExpertWeights::w2);
    ctx.pool.parallel_for(static_cast<int64_t>(down.size()), 1, [&](int64_t p0, int64_t p1) {
        for (int64_t p = p0; p < p1 && !ctx.stop.stop_requested(); ++p) {
            const auto [g, o0, o1] = down[p];
            linear_rows(ctx, g->expert->w2.view, h_SI.row<float>(g->begin), width, g->end - g->begin,
                        y_SD.row<float>(g->begin), d, o0, o1);
            for (int64_t s = g->begin; s < g->end && is_reference; ++s) cpu::kernels().round_row(y_SD.row<float>(s) + o0, o1 - o0);
        }
    });
    ctx.check_stop();
}

// Each token's rows in the order of experts: y [T, D].
Tensor summed(Ctx& ctx, const MoePlan& plan, const Tensor& y_SD, int64_t n_tokens, int64_t k, bool has_shared) {
    const int64_t d = y_SD.dim(1);
    Tensor y_TD = ctx.arena.make(DType::f32, {n_tokens, d});
    const bool wants_norms = ctx.wants(kMlpNorms);
    Tensor norms_T2 = ctx.arena.make(DType::f32, {n_tokens, 2});
    const std::vector<float> ones(static_cast<size_t>(k + 1), 1.0f);
    ctx.pool.parallel_for(n_tokens, 16, [&](int64_t t0, int64_t t1) {
        std::vector<const float*> rows(static_cast<size_t>(k + 1));
        for (int64_t t = t0; t < t1; ++t) {
            float* y = y_TD.row<float>(t);
            const int64_t* mine = plan.slots_of_token.data() + t * (k + 1);
            const int routed = plan.routed_of_token[t];
            for (int j = 0; j < routed + has_shared; ++j) rows[j] = y_SD.row<float>(mine[j]);
            if (wants_norms) {
                float* norms = norms_T2.row<float>(t);
                if (routed > 0) cpu::kernels().weighted_sum(rows.data(), ones.data(), routed, d, false, y);
                norms[0] = routed > 0 ? std::sqrt(cpu::kernels().dot(y, y, d)) : 0;
                norms[1] = has_shared ? std::sqrt(cpu::kernels().dot(rows[routed], rows[routed], d)) : 0;
            }
            if (routed + has_shared == 0) std::fill_n(y, d, 0.0f);  // an intervention took them all
            else
                cpu::kernels().weighted_sum(rows.data(), ones.data(), routed + has_shared, d, ctx.is_reference(), y);
        }
    });
    if (wants_norms) ctx.publish(kMlpNorms, norms_T2, 1, 2);
    return y_TD;
}

std::vector<Group> groups_of(const MoePlan& plan, const MoeWeights& w, ExpertShare share, bool with_shared) {
    std::vector<Group> mine;
    for (const Group& g : plan.groups)
        if (g.is_shared ? with_shared : share.holds(g.expert - w.experts.data())) mine.push_back(g);
    return mine;
}

// The same with the others' help: their rows come in the order of ranks, each rank's in one piece.
void spread_rows(Ctx& given, const Inputs& x, const Routing& routing, const MoePlan& plan, const MoeWeights& w,
                 const ModelConfig& c, const Tensor& y_SD) {
    Ctx ctx = given;
    ctx.stop = {};  // what was begun together is finished together
    ExpertRanks& ranks = *ctx.expert_ranks;
    ranks.tell({ExpertOrder::layer, ctx.layer, static_cast<int32_t>(x.routed_TD.dim(0)),
                static_cast<int32_t>(routing.indices_TK.dim(1)), static_cast<int32_t>(ctx.numerics)});
    try {
        ranks.spread(x.routed_TD, routing);
        expert_rows(ctx, x, routing.weights_TK.f32(), plan, groups_of(plan, w, ranks.share(), true), c, y_SD);
        for (int r = 1; r < ranks.size(); ++r) {
            const std::vector<Group> theirs = groups_of(plan, w, ranks.share_of(r), false);
            if (theirs.empty()) continue;
            const int64_t n = theirs.back().end - theirs.front().begin;
            ranks.receive_rows(y_SD.row<float>(theirs.front().begin), n * y_SD.dim(1), r);
        }
    } catch (const std::exception& e) {  // rows that were sent already would be taken for the next call's
        throw RanksLost(e);
    }
}

}  // namespace

void answer_moe(Ctx& ctx, const ExpertOrder& order, const MoeWeights& w, const ModelConfig& c) {
    const Tensor x_TD = ctx.arena.make(DType::f32, {order.n_tokens, c.hidden_size});
    const Routing routing{ctx.arena.make(DType::i32, {order.n_tokens, order.n_chosen}),
                          ctx.arena.make(DType::f32, {order.n_tokens, order.n_chosen})};
    ctx.expert_ranks->spread(x_TD, routing);
    const MoePlan plan = make_moe_plan(routing, w);
    const std::vector<Group> mine = groups_of(plan, w, ctx.expert_ranks->share(), false);
    if (mine.empty()) return;
    const Tensor y_SD = ctx.arena.make(DType::f32, {static_cast<int64_t>(plan.slots.size()), c.hidden_size});
    expert_rows(ctx, {x_TD, {}}, routing.weights_TK.f32(), plan, mine, c, y_SD);
    throw_if_mapping_failed();  // no row that was made of pages that are gone
    const int64_t first = mine.front().begin;
    ctx.expert_ranks->send_rows(y_SD.row<float>(first), (mine.back().end - first) * c.hidden_size);
}

Tensor moe(Ctx& ctx, const Tensor& x_TD, const Routing& routing, const MoeWeights& w, const ModelConfig& c) {
    const OpTimer timer(ctx, OpKind::moe);
    if constexpr (kHasCuda)
        if (ctx.cuda)
            return ctx.tape ? cuda::moe_on_tape(ctx, x_TD, routing, w, c) : cuda::moe(ctx, x_TD, routing, w, c);
    if (ctx.tape) return moe_on_tape(ctx, x_TD, routing, w, c);
    const int64_t n_tokens = x_TD.dim(0), d = x_TD.dim(1);
    const MoePlan plan = make_moe_plan(routing, w);
    for (const Group& g : plan.groups)
        ctx.count(OpKind::moe,
                  3.0 * static_cast<double>((g.end - g.begin) * d) * static_cast<double>(g.expert->w1.view.out));
    const Inputs x = inputs_of(ctx, x_TD, w);
    const Tensor y_SD = ctx.arena.make(DType::f32, {static_cast<int64_t>(plan.slots.size()), d});
    if (ctx.expert_ranks)
        spread_rows(ctx, x, routing, plan, w, c, y_SD);
    else
        expert_rows(ctx, x, routing.weights_TK.f32(), plan, plan.groups, c, y_SD);
    return summed(ctx, plan, y_SD, n_tokens, routing.indices_TK.dim(1), !w.shared.w1.empty());
}

}  // namespace vitrine
