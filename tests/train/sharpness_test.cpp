// Curvature from gradients, of functions whose Hessian is known, and of a step.
#include "engine/train/sharpness.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "tests/train/small_model.h"

namespace vitrine {
namespace {

std::map<std::string, double> by_name(const StepReport& r) {
    std::map<std::string, double> all;
    for (const Scalar& s : r.scalars) all[s.name] = s.value;
    return all;
}

// x^4 / 4 + 3 y^2 + x y at (2, 1): H = [[12, 1], [1, 6]].
std::vector<double> quartic(const std::vector<double>& p) {
    return {p[0] * p[0] * p[0] + p[1], 6 * p[1] + p[0]};
}

TEST(Sharpness, of_a_function_with_a_known_hessian) {
    const std::vector<double> at{2, 1}, product = hessian_times(quartic, at, {1, -2}, 1e-4);
    EXPECT_NEAR(product[0], 10, 1e-6);
    EXPECT_NEAR(product[1], -11, 1e-6);
    // Eigenvalues 9 +- sqrt(10).
    EXPECT_NEAR(largest_curvature(quartic, at, {1, 1}, 1e-4) / (9 + std::sqrt(10.0)), 1, 1e-3);
    // P = diag(4, 1): [[3, 1/2], [1/2, 6]] with eigenvalues 4.5 +- sqrt(2.25 + 0.25).
    EXPECT_NEAR(largest_curvature(quartic, at, {1, 1}, 1e-4, {4, 1}) / (4.5 + std::sqrt(2.5)), 1, 1e-3);
    EXPECT_NEAR(largest_curvature(quartic, at, {1, 1}, 1e-4, {0, 2}), 3, 1e-3) << "what has no scale does not move";
    EXPECT_TRUE(std::isnan(largest_curvature(quartic, at, {0, 0}, 1e-4)));
}

TEST(Sharpness, is_the_largest_eigenvalue_where_a_negative_one_is_larger_in_size) {
    const GradientAt saddle = [](const std::vector<double>& p) { return std::vector<double>{p[0], -5 * p[1]}; };
    EXPECT_NEAR(largest_curvature(saddle, {0, 0}, {1, 1}, 0.1), 1, 0.01);
    EXPECT_NEAR(largest_curvature(saddle, {0, 0}, {1, 1}, 0.1, {2, 1}), 0.5, 0.01);
    const GradientAt hill = [](const std::vector<double>& p) { return std::vector<double>{-p[0], -5 * p[1]}; };
    EXPECT_NEAR(largest_curvature(hill, {0, 0}, {1, 1}, 0.1), -1, 0.01);
}

// Along what the step added: second differences of the loss itself. Every expert is chosen, so that nothing jumps.
TEST(Sharpness, of_a_step_is_the_bend_of_its_loss) {
    TrainConfig c = test::small_training();
    c.dtype = TrainDType::f64, c.sharpness_every = 2, c.warmup_steps = 0, c.balance = BalanceKind::none;
    c.indexer = IndexerMode::dense, c.steps = 10, c.init_std = 0.1;
    ModelConfig m = test::small_model();
    m.n_experts_per_tok = m.n_experts;
    for (LayerConfig& l : m.layers) l.is_hash_routed = false;
    Trainer t(m, fresh_weights(m, c), c, 1), twin(m, fresh_weights(m, c), c, 1);
    const auto flat = [](Trainer& of) {
        std::vector<double> x;
        for (const Leaf& l : of.masters().leaves()) {
            const double* w = l.param->master.as<double>();
            x.insert(x.end(), w, w + l.param->master.count());
        }
        return x;
    };
    const auto set = [&](const std::vector<double>& x) {
        const double* from = x.data();
        for (const Leaf& l : twin.masters().leaves()) {
            std::copy(from, from + l.param->master.count(), l.param->master.as<double>());
            from += l.param->master.count();
        }
    };
    const std::vector<double> before = flat(t);
    const auto s = by_name(t.step());
    const std::vector<double> after = flat(t);
    const TrainBatch batch = twin.data().batch(0);
    const auto loss_at = [&](double share) {
        std::vector<double> x = before;
        for (size_t i = 0; i < x.size(); ++i) x[i] += share * (after[i] - before[i]);
        set(x);
        return twin.gradients(batch).total;
    };
    const double h = 0.005, there = loss_at(h), here = loss_at(0), behind = loss_at(-h);
    const double bend = (there - 2 * here + behind) / (h * h), slope = (there - behind) / (2 * h);
    ASSERT_LT(slope, 0);
    EXPECT_NEAR(s.at("sharpness.step") / (bend / (-2 * slope)), 1, 5e-3);  // measured 8e-4
    EXPECT_DOUBLE_EQ(s.at("sharpness.lr"), s.at("sharpness") * c.lr);
    EXPECT_GT(s.at("sharpness"), 0);
    EXPECT_GT(s.at("sharpness.adam"), 0);
    EXPECT_FALSE(by_name(t.step()).contains("sharpness")) << "every second step";
}

TEST(Sharpness, looking_changes_nothing_and_fp32_sees_the_same) {
    TrainConfig c = test::small_training();
    c.warmup_steps = 0, c.init_std = 0.1, c.batch = 4;
    for (const OptimizerKind kind : {OptimizerKind::adamw, OptimizerKind::muon}) {
        c.optimizer = kind, c.sharpness_every = 0, c.dtype = TrainDType::f32;
        const auto plain = test::small_trainer(c);
        c.sharpness_every = 1;
        const auto looking = test::small_trainer(c), threads = test::small_trainer(c, 3);
        c.dtype = TrainDType::f64;
        const auto wide = test::small_trainer(c);
        for (int i = 0; i < 3; ++i) {
            plain->step();
            const auto a = by_name(looking->step()), b = by_name(threads->step()), f64 = by_name(wide->step());
            EXPECT_EQ(test::bits_of(*plain), test::bits_of(*looking)) << i;
            EXPECT_EQ(a.at("sharpness"), b.at("sharpness"));
            EXPECT_EQ(a.contains("sharpness.adam"), kind == OptimizerKind::adamw);
            EXPECT_GT(a.at("sharpness"), 0);
            EXPECT_NEAR(a.at("sharpness") / f64.at("sharpness"), 1, 3e-3);
            EXPECT_NEAR(a.at("sharpness.step") / f64.at("sharpness.step"), 1, 5e-3);  // measured 8e-4
        }
    }
}

}  // namespace
}  // namespace vitrine
