// The sampler: order of the filters, ties, bounds, reproducibility, damaged logits.
#include "engine/infer/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>

namespace vitrine {
namespace {

const float kNan = std::numeric_limits<float>::quiet_NaN(), kInf = std::numeric_limits<float>::infinity();

TEST(Sampler, GreedyTakesTheLowestIdOnTies) {
    const std::vector<float> z{1, 3, 3, 2};
    EXPECT_EQ(sample(z, {.temperature = 0}, {}, 0), 1);
}

TEST(Sampler, DamagedLogitsAreAnErrorNotAToken) {
    EXPECT_THROW(sample(std::vector<float>{kNan, kNan}, {.temperature = 0}, {}, 0), Error);
    EXPECT_THROW(sample(std::vector<float>{-kInf, -kInf}, {}, {}, 0), Error);
    EXPECT_EQ(sample(std::vector<float>{kNan, -1, kNan}, {}, {}, 0), 1);
}

TEST(Sampler, FiltersKeepWhatTheySay) {
    const std::vector<float> z{std::log(0.5f), std::log(0.3f), std::log(0.15f), std::log(0.05f)};
    const auto drawn = [&](Sampling s) {
        std::map<int, int> n;
        for (int i = 0; i < 4000; ++i) ++n[sample(z, s, {}, i)];
        return n;
    };
    EXPECT_EQ(drawn({.top_k = 2}).size(), 2u);
    EXPECT_EQ(drawn({.top_p = 0.5}).size(), 1u);   // 0.5 is reached by the first token alone
    EXPECT_EQ(drawn({.top_p = 0.79}).size(), 2u);
    EXPECT_EQ(drawn({.top_p = 0.81}).size(), 3u);
    EXPECT_EQ(drawn({.min_p = 0.2}).size(), 3u);   // 0.15 / 0.5 = 0.3 stays, 0.1 goes
    const auto all = drawn({});
    EXPECT_NEAR(all.at(0) / 4000.0, 0.5, 0.03);
    EXPECT_NEAR(all.at(3) / 4000.0, 0.05, 0.015);
    const auto hot = drawn({.temperature = 2.0});  // p ~ sqrt(p)
    const double total = std::sqrt(0.5) + std::sqrt(0.3) + std::sqrt(0.15) + std::sqrt(0.05);
    EXPECT_NEAR(hot.at(0) / 4000.0, std::sqrt(0.5) / total, 0.03);
}

TEST(Sampler, TheDrawIsAFunctionOfSeedAndPosition) {
    std::vector<float> z(100, 0.0f);
    const Sampling a{.seed = 7}, b{.seed = 8};
    int same = 0;
    for (int i = 0; i < 200; ++i) {
        EXPECT_EQ(sample(z, a, {}, i), sample(z, a, {}, i));
        same += sample(z, a, {}, i) == sample(z, b, {}, i);
    }
    EXPECT_LT(same, 20);
}

TEST(Sampler, RepetitionPenaltyLowersSeenTokensOnBothSidesOfZero) {
    const std::vector<int32_t> seen{0, 0, 1};
    EXPECT_EQ(sample(std::vector<float>{2.0f, -0.5f, 1.5f}, {.temperature = 0, .repetition_penalty = 2}, seen, 0), 2);
    EXPECT_EQ(sample(std::vector<float>{-3.0f, -0.5f, -0.8f}, {.temperature = 0, .repetition_penalty = 2}, seen, 0), 2);
}

TEST(Sampler, BadSettingsAreAllListed) {
    const auto issues = validate(
        {.temperature = -1, .top_k = -2, .top_p = 0, .min_p = 1, .repetition_penalty = 0, .max_new_tokens = 0}, 10);
    EXPECT_EQ(issues.size(), 6u);
}

TEST(Sampler, NextTokensAreSortedAndTheEntropyIsRight) {
    const std::vector<float> z{std::log(0.25f), std::log(0.5f), std::log(0.25f)};
    const NextTokens n = next_tokens(z, 3);
    EXPECT_EQ(n.ids, (std::vector<int32_t>{1, 0, 2}));
    EXPECT_NEAR(n.probabilities[0], 0.5, 1e-6);
    EXPECT_NEAR(n.entropy, 1.5 * std::log(2.0), 1e-6);
    EXPECT_NEAR(token_odds(z, 2).probability, 0.25, 1e-6);
    EXPECT_NEAR(token_odds(z, 2).entropy, 1.5 * std::log(2.0), 1e-6);
}

}  // namespace
}  // namespace vitrine
