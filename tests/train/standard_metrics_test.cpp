// The field's standard metrics of a step on cases small enough to be worked out by hand.
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <string>

#include "engine/base/rng.h"
#include "engine/telemetry/derive_streams.h"
#include "engine/train/internals.h"
#include "engine/train/metrics.h"
#include "engine/train/noise_scale.h"
#include "engine/train/representation.h"
#include "engine/train/routing_stats.h"
#include "tests/train/small_model.h"

namespace vitrine {
namespace {

std::map<std::string, double> by_name(const std::vector<Scalar>& scalars) {
    std::map<std::string, double> all;
    for (const Scalar& s : scalars) EXPECT_TRUE(all.emplace(s.name, s.value).second) << s.name << " twice";
    return all;
}

// ---- loads, router
TEST(LoadShape, of_loads_known_in_closed_form) {
    const LoadShape one = load_shape(std::vector<double>{0, 4, 0, 0}),
                    even = load_shape(std::vector<double>{2, 2, 2, 2}), two = load_shape(std::vector<double>{3, 1});
    EXPECT_DOUBLE_EQ(one.least, 0);
    EXPECT_DOUBLE_EQ(one.cv2, 3);  // E - 1
    EXPECT_DOUBLE_EQ(one.gini, 0.75);
    EXPECT_DOUBLE_EQ(one.effective, 1);
    EXPECT_EQ(one.n_starving, 3);
    EXPECT_DOUBLE_EQ(even.least, 1);
    EXPECT_DOUBLE_EQ(even.cv2, 0);
    EXPECT_DOUBLE_EQ(even.gini, 0);
    EXPECT_NEAR(even.effective, 4, 1e-12);
    EXPECT_EQ(even.n_starving, 0);
    EXPECT_DOUBLE_EQ(two.least, 0.5);
    EXPECT_DOUBLE_EQ(two.cv2, 0.25);
    EXPECT_DOUBLE_EQ(two.gini, 0.25);
    EXPECT_NEAR(two.effective, std::pow(4.0 / 3, 0.75) * std::pow(4.0, 0.25), 1e-12);
}

TEST(Overflow, is_what_lies_above_the_capacity) {
    const std::vector<double> counts{6, 2};  // a mean of 4
    EXPECT_DOUBLE_EQ(overflow(counts, 1), 2.0 / 8);
    EXPECT_DOUBLE_EQ(overflow(counts, 1.25), 1.0 / 8);
    EXPECT_DOUBLE_EQ(overflow(counts, 2), 0);
}

TEST(RepeatRate, counts_equal_first_choices_within_a_sample) {
    const std::vector<int32_t> ids{5, 1, 5, 2, 1, 5, 1, 0, 1, 2}, samples{0, 0, 0, 1, 1};
    EXPECT_DOUBLE_EQ(repeat_rate({ids, 2, 6}, samples), 2.0 / 3);  // 5 5, 5 1, and 1 1 behind the edge
}

TEST(RouterConfidence, of_a_sure_and_an_unsure_token) {
    const std::vector<float> scores{1, 1, 1, 1, 0, 3, 0, 0};
    const RouterConfidence r = router_confidence(scores, 4, 1);
    EXPECT_DOUBLE_EQ(r.entropy, 0.5);
    EXPECT_DOUBLE_EQ(r.margin, 1.5);
}

TEST(StandardMetrics, of_loads_and_of_rounding_are_named) {
    TrainingStep step;
    ModelConfig model;
    model.layers.resize(2);
    step.loads.resize(2);  // layer 0 has no experts
    step.loads[1] = {{6, 2}, {1, 3}};
    step.rounding.weights = {8, 1, 2};
    step.rounding.weights.scales[127 - 9] = 1, step.rounding.weights.scales[127 - 7] = 3;
    std::vector<Scalar> scalars;
    ScalarList list(scalars);
    add_training_step(step, model, {.by_layer = true, .has_shares = true}, list);
    const auto s = by_name(scalars);
    EXPECT_DOUBLE_EQ(s.at("overflow.1"), 0.25);
    EXPECT_DOUBLE_EQ(s.at("layers.1.overflow.1.25"), 0.125);
    EXPECT_DOUBLE_EQ(s.at("load.min"), 0.5);
    EXPECT_DOUBLE_EQ(s.at("gate_mass.max_vio"), 0.5);
    EXPECT_DOUBLE_EQ(s.at("fp8.saturated.weights"), 0.125);
    EXPECT_DOUBLE_EQ(s.at("fp8.underflow.weights"), 0.25);
    EXPECT_FALSE(s.contains("fp8.underflow.cache"));
    EXPECT_EQ(s.at("fp8.scale.weights.least"), -9);
    EXPECT_EQ(s.at("fp8.scale.weights.median"), -7);
    EXPECT_EQ(s.at("fp8.scale.weights.most"), -7);
    EXPECT_DOUBLE_EQ(s.at("fp8.scale.weights.at.-9"), 0.25);
    EXPECT_DOUBLE_EQ(s.at("fp8.scale.weights.at.-8"), 0);
    EXPECT_DOUBLE_EQ(s.at("fp8.scale.weights.at.-7"), 0.75);
    EXPECT_FALSE(s.contains("fp8.scale.cache.least"));
    EXPECT_DOUBLE_EQ(s.at("layers.1.load.share.0"), 0.75);
    EXPECT_DOUBLE_EQ(s.at("layers.1.load.share.1"), 0.25);
    EXPECT_FALSE(s.contains("layers.0.load.share.0"));
    scalars.clear();
    add_training_step(step, model, {.by_layer = true}, list);
    EXPECT_FALSE(by_name(scalars).contains("layers.1.load.share.0"));
    scalars.clear();
    add_training_step(step, model, {}, list);
    EXPECT_FALSE(by_name(scalars).contains("overflow.1")) << "few stay few";
}

// A hash layer sends half of its tokens to one expert and none to another: that is the table's and the text's doing.
TEST(StandardMetrics, means_of_loads_leave_hash_layers_out) {
    TrainingStep step;
    ModelConfig model;
    model.n_mtp_layers = 1;
    model.layers = {{0, true}, {0, false}, {0, false}};
    step.loads.resize(4);
    step.loads[0].chosen = {8, 4, 4, 0};
    step.loads[1].chosen = {4, 4, 4, 4};
    step.loads[2].chosen = {6, 4, 4, 2};
    step.loads[3].chosen = {10, 6, 0, 0};  // the MTP module's
    const auto told = [&](bool by_layer) {
        std::vector<Scalar> scalars;
        ScalarList list(scalars);
        add_training_step(step, model, {.by_layer = by_layer}, list);
        return by_name(scalars);
    };
    auto s = told(true);
    EXPECT_DOUBLE_EQ(s.at("max_vio"), (0 + 0.5 + 1.5) / 3);
    EXPECT_DOUBLE_EQ(s.at("max_vio.max"), 1.5);
    EXPECT_DOUBLE_EQ(s.at("dead_experts"), 2);
    EXPECT_DOUBLE_EQ(s.at("dead_share"), 2.0 / 12);
    const double mtp_bits = -(10.0 / 16 * std::log2(10.0 / 16) + 6.0 / 16 * std::log2(6.0 / 16)),
                 second_bits = -(6.0 / 16 * std::log2(6.0 / 16) + 0.5 * std::log2(0.25) + 2.0 / 16 * std::log2(2.0 / 16));
    EXPECT_NEAR(s.at("load_entropy"), (1 + second_bits / 2 + mtp_bits / 2) / 3, 1e-12);
    EXPECT_DOUBLE_EQ(s.at("load.min"), 0) << "the MTP module's";
    EXPECT_DOUBLE_EQ(s.at("overflow.1"), (0 + 2.0 / 16 + 8.0 / 16) / 3);
    EXPECT_DOUBLE_EQ(s.at("hash.max_vio"), 1);
    EXPECT_DOUBLE_EQ(s.at("hash.dead_experts"), 1);
    EXPECT_NEAR(s.at("hash.load_entropy"), 1.5 / 2, 1e-12);
    EXPECT_DOUBLE_EQ(s.at("layers.0.max_vio"), 1);
    EXPECT_FALSE(told(false).contains("hash.max_vio")) << "few stay few";
    model.layers = {{0, true}, {0, true}, {0, true}};  // there is nothing else to tell of
    s = told(true);
    EXPECT_DOUBLE_EQ(s.at("max_vio"), (1 + 0 + 0.5) / 3);
    EXPECT_DOUBLE_EQ(s.at("dead_experts"), 1);
    EXPECT_FALSE(s.contains("hash.max_vio"));
}

// ---- gradient noise
// Samples with a known variance: the means of both estimates over many batches are the variance and the squared mean.
TEST(GradientNoise, is_unbiased) {
    const CounterRng rng(3, 4);
    constexpr int kBatches = 20000, kAll = 8, kPart = 3;
    constexpr double kMean = 0.5, kDeviation = 2;
    GradientNoise sum;
    for (uint64_t b = 0; b < kBatches; ++b) {
        double all = 0, part = 0;
        for (uint64_t i = 0; i < kAll; ++i) {
            const double g = kMean + kDeviation * rng.normal(kAll * b + i);
            all += g / kAll, part += i < kPart ? g / kPart : 0;
        }
        const GradientNoise n = gradient_noise((part - all) * (part - all), all * all, kPart, kAll);
        sum.trace += n.trace / kBatches, sum.square += n.square / kBatches;
    }
    EXPECT_NEAR(sum.trace, kDeviation * kDeviation, 0.15);
    EXPECT_NEAR(sum.square, kMean * kMean, 0.03);
}

TEST(NoiseScale, is_the_ratio_of_means_and_not_told_without_a_gradient) {
    NoiseScale noise;
    std::vector<Scalar> scalars;
    ScalarList list(scalars);
    noise.add({30, -1}), noise.report({30, -1}, list);
    EXPECT_FALSE(by_name(scalars).contains("gradient_noise.scale"));
    scalars.clear();
    noise.add({50, 2}), noise.report({50, 2}, list);
    const auto s = by_name(scalars);
    EXPECT_DOUBLE_EQ(s.at("gradient_noise.trace"), 50);
    EXPECT_DOUBLE_EQ(s.at("gradient_noise.square"), 2);
    EXPECT_NEAR(s.at("gradient_noise.scale"), (0.9 * 30 + 50) / (0.9 * -1 + 2), 1e-9);
}

// ---- hyper-connections
TEST(StandardMetrics, of_a_permutation_and_a_uniform_mixing_matrix) {
    InternalsSink sink(1);
    const float swap[] = {0, 1, 1, 0}, uniform[] = {0.5f, 0.5f, 0.5f, 0.5f}, streams[] = {3, 0, 0, 0, 0, 4};
    sink.put(0, kAttnHcComb, 0, swap, 2, 2);
    sink.put(0, kMlpHcComb, 0, uniform, 2, 2);
    sink.put(0, kStreams, 0, streams, 2, 3);
    std::vector<Scalar> scalars;
    ScalarList list(scalars);
    sink.add(1, true, list);
    const auto s = by_name(scalars);
    EXPECT_NEAR(s.at("layers.0.hyper.attn.distance.permutation"), 0, 1e-12);
    EXPECT_NEAR(s.at("layers.0.hyper.mlp.distance.permutation"), 1, 1e-12);
    EXPECT_NEAR(s.at("hyper.distance.permutation"), 0.5, 1e-12);
    EXPECT_NEAR(s.at("hyper.distance.identity"), (2 + 1) / 2.0, 1e-12);
    EXPECT_NEAR(s.at("hyper.distance.uniform"), (1 + 0) / 2.0, 1e-12);
    EXPECT_NEAR(s.at("hyper.entropy"), (0 + 1) / 2.0, 1e-12);
    EXPECT_NEAR(s.at("hyper.sigma_min"), (1 + 0) / 2.0, 1e-9);
    EXPECT_NEAR(s.at("hyper.lambda2"), (1 + 0) / 2.0, 1e-9);
    EXPECT_NEAR(s.at("hyper.attenuation"), 1, 1e-12);
    EXPECT_NEAR(s.at("hyper.max_log_column"), 0, 1e-12);
    EXPECT_NEAR(s.at("streams.cosine"), 0, 1e-12);
    EXPECT_NEAR(s.at("streams.rank"), std::exp(-3.0 / 7 * std::log(3.0 / 7) - 4.0 / 7 * std::log(4.0 / 7)), 1e-6);
    EXPECT_NEAR(s.at("layers.0.streams.norm"), std::sqrt(12.5), 1e-6);
}

TEST(StandardMetrics, attenuation_is_the_stream_that_fades_most) {
    InternalsSink sink(1);
    const float halves[] = {0.5f, 0, 0, 2};  // diagonal: stream 0 keeps a half at each site, stream 1 doubles
    sink.put(0, kAttnHcComb, 0, halves, 2, 2);
    sink.put(0, kMlpHcComb, 0, halves, 2, 2);
    std::vector<Scalar> scalars;
    ScalarList list(scalars);
    sink.add(1, false, list);
    const auto s = by_name(scalars);
    EXPECT_DOUBLE_EQ(s.at("hyper.attenuation"), 0.25);
    EXPECT_NEAR(s.at("hyper.max_log_column"), std::log(4.0), 1e-12);
    EXPECT_DOUBLE_EQ(s.at("hyper.gain.max"), 4);
}

// Each token doubles one stream and loses the other at both sites: the mean matrix is the unit matrix.
TEST(StandardMetrics, the_map_of_the_mean_matrices_is_not_the_mean_of_the_maps) {
    InternalsSink sink(2);
    const float first[] = {2, 0, 0, 0}, second[] = {0, 0, 0, 2};
    for (const Probe p : {kAttnHcComb, kMlpHcComb}) sink.put(0, p, 0, first, 2, 2), sink.put(1, p, 0, second, 2, 2);
    std::vector<Scalar> scalars;
    ScalarList list(scalars);
    sink.add(1, true, list);
    const auto s = by_name(scalars);
    EXPECT_DOUBLE_EQ(s.at("hyper.gain.max"), 4);
    EXPECT_DOUBLE_EQ(s.at("hyper.gain.mean"), 4);
    EXPECT_DOUBLE_EQ(s.at("hyper.attenuation"), 0);
    EXPECT_DOUBLE_EQ(s.at("hyper.gain.of_mean"), 1);
    EXPECT_DOUBLE_EQ(s.at("hyper.gain_backward.of_mean"), 1);
    EXPECT_DOUBLE_EQ(s.at("hyper.attenuation.of_mean"), 1);
    EXPECT_DOUBLE_EQ(s.at("layers.0.hyper.gain.of_mean"), 1);
}

// Two tokens, two layers; products by hand. New streams are C^T times the old ones.
TEST(StandardMetrics, gains_of_sites_and_up_to_a_layer) {
    InternalsSink sink(2);
    // C of token 0: from stream 0 all goes to 1 doubled, stream 1 is lost; of token 1: the unit matrix.
    const float skew[] = {0, 2, 0, 1}, unit[] = {1, 0, 0, 1}, half[] = {0.5f, 0.5f, 0, 1};
    for (int layer = 0; layer < 2; ++layer) {
        sink.put(0, kAttnHcComb, layer, skew, 2, 2), sink.put(1, kAttnHcComb, layer, unit, 2, 2);
        sink.put(0, kMlpHcComb, layer, half, 2, 2), sink.put(1, kMlpHcComb, layer, half, 2, 2);
    }
    std::vector<Scalar> scalars;
    ScalarList list(scalars);
    sink.add(2, true, list);
    const auto s = by_name(scalars);
    // The map of `skew` is [[0, 0], [2, 1]]: rows 0 and 3, columns 2 and 1. That of `half` [[.5, 0], [.5, 1]]: 1.5 and 1.
    for (const char* layer : {"layers.0.", "layers.1."}) {
        const std::string at = layer;
        EXPECT_DOUBLE_EQ(s.at(at + "hyper.attn.gain"), 3);
        EXPECT_DOUBLE_EQ(s.at(at + "hyper.attn.gain.mean"), (3 + 1) / 2.0);
        EXPECT_DOUBLE_EQ(s.at(at + "hyper.attn.gain_backward"), 2);
        EXPECT_DOUBLE_EQ(s.at(at + "hyper.attn.gain_backward.mean"), (2 + 1) / 2.0);
        EXPECT_DOUBLE_EQ(s.at(at + "hyper.mlp.gain"), 1.5);
        EXPECT_DOUBLE_EQ(s.at(at + "hyper.mlp.gain.mean"), 1.5);
        EXPECT_DOUBLE_EQ(s.at(at + "hyper.mlp.gain_backward"), 1);
    }
    // Up to layer 0: token 0 has half skew = [[0, 0], [2, 1]], token 1 half. Up to layer 1, squared: [[0, 0], [2, 1]] and
    // [[.25, 0], [.75, 1]].
    EXPECT_DOUBLE_EQ(s.at("layers.0.hyper.gain.max"), 3);
    EXPECT_DOUBLE_EQ(s.at("layers.0.hyper.gain.mean"), (3 + 1.5) / 2);
    EXPECT_DOUBLE_EQ(s.at("layers.0.hyper.gain_backward.max"), 2);
    EXPECT_DOUBLE_EQ(s.at("layers.0.hyper.gain_backward.mean"), (2 + 1) / 2.0);
    EXPECT_DOUBLE_EQ(s.at("layers.1.hyper.gain.max"), 3);
    EXPECT_DOUBLE_EQ(s.at("layers.1.hyper.gain.mean"), (3 + 1.75) / 2);
    EXPECT_DOUBLE_EQ(s.at("layers.1.hyper.gain_backward.mean"), (2 + 1) / 2.0);
    EXPECT_EQ(s.at("layers.1.hyper.gain.max"), s.at("hyper.gain.max"));
    EXPECT_EQ(s.at("layers.1.hyper.gain_backward.mean"), s.at("hyper.gain_backward.mean"));
    // Mean matrices: [[.5, 1], [0, 1]] as a map [[.5, 0], [1, 1]], then half: [[.25, 0], [1.25, 1]].
    EXPECT_DOUBLE_EQ(s.at("layers.0.hyper.gain.of_mean"), 2.25);
    EXPECT_DOUBLE_EQ(s.at("layers.0.hyper.gain_backward.of_mean"), 1.5);
}

TEST(StreamUse, of_equal_and_of_opposite_streams) {
    const StreamUse same = stream_use(std::vector<float>{1, 2, 1, 2, 1, 2}, 3),
                    other = stream_use(std::vector<float>{1, 2, -1, -2}, 2);
    EXPECT_NEAR(same.cosine, 1, 1e-12);
    EXPECT_NEAR(same.rank, 1, 1e-3);  // cosines are FP32
    EXPECT_NEAR(same.norm, std::sqrt(5.0), 1e-12);
    EXPECT_NEAR(other.cosine, -1, 1e-12);
}

// One stream, whose tokens 0 and 16 stand for all: noise with outliers, against sums of their own.
TEST(Activations, rms_and_what_lies_beyond_six_deviations) {
    const CounterRng rng(5, 6);
    constexpr int kTokens = 32, kWidth = 200;
    InternalsSink sink(kTokens);
    std::vector<double> seen;
    for (int t = 0; t < kTokens; ++t) {
        std::vector<float> x;
        for (int i = 0; i < kWidth; ++i) {
            x.push_back(static_cast<float>(0.5 + rng.normal(static_cast<uint64_t>(t * kWidth + i))));
            if (i < 3) x.back() = t == 16 ? -40.0f : 1e9f;  // of the others nothing may be seen
            if (i < 3 && t == 0) x.back() = 0;
        }
        sink.put(t, kStreams, 0, x.data(), 1, kWidth);
        if (t % 16 == 0) seen.insert(seen.end(), x.begin(), x.end());
    }
    double mean = 0, square = 0, variance = 0;
    int n_far = 0;
    for (const double x : seen)
        mean += x / static_cast<double>(seen.size()), square += x * x / static_cast<double>(seen.size());
    for (const double x : seen) variance += (x - mean) * (x - mean) / static_cast<double>(seen.size());
    for (const double x : seen) n_far += std::abs(x - mean) > 6 * std::sqrt(variance);
    ASSERT_EQ(n_far, 3);
    std::vector<Scalar> scalars;
    ScalarList list(scalars);
    sink.add(1, true, list);
    const auto s = by_name(scalars);
    EXPECT_NEAR(s.at("activations.rms"), std::sqrt(square), 1e-12);
    EXPECT_NEAR(s.at("layers.0.activations.rms"), std::sqrt(square), 1e-12);
    EXPECT_DOUBLE_EQ(s.at("layers.0.activations.beyond_6_sigma"), 3.0 / static_cast<double>(seen.size()));
    EXPECT_DOUBLE_EQ(s.at("activations.beyond_6_sigma"), 3.0 / static_cast<double>(seen.size()));
    EXPECT_FALSE(s.contains("streams.cosine")) << "there are no two streams";
}

// The peak is of all tokens, the kurtosis of tokens 0 and 16: of channels with mean squares 1, 1, 4 and 2, two streams of two.
TEST(Activations, peak_and_kurtosis_over_channels) {
    InternalsSink sink(17);
    const float first[] = {1, 0, 2, 2}, other[] = {0, -7, 0, 0}, last[] = {-1, 1.41421356f, -2, 0};
    for (int t = 0; t < 17; ++t) sink.put(t, kStreams, 0, t == 0 ? first : t == 16 ? last : other, 2, 2);
    std::vector<Scalar> scalars;
    ScalarList list(scalars);
    sink.add(1, true, list);
    const auto s = by_name(scalars);
    EXPECT_DOUBLE_EQ(s.at("activations.peak"), 7);
    EXPECT_DOUBLE_EQ(s.at("layers.0.activations.peak"), 7);
    EXPECT_NEAR(s.at("activations.kurtosis"), 4 * (1 + 1 + 16 + 4) / 64.0, 1e-6);
    EXPECT_NEAR(s.at("layers.0.activations.kurtosis"), 22 / 16.0, 1e-6);
}

// ---- representations
TEST(Redundancy, of_equal_opposite_and_rotated_outputs) {
    const CounterRng rng(3, 4);
    constexpr int kTokens = 16;
    std::vector<float> a, twice, minus, turned;  // width 2
    for (uint64_t t = 0; t < kTokens; ++t) {
        const auto draw = [&](uint64_t i) { return static_cast<float>(rng.bits(2 * t + i) % 1000) / 500 - 1; };
        const float x = draw(0), y = draw(1);
        a.insert(a.end(), {x, y}), twice.insert(twice.end(), {2 * x, 2 * y});
        minus.insert(minus.end(), {-x, -y}), turned.insert(turned.end(), {-y, x});
    }
    const auto of = [&](const std::vector<float>& b) {
        std::vector<float> both = a;
        both.insert(both.end(), b.begin(), b.end());
        return expert_redundancy(both, 2, kTokens);
    };
    EXPECT_NEAR(of(twice).cosine, 1, 1e-12);
    EXPECT_NEAR(of(minus).cosine, -1, 1e-12);
    EXPECT_NEAR(of(turned).cosine, 0, 1e-12);
    for (const auto* b : {&twice, &minus, &turned})
        EXPECT_NEAR(of(*b).cka, 1, 1e-12) << "neither scale nor rotation counts";
    std::vector<float> three = a;
    three.insert(three.end(), twice.begin(), twice.end()), three.insert(three.end(), minus.begin(), minus.end());
    EXPECT_NEAR(expert_redundancy(three, 3, kTokens).cosine, -1.0 / 3, 1e-12);  // 1, -1, -1
    EXPECT_NEAR(expert_redundancy(three, 3, kTokens).most, 1, 1e-12);
    EXPECT_TRUE(std::isnan(expert_redundancy(std::vector<float>{1, 2, 3, 4}, 2, 1).cka));
}

TEST(Redundancy, cka_of_independent_outputs_is_zero_in_the_mean) {
    const CounterRng rng(1, 2);
    std::vector<float> outputs;  // 12 experts, 32 tokens, width 8: the biased estimate would give 0.2
    for (uint64_t i = 0; i < 12 * 32 * 8; ++i) outputs.push_back(static_cast<float>(rng.bits(i) % 1000) / 500 - 1);
    EXPECT_NEAR(expert_redundancy(outputs, 12, 32).cka, 0, 0.02);
}

TEST(LinearProbe, of_what_can_and_cannot_be_read_off) {
    const CounterRng rng(7, 8);
    const auto draw = [&](uint64_t i) { return static_cast<float>(rng.bits(i) % 1000) / 500 - 1; };
    constexpr int64_t kRows = 4000, kTokens = 4;
    std::vector<float> entries, tokens, linear, other;
    for (int64_t r = 0; r < kRows; ++r) {
        float mean = 0;
        for (int64_t j = 0; j < kTokens; ++j) {
            tokens.push_back(draw(static_cast<uint64_t>(r * kTokens + j)));
            mean += tokens.back() / kTokens;
        }
        entries.push_back(mean), linear.push_back(3 * mean - 2);
        other.push_back(draw(static_cast<uint64_t>(1000000 + r)));
    }
    EXPECT_NEAR(linear_probe_r2(entries, linear, kRows), 1, 1e-9);
    EXPECT_NEAR(linear_probe_r2(entries, tokens, kRows), 1.0 / kTokens, 0.02);  // one of four from their mean
    EXPECT_NEAR(linear_probe_r2(entries, other, kRows), 0, 0.01);
    EXPECT_TRUE(std::isnan(linear_probe_r2(std::vector<float>(7, 1.0f), std::vector<float>(7, 2.0f), 7)));  // too few
    EXPECT_TRUE(
        std::isnan(linear_probe_r2(std::vector<float>(20, 1.0f), std::vector<float>(20, 2.0f), 20)));  // all alike
}

// ---- in a run
TEST(StandardMetrics, update_ratio_of_a_layer_is_of_all_its_weights) {
    TrainConfig c = test::small_training();
    c.metrics = MetricsLevel::layers;
    const auto t = test::small_trainer(c);
    t->step();
    const auto weights = [&] {
        std::map<std::string, std::vector<float>> all;
        for (const Leaf& l : t->masters().leaves())
            if (l.name.starts_with("layers.1.") && l.role != ParamRole::router_bias)
                all[l.name].assign(l.param->master.f32(), l.param->master.f32() + l.param->master.count());
        return all;
    };
    const auto before = weights();
    const auto s = by_name(t->step().scalars);
    double moved = 0, size = 0, n_untouched = 0;
    for (const auto& [name, now] : weights()) {
        const bool rests = name.find(".attn.indexer.") != std::string::npos;  // no loss trains it here
        for (size_t i = 0; i < now.size(); ++i) {
            const double was = before.at(name)[i];
            if (rests)
                n_untouched += now[i] != before.at(name)[i];
            else
                moved += (now[i] - was) * (now[i] - was), size += was * was;
        }
    }
    EXPECT_EQ(n_untouched, 0);
    EXPECT_NEAR(s.at("layers.1.update_ratio") / std::sqrt(moved / size), 1, 1e-3);
}

// What Muon adds is lr times its scale in the root of the mean square, apart from decay, where it finds every direction.
TEST(StandardMetrics, muon_s_update_against_its_scale) {
    TrainConfig c = test::small_training();
    c.optimizer = OptimizerKind::muon, c.metrics = MetricsLevel::layers, c.weight_decay = 0, c.warmup_steps = 0, c.muon_scale = 0.3;
    const auto t = test::small_trainer(c);
    const auto weights = [&] {
        std::map<std::string, std::vector<float>> all;
        for (const Leaf& l : t->masters().leaves())
            all[l.name].assign(l.param->master.f32(), l.param->master.f32() + l.param->master.count());
        return all;
    };
    t->step();
    const auto before = weights();
    const auto s = by_name(t->step().scalars);
    const auto rms_of = [&, now = weights()](const char* part) {
        double sum = 0, n = 0;
        for (const auto& [name, w] : now)
            for (size_t i = 0; i < w.size() && name.find(part) != std::string::npos; ++i)
                sum += std::pow(static_cast<double>(w[i]) - before.at(name)[i], 2), n += 1;
        return std::sqrt(sum / n);
    };
    EXPECT_NEAR(s.at("update_rms.head") / rms_of("head.weight"), 1, 1e-6);
    EXPECT_NEAR(s.at("update_rms.experts") / rms_of("experts."), 1, 1e-6);
    EXPECT_NEAR(s.at("muon.rms_ratio.experts") / (rms_of("experts.") / (c.lr * 0.3)), 1, 1e-6);
    EXPECT_NEAR(s.at("muon.rms_ratio"), 1, 0.1) << "ten Newton-Schulz steps find nearly every direction";
    EXPECT_FALSE(s.contains("muon.rms_ratio.head")) << "AdamW's";
}

TEST(StandardMetrics, bytes_are_held_by_kind) {
    const auto t = test::small_trainer(test::small_training());
    const auto s = by_name(t->step().scalars);
    double n_weights = 0, n_trained = 0;
    for (const Leaf& l : t->masters().leaves()) {
        n_weights += static_cast<double>(l.param->master.count());
        if (l.role != ParamRole::router_bias) n_trained += static_cast<double>(l.param->master.count());
    }
    EXPECT_NEAR(s.at("bytes.weights") / (4 * n_weights), 1, 0.05) << "alignment";
    EXPECT_NEAR(s.at("bytes.gradients") / (4 * n_trained), 1, 0.05);
    EXPECT_NEAR(s.at("bytes.moments") / (8 * n_trained), 1, 0.05);
}

// Loads of all held-out batches together, not means of batches: against choices that are counted here.
TEST(StandardMetrics, loads_over_the_held_out_batches) {
    TrainConfig c = test::small_training();
    c.eval_batches = 3, c.init_std = 0.3;
    const auto t = test::small_trainer(c);
    const auto s = by_name(t->evaluate());
    Arena arena;
    Pool pool{1};
    Ctx ctx{arena, pool};
    std::vector<std::vector<double>> counts(4, std::vector<double>(4));
    for (int64_t i = 0; i < 3; ++i) {
        const ExpertChoices chosen = choose_experts(ctx, t->model(), t->weights(), t->data().held_out(i), true);
        ASSERT_EQ(chosen.by_layer.size(), 4u);
        for (size_t l = 0; l < 4; ++l)
            for (const int32_t e : chosen.by_layer[l]) ++counts[l][static_cast<size_t>(e)];
    }
    double mean = 0, most = 0;
    for (size_t l = 1; l < 4; ++l) {  // layer 0 is a hash layer, layer 3 the MTP module's
        double sum = 0, largest = 0;
        for (const double n : counts[l]) sum += n, largest = std::max(largest, n);
        mean += (largest / (sum / 4) - 1) / 3, most = std::max(most, largest / (sum / 4) - 1);
    }
    EXPECT_GT(mean, 0);
    EXPECT_NEAR(s.at("eval.max_vio"), mean, 1e-12);
    EXPECT_NEAR(s.at("eval.max_vio.max"), most, 1e-12);
}

// With a selection bias that no affinity outweighs two experts of each layer get everything.
TEST(StandardMetrics, experts_that_no_batch_of_a_hundred_used) {
    TrainConfig c = test::small_training();
    c.steps = 130, c.lr = 0, c.warmup_steps = 0, c.balance = BalanceKind::none, c.batch = 1;
    const auto t = test::small_trainer(c);
    const auto set_bias = [&](float value) {
        for (Leaf& l : t->masters().leaves())
            if (l.role == ParamRole::router_bias) l.param->master.f32()[0] = l.param->master.f32()[1] = value;
    };
    std::map<int64_t, double> dead;
    for (int64_t step = 0; step < 130; ++step) {
        set_bias(step == 10 ? -100.0f : 100.0f);  // experts 2 and 3 have step 10 alone
        const auto s = by_name(t->step().scalars);
        EXPECT_EQ(s.contains("dead_experts.100"), step >= 99);
        EXPECT_EQ(s.at("dead_experts"), 2 * 3);
        if (step < 99) continue;
        EXPECT_EQ(s.at("dead_experts.100"), step < 110 ? 0 : 2 * 3) << step;
        EXPECT_EQ(s.at("dead_share.100"), s.at("dead_experts.100") / 12);
    }
}

// While the indexer learns from all entries its loss is what is measured, and it is measured without one.
TEST(StandardMetrics, indexer_kl_is_the_loss_of_its_warm_up) {
    TrainConfig c = test::small_training();
    c.metrics = MetricsLevel::all, c.metrics_every = 1, c.indexer = IndexerMode::warm_up, c.indexer_weight = 1, c.init_std = 0.3;
    const auto learning = by_name(test::small_trainer(c)->step().scalars);
    EXPECT_GT(learning.at("loss.indexer"), 0);
    EXPECT_NEAR(learning.at("indexer.kl"), learning.at("loss.indexer"), 1e-6);
    c.indexer = IndexerMode::sparse, c.indexer_weight = 0;
    const auto plain = by_name(test::small_trainer(c)->step().scalars);
    EXPECT_FALSE(plain.contains("loss.indexer"));
    EXPECT_GT(plain.at("indexer.kl"), 0);
    EXPECT_GT(plain.at("layers.1.indexer.kl"), 0);
    EXPECT_FALSE(plain.contains("layers.2.indexer.kl")) << "no CSA layer";
}

// Diagonal weights: every singular value is known.
TEST(StandardMetrics, spectral_product_of_diagonal_weights) {
    TrainConfig c = test::small_training();
    const ModelConfig m = test::small_model(0);
    ModelWeights w = fresh_weights(m, c);
    Masters masters(w, m, DType::f32);
    const auto entry = [](const std::string& name) {
        if (name.ends_with("wo_b.weight")) return 2.0f;
        if (name.ends_with("wo_a.weight")) return 3.0f;
        if (name.ends_with("attn.wkv.weight")) return 0.5f;
        if (name.ends_with("shared_experts.w2.weight") || name.ends_with("shared_experts.w3.weight")) return 0.5f;
        if (name.ends_with("experts.1.w2.weight")) return 4.0f;
        return 1.0f;
    };
    for (Leaf& l : masters.leaves()) {
        const Tensor& x = l.param->master;
        if (x.shape.rank != 2) continue;
        std::fill(x.f32(), x.f32() + x.count(), 0.0f);
        const int64_t n = x.dim(0) / l.n_matrices;
        for (int64_t i = 0; i < x.dim(0); ++i)
            if (i % n < x.dim(1)) x.row<float>(i)[i % n] = entry(l.name) * (i < n ? 1.0f : 0.5f);  // later groups are smaller
    }
    Arena arena;
    Pool pool{1};
    Ctx ctx{arena, pool};
    std::vector<Scalar> scalars;
    ScalarList list(scalars);
    add_spectral(ctx, masters, m.n_layers(), list);
    const auto s = by_name(scalars);
    const double layer = (1 + 2 * 3 * 0.5) * (1 + 4 * 1 + 0.5 * 0.5);
    EXPECT_NEAR(s.at("layers.1.spectral.product"), layer, 1e-5);
    EXPECT_NEAR(s.at("spectral.product"), 3 * std::log10(layer), 1e-5);
    EXPECT_NEAR(s.at("spectral.attention"), 3, 1e-5);
    EXPECT_NEAR(s.at("spectral.experts"), 4, 1e-5);
}

TEST(StandardMetrics, come_with_a_step_and_do_not_depend_on_threads) {
    TrainConfig c = test::small_training();
    c.metrics = MetricsLevel::all, c.metrics_every = 1;
    const StepReport one = test::small_trainer(c, 1)->step(), three = test::small_trainer(c, 3)->step();
    ASSERT_EQ(one.scalars.size(), three.scalars.size());
    for (size_t i = 0; i < one.scalars.size(); ++i)
        EXPECT_EQ(one.scalars[i].value, three.scalars[i].value) << one.scalars[i].name;
    const auto s = by_name(one.scalars);
    for (const char* name : {"overflow.1",
                             "load.gini",
                             "router.entropy",
                             "router.margin.affinity",
                             "hyper.distance.permutation",
                             "hyper.lambda2",
                             "streams.rank",
                             "contribution.attn",
                             "contribution.mlp",
                             "experts.contribution",
                             "experts.contribution.shared",
                             "attention.effective_context",
                             "hyper.read.most",
                             "hyper.write.most",
                             "hyper.gain.of_mean",
                             "indexer.ndcg",
                             "layers.1.indexer.recall.head.1",
                             "layers.2.update_ratio",
                             "layers.2.load.share.0",
                             "activations.peak",
                             "spectral.product",
                             "layers.0.hyper.attn.read.1",
                             "layers.2.hyper.mlp.write.0"})
        EXPECT_GT(s.at(name), 0) << name;
    EXPECT_EQ(s.at("compressor.position"), 0) << "biases start at 0";
    EXPECT_LE(std::abs(s.at("indexer.rank_correlation")), 1);
    EXPECT_LE(s.at("indexer.ndcg"), 1);
    EXPECT_LE(s.at("indexer.recall.least"), s.at("layers.1.indexer.recall.head.0"));
    EXPECT_LE(s.at("router.entropy"), 1);
    EXPECT_LE(s.at("streams.rank"), 2);
    EXPECT_LE(std::abs(s.at("experts.redundancy")), 1);
    EXPECT_TRUE(s.contains("layers.2.contribution.attn") && s.contains("layers.2.contribution.mlp"));
}

}  // namespace
}  // namespace vitrine
