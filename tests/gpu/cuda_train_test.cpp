// Training on a GPU against the CPU: losses, gradients, resuming, recomputation. Skipped where there is no GPU.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <map>
#include <string>

#include "engine/base/json.h"
#include "engine/train/gradient_file.h"
#include "tests/support/cuda_fixture.h"
#include "tests/train/small_model.h"

namespace vitrine {
namespace {

std::unique_ptr<Trainer> trainer_on(int gpu, const TrainConfig& c, const ModelConfig& m) {
    return std::make_unique<Trainer>(m, fresh_weights(m, c), c, 2, gpu);
}

// Everything that has a twin: MTP, the indexer's loss, balancing by bias and by sequence.
TrainConfig whole_training() {
    TrainConfig c = test::small_training();
    c.balance = BalanceKind::bias_and_sequence, c.z_weight = 1e-3, c.indexer_weight = 0.1;
    return c;
}

// Longest difference of two gradients of one name, over the norm of the first; a gradient that is all but zero beside the others
// (the norm of all, a ten-thousandth of it) is compared with that. Of the indexers' weights (`is_indexer`) or of all others.
double worst_difference(Trainer& a, Trainer& b, bool is_indexer, std::string& name) {
    const auto ga = gradients_by_file_name(a), gb = gradients_by_file_name(b);
    EXPECT_EQ(ga.size(), gb.size());
    double worst = 0, all = 0;
    for (const NamedGradient& g : ga)
        for (size_t j = 0; j < g.bytes.size() / 4; ++j)
            all += std::pow(double{reinterpret_cast<const float*>(g.bytes.data())[j]}, 2);
    for (size_t i = 0; i < ga.size(); ++i) {
        if ((ga[i].name.find(".indexer.") != std::string::npos) != is_indexer) continue;
        const auto* x = reinterpret_cast<const float*>(ga[i].bytes.data());
        const auto* y = reinterpret_cast<const float*>(gb[i].bytes.data());
        const size_t n = ga[i].bytes.size() / 4;
        double difference = 0, norm = 0;
        for (size_t j = 0; j < n; ++j) difference += std::pow(double{x[j]} - y[j], 2), norm += std::pow(double{x[j]}, 2);
        const double relative = std::sqrt(difference) / std::max(std::sqrt(norm), 1e-4 * std::sqrt(all));
        if (!(relative <= worst)) worst = relative, name = ga[i].name;
    }
    return worst;
}

TEST(CudaTrain, gradients_are_the_cpus) {
    if (!test::CudaFixture::is_there()) GTEST_SKIP() << test::CudaFixture::why_not();
    for (const bool recomputes : {false, true}) {
        TrainConfig c = whole_training();
        c.recompute = recomputes;
        const auto host = trainer_on(kCpu, c, test::small_model()), gpu = trainer_on(0, c, test::small_model());
        const TrainBatch batch = host->data().batch(0);
        const LossAndGradients a = host->gradients(batch), b = gpu->gradients(batch);
        EXPECT_NEAR(a.loss, b.loss, 5e-7);
        EXPECT_NEAR(a.total, b.total, 5e-7);
        for (const bool is_indexer : {false, true}) {
            std::string name;
            const double worst = worst_difference(*host, *gpu, is_indexer, name);
            std::printf("loss %.2g from the CPU's, worst gradient %.2g: %s\n", std::abs(a.loss - b.loss), worst, name.c_str());
            EXPECT_LE(worst, 3e-5) << name << ", recomputed " << recomputes;
        }
    }
}

TEST(CudaTrain, bf16_products_are_near) {
    if (!test::CudaFixture::is_there()) GTEST_SKIP() << test::CudaFixture::why_not();
    TrainConfig c = whole_training();
    const auto host = trainer_on(kCpu, c, test::small_model());
    c.products = ProductInputs::bf16;
    const auto gpu = trainer_on(0, c, test::small_model());
    const TrainBatch batch = host->data().batch(0);
    const double a = host->gradients(batch).loss, b = gpu->gradients(batch).loss;
    EXPECT_NEAR(a, b, 1e-4);
    for (const bool is_indexer : {false, true}) {
        std::string name;
        const double worst = worst_difference(*host, *gpu, is_indexer, name);
        std::printf("BF16 products: loss %.2g from the CPU's, worst gradient %.2g: %s\n", std::abs(a - b), worst, name.c_str());
        EXPECT_LE(worst, is_indexer ? 0.2 : 0.1) << name;
    }
}

void steps_agree(OptimizerKind optimizer) {
    TrainConfig c = whole_training();
    c.optimizer = optimizer;
    const auto host = trainer_on(kCpu, c, test::small_model()), gpu = trainer_on(0, c, test::small_model());
    double loss = 0, norm = 0, held = 0;
    for (int i = 0; i < 10; ++i) {
        const StepReport a = host->step(), b = gpu->step();
        loss = std::max(loss, std::abs(a.loss - b.loss)), norm = std::max(norm, std::abs(a.grad_norm / b.grad_norm - 1));
        EXPECT_NEAR(a.loss, b.loss, 1e-6) << "step " << i;
        EXPECT_NEAR(a.grad_norm, b.grad_norm, 2e-6 * a.grad_norm) << "step " << i;
    }
    const auto held_a = host->evaluate(), held_b = gpu->evaluate();
    ASSERT_EQ(held_a.size(), held_b.size());
    for (size_t i = 0; i < held_a.size(); ++i) {
        held = std::max(held, std::abs(held_a[i].value - held_b[i].value));
        EXPECT_NEAR(held_a[i].value, held_b[i].value, 1e-6) << held_a[i].name;
    }
    std::printf("ten steps beside the CPU's: loss %.2g, gradient norm %.2g of itself, held-out %.2g\n", loss, norm, held);
}
TEST(CudaTrain, ten_adamw_steps) {
    if (!test::CudaFixture::is_there()) GTEST_SKIP() << test::CudaFixture::why_not();
    steps_agree(OptimizerKind::adamw);
}
TEST(CudaTrain, ten_muon_steps) {
    if (!test::CudaFixture::is_there()) GTEST_SKIP() << test::CudaFixture::why_not();
    steps_agree(OptimizerKind::muon);
}

TEST(CudaTrain, goes_on_bit_for_bit) {
    if (!test::CudaFixture::is_there()) GTEST_SKIP() << test::CudaFixture::why_not();
    for (const ProductInputs products : {ProductInputs::f32, ProductInputs::bf16}) {
        TrainConfig c = whole_training();
        c.products = products, c.optimizer = OptimizerKind::muon;
        const auto straight = trainer_on(0, c, test::small_model()), first = trainer_on(0, c, test::small_model());
        for (int i = 0; i < 5; ++i) straight->step(), first->step();
        const Trainer::State state = first->state();
        std::map<std::string, Trainer::State::Array> arrays;
        for (const auto& a : state.arrays) arrays[a.name] = a;
        const auto second = trainer_on(0, c, test::small_model());
        second->restore(arrays, state.rest, "a test");
        for (int i = 0; i < 5; ++i) {
            const StepReport a = straight->step(), b = second->step();
            EXPECT_EQ(a.loss, b.loss) << i;
            EXPECT_EQ(a.grad_norm, b.grad_norm) << i;
        }
        EXPECT_TRUE(test::bits_of(*straight) == test::bits_of(*second));
    }
}

TEST(CudaTrain, fake_quantisation_is_the_cpus) {
    if (!test::CudaFixture::is_there()) GTEST_SKIP() << test::CudaFixture::why_not();
    TrainConfig c = whole_training();
    c.fp8_weights = c.fp4_experts = c.fp8_activations = c.fp8_cache = c.fp4_index = true;
    ModelConfig m = test::small_model();
    const auto host = trainer_on(kCpu, c, m), gpu = trainer_on(0, c, m);
    const TrainBatch batch = host->data().batch(0);
    const double a = host->gradients(batch).loss, b = gpu->gradients(batch).loss;
    std::printf("fake quantisation: loss %.2g from the CPU's\n", std::abs(a - b));
    EXPECT_NEAR(a, b, 3e-7);  // a rounding that falls the other way would be a step
}

TEST(CudaTrain, what_has_no_twin_is_refused) {
    if (!test::CudaFixture::is_there()) GTEST_SKIP() << test::CudaFixture::why_not();
    TrainConfig c = test::small_training();
    c.metrics = MetricsLevel::all;
    try {
        trainer_on(0, c, test::small_model());
        FAIL() << "expected an error";
    } catch (const Error& e) {
        EXPECT_NE(std::string(e.what()).find("metrics"), std::string::npos) << e.what();
    }
    c.metrics = MetricsLevel::few;
    const auto t = trainer_on(0, c, test::small_model());
    EXPECT_THROW(t->change("metrics", Json("all")), Error) << "in the middle of a run neither";
}

// Loads, losses, gradient norms and updates by layer come back at every step.
TEST(CudaTrain, scalars_by_layer_are_those_of_the_cpu) {
    if (!test::CudaFixture::is_there()) GTEST_SKIP() << test::CudaFixture::why_not();
    TrainConfig c = test::small_training();
    c.metrics = MetricsLevel::layers;
    const StepReport ours = trainer_on(0, c, test::small_model())->step(),
                     theirs = trainer_on(kCpu, c, test::small_model())->step();
    std::map<std::string, double> host;
    for (const Scalar& s : theirs.scalars) host[s.name] = s.value;
    int n_layers = 0, n_loads = 0;
    for (const Scalar& s : ours.scalars) {
        if (!s.name.starts_with("layers.") && !s.name.starts_with("load.")) continue;
        ASSERT_TRUE(host.contains(s.name)) << s.name;
        EXPECT_NEAR(s.value, host[s.name], 1e-3 * std::max(1.0, std::abs(host[s.name]))) << s.name;
        (s.name.starts_with("layers.") ? n_layers : n_loads) += 1;
    }
    EXPECT_GT(n_layers, 9);
    EXPECT_GT(n_loads, 3);
}

}  // namespace
}  // namespace vitrine
