// Hyper-connections' derived numbers against NumPy 2.4 (eigvals, svd, matrix products in FP64) and cases known by hand.
#include "engine/telemetry/derive_streams.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace vitrine {
namespace {

const std::vector<float> kSigned = {.75f, .125f, .0625f, .25f, .5f, -.25f, 1.f,   .125f,
                                    .25f, .5f,   .5f,    2.f,  0.f, 1.5f,  -.75f, .25f};
const std::vector<float> kOther = {.1f, .2f, .3f, .4f, .4f, .3f, .2f, .1f, .25f, .25f, .125f, .5f, 1.f, 0.f, 0.f, .5f};

TEST(DeriveStreams, ShapeOfMatricesWithComplexEigenvalues) {
    const MixingShape a = mixing_shape(kSigned, 4), b = mixing_shape(kOther, 4);
    EXPECT_NEAR(a.sigma_min, 0.4602762413697792, 1e-13);
    EXPECT_NEAR(a.lambda2, 1.3500478158610123, 1e-12);
    EXPECT_NEAR(a.distance_permutation, 1.7059180079945226, 1e-13);
    EXPECT_NEAR(a.entropy, 1.484926054721071, 1e-13);
    EXPECT_NEAR(b.sigma_min, 0.12003818751005939, 1e-13);
    EXPECT_NEAR(b.lambda2, 0.3065639400189027, 1e-12);
    EXPECT_NEAR(b.distance_permutation, 1.428504455414254, 1e-13);
    EXPECT_NEAR(b.entropy, 1.6119415474685534, 1e-13);
}

TEST(DeriveStreams, ShapeOfExtremes) {
    const MixingShape swap = mixing_shape(std::vector<float>{0, 1, 1, 0}, 2);
    EXPECT_NEAR(swap.lambda2, 1, 1e-12);  // -1: never evens out
    EXPECT_EQ(swap.distance_permutation, 0);
    EXPECT_EQ(swap.entropy, 0);
    const MixingShape even = mixing_shape(std::vector<float>(16, 0.25f), 4);
    EXPECT_NEAR(even.lambda2, 0, 1e-12);
    EXPECT_NEAR(even.entropy, 2, 1e-15);
    EXPECT_NEAR(even.sigma_min, 0, 1e-15);
    const MixingShape one = mixing_shape(std::vector<float>{1}, 1);
    EXPECT_EQ(one.lambda2, 0);
    EXPECT_EQ(one.distance_permutation, 0);
    EXPECT_TRUE(std::isnan(mixing_shape(std::vector<float>{1, NAN, 0, 1}, 2).lambda2));
    EXPECT_TRUE(std::isnan(mixing_shape(std::vector<float>(81, 1.0f / 9), 9).distance_permutation));
}

TEST(DeriveStreams, ColumnsTellWhatMaximaHide) {
    const Gain g = composite_gain({kSigned, kOther}, 4)[1];
    EXPECT_NEAR(g.min_column, 1.03125003, 1e-7);
    EXPECT_NEAR(g.max_log_column, 1.46151779, 1e-7);
    EXPECT_NEAR(composite_gain({kSigned}, 4)[0].min_column, 1.0, 1e-15);  // columns of C^T: 1.1875 1.375 3.25 1
    // Row sums of C below 1 fade a stream although every forward gain is 1.
    const Gain fading = composite_gain({std::vector<float>{0.25f, 0.25f, 0.75f, 0.75f}}, 2)[0];
    EXPECT_EQ(fading.forward, 1);
    EXPECT_EQ(fading.min_column, 0.5);
    EXPECT_NEAR(fading.max_log_column, std::log(2.0), 1e-15);
    EXPECT_TRUE(std::isinf(composite_gain({std::vector<float>{0, 0, 1, 1}}, 2)[0].max_log_column));
}

TEST(DeriveStreams, GainsOverTokensAgreeWithEachTokensOwn) {
    std::vector<float> first = kSigned, second = kOther;  // token 0: signed then other; token 1: the other way round
    first.insert(first.end(), kOther.begin(), kOther.end());
    second.insert(second.end(), kSigned.begin(), kSigned.end());
    const std::vector<SiteGain> g = gains_over_tokens({first, second}, 4);
    const std::vector<Gain> a = composite_gain({kSigned, kOther}, 4), b = composite_gain({kOther, kSigned}, 4);
    ASSERT_EQ(g.size(), 2u);
    for (size_t s = 0; s < 2; ++s) {
        EXPECT_DOUBLE_EQ(g[s].max.forward, std::max(a[s].forward, b[s].forward));
        EXPECT_DOUBLE_EQ(g[s].max.backward, std::max(a[s].backward, b[s].backward));
        EXPECT_DOUBLE_EQ(g[s].max.min_column, std::min(a[s].min_column, b[s].min_column));
        EXPECT_DOUBLE_EQ(g[s].mean.forward, (a[s].forward + b[s].forward) / 2);
        EXPECT_DOUBLE_EQ(g[s].mean.backward, (a[s].backward + b[s].backward) / 2);
        EXPECT_DOUBLE_EQ(g[s].row_error, 2.25);
        EXPECT_DOUBLE_EQ(g[s].column_error, 1.625);
        EXPECT_DOUBLE_EQ(g[s].alone_max.forward, std::max(a[0].forward, b[0].forward));
    }
    std::vector<float> mean(16);
    for (int i = 0; i < 16; ++i) mean[i] = (kSigned[i] + kOther[i]) / 2;
    const std::vector<Gain> of_mean = composite_gain({mean, mean}, 4);
    EXPECT_NEAR(g[1].of_mean.forward, of_mean[1].forward, 1e-12);
    EXPECT_NEAR(g[1].of_mean.backward, of_mean[1].backward, 1e-12);
    EXPECT_TRUE(gains_over_tokens({}, 4).empty());
}

TEST(DeriveStreams, EffectiveRankOfStreams) {
    const float x[3][3] = {{3, 0, 0}, {0, 2, 1}, {1, 1, 1}};
    std::vector<float> norms, cosines;
    const auto dot = [&](int a, int b) { return x[a][0] * x[b][0] + x[a][1] * x[b][1] + x[a][2] * x[b][2]; };
    for (int a = 0; a < 3; ++a) norms.push_back(std::sqrt(dot(a, a)));
    for (int a = 0; a < 3; ++a)
        for (int b = 0; b < 3; ++b) cosines.push_back(dot(a, b) / (norms[a] * norms[b]));
    EXPECT_NEAR(effective_rank(norms, cosines), 2.388969930773075, 1e-6);
    EXPECT_NEAR(effective_rank(std::vector<float>{2, 2, 2}, std::vector<float>(9, 1)), 1, 1e-6);
    EXPECT_NEAR(effective_rank(std::vector<float>{1, 1}, std::vector<float>{1, 0, 0, 1}), 2, 1e-12);
    EXPECT_EQ(effective_rank(std::vector<float>{0, 0}, std::vector<float>{0, 0, 0, 0}), 0);
}

TEST(DeriveStreams, SharesOfWhatIsReadAndWritten) {
    const std::vector<float> pre = {0.5f, -0.25f, 0}, norms = {1, 6, 3};
    const std::vector<double> read = stream_shares(pre, norms), written = stream_shares(pre, std::vector<float>{2});
    EXPECT_DOUBLE_EQ(read[0], 0.25);
    EXPECT_DOUBLE_EQ(read[1], 0.75);
    EXPECT_DOUBLE_EQ(written[0], 2.0 / 3);
    EXPECT_EQ(stream_shares(std::vector<float>{0, 0}, std::vector<float>{1})[0], 0);
}

}  // namespace
}  // namespace vitrine
