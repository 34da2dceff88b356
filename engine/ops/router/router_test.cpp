// The router: biased choice, unbiased weights, ties, hash layers, extreme logits.
#include "engine/ops/router/router.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/op_fixture.h"

namespace vitrine {
namespace {

ModelConfig config(int experts, int k) {
    ModelConfig c;
    c.n_experts = experts;
    c.n_experts_per_tok = k;
    c.routed_scaling_factor = 1.5;
    return c;
}

// The gate is the identity, so that x is the vector of logits.
MoeWeights identity_gate(int experts, const std::vector<float>& bias) {
    std::vector<float> eye(experts * experts, 0.0f);
    for (int e = 0; e < experts; ++e) eye[e * experts + e] = 1;
    MoeWeights w;
    w.gate = test::make_param(eye, {experts, experts});
    w.bias = test::make_param(bias, {experts});
    return w;
}

TEST(Router, SqrtSoftplusIsStable) {
    for (double z : {-80.0, -20.0, -1.0, 0.0, 1.0, 20.0, 80.0}) {
        const double want = std::sqrt(z > 30 ? z : std::log1p(std::exp(z)));
        EXPECT_NEAR(sqrt_softplus(static_cast<float>(z)) / want, 1, 2e-6) << z;
    }
}

TEST(Router, BiasDecidesTheChoiceButNotTheWeight) {
    test::OpFixture f;
    const auto w = identity_gate(4, {0, 0, 5, 0});
    const Routing r = route(f.ctx, f.tensor({1, 4}, {2, 1, -3, 0}), {}, w, config(4, 2), false);
    EXPECT_EQ(r.indices_TK.as<int32_t>()[0], 2);  // by its bias
    EXPECT_EQ(r.indices_TK.as<int32_t>()[1], 0);
    const double s2 = std::sqrt(std::log1p(std::exp(-3.0))), s0 = std::sqrt(std::log1p(std::exp(2.0)));
    EXPECT_NEAR(r.weights_TK.f32()[0], 1.5 * s2 / (s0 + s2), 1e-6);
    EXPECT_NEAR(r.weights_TK.f32()[1], 1.5 * s0 / (s0 + s2), 1e-6);
}

// Where all affinities of the chosen vanish, their weights are 0 and not NaN; one that doesn't takes it all.
TEST(Router, AffinitiesThatVanishWeighNothing) {
    test::OpFixture f;
    const auto w = identity_gate(3, {0, 0, 0});
    const Routing none = route(f.ctx, f.tensor({1, 3}, {-250, -260, -270}), {}, w, config(3, 2), false);
    for (int j = 0; j < 2; ++j) EXPECT_EQ(none.weights_TK.f32()[j], 0) << j;
    const Routing one = route(f.ctx, f.tensor({1, 3}, {-250, -60, -270}), {}, w, config(3, 2), false);
    EXPECT_NEAR(one.weights_TK.f32()[0], 1.5, 1e-6);
    EXPECT_EQ(one.weights_TK.f32()[1], 0);
}

TEST(Router, TiesGoToTheLowestExpert) {
    test::OpFixture f;
    const Routing r = route(f.ctx, f.tensor({1, 5}, {1, 1, 1, 1, 1}), {}, identity_gate(5, {0, 0, 0, 0, 0}), config(5, 3), false);
    for (int j = 0; j < 3; ++j) EXPECT_EQ(r.indices_TK.as<int32_t>()[j], j);
}

TEST(Router, HashLayersTakeTheTable) {
    test::OpFixture f;
    MoeWeights w = identity_gate(4, {9, 0, 0, 0});
    auto table = std::make_shared<std::vector<int64_t>>(std::vector<int64_t>{0, 1, 3, 2});
    w.tid2eid = {"tid2eid", {2, 2}, {table->data(), nullptr, DType::i64, DType::f8_e8m0, 2, 2, 0, 0}, table};
    const int32_t ids[] = {1};
    const Routing r = route(f.ctx, f.tensor({1, 4}, {4, 0, 1, 2}), ids, w, config(4, 2), true);
    EXPECT_EQ(r.indices_TK.as<int32_t>()[0], 3);
    EXPECT_EQ(r.indices_TK.as<int32_t>()[1], 2);
    EXPECT_NEAR(r.weights_TK.f32()[0] + r.weights_TK.f32()[1], 1.5, 1e-6);
}

TEST(Router, ForcedExpertsKeepTheirOwnAffinities) {
    test::OpFixture f;
    Tensor forced = f.arena.make(DType::i32, {1, 2});
    forced.as<int32_t>()[0] = 3;
    forced.as<int32_t>()[1] = 1;
    const Routing r =
        route(f.ctx, f.tensor({1, 4}, {2, 1, 0, -1}), {}, identity_gate(4, {0, 0, 0, 0}), config(4, 2), false, forced);
    EXPECT_EQ(r.indices_TK.as<int32_t>()[0], 3);
    EXPECT_LT(r.weights_TK.f32()[0], r.weights_TK.f32()[1]);
}

}  // namespace
}  // namespace vitrine
