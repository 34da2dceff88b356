// The mixture of experts with its backward (docs/math/moe.md): per expert, small dense products on gathered rows.
#include "engine/ops/moe/moe_tape.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <memory>

#include "engine/ops/linear/matmul.h"
#include "engine/ops/moe/plan.h"
#include "engine/ops/moe/swiglu.h"
#include "engine/ops/quantize/quantize_tape.h"
#include "engine/ops/trained.h"
#include "engine/ops/training.h"

namespace vitrine {
namespace {

constexpr int64_t kRows = 128;  // of an expert per piece of work

struct ExpertValues {  // of one group: values as they are multiplied, masters where a gradient is wanted
    Tensor w1, w2, w3, master1, master2, master3;
    int64_t width;
};

enum class Rounding : uint8_t { none, rows, tensors };  // tensors: one scale for an expert's rows

struct RowPiece {  // slots [begin, end) of group g
    size_t g;
    int64_t begin, end;
};

struct GradientPiece {  // rows [o0, o1) of the gradient of matrix 1, 2 or 3 of group g
    size_t g;
    int matrix;
    int64_t o0, o1;
};

std::vector<RowPiece> row_pieces(const std::vector<Group>& groups) {
    std::vector<RowPiece> pieces;
    for (size_t g = groups.size(); g-- > 0;)  // the shared expert's first: the most rows
        for (int64_t s = groups[g].begin; s < groups[g].end; s += kRows)
            pieces.push_back({g, s, std::min(s + kRows, groups[g].end)});
    return pieces;
}

template <class T>
struct TapedMoe {
    std::shared_ptr<const MoePlan> plan;
    std::vector<ExpertValues> experts;
    Tensor x, x_seen, y, weights;  // x_seen: as the experts see it, x unless it is quantised
    Tensor g_SI, u_SI;             // before the clamp
    T limit;
    Rounding hidden;               // h to FP8 before w2
    DelayedScales* delayed = nullptr;  // Rounding::tensors: scales from steps before
    bool keeps_largest = false;        // leaves this step's

    int64_t d() const { return x.dim(1); }
    int64_t width() const { return g_SI.dim(1); }
    int64_t n_slots() const { return static_cast<int64_t>(plan->slots.size()); }
    T weight_of(int64_t slot) const {
        const int64_t choice = plan->slots[slot].choice;
        return choice < 0 ? T{1} : weights.as<T>()[choice];
    }
    Matrix<T> rows(const Tensor& t, const RowPiece& p, int64_t cols) const {
        return {t.row<T>(p.begin), p.end - p.begin, cols, t.dim(1)};
    }
    static Matrix<T> all(const Tensor& w) { return matrix(static_cast<const T*>(w.as<T>()), w.dim(0), w.dim(1)); }

    template <class F>
    void over(Ctx& ctx, const std::vector<RowPiece>& pieces, F&& f) const {
        ctx.pool.parallel_for(static_cast<int64_t>(pieces.size()), 1, [&](int64_t p0, int64_t p1) {
            for (int64_t p = p0; p < p1; ++p) f(pieces[p]);
        });
    }
    void gather(const Tensor& from_TD, const Tensor& to_SD, const RowPiece& p) const {
        for (int64_t s = p.begin; s < p.end; ++s)
            std::memcpy(to_SD.row<T>(s), from_TD.row<T>(plan->slots[s].token), d() * sizeof(T));
    }
    // to[t] (+)= the rows of its slots, in ascending expert order.
    void scatter(Ctx& ctx, const Tensor& from_SD, const Tensor& to_TD, bool accumulate) const {
        const int64_t n_tokens = to_TD.dim(0), per_token = static_cast<int64_t>(plan->slots_of_token.size()) / n_tokens;
        ctx.pool.parallel_for(n_tokens, 64, [&](int64_t t0, int64_t t1) {
            for (int64_t t = t0; t < t1; ++t) {
                T* to = to_TD.row<T>(t);
                if (!accumulate) std::fill_n(to, d(), T{0});
                for (int64_t j = 0; j < per_token; ++j) {
                    const int64_t slot = plan->slots_of_token[t * per_token + j];
                    if (slot < 0) break;
                    const T* from = from_SD.row<T>(slot);
                    for (int64_t i = 0; i < d(); ++i) to[i] += from[i];
                }
            }
        });
    }

    void round_hidden(const Tensor& h_SI, const RowPiece& p, int64_t n) const {
        for (int64_t s = p.begin; s < p.end && hidden == Rounding::rows; ++s) round_fp8_row(h_SI.row<T>(s), n, 128);
    }
    // One scale for all rows of an expert.
    void round_hidden_by_expert(Ctx& ctx, const Tensor& h_SI) const {
        if (hidden != Rounding::tensors) return;
        std::vector<float> largest(experts.size());
        const auto site = [&](size_t g) { return plan->groups[g].expert->w2.master.data; };
        ctx.pool.parallel_for(static_cast<int64_t>(experts.size()), 1, [&](int64_t g0, int64_t g1) {
            std::vector<T> rows;
            for (int64_t g = g0; g < g1; ++g) {
                const Group& group = plan->groups[static_cast<size_t>(g)];
                const int64_t n = experts[static_cast<size_t>(g)].width, n_rows = group.end - group.begin;
                if (n_rows == 0) continue;
                rows.resize(static_cast<size_t>(n * n_rows));
                for (int64_t s = 0; s < n_rows; ++s) std::copy_n(h_SI.row<T>(group.begin + s), n, rows.data() + s * n);
                const auto at = static_cast<size_t>(g);
                largest[at] = round_fp8_tensor(rows.data(), n * n_rows, delayed, site(at));
                for (int64_t s = 0; s < n_rows; ++s) std::copy_n(rows.data() + s * n, n, h_SI.row<T>(group.begin + s));
            }
        });
        for (size_t g = 0; g < experts.size() && delayed && keeps_largest; ++g)
            if (largest[g] > 0) keep_largest(*delayed, site(g), largest[g]);
    }

    // y_SD: gets what each slot adds.
    void forward(Ctx& ctx, const Tensor& y_SD) const {
        const Arena::Scope scratch(ctx.arena);
        const DType dtype = dtype_of<T>();
        const Tensor x_SD = ctx.arena.make(dtype, {n_slots(), d()}), h_SI = ctx.arena.make(dtype, g_SI.shape);
        over(ctx, row_pieces(plan->groups), [&](const RowPiece& p) {
            const ExpertValues& e = experts[p.g];
            gather(x_seen, x_SD, p);
            matmul_nt_serial(rows(x_SD, p, d()), all(e.w1), g_SI.row<T>(p.begin), width(), false);
            matmul_nt_serial(rows(x_SD, p, d()), all(e.w3), u_SI.row<T>(p.begin), width(), false);
            for (int64_t s = p.begin; s < p.end; ++s)
                swiglu_row(g_SI.row<T>(s), u_SI.row<T>(s), e.width, limit, weight_of(s), h_SI.row<T>(s));
            round_hidden(h_SI, p, e.width);
        });
        round_hidden_by_expert(ctx, h_SI);
        over(ctx, row_pieces(plan->groups), [&](const RowPiece& p) {
            const ExpertValues& e = experts[p.g];
            matmul_nt_serial(rows(h_SI, p, e.width), all(e.w2), y_SD.row<T>(p.begin), d(), false);
        });
        scatter(ctx, y_SD, y, false);
    }

    // dweights: may be empty.
    void backward(Ctx& ctx, const Tensor& dy, const Tensor& dx, const Tensor& dweights) const {
        const DType dtype = dtype_of<T>();
        const auto rows_of = [&](int64_t cols) { return ctx.arena.make(dtype, {n_slots(), cols}); };
        const Tensor x_SD = rows_of(d()), dy_SD = rows_of(d()), dx_SD = rows_of(d()), h_SI = rows_of(width()),
                     dg_SI = rows_of(width()), du_SI = rows_of(width());
        over(ctx, row_pieces(plan->groups), [&](const RowPiece& p) {
            const ExpertValues& e = experts[p.g];
            gather(x_seen, x_SD, p), gather(dy, dy_SD, p);
            matmul_nn_serial(rows(dy_SD, p, d()), all(e.w2), du_SI.row<T>(p.begin), width(), false);  // of h, for now
            for (int64_t s = p.begin; s < p.end; ++s) {
                T* dh = du_SI.row<T>(s);
                const T dweight = swiglu_backward_row(g_SI.row<T>(s), u_SI.row<T>(s), dh, e.width, limit, weight_of(s),
                                                      h_SI.row<T>(s), dg_SI.row<T>(s), dh);
                const int64_t choice = plan->slots[s].choice;
                if (choice >= 0 && !dweights.empty()) dweights.as<T>()[choice] += dweight;
            }
            round_hidden(h_SI, p, e.width);
            matmul_nn_serial(rows(dg_SI, p, e.width), all(e.w1), dx_SD.row<T>(p.begin), d(), false);
            matmul_nn_serial(rows(du_SI, p, e.width), all(e.w3), dx_SD.row<T>(p.begin), d(), true);
        });
        round_hidden_by_expert(ctx, h_SI);
        scatter(ctx, dx_SD, dx, true);
        weight_gradients(ctx, x_SD, dy_SD, h_SI, dg_SI, du_SI);
    }

    // dW1 = dg^T x, dW3 = du^T x, dW2 = dy^T h, over the rows of each expert.
    void weight_gradients(Ctx& ctx, const Tensor& x_SD, const Tensor& dy_SD, const Tensor& h_SI, const Tensor& dg_SI,
                          const Tensor& du_SI) const {
        std::vector<Tensor> into(3 * experts.size());
        std::vector<GradientPiece> pieces;
        for (size_t g = experts.size(); g-- > 0;)
            for (int m = 0; m < 3; ++m) {
                const Tensor& master = m == 0 ? experts[g].master1 : m == 1 ? experts[g].master2 : experts[g].master3;
                if (master.empty()) continue;
                into[3 * g + m] = ctx.tape->grad(master);
                for (int64_t o = 0; o < master.dim(0); o += kRows)
                    pieces.push_back({g, m, o, std::min(o + kRows, master.dim(0))});
            }
        ctx.pool.parallel_for(static_cast<int64_t>(pieces.size()), 1, [&](int64_t p0, int64_t p1) {
            for (int64_t p = p0; p < p1; ++p) {
                const auto [g, m, o0, o1] = pieces[p];
                const RowPiece all_rows{g, plan->groups[g].begin, plan->groups[g].end};
                const Tensor& to = into[3 * g + m];
                Matrix<T> left = rows(m == 0 ? dg_SI : m == 1 ? dy_SD : du_SI, all_rows, o1 - o0);
                left.data += o0;
                matmul_tn_serial(left, rows(m == 1 ? h_SI : x_SD, all_rows, to.dim(1)), to.row<T>(o0), to.dim(1), true);
            }
        });
    }
};

// Of one group: largest |h|, values that were clamped, and the mean square of each channel.
struct GroupStats {
    double peak = 0, n_clipped = 0, cosines = 0;  // cosines: sum of |cos| of gate and up row over channels
    std::vector<double> mean_square;
    double contributions = 0, sum_cosines = 0;  // of its slots
};

template <class T>
double cosine(const T* a, const T* b, int64_t n) {
    double ab = 0, aa = 0, bb = 0;
    for (int64_t i = 0; i < n; ++i) {
        const double x = a[i], y = b[i];
        ab += x * y, aa += x * x, bb += y * y;
    }
    return aa > 0 && bb > 0 ? ab / std::sqrt(aa * bb) : 0;
}

template <class T>
double norm_of(const T* a, int64_t n) {
    double square = 0;
    for (int64_t i = 0; i < n; ++i) square += static_cast<double>(a[i]) * a[i];
    return std::sqrt(square);
}

template <class T>
GroupStats measure_group(const TapedMoe<T>& op, const Tensor& y_SD, size_t g) {
    const Group& group = op.plan->groups[g];
    const int64_t n = op.experts[g].width;
    GroupStats stats{0, 0, 0, std::vector<double>(static_cast<size_t>(n)), 0, 0};
    const Tensor &w1 = op.experts[g].w1, &w3 = op.experts[g].w3;
    for (int64_t i = 0; i < n; ++i) stats.cosines += std::abs(cosine(w1.row<T>(i), w3.row<T>(i), op.d()));
    std::vector<T> h(static_cast<size_t>(n));
    for (int64_t s = group.begin; s < group.end; ++s) {
        const T *gate = op.g_SI.template row<T>(s), *up = op.u_SI.template row<T>(s);
        swiglu_row(gate, up, n, op.limit, T{1}, h.data());
        const T *part = y_SD.row<T>(s), *sum = op.y.template row<T>(op.plan->slots[static_cast<size_t>(s)].token);
        if (const double whole = norm_of(sum, op.d()); whole > 0) stats.contributions += norm_of(part, op.d()) / whole;
        stats.sum_cosines += cosine(part, sum, op.d());
        for (int64_t i = 0; i < n; ++i) {
            const double v = h[static_cast<size_t>(i)];
            stats.peak = std::max(stats.peak, std::abs(v));
            stats.n_clipped += (gate[i] > op.limit) + (std::abs(up[i]) > op.limit);
            stats.mean_square[static_cast<size_t>(i)] += v * v / static_cast<double>(group.end - group.begin);
        }
    }
    return stats;
}

template <class T>
ExpertStats measure(Ctx& ctx, const TapedMoe<T>& op, const Tensor& y_SD) {
    std::vector<GroupStats> groups(op.experts.size());
    ctx.pool.parallel_for(static_cast<int64_t>(groups.size()), 1, [&](int64_t g0, int64_t g1) {
        for (int64_t g = g0; g < g1; ++g)
            groups[static_cast<size_t>(g)] = measure_group(op, y_SD, static_cast<size_t>(g));
    });
    ExpertStats all{ctx.layer, 0, 0, 0, 0, 0, 0, std::numeric_limits<double>::quiet_NaN()};
    double n_values = 0, n_channels = 0, sum = 0, squares = 0, n_routed = 0;
    for (size_t g = 0; g < groups.size(); ++g) {
        all.peak = std::max(all.peak, groups[g].peak);
        all.clipped += groups[g].n_clipped;
        n_values += 2.0 * static_cast<double>((op.plan->groups[g].end - op.plan->groups[g].begin) * op.experts[g].width);
        n_channels += static_cast<double>(op.experts[g].width);
        for (double m : groups[g].mean_square) sum += m, squares += m * m;
        all.alignment += groups[g].cosines;
        const auto n_rows = static_cast<double>(op.plan->groups[g].end - op.plan->groups[g].begin);
        if (op.plan->groups[g].is_shared)
            all.shared = groups[g].contributions / n_rows;
        else
            n_routed += n_rows, all.contribution += groups[g].contributions, all.cosine += groups[g].sum_cosines;
    }
    if (n_routed > 0) all.contribution /= n_routed, all.cosine /= n_routed;
    all.alignment /= n_channels;
    all.clipped /= n_values;
    all.kurtosis = sum > 0 ? squares * n_channels / (sum * sum) : 1;
    return all;
}

// Every routed expert on some tokens of the layer: a plan of its own, and the same products.
template <class T>
ExpertOutputs outputs_of_all(Ctx& ctx, const TapedMoe<T>& of_tokens, const MoeWeights& w) {
    constexpr int64_t kTokens = 64;
    const Arena::Scope scratch(ctx.arena);
    const auto n_experts = static_cast<int64_t>(w.experts.size());
    const int64_t n_all = of_tokens.x.dim(0), n = std::min(kTokens, n_all), d = of_tokens.d();
    const DType dtype = dtype_of<T>();
    const Tensor x_TD = ctx.arena.make(dtype, {n, d}), chosen_TE = ctx.arena.make(DType::i32, {n, n_experts}),
                 ones_TE = ctx.arena.make(dtype, {n, n_experts});
    for (int64_t t = 0; t < n; ++t) {
        std::copy_n(of_tokens.x_seen.template row<T>(t * n_all / n), d, x_TD.row<T>(t));
        for (int64_t e = 0; e < n_experts; ++e)
            chosen_TE.row<int32_t>(t)[e] = static_cast<int32_t>(e), ones_TE.row<T>(t)[e] = 1;
    }
    MoeWeights routed;
    routed.experts = w.experts;
    const auto plan = std::make_shared<MoePlan>(make_moe_plan({chosen_TE, ones_TE}, routed));
    std::vector<ExpertValues> values;
    for (const Group& g : plan->groups) {
        const auto value = [&](const Param& p) { return expert_weight(ctx, p, false); };
        values.push_back(
            {value(g.expert->w1), value(g.expert->w2), value(g.expert->w3), {}, {}, {}, g.expert->w1.shape[0]});
    }
    const int64_t n_slots = n * n_experts;
    const Tensor g_SI = ctx.arena.make(dtype, {n_slots, of_tokens.width()}), y_SD = ctx.arena.make(dtype, {n_slots, d});
    const TapedMoe<T> op{plan,
                         std::move(values),
                         x_TD,
                         x_TD,
                         ctx.arena.make(dtype, {n, d}),
                         ones_TE,
                         g_SI,
                         ctx.arena.make(dtype, g_SI.shape),
                         of_tokens.limit,
                         of_tokens.hidden,
                         of_tokens.delayed};
    op.forward(ctx, y_SD);
    return {ctx.layer, n_experts, n, std::vector<float>(y_SD.as<T>(), y_SD.as<T>() + y_SD.count())};
}

Rounding hidden_rounding(const Ctx& ctx) {
    if (!asks_fp8_activations(ctx)) return Rounding::none;
    return ctx.training->quant.fp8_per_tensor ? Rounding::tensors : Rounding::rows;
}

}  // namespace

Tensor moe_on_tape(Ctx& ctx, const Tensor& x_TD, const Routing& routing, const MoeWeights& w, const ModelConfig& c) {
    VITRINE_ASSERT(x_TD.dtype == ctx.dtype && routing.weights_TK.dtype == ctx.dtype);
    const auto plan = std::make_shared<MoePlan>(make_moe_plan(routing, w));
    const auto n_slots = static_cast<int64_t>(plan->slots.size());
    const int64_t width = std::max(c.expert_width, c.shared_width());
    std::vector<ExpertValues> experts;
    const auto master = [&](const Param& p) { return is_trained(ctx, p) ? p.master : Tensor{}; };
    for (const Group& g : plan->groups) {
        const ExpertWeights& e = *g.expert;
        const auto value = [&](const Param& p) { return expert_weight(ctx, p, g.is_shared); };
        experts.push_back({value(e.w1), value(e.w2), value(e.w3), master(e.w1), master(e.w2), master(e.w3), e.w1.shape[0]});
    }
    const Tensor y_TD = ctx.arena.make(ctx.dtype, x_TD.shape);
    const Tensor g_SI = ctx.arena.make(ctx.dtype, {n_slots, width}), u_SI = ctx.arena.make(ctx.dtype, {n_slots, width});
    with_real(ctx.dtype, [&](auto real) {
        using T = decltype(real);
        const Tensor seen = linear_input(ctx, x_TD, w.experts.at(0).w1.master.data);
        const TapedMoe<T> op{plan, std::move(experts), x_TD, seen, y_TD, routing.weights_TK, g_SI, u_SI,
                             static_cast<T>(c.swiglu_limit), hidden_rounding(ctx),
                             ctx.training ? ctx.training->delayed : nullptr, true};
        {
            const Arena::Scope scratch(ctx.arena);
            const Tensor y_SD = ctx.arena.make(ctx.dtype, {n_slots, x_TD.dim(1)});
            op.forward(ctx, y_SD);
            TrainingStep* step = ctx.training && !ctx.training->is_recomputation ? ctx.training : nullptr;
            if (step && step->wants_expert_stats) step->experts.push_back(measure(ctx, op, y_SD));
            if (step && step->wants_expert_outputs && w.experts.size() > 1)
                step->expert_outputs.push_back(outputs_of_all(ctx, op, w));
        }
        ctx.tape->record([op](Ctx& b) {
            if (!b.tape->has_grad(op.y)) return;
            op.backward(b, b.tape->grad(op.y), b.tape->grad(op.x), b.tape->grad(op.weights));
            b.tape->done(op.y);
        });
    });
    return y_TD;
}

}  // namespace vitrine
