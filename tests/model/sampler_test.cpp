// The sampler: order of the filters, ties, bounds, reproducibility, damaged logits.
#include "engine/infer/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "engine/base/rng.h"

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

// Against a whole sort and sums in double, at sizes around the blocks in which the best are looked for.
TEST(Sampler, NextTokensEqualAWholeSort) {
    for (size_t v : {1, 5, 31, 128, 129, 500, 2048, 4097, 129280})
        for (int kind = 0; kind < 4; ++kind) {
            std::vector<float> z(v);
            const CounterRng rng(v, static_cast<uint64_t>(kind));
            for (size_t i = 0; i < v; ++i) {
                z[i] = static_cast<float>(rng.uniform(i) * 30 - 20);
                if (kind >= 1) z[i] = std::round(z[i]);  // many ties
                if (kind >= 2 && i % 3 == 0) z[i] = kNan;
                if (kind == 3 && i % 64 != 1) z[i] = i % 2 ? -kInf : kNan;  // fewer finite ones than asked for
            }
            std::vector<int32_t> order;
            for (size_t i = 0; i < v; ++i)
                if (!std::isnan(z[i])) order.push_back(static_cast<int32_t>(i));
            std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return z[a] > z[b]; });
            const NextTokens n = next_tokens(z, 32);
            std::vector<int32_t> want(order);
            want.resize(std::min<size_t>(32, order.size()));
            ASSERT_EQ(n.ids, want) << v << " logits, kind " << kind;
            ASSERT_EQ(n.probabilities.size(), n.ids.size());
            if (order.empty() || std::isinf(z[order[0]])) continue;
            double total = 0, weighted = 0;
            for (int32_t i : order) {
                const double d = static_cast<double>(z[i]) - z[order[0]], e = std::exp(d);
                total += e;
                if (e > 0) weighted += e * d;
            }
            const double entropy = std::log(total) - weighted / total;
            EXPECT_NEAR(n.entropy, entropy, 1e-6 * std::max(1.0, entropy)) << v << " logits, kind " << kind;
            for (size_t i = 0; i < n.ids.size(); ++i) {
                const double p = std::exp(static_cast<double>(z[n.ids[i]]) - z[order[0]]) / total;
                EXPECT_NEAR(n.probabilities[i], p, 1e-6 * p);
            }
            EXPECT_EQ(token_odds(z, n.ids[0]).probability, n.probabilities[0]);
            EXPECT_EQ(token_odds(z, n.ids[0]).entropy, n.entropy);
        }
}

TEST(Sampler, ASmallEntropyIsAsPreciseAsALargeOne) {
    for (const float gap : {8.0f, 14.0f, 20.0f, 40.0f}) {
        std::vector<float> z(2048);
        double others = 0, weighted = 0;
        for (size_t i = 0; i < z.size(); ++i) {
            z[i] = i == 700 ? 5.0f : 5.0f - gap - static_cast<float>(i % 97) / 8;
            const double d = static_cast<double>(z[i]) - 5;
            if (i != 700) others += std::exp(d), weighted += std::exp(d) * d;
        }
        const double entropy = std::log1p(others) - weighted / (1 + others);
        EXPECT_NEAR(next_tokens(z, 32).entropy, entropy, 1e-6 * entropy) << gap;
        EXPECT_NEAR(token_odds(z, 3).entropy, entropy, 1e-6 * entropy) << gap;
    }
}

}  // namespace
}  // namespace vitrine
