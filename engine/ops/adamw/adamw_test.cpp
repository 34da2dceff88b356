// AdamW against numbers worked out by hand, and against the same rule in double.
#include "engine/ops/adamw/adamw.h"

#include <gtest/gtest.h>

#include <cmath>

#include "engine/ops/squares/squares.h"
#include "tests/support/op_fixture.h"

namespace vitrine {
namespace {

struct Slots {
    std::vector<double> w, g, m, v;
    AdamWSlice slice(bool decays, int64_t step = 1) {
        auto t = [](std::vector<double>& x) { return Tensor{x.data(), DType::f64, {static_cast<int64_t>(x.size())}}; };
        return {t(w), t(g), t(m), t(v), decays, step};
    }
};

TEST(AdamW, two_steps_by_hand) {
    // w 1, gradients 0.5 and -0.25, lr 0.1, betas 0.9 and 0.5, eps 0, decay 0.2.
    // Step 1: 1 * 0.98 - 0.1 * (0.05/0.1) / sqrt(0.125/0.5) = 0.98 - 0.1 = 0.88.
    // Step 2: m = 0.045 - 0.025 = 0.02, v = 0.0625 + 0.03125 = 0.09375; m^ = 0.02/0.19, v^ = 0.09375/0.75 = 0.125;
    // 0.88 * 0.98 - 0.1 * 0.10526315789 / 0.35355339059 = 0.8624 - 0.029772917
    test::OpFixture f;
    Slots s{{1}, {0.5}, {0}, {0}};
    const AdamW a{0.1, 0.9, 0.5, 0, 0.2};
    auto sums = adamw(f.ctx, a, std::vector{s.slice(true)});
    EXPECT_NEAR(s.w[0], 0.88, 1e-15);
    EXPECT_NEAR(sums[0].update, 0.12 * 0.12, 1e-15);
    EXPECT_NEAR(sums[0].weight, 1, 0);
    EXPECT_NEAR(sums[0].surprise, 1, 1e-15);
    s.g[0] = -0.25;
    adamw(f.ctx, a, std::vector{s.slice(true, 2)});
    EXPECT_NEAR(s.w[0], 0.8624 - 0.1 * (0.02 / 0.19) / std::sqrt(0.125), 1e-15);
    EXPECT_NEAR(s.w[0], 0.832627083, 1e-9);
}

TEST(AdamW, what_does_not_decay_stays_without_gradient) {
    test::OpFixture f;
    Slots s{{3}, {0}, {0}, {0}}, t = s;
    const AdamW a{0.1, 0.9, 0.95, 1e-20, 0.5};
    adamw(f.ctx, a, std::vector{s.slice(false), t.slice(true)});
    EXPECT_EQ(s.w[0], 3);
    EXPECT_NEAR(t.w[0], 3 * 0.95, 1e-15);
}

TEST(AdamW, single_follows_double_and_threads_do_not_matter) {
    const size_t n = 50001;
    auto run = [&](int n_threads) {
        Arena arena;
        Pool pool(n_threads);
        Ctx ctx{arena, pool};
        std::vector<float> w = test::noise(n, 1), m(n), v(n);
        for (int t = 1; t <= 5; ++t) {
            std::vector<float> g = test::noise(n, 10 + static_cast<uint32_t>(t));
            auto tensor = [&](std::vector<float>& x) { return Tensor{x.data(), DType::f32, {static_cast<int64_t>(n)}}; };
            const AdamWSlice slice{tensor(w), tensor(g), tensor(m), tensor(v), true, t};
            adamw(ctx, {1e-2, 0.9, 0.95, 1e-8, 0.1, 0.5}, std::vector{slice});
        }
        return w;
    };
    const auto one = run(1);
    EXPECT_EQ(one, run(2));
    EXPECT_EQ(one, run(3));
    const auto start = test::noise(n, 1);
    for (size_t i = 0; i < n; i += 997) {
        double w = start[i], m = 0, v = 0;
        for (int t = 1; t <= 5; ++t) {
            const double g = 0.5 * test::noise(n, 10 + static_cast<uint32_t>(t))[i];
            m = 0.9 * m + 0.1 * g, v = 0.95 * v + 0.05 * g * g;
            w = w * (1 - 1e-3) - 1e-2 * (m / (1 - std::pow(0.9, t))) / (std::sqrt(v / (1 - std::pow(0.95, t))) + 1e-8);
        }
        EXPECT_NEAR(one[i], w, 1e-6);
    }
}

TEST(Squares, are_summed_in_one_order_and_find_what_is_not_finite) {
    std::vector<float> a = test::noise(40000, 3), b = {1, 2, NAN};
    double expected = 0;
    for (float x : a) expected += static_cast<double>(x) * x;
    std::vector<double> first;
    for (int n_threads : {1, 2, 3}) {
        Arena arena;
        Pool pool(n_threads);
        Ctx ctx{arena, pool};
        const auto sums = sums_of_squares(
            ctx, std::vector{Tensor{a.data(), DType::f32, {40000}}, Tensor{b.data(), DType::f32, {3}}});
        EXPECT_NEAR(sums[0], expected, 1e-9 * expected);
        EXPECT_TRUE(std::isnan(sums[1]));
        if (first.empty()) first = sums;
        EXPECT_EQ(first[0], sums[0]);
    }
}

}  // namespace
}  // namespace vitrine
