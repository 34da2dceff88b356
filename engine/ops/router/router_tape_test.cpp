// The router on the tape: gradients of weights and auxiliary losses, loads, all variants.
#include "engine/ops/router/router.h"
#include "tests/support/gradcheck.h"

namespace vitrine {
namespace {

struct Case {
    int64_t n_tokens, d;
    int n_experts, k;
};
const Case kCases[] = {{1, 3, 1, 1}, {5, 17, 7, 2}, {33, 31, 16, 3}, {150, 6, 70, 5}};

ModelConfig config(const Case& s, RouterKind kind = RouterKind::topk_bias) {
    ModelConfig c;
    c.n_experts = s.n_experts;
    c.n_experts_per_tok = s.k;
    c.routed_scaling_factor = 1.5;
    c.variants.router = kind;
    c.variants.router_top_p = 0.3;
    return c;
}

struct Table {  // hash layers
    std::vector<int32_t> experts, ids;
    explicit Table(const Case& s) {
        for (int64_t t = 0; t < s.n_tokens; ++t) {
            ids.push_back(static_cast<int32_t>(s.n_tokens - 1 - t));
            for (int j = 0; j < s.k; ++j) experts.push_back(static_cast<int32_t>((t * 5 + j) % s.n_experts));
        }
    }
    void place(Ctx& ctx, const Case& s, MoeWeights& w) const {
        const Tensor there = test::place_ints(ctx, {s.n_tokens, s.k}, experts);
        w.tid2eid = {"tid2eid", there.shape, {there.data, nullptr, DType::i32, DType::f8_e8m0, s.n_tokens, s.k, 0, 0}, {}, {}};
    }
};

// A router's gate and bias where the check runs; the bias gets no gradient, and no choice is near a tie.
struct Router {
    MoeWeights w;
    Router(test::GradCheck& check, const Case& s) {
        check.param(w.gate, {s.n_experts, s.d});
        check.param(w.bias, {s.n_experts});
    }
};

// Logits are spread so that no choice is near a tie.
void check_gradients(const Case& s, const ModelConfig& c, bool is_hash_routed, const TrainingStep& asked,
                     const std::vector<int64_t>& ends = {}) {
    test::GradCheck check;
    const size_t x = check.input({s.n_tokens, s.d}, 2);
    Router router(check, s);
    const Table table(s);
    check.step = asked;
    check.has_cuda_twin = c.variants.router != RouterKind::top_p;  // refused there
    check.bf16_tolerance = check.gpu_tolerance;                    // the gate's products are FP32 in any case
    check.run(
        [&](Ctx& ctx) {
            table.place(ctx, s, router.w);
            return std::vector{route(ctx, check.at(x), table.ids, router.w, c, is_hash_routed, {}, ends).weights_TK};
        },
        1e-6);
}

TEST(RouterTape, weight_gradients_match_differences) {
    for (const Case& s : kCases) {
        for (RouterKind kind : {RouterKind::topk_bias, RouterKind::topk, RouterKind::top_p})
            check_gradients(s, config(s, kind), false, {});
        check_gradients(s, config(s), true, {});
        ModelConfig raw = config(s);
        raw.norm_topk_prob = false;
        check_gradients(s, raw, false, {});
    }
}

TEST(RouterTape, auxiliary_gradients_match_differences) {
    for (const Case& s : kCases) {
        TrainingStep balance, sequence, z, all;
        balance.balance_weight = all.balance_weight = 0.7;
        sequence.sequence_weight = all.sequence_weight = 1.3;
        z.z_weight = all.z_weight = 0.2;
        const std::vector<int64_t> ends =
            s.n_tokens > 3 ? std::vector<int64_t>{2, 3, s.n_tokens} : std::vector<int64_t>{s.n_tokens};
        for (const TrainingStep& step : {balance, sequence, z, all}) check_gradients(s, config(s), false, step, ends);
        check_gradients(s, config(s), true, all, ends);
    }
}

// Forced experts keep their own affinities; an empty slot and an expert that is named twice count as they are.
TEST(RouterTape, forced_experts_have_gradients) {
    const Case s{40, 9, 6, 3};
    test::GradCheck check;
    const size_t x = check.input({s.n_tokens, s.d}, 2);
    Router router(check, s);
    std::vector<int32_t> forced;
    for (int64_t t = 0; t < s.n_tokens; ++t)
        for (int j = 0; j < s.k + 1; ++j)
            forced.push_back(t % 5 == 1 && j == 1
                                 ? -1
                                 : static_cast<int32_t>(t % 7 == 3 ? t % s.n_experts : (t + 2 * j) % s.n_experts));
    check.step.balance_weight = 0.3, check.step.sequence_weight = 0.2;
    check.bf16_tolerance = check.gpu_tolerance;
    const std::vector<int64_t> ends{7, 40};
    check.run(
        [&](Ctx& ctx) {
            const Tensor chosen = test::place_ints(ctx, {s.n_tokens, s.k + 1}, forced);
            return std::vector{route(ctx, check.at(x), {}, router.w, config(s), false, chosen, ends).weights_TK};
        },
        1e-6);
}

struct Routed {
    test::OpFixture f;
    Tape tape;
    TrainingStep step;
    MoeWeights w;
    Routed(int n_experts, const std::vector<float>& bias) {
        f.ctx.tape = &tape, f.ctx.training = &step, f.ctx.layer = 1;
        std::vector<float> eye(static_cast<size_t>(n_experts * n_experts));
        for (int e = 0; e < n_experts; ++e) eye[static_cast<size_t>(e * (n_experts + 1))] = 1;
        w.gate = test::make_param(eye, {n_experts, n_experts});
        w.bias = test::make_param(bias, {n_experts});
    }
};

TEST(RouterTape, leaves_loads_and_values) {
    Routed r(3, {0, 0, 0});
    r.step.balance_weight = 0.01, r.step.sequence_weight = 0.1, r.step.z_weight = 1;
    const Tensor x = r.f.tensor({3, 3}, {2, 0, -1, 2, 0, -1, 2, 0, -1});
    const std::vector<int64_t> ends{1, 3};
    route(r.f.ctx, x, {}, r.w, config({3, 3, 3, 1}), false, {}, ends);
    ASSERT_EQ(r.step.loads.size(), 2u);
    EXPECT_EQ(r.step.loads[1].chosen, (std::vector<double>{3, 0, 0}));
    const double s[] = {std::sqrt(std::log1p(std::exp(2.0))), std::sqrt(std::log(2.0)),
                        std::sqrt(std::log1p(std::exp(-1.0)))};
    const double share = s[0] / (s[0] + s[1] + s[2]);
    EXPECT_NEAR(r.step.loads[1].affinity[0], 3 * share, 1e-6);
    ASSERT_EQ(r.step.losses.size(), 3u);
    EXPECT_NEAR(r.step.losses[0].value, 3 * share, 1e-6);  // all tokens at one expert: E f P with f = 1
    EXPECT_NEAR(r.step.losses[1].value, 3 * share, 1e-6);
    const double lse = std::log(std::exp(2.0) + 1 + std::exp(-1.0));
    EXPECT_NEAR(r.step.losses[2].value, lse * lse, 1e-5);
    for (const AuxiliaryLoss& l : r.step.losses) EXPECT_EQ(l.layer, 1);
}

TEST(RouterTape, even_loads_have_balance_one_and_recomputation_leaves_nothing) {
    Routed r(4, {0, 0, 0, 0});
    r.step.balance_weight = 1;
    const Tensor x = r.f.tensor({4, 4}, {3, 0, 0, 0, 0, 3, 0, 0, 0, 0, 3, 0, 0, 0, 0, 3});
    route(r.f.ctx, x, {}, r.w, config({4, 4, 4, 1}), false);
    EXPECT_NEAR(r.step.losses.at(0).value, 1, 1e-6);
    r.step.is_recomputation = true;
    const size_t n_nodes = r.tape.n_nodes();
    route(r.f.ctx, x, {}, r.w, config({4, 4, 4, 1}), false);
    EXPECT_EQ(r.step.losses.size(), 1u);
    EXPECT_EQ(r.tape.n_nodes(), 2 * n_nodes);  // the gradients are recorded all the same
}

TEST(RouterTape, stable_far_below_zero) {
    Routed r(2, {0, 0});
    const Tensor x = r.f.tensor({1, 2}, {-150, -151});
    const Routing routing = route(r.f.ctx, x, {}, r.w, config({1, 2, 2, 2}), false);
    EXPECT_NEAR(routing.weights_TK.f32()[0] / routing.weights_TK.f32()[1], std::exp(0.5), 1e-4);
    r.tape.grad(routing.weights_TK).f32()[0] = 1;
    r.tape.backward(r.f.ctx);
    const double p = 1 / (1 + std::exp(-0.5));
    EXPECT_NEAR(r.tape.grad(x).f32()[0], 1.5 * p * (1 - p) / 2, 1e-4);  // w = 1.5 sigma((z0 - z1) / 2)
}

TEST(RouterVariants, choose_as_they_say) {
    test::OpFixture f;
    Routed r(4, {0, 0, 9, 0});
    f.ctx.layer = 0;
    const auto chosen = [&](RouterKind kind, double top_p, int active) {
        ModelConfig c = config({1, 4, 4, 3}, kind);
        c.variants.router_top_p = top_p;
        f.ctx.active_experts = active;
        const Routing routing = route(f.ctx, f.tensor({1, 4}, {8, 4, -4, 1}), {}, r.w, c, false);
        const auto n = routing.indices_TK.dim(1);
        double sum = 0;
        for (int64_t j = 0; j < n; ++j) sum += routing.weights_TK.f32()[j];
        EXPECT_NEAR(sum, 1.5, 1e-6);
        return std::vector<int32_t>(routing.indices_TK.as<int32_t>(), routing.indices_TK.as<int32_t>() + n);
    };
    EXPECT_EQ(chosen(RouterKind::topk_bias, 0.9, 0), (std::vector<int32_t>{2, 0, 1}));
    EXPECT_EQ(chosen(RouterKind::topk, 0.9, 0), (std::vector<int32_t>{0, 1, 3}));
    EXPECT_EQ(chosen(RouterKind::topk, 0.9, 2), (std::vector<int32_t>{0, 1}));
    EXPECT_EQ(chosen(RouterKind::topk, 0.9, 7), (std::vector<int32_t>{0, 1, 3, 2}));  // all there are
    // affinities 2.83, 2.00, 0.13, 1.15: shares 0.46, 0.33, 0.02, 0.19
    EXPECT_EQ(chosen(RouterKind::top_p, 0.4, 0), (std::vector<int32_t>{0, -1, -1}));
    EXPECT_EQ(chosen(RouterKind::top_p, 0.6, 0), (std::vector<int32_t>{0, 1, -1}));
    EXPECT_EQ(chosen(RouterKind::top_p, 0.999, 0), (std::vector<int32_t>{0, 1, 3}));
}

}  // namespace
}  // namespace vitrine
