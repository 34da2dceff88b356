// Distances between expert loads against values worked out by hand, and what the shuffles say of tokens that differ or
// don't.
#include "engine/telemetry/comparison.h"

#include <gtest/gtest.h>

#include <cmath>

namespace vitrine {
namespace {

// One layer, one expert a token.
PhaseMeasure phase_of(const std::vector<int16_t>& experts, int n_experts) {
    PhaseMeasure m;
    m.n_tokens = m.n_counted = static_cast<int>(experts.size());
    m.loads.assign(static_cast<size_t>(n_experts), 0);
    for (const int16_t e : experts) ++m.loads[static_cast<size_t>(e)];
    m.choices = experts;
    return m;
}

Comparison comparison_of(const std::vector<int16_t>& prompt, const std::vector<int16_t>& answer, int n_experts) {
    Comparison c;
    c.n_layers = 1, c.n_experts = n_experts, c.n_chosen = 1;
    c.modes[0].phases[0] = phase_of(prompt, n_experts);
    c.modes[0].phases[2] = phase_of(answer, n_experts);
    measure_distances(c);
    return c;
}

constexpr int kPromptAnswer = 0;  // of Non-think

TEST(Comparison, TotalVariation) {
    EXPECT_DOUBLE_EQ(total_variation({1, 1, 0}, {1, 1, 0}), 0);
    EXPECT_DOUBLE_EQ(total_variation({4, 0}, {0, 1}), 1);
    // |1/2 - 1/4| + |1/2 - 1/4| + |0 - 1/2|, halved.
    EXPECT_DOUBLE_EQ(total_variation({2, 2, 0}, {1, 1, 2}), 0.5);
    EXPECT_EQ(total_variation({1, 2, 3, 4}, {7, 14, 21, 28}), 0);  // exactly: shares are equal
    EXPECT_TRUE(std::isnan(total_variation({0, 0}, {1, 1})));
    EXPECT_TRUE(std::isnan(total_variation({1}, {1, 1})));
}

TEST(Comparison, TwoTokensCanOnlyDiffer) {
    const Comparison c = comparison_of({0}, {1}, 2);
    const LoadDistance& d = c.distance(kPromptAnswer, 0);
    EXPECT_DOUBLE_EQ(d.distance, 1);
    EXPECT_DOUBLE_EQ(d.chance, 1);  // however they are dealt
    EXPECT_FALSE(d.exceeds_chance());
}

TEST(Comparison, ChanceIsTheMeanOverAllDeals) {
    // Four tokens a a b b into hands of two: of the six deals two are aa|bb (distance 1), four are ab|ab (0). Mean 1/3.
    const Comparison c = comparison_of({0, 1}, {0, 1}, 2);
    const LoadDistance& d = c.distance(kPromptAnswer, 0);
    EXPECT_DOUBLE_EQ(d.distance, 0);
    EXPECT_NEAR(d.chance, 1.0 / 3, 0.15);  // 100 deals: three standard errors are 0.14
    EXPECT_DOUBLE_EQ(d.chance_95, 1);
}

TEST(Comparison, PhasesThatDifferExceedChanceAndPhasesThatDontDoNot) {
    std::vector<int16_t> even, odd, low, high;
    for (int16_t i = 0; i < 60; ++i) {
        (i % 2 ? odd : even).push_back(static_cast<int16_t>(i / 2 % 5));
        (i < 30 ? low : high).push_back(static_cast<int16_t>(i < 30 ? i % 3 : 2 + i % 3));
    }
    EXPECT_FALSE(comparison_of(even, odd, 5).distance(kPromptAnswer, 0).exceeds_chance());
    const Comparison apart = comparison_of(low, high, 5);
    EXPECT_NEAR(apart.distance(kPromptAnswer, 0).distance, 2.0 / 3, 1e-12);
    EXPECT_TRUE(apart.distance(kPromptAnswer, 0).exceeds_chance());
    EXPECT_NEAR(apart.mean_distance(kPromptAnswer), 2.0 / 3, 1e-12);
}

TEST(Comparison, WithoutTokensThereIsNoDistance) {
    const Comparison c = comparison_of({0, 1}, {}, 2);
    ASSERT_EQ(c.distances.size(), static_cast<size_t>(kPhasePairCount));
    for (int p = 0; p < kPhasePairCount; ++p) {
        EXPECT_FALSE(c.distance(p, 0).is_known());
        EXPECT_FALSE(c.distance(p, 0).exceeds_chance());
        EXPECT_TRUE(std::isnan(c.mean_distance(p)));
    }
    EXPECT_FALSE(c.is_finished());
}

TEST(Comparison, BeyondTheTokensThatAreKeptChanceIsUnknown) {
    const std::vector<int16_t> many(PhaseMeasure::kMaxKept + 1, 0), few(10, 0);
    const LoadDistance d = comparison_of(many, few, 2).distance(kPromptAnswer, 0);
    EXPECT_TRUE(d.is_known());
    EXPECT_FALSE(d.has_chance() || d.exceeds_chance() || d.is_within_chance());
}

TEST(Comparison, NamesOfPairs) {
    EXPECT_EQ(pair_name(kPhasePairs[kPromptAnswer]), "Non-think: prompt, answer");
    EXPECT_EQ(pair_name({{Mode::high, Phase::thinking}, {Mode::max, Phase::thinking}}),
              "thinking: Think High, Think Max");
}

}  // namespace
}  // namespace vitrine
