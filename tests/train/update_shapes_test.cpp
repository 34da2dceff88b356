// Momentum, updates and their ranks against numbers read off gradients and weights.
#include "engine/train/update_shapes.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "engine/base/rng.h"
#include "engine/telemetry/derive_streams.h"
#include "tests/support/op_fixture.h"
#include "tests/train/small_model.h"

namespace vitrine {
namespace {

using Values = std::vector<double>;

bool all_move(size_t) {
    return true;
}

// A small model in FP64 whose gradients are noise.
struct Fixture {
    explicit Fixture(OptimizerKind kind) : optimizer(kind, masters) {
        config.optimizer = kind;
        config.weight_decay = 0.1;
    }
    void draw(uint64_t seed) {
        const CounterRng rng(seed, 0);
        uint64_t at = 0;
        for (const Leaf& l : masters.leaves())
            for (int64_t i = 0; !l.gradient.empty() && i < l.gradient.count(); ++i) l.gradient.as<double>()[i] = rng.normal(at++);
    }
    std::map<std::string, Values> of(const std::function<Tensor(const Leaf&)>& tensor) const {
        std::map<std::string, Values> all;
        for (const Leaf& l : masters.leaves())
            if (const Tensor t = tensor(l); !l.gradient.empty())
                all[l.name].assign(t.as<double>(), t.as<double>() + t.count());
        return all;
    }
    std::map<std::string, Values> gradients() const {
        return of([](const Leaf& l) { return l.gradient; });
    }
    std::map<std::string, Values> weights() const {
        return of([](const Leaf& l) { return l.param->master; });
    }
    void step() { optimizer.step(op.ctx, config, kRate, 1, all_move); }

    static constexpr double kRate = 0.01;
    TrainConfig config = test::small_training();
    ModelConfig model = test::small_model();
    ModelWeights held = fresh_weights(model, config);
    Masters masters{held, model, DType::f64};
    Optimizer optimizer;
    test::OpFixture op;
};

TEST(MomentumCosine, is_that_of_two_gradients_after_one_step) {
    for (const OptimizerKind kind : {OptimizerKind::adamw, OptimizerKind::muon}) {
        Fixture f(kind);
        f.draw(1);
        EXPECT_TRUE(momentum_cosines(f.masters, f.optimizer, all_move).empty()) << "there is no momentum yet";
        const auto first = f.gradients();
        f.step();
        f.draw(2);
        // AdamW's mean is (1 - beta1) times the first gradient, Muon's sum the gradient itself: by group one factor,
        // but not in all.
        std::map<std::string, double> ab, aa, bb;
        for (const Leaf& l : f.masters.leaves()) {
            if (l.gradient.empty()) continue;
            const double factor = moved_by(l, kind) == MovedBy::adamw ? 1 - f.config.beta1 : 1;
            for (const std::string& group :
                 {std::string("momentum.cosine"), std::string("momentum.cosine.") + weight_group(l)})
                for (int64_t i = 0; i < l.gradient.count(); ++i) {
                    const double a = factor * first.at(l.name)[static_cast<size_t>(i)], b = l.gradient.as<double>()[i];
                    ab[group] += a * b, aa[group] += a * a, bb[group] += b * b;
                }
        }
        const auto got = momentum_cosines(f.masters, f.optimizer, all_move);
        ASSERT_EQ(got.size(), ab.size());
        for (const auto& [name, cosine] : got)
            EXPECT_NEAR(cosine, ab.at(name) / std::sqrt(aa.at(name) * bb.at(name)), 1e-12) << name;
        const auto attention_alone = momentum_cosines(f.masters, f.optimizer, [&](size_t leaf) {
            return weight_group(f.masters.leaves()[leaf]) == std::string("attention");
        });
        EXPECT_EQ(attention_alone.size(), 2u);
        EXPECT_EQ(attention_alone.at("momentum.cosine"), got.at("momentum.cosine.attention"));
    }
}

// diag(s) [n, m] between two rotations: its singular values are s.
Values with_singular_values(const Values& s, int64_t n, int64_t m) {
    Values a(static_cast<size_t>(n * m));
    for (size_t i = 0; i < s.size(); ++i) a[i * static_cast<size_t>(m) + i] = s[i];
    const auto rotate = [&](int64_t count, int64_t length, int64_t to_next, int64_t along) {
        for (int64_t i = 0; i + 1 < count; ++i)
            for (int64_t k = 0; k < length; ++k) {
                const double c = std::cos(0.7 + static_cast<double>(i)), sine = std::sin(0.7 + static_cast<double>(i));
                double &x = a[static_cast<size_t>(i * to_next + k * along)],
                       &y = a[static_cast<size_t>((i + 1) * to_next + k * along)];
                const double was = x;
                x = c * was - sine * y, y = sine * was + c * y;
            }
    };
    rotate(n, m, m, 1), rotate(m, n, 1, m);
    return a;
}

TEST(MatrixShape, follows_from_the_singular_values) {
    const Values s = {2, 1, 0.5};
    for (const auto& [n, m] : {std::array<int64_t, 2>{3, 5}, {5, 3}, {3, 3}}) {
        const MatrixShape shape = matrix_shape(with_singular_values(s, n, m).data(), n, m);
        EXPECT_NEAR(shape.stable_rank, 5.25 / 4 / 3, 1e-10);  // iterations stop at changes below 1e-9
        EXPECT_NEAR(shape.orthogonality, std::sqrt((9 + 0 + 0.5625) / 3), 1e-12);
        const MatrixShape even = matrix_shape(with_singular_values({1, 1, 1}, n, m).data(), n, m);
        EXPECT_NEAR(even.stable_rank, 1, 1e-12);
        EXPECT_NEAR(even.orthogonality, 0, 1e-12);
    }
    const Values zero(6);
    EXPECT_TRUE(std::isnan(matrix_shape(zero.data(), 2, 3).stable_rank));
    EXPECT_EQ(matrix_shape(zero.data(), 2, 3).orthogonality, 1);
}

// The update as the weights show it, its singular values by Jacobi rotations.
TEST(UpdateShapes, are_those_of_what_the_weights_moved_by) {
    for (const OptimizerKind kind : {OptimizerKind::adamw, OptimizerKind::muon}) {
        Fixture f(kind);
        f.draw(1), f.step(), f.draw(2);
        const auto before = f.weights();
        f.step();
        const auto after = f.weights();
        std::map<std::string, Mean> want;
        for (const Leaf& l : f.masters.leaves()) {
            if (l.role != ParamRole::matrix || l.param->shape.rank != 2) continue;
            const int64_t n = l.gradient.dim(0) / l.n_matrices, m = l.gradient.dim(1), small = std::min(n, m);
            const double keep = decays(l, f.config.decay) ? 1 - Fixture::kRate * f.config.weight_decay : 1;
            const double scale = kind == OptimizerKind::muon ? Fixture::kRate * f.config.muon_scale *
                                                                   std::sqrt(static_cast<double>(std::max(n, m)))
                                                             : 1;
            for (int k = 0; k < l.n_matrices; ++k) {
                const auto u = [&](int64_t i, int64_t j) {
                    const auto at = static_cast<size_t>((k * n + i) * m + j);
                    return (before.at(l.name)[at] * keep - after.at(l.name)[at]) / scale;
                };
                Values gram;
                for (int64_t i = 0; i < small; ++i)
                    for (int64_t j = 0; j < small; ++j) {
                        double sum = 0;
                        for (int64_t c = 0; c < std::max(n, m); ++c)
                            sum += n <= m ? u(i, c) * u(j, c) : u(c, i) * u(c, j);
                        gram.push_back(sum);
                    }
                double sum = 0, error = 0;
                const Values squares = singular_values(gram, static_cast<int>(small));
                for (const double x : squares) sum += x, error += (x - 1) * (x - 1);
                want[std::string("stable_rank.update.") + weight_group(l)].add(sum / squares[0] /
                                                                               static_cast<double>(small));
                if (kind == OptimizerKind::muon)
                    want[std::string("muon.orthogonality.") + weight_group(l)].add(
                        std::sqrt(error / static_cast<double>(small)));
            }
        }
        std::vector<Scalar> scalars;
        ScalarList list(scalars);
        add_update_shapes(f.op.ctx, f.config, 1, f.masters, f.optimizer, all_move, list);
        size_t n_found = 0;
        for (const Scalar& s : scalars) {
            EXPECT_GT(s.value, 0) << s.name;
            if (s.name.starts_with("stable_rank.momentum.")) {
                EXPECT_LT(s.value, 1) << s.name;
                continue;
            }
            ASSERT_TRUE(want.contains(s.name)) << s.name;
            // Muon's singular values are alike to 0.1 %: power iterations do not tell the largest.
            const bool is_flat = kind == OptimizerKind::muon && s.name.starts_with("stable_rank.");
            EXPECT_NEAR(s.value, want.at(s.name).mean(), is_flat ? 2e-3 : 1e-4) << s.name;
            ++n_found;
        }
        EXPECT_EQ(n_found, want.size());
    }
}

// Two steps of noise by Muon: what it makes orthogonal is 0.95 M + G with M = 0.95 G1 + G2 and G = G2.
TEST(UpdateShapes, momentum_is_what_muon_makes_orthogonal) {
    Fixture f(OptimizerKind::muon);
    f.draw(1);
    const auto first = f.gradients();
    f.step(), f.draw(2);
    const auto second = f.gradients();
    f.step();
    std::vector<Scalar> scalars;
    ScalarList list(scalars);
    const auto is_router = [&](size_t leaf) { return f.masters.leaves()[leaf].name == "layers.1.ffn.gate.weight"; };
    add_update_shapes(f.op.ctx, f.config, 1, f.masters, f.optimizer, is_router, list);
    Values u;
    for (size_t i = 0; i < first.at("layers.1.ffn.gate.weight").size(); ++i) {
        const double g1 = first.at("layers.1.ffn.gate.weight")[i], g2 = second.at("layers.1.ffn.gate.weight")[i];
        u.push_back(0.95 * (0.95 * g1 + g2) + g2);
    }
    Values gram;
    for (size_t i = 0; i < 4; ++i)
        for (size_t j = 0; j < 4; ++j) {
            double sum = 0;
            for (size_t c = 0; c < 32; ++c) sum += u[i * 32 + c] * u[j * 32 + c];
            gram.push_back(sum);
        }
    const Values squares = singular_values(gram, 4);
    double sum = 0;
    for (const double x : squares) sum += x;
    ASSERT_EQ(scalars.size(), 3u);
    EXPECT_EQ(scalars[1].name, "stable_rank.momentum.router");
    EXPECT_NEAR(scalars[1].value, sum / squares[0] / 4, 1e-6);
}

TEST(UpdateShapes, come_with_a_step) {
    TrainConfig c = test::small_training();
    c.metrics = MetricsLevel::all, c.metrics_every = 1, c.optimizer = OptimizerKind::muon;
    const auto t = test::small_trainer(c);
    const auto named = [](const StepReport& r) {
        std::map<std::string, double> all;
        for (const Scalar& s : r.scalars) all[s.name] = s.value;
        return all;
    };
    const auto first = named(t->step()), second = named(t->step());
    EXPECT_FALSE(first.contains("momentum.cosine"));
    EXPECT_GT(std::abs(second.at("momentum.cosine.experts")), 0);
    EXPECT_LE(std::abs(second.at("momentum.cosine")), 1);
    // What few directions a batch of 64 tokens has, Newton-Schulz spreads over all: from a few to most of the singular
    // values.
    EXPECT_LT(second.at("stable_rank.momentum.attention"), 0.6);
    EXPECT_GT(second.at("stable_rank.update.attention"), second.at("stable_rank.momentum.attention"));
    EXPECT_LT(second.at("muon.orthogonality.attention"), 1);
    EXPECT_GT(second.at("activations.rms"), 0);
}

}  // namespace
}  // namespace vitrine
