// RoPE: YaRN's frequencies of the real models, interleaved pairs, rotation and back.
#include "engine/ops/rope/rope.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/gradcheck.h"

namespace vitrine {
namespace {

ModelConfig flash() {
    ModelConfig c;
    c.rope_dim = 64;
    c.rope_theta = 10000;
    c.compress_rope_theta = 160000;
    c.has_yarn = true;
    c.yarn = {16, 32, 1, 65536};
    return c;
}

// v4-spec 15.2.
TEST(Rope, FrequenciesEqualTheSpecification) {
    const auto f = rope_frequencies(flash(), true), window = rope_frequencies(flash(), false);
    const struct { int i; double want; } table[] = {{1, 6.876560219e-1}, {15, 3.635538584e-3}, {16, 2.265625e-3},
                                                    {20, 2.969777783e-4}, {24, 1.953125e-5}, {31, 5.680529037e-7}};
    for (const auto& [i, want] : table) EXPECT_NEAR(f[i] / want, 1, 1e-9) << i;
    const double m[9] = {0.90625, 0.8125, 0.71875, 0.625, 0.53125, 0.4375, 0.34375, 0.25, 0.15625};
    for (int i = 0; i < 32; ++i)
        EXPECT_NEAR(f[i] / std::pow(160000.0, -i / 32.0), i < 16 ? 1 : i > 24 ? 0.0625 : m[i - 16], 1e-12) << i;
    EXPECT_NEAR(window[1] / 7.498942e-1, 1, 1e-6);
    EXPECT_NEAR(window[31] / 1.333521e-4, 1, 1e-6);
}

TEST(Rope, RotatesInterleavedPairsOfTheLastDimensions) {
    test::OpFixture f;
    ModelConfig c = flash();
    c.rope_dim = 4;
    const int64_t positions[] = {3};
    const auto frequencies = rope_frequencies(c, false);
    const Tensor x = f.tensor({1, 1, 6}, {7, 8, 1, 2, 3, 4});
    const RopeAngles a = rope_angles(f.ctx, positions, frequencies);
    apply_rope(f.ctx, x, a);
    EXPECT_FLOAT_EQ(x.f32()[0], 7);  // what comes before the last R stays
    EXPECT_FLOAT_EQ(x.f32()[1], 8);
    EXPECT_NEAR(x.f32()[2], std::cos(3.0) - 2 * std::sin(3.0), 1e-6);
    EXPECT_NEAR(x.f32()[3], std::sin(3.0) + 2 * std::cos(3.0), 1e-6);
    EXPECT_NEAR(x.f32()[4], 3 * std::cos(0.03) - 4 * std::sin(0.03), 1e-6);
    apply_rope(f.ctx, x, a, -1);
    for (int i = 0; i < 4; ++i) EXPECT_NEAR(x.f32()[2 + i], i + 1, 1e-6);
}

// The angle is the FP32 product that both references form; its cosine is then exact to FP32.
TEST(Rope, AnglesAreSinglePrecisionProducts) {
    test::OpFixture f;
    const int64_t positions[] = {1048575};
    const auto frequencies = rope_frequencies(flash(), true);
    const RopeAngles a = rope_angles(f.ctx, positions, frequencies);
    const float angle = 1048575.0f * static_cast<float>(frequencies[1]);
    EXPECT_NEAR(a.cos.f32()[1], std::cos(static_cast<double>(angle)), 1e-7);
    EXPECT_NEAR(a.sin.f32()[0], std::sin(1048575.0), 1e-7);
}

TEST(Rope, gradients_match_differences) {
    for (const auto& [heads, c, half] : {std::array<int64_t, 3>{1, 6, 2}, {3, 7, 2}, {2, 12, 3}, {4, 64, 8}, {1, 8, 4}})
        for (const int sign : {1, -1}) {
            test::GradCheck check;
            const size_t x = check.input({5, heads, c});
            check.run([&](Ctx& ctx) {
                const int64_t positions[] = {0, 1, 7, 300, 70001};
                const std::vector<double> frequencies{1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0003};
                const RopeAngles a =
                    rope_angles(ctx, positions, std::vector<double>(frequencies.begin(), frequencies.begin() + half));
                const Tensor y = apply_rope(ctx, check.at(x), a, sign);
                return std::vector{y, apply_rope(ctx, check.at(x), a, -sign)};  // x gets two gradients
            });
        }
}

TEST(Rope, gradients_of_norm_and_rotation_match_differences) {
    for (const auto& [heads, c, half] : {std::array<int64_t, 3>{3, 7, 2}, {6, 64, 8}, {3, 12, 2}, {5, 132, 4}}) {
        test::GradCheck check;
        const size_t x = check.input({7, heads, c});
        check.run([&](Ctx& ctx) {
            const int64_t positions[] = {0, 1, 7, 300, 70001, 3, 4};
            const std::vector<double> frequencies{1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0003};
            const RopeAngles a = rope_angles(ctx, positions, std::vector<double>(frequencies.begin(), frequencies.begin() + half));
            const Tensor y = norm_and_rope(ctx, check.at(x), 1e-3, a);
            return std::vector{y, apply_rope(ctx, check.at(x), a)};  // x gets two gradients
        });
    }
}

}  // namespace
}  // namespace vitrine
