// Derived numbers against NumPy 2.4 (numpy.linalg.svd, matrix products in FP64) and against the specification's
// Sinkhorn vector.
#include "engine/telemetry/derive.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "engine/base/error.h"

namespace vitrine {
namespace {

// v4-spec 15.4, as FP32: nearly symmetric, so it can't tell C from its transpose; kOther can.
const std::vector<float> kSinkhorn = {0.22497836f, 0.29320586f, 0.25683644f, 0.22497831f, 0.25683644f, 0.19312021f,
                                      0.2932059f,  0.25683644f, 0.22497836f, 0.29320586f, 0.25683644f, 0.22497831f,
                                      0.29320583f, 0.22046705f, 0.1931202f,  0.29320595f};
const std::vector<float> kSigned = {.75f, .125f, .0625f, .25f, .5f, -.25f, 1.f,   .125f,
                                    .25f, .5f,   .5f,    2.f,  0.f, 1.5f,  -.75f, .25f};
const std::vector<float> kOther = {.1f, .2f, .3f, .4f, .4f, .3f, .2f, .1f, .25f, .25f, .125f, .5f, 1.f, 0.f, 0.f, .5f};

TEST(Derive, MixingStatsOfTheSinkhornVector) {
    const MixingStats s = mixing_stats(kSinkhorn, 4);
    EXPECT_NEAR(s.sigma1, 0.99999898672103904, 1e-14);
    EXPECT_NEAR(s.sigma2, 0.11489682304858426, 1e-14);
    EXPECT_NEAR(s.row_error, 1.0281801223754883e-06, 1e-14);
    EXPECT_NEAR(s.column_error, 1.0281801223754883e-06, 1e-14);
    EXPECT_NEAR(s.distance_identity, 1.7558712631335873, 1e-14);
    EXPECT_NEAR(s.distance_uniform, 0.13916838267232962, 1e-14);
}

TEST(Derive, MixingStatsTellRowsFromColumns) {
    const MixingStats s = mixing_stats(kSigned, 4);
    EXPECT_NEAR(s.sigma1, 2.2620755372733505, 1e-14);
    EXPECT_NEAR(s.sigma2, 1.8308467770012806, 1e-14);
    EXPECT_DOUBLE_EQ(s.row_error, 2.25);
    EXPECT_DOUBLE_EQ(s.column_error, 1.625);
    EXPECT_NEAR(s.distance_identity, 3.303052565430953, 1e-14);
    EXPECT_NEAR(s.distance_uniform, 2.646489419967516, 1e-14);
}

TEST(Derive, SingularValuesOfOddSizesAndLowRank) {
    const MixingStats three = mixing_stats(std::vector<float>{1, 2, 3, 4, 5, 6, 7, 8, 10}, 3);
    EXPECT_NEAR(three.sigma1, 17.412505166808597, 1e-13);
    EXPECT_NEAR(three.sigma2, 0.8751613501104367, 1e-13);
    std::vector<float> rank_one(25);
    for (int j = 0; j < 25; ++j) rank_one[j] = static_cast<float>(1 + j / 5);
    const MixingStats low = mixing_stats(rank_one, 5);
    EXPECT_NEAR(low.sigma1, std::sqrt(275.0), 1e-12);
    EXPECT_NEAR(low.sigma2, 0, 1e-12);
    const std::vector<float> random = {1.691f, -0.466f, 0.033f,  0.408f, -0.789f, 0.002f,  -0.001f, -1.755f, 1.018f,
                                       0.6f,   -0.625f, -0.172f, 0.505f, -0.261f, -0.243f, -1.453f, 0.555f,  0.124f,
                                       0.274f, -1.527f, 1.651f,  0.154f, -0.387f, 2.029f,  -0.045f};
    const MixingStats five = mixing_stats(random, 5);
    EXPECT_NEAR(five.sigma1, 3.426222822627956, 1e-13);
    EXPECT_NEAR(five.sigma2, 2.115058035754324, 1e-13);
    const MixingStats one = mixing_stats(std::vector<float>{0.5f}, 1);
    EXPECT_EQ(one.sigma1, 0.5);
    EXPECT_EQ(one.sigma2, 0);
}

TEST(Derive, ExtremesOfMixing) {
    const MixingStats identity = mixing_stats(std::vector<float>{1, 0, 0, 0, 1, 0, 0, 0, 1}, 3);
    EXPECT_EQ(identity.sigma2, 1);  // nothing mixes
    EXPECT_EQ(identity.distance_identity, 0);
    const MixingStats uniform = mixing_stats(std::vector<float>(16, 0.25f), 4);
    EXPECT_NEAR(uniform.sigma2, 0, 1e-15);  // one site mixes fully
    EXPECT_EQ(uniform.distance_uniform, 0);
}

TEST(Derive, CompositeGainMultipliesTransposesInDepthOrder) {
    const std::vector<Gain> g = composite_gain({kSigned, kOther, kSinkhorn}, 4);
    ASSERT_EQ(g.size(), 3u);
    const double forward[] = {2.625, 3.728125013411045, 2.123120916402618};
    const double backward[] = {3.25, 4.312500016763806, 4.312495650164766};
    for (int i = 0; i < 3; ++i) {
        EXPECT_NEAR(g[i].forward, forward[i], 1e-13);
        EXPECT_NEAR(g[i].backward, backward[i], 1e-13);
    }
    // A transposed matrix or a swapped order is a different product: the numbers above would catch either.
    EXPECT_GT(std::abs(composite_gain({kOther, kSigned, kSinkhorn}, 4)[2].forward - forward[2]), 0.1);
    EXPECT_TRUE(composite_gain({}, 4).empty());
}

TEST(Derive, SinkhornErrorCompoundsOverDepth) {
    const std::vector<std::span<const float>> deep(122, kSinkhorn);  // 61 layers, two sites each
    const Gain g = composite_gain(deep, 4).back();
    EXPECT_NEAR(g.forward, std::pow(mixing_stats(kSinkhorn, 4).sigma1, 122), 1e-6);
    EXPECT_LT(g.forward, 1);
}

TEST(Derive, LoadStats) {
    const std::vector<int64_t> counts = {4, 0, 9, 1, 2};
    const LoadStats s = load_stats(counts);
    EXPECT_DOUBLE_EQ(s.max_violation, 1.8125);
    EXPECT_NEAR(s.entropy, 1.5919171866886992, 1e-14);
    EXPECT_NEAR(s.max_entropy, 2.321928094887362, 1e-14);
    EXPECT_EQ(s.n_dead, 1);
    EXPECT_EQ(s.total, 16);
    const LoadStats even = load_stats(std::vector<int64_t>(8, 3));
    EXPECT_EQ(even.max_violation, 0);
    EXPECT_DOUBLE_EQ(even.entropy, 3);
    const LoadStats none = load_stats(std::vector<int64_t>(4, 0));
    EXPECT_EQ(none.total, 0);
    EXPECT_EQ(none.n_dead, 4);
    EXPECT_EQ(none.max_violation, 0);
    EXPECT_EQ(load_stats({}).n_dead, 0);
}

TEST(Derive, TopIndicesBreakTiesLow) {
    const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
    EXPECT_EQ(top_indices(std::vector<float>{1, 3, 3, 2}, 3), (std::vector<int>{1, 2, 3}));
    EXPECT_EQ(top_indices(std::vector<float>{0.f, -0.f, -1}, 2), (std::vector<int>{0, 1}));
    EXPECT_EQ(top_indices(std::vector<float>{-0.f, 0.f}, 1), (std::vector<int>{0}));
    EXPECT_EQ(top_indices(std::vector<float>{nan, -inf, 1, nan}, 4), (std::vector<int>{2, 1, 0, 3}));
    EXPECT_EQ(top_indices(std::vector<float>{1, 2}, 5), (std::vector<int>{1, 0}));
    EXPECT_TRUE(top_indices({}, 3).empty());
    EXPECT_TRUE(top_indices(std::vector<float>{1}, 0).empty());
}

TEST(Derive, NotANumberStaysVisible) {
    std::vector<float> broken = kSinkhorn;
    broken[6] = std::numeric_limits<float>::quiet_NaN();
    const MixingStats s = mixing_stats(broken, 4);
    for (const double v : {s.row_error, s.column_error, s.sigma1, s.sigma2, s.distance_identity})
        EXPECT_TRUE(std::isnan(v));
    const Gain g = composite_gain({broken, kOther}, 4).back();
    EXPECT_TRUE(std::isnan(g.forward) && std::isnan(g.backward));
}

TEST(Derive, WrongSizesAreRefused) {
    EXPECT_THROW(mixing_stats(std::vector<float>(15), 4), Error);
    EXPECT_THROW(composite_gain({kSinkhorn}, 3), Error);
}

}  // namespace
}  // namespace vitrine
