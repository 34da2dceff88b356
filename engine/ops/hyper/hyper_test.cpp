// Hyper-connections: Sinkhorn's split against the specification's numbers, orientation of the mixing matrix.
#include "engine/ops/hyper/hyper.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/op_fixture.h"

namespace vitrine {
namespace {

// v4-spec 15.4.
TEST(Hyper, SinkhornEqualsTheSpecification) {
    const double want[16] = {0.2249784, 0.2932059, 0.2568365, 0.2249783, 0.2568364, 0.1931202, 0.2932059, 0.2568365,
                             0.2249784, 0.2932059, 0.2568365, 0.2249783, 0.2932058, 0.2204670, 0.1931202, 0.2932059};
    double c[16];
    for (int i = 0; i < 16; ++i) c[i] = (0.1 * (8 + i) - 1) * 2 + 0.05 * ((7 * (8 + i)) % 11) - 0.2;
    sinkhorn(c, 4, 20, 1e-6);
    for (int i = 0; i < 16; ++i) EXPECT_NEAR(c[i], want[i], 1e-7) << i;
}

TEST(Hyper, SinkhornOfAnySizeIsDoublyStochastic) {
    for (int n : {1, 2, 3, 4, 7}) {
        const auto noise = test::noise(n * n, n);
        std::vector<double> c(noise.begin(), noise.end());
        sinkhorn(c.data(), n, 50, 1e-6);
        for (int i = 0; i < n; ++i) {
            double row = 0, column = 0;
            for (int j = 0; j < n; ++j) row += c[i * n + j], column += c[j * n + i];
            EXPECT_NEAR(row, 1, 1e-5);
            EXPECT_NEAR(column, 1, 1e-5);
        }
    }
}

// X'[k] = post[k] F + sum_j C[j][k] X[j]: with C[0][1] = 1 alone, the old stream 0 lands in the new stream 1.
TEST(Hyper, MixingAppliesTheTransposedMatrix) {
    test::OpFixture f;
    const Tensor x = f.tensor({1, 2, 3}, {1, 2, 3, 10, 20, 30});
    HyperSite site{{}, {}, f.tensor({1, 2}, {0.5f, 2.0f}), f.tensor({1, 2, 2}, {0, 1, 0, 0})};
    const Tensor y = hyper_mix(f.ctx, x, site, f.tensor({1, 3}, {100, 200, 300}));
    const float want[6] = {50, 100, 150, 201, 402, 603};
    for (int i = 0; i < 6; ++i) EXPECT_FLOAT_EQ(y.f32()[i], want[i]) << i;
}

// The coefficients of v4-spec 15.4 come out of a site whose projections are the given m.
TEST(Hyper, SiteSplitsProjectionsIntoPrePostComb) {
    test::OpFixture f;
    const int n = 4, d = 6, width = n * d, n_out = 2 * n + n * n;
    std::vector<float> x(width, 1.0f);  // mean square 1, so the factor is 1/sqrt(1 + eps)
    std::vector<float> fn(n_out * width, 0.0f), base(n_out);
    for (int i = 0; i < n_out; ++i) {
        fn[i * width + i] = 0.1f * static_cast<float>(i) - 1.0f;
        base[i] = 0.05f * static_cast<float>((7 * i) % 11) - 0.2f;
    }
    const HyperWeights w{test::make_param(fn, {n_out, width}), test::make_param(base, {n_out}),
                         test::make_param({1, 0.5f, 2}, {3})};
    const HyperSite s = hyper_site(f.ctx, f.tensor({1, n, d}, x), w, {.n = n, .iters = 20, .eps = 1e-6}, 1e-6);
    const float pre[4] = {0.2314762f, 0.3208223f, 0.2994339f, 0.4013133f},
                post[4] = {0.9003320f, 0.8267648f, 1.0249948f, 0.9500416f};
    for (int i = 0; i < 4; ++i) {
        EXPECT_NEAR(s.pre_TN.f32()[i], pre[i], 1e-6);
        EXPECT_NEAR(s.post_TN.f32()[i], post[i], 2e-6);
    }
    EXPECT_NEAR(s.comb_TNN.f32()[1], 0.2932059f, 2e-6);
    for (int i = 0; i < d; ++i) EXPECT_NEAR(s.u_TD.f32()[i], pre[0] + pre[1] + pre[2] + pre[3], 5e-6);
}

}  // namespace
}  // namespace vitrine
