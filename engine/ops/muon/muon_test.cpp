// Muon: what Newton-Schulz does to singular values (v4-spec 10.2), tall and wide, and the step as a whole.
#include "engine/ops/muon/muon.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/op_fixture.h"

namespace vitrine {
namespace {

// The first singular value of diag(s, sqrt(1 - s^2)), whose norm is 1, after some steps.
double singular_value(double s, int n_fast, int n_final) {
    std::vector<double> y = {s, 0, 0, std::sqrt(1 - s * s)};
    newton_schulz(y.data(), 2, 2, n_fast, n_final);
    return y[0];
}

TEST(NewtonSchulz, acts_on_singular_values_as_published) {
    const double from_one[] = {0.7010, 1.1136, 0.7207, 1.0900, 0.6964, 1.1188, 0.7277, 1.0810};
    const double from_hundredth[] = {0.0344, 0.1184, 0.4001, 1.0931, 0.6989, 1.1160, 0.7239, 1.0860};
    for (int i = 0; i < 8; ++i) {
        EXPECT_NEAR(singular_value(1, i + 1, 0), from_one[i], 5e-5) << i;
        EXPECT_NEAR(singular_value(0.01, i + 1, 0), from_hundredth[i], 5e-5) << i;
    }
    EXPECT_NEAR(singular_value(1, 8, 1), 1.0053, 5e-5);
    EXPECT_NEAR(singular_value(1, 8, 2), 1.0000, 5e-5);
    EXPECT_NEAR(singular_value(0.01, 8, 1), 1.0061, 5e-5);
    EXPECT_NEAR(singular_value(1e-4, 8, 0), 1.2023, 5e-5);
    EXPECT_NEAR(singular_value(1e-4, 8, 1), 1.0538, 5e-5);
    EXPECT_NEAR(singular_value(1e-4, 8, 2), 1.0020, 5e-5);
}

TEST(NewtonSchulz, makes_rows_or_columns_orthonormal) {
    for (const auto& [n, m] : {std::array<int64_t, 2>{17, 31}, {31, 17}, {1, 5}, {5, 1}, {64, 64}}) {
        std::vector<float> y = test::noise(static_cast<size_t>(n * m), 5);
        newton_schulz(y.data(), n, m, 8, 2);
        const bool is_tall = n > m;
        const int64_t small = std::min(n, m), large = std::max(n, m);
        for (int64_t i = 0; i < small; ++i)
            for (int64_t j = 0; j < small; ++j) {
                double dot = 0;
                for (int64_t k = 0; k < large; ++k)
                    dot += is_tall ? y[static_cast<size_t>(k * m + i)] * y[static_cast<size_t>(k * m + j)]
                                   : y[static_cast<size_t>(i * m + k)] * y[static_cast<size_t>(j * m + k)];
                // A square random matrix has singular values below 1e-3 of the largest, which ten steps bring near 1.
                EXPECT_NEAR(dot, i == j, n == m ? 0.05 : 1e-3) << n << "x" << m << " " << i << "," << j;
            }
    }
    std::vector<double> zero(6);
    newton_schulz(zero.data(), 2, 3, 8, 2);
    EXPECT_EQ(zero, std::vector<double>(6));
}

TEST(Muon, steps_along_the_orthogonal_momentum) {
    // One row: NS makes it a unit vector. G = (3, 4): M = G, mu M + G points the same way, u = (0.6, 0.8).
    test::OpFixture f;
    std::vector<double> w = {1, 2}, g = {3, 4}, m = {0, 0};
    auto t = [](std::vector<double>& x) { return Tensor{x.data(), DType::f64, {1, 2}}; };
    auto sums = muon(f.ctx, {0.1, 0.95, 0.5}, std::vector{MuonMatrix{t(w), t(g), t(m)}});
    const double step = 0.1 * 0.18 * std::sqrt(2.0);
    EXPECT_NEAR(w[0], 0.95 - step * 0.6, 1e-5);
    EXPECT_NEAR(w[1], 1.9 - step * 0.8, 1e-5);
    EXPECT_EQ(m, (std::vector<double>{3, 4}));
    EXPECT_NEAR(sums[0].weight, 5, 1e-12);
    g = {-4, 3};  // M = 0.95 (3, 4) + (-4, 3) = (-1.15, 6.8); mu M + G = (-5.0925, 9.46)
    const std::vector<double> before = w;
    muon(f.ctx, {0.1, 0.95, 0}, std::vector{MuonMatrix{t(w), t(g), t(m)}});
    const double norm = std::hypot(-5.0925, 9.46);
    EXPECT_NEAR(w[0], before[0] - step * -5.0925 / norm, 1e-5);
    EXPECT_NEAR(w[1], before[1] - step * 9.46 / norm, 1e-5);
}

TEST(Muon, rms_of_the_update_is_the_scale_whatever_the_shape) {
    for (const auto& [n, m] : {std::array<int64_t, 2>{16, 48}, {48, 16}}) {
        test::OpFixture f;
        const auto count = static_cast<size_t>(n * m);
        const Tensor w = f.tensor({n, m}, std::vector<float>(count)), g = f.tensor({n, m}, test::noise(count, 7)),
                     momentum = f.tensor({n, m}, std::vector<float>(count));
        const auto sums = muon(f.ctx, {1, 0.95, 0}, std::vector{MuonMatrix{w, g, momentum}});
        EXPECT_NEAR(std::sqrt(sums[0].update / static_cast<double>(sums[0].count)), 0.18, 1e-3);
    }
}

TEST(Muon, threads_do_not_matter) {
    auto run = [](int n_threads) {
        Arena arena;
        Pool pool(n_threads);
        Ctx ctx{arena, pool};
        std::vector<std::vector<float>> w, g, m;
        std::vector<MuonMatrix> matrices;
        const std::array<int64_t, 2> shapes[] = {{33, 17}, {300, 257}, {8, 64}, {64, 8}, {31, 31}};
        for (const auto& [rows, cols] : shapes) {
            const auto n = static_cast<size_t>(rows * cols);
            w.push_back(test::noise(n, 1)), g.push_back(test::noise(n, 2)), m.push_back(std::vector<float>(n));
        }
        for (size_t i = 0; i < w.size(); ++i) {
            auto t = [&](std::vector<float>& x) { return Tensor{x.data(), DType::f32, {shapes[i][0], shapes[i][1]}}; };
            matrices.push_back({t(w[i]), t(g[i]), t(m[i])});
        }
        muon(ctx, {0.02, 0.95, 0.1}, matrices);
        return w;
    };
    const auto one = run(1);
    EXPECT_EQ(one, run(2));
    EXPECT_EQ(one, run(3));
}

}  // namespace
}  // namespace vitrine
