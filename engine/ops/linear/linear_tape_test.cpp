// Gradients of the linear layers, and the dense products behind them at odd sizes.
#include "engine/ops/linear/linear.h"

#include "engine/ops/linear/matmul.h"
#include "tests/support/gradcheck.h"

namespace vitrine {
namespace {

TEST(LinearTape, gradients_match_differences) {
    for (const auto& [m, in, out] : {std::array<int64_t, 3>{1, 1, 1}, {5, 17, 31}, {33, 64, 16}, {257, 31, 3}}) {
        test::GradCheck check;
        Param w;
        const size_t x = check.input({m, in});
        check.param(w, {out, in});
        check.run([&](Ctx& ctx) { return std::vector{linear(ctx, check.at(x), w)}; });
    }
}

TEST(LinearTape, grouped_gradients_match_differences) {
    test::GradCheck check;
    Param w;
    const size_t x = check.input({9, 3 * 17});
    check.param(w, {3 * 5, 17});
    check.run([&](Ctx& ctx) { return std::vector{grouped_linear(ctx, check.at(x), w, 3)}; });
}

TEST(LinearTape, nothing_flows_to_a_detached_input) {
    test::OpFixture f;
    Tape tape;
    f.ctx.tape = &tape;
    const Tensor x = f.tensor({4, 6}, test::noise(24, 1));
    const Param w = test::make_param(test::noise(12, 2), {2, 6});
    const Tensor y = linear(f.ctx, x, w, {.is_input_detached = true});
    tape.grad(y).f32()[0] = 1;
    tape.backward(f.ctx);
    EXPECT_FALSE(tape.has_grad(x));
    const Tensor again = linear(f.ctx, x, w);
    tape.grad(again).f32()[0] = 1;
    tape.backward(f.ctx);
    EXPECT_TRUE(tape.has_grad(x));
}

TEST(Matmul, all_forms_agree_with_sums) {
    test::OpFixture f;
    for (const auto& [m, n, k] : {std::array<int64_t, 3>{1, 1, 1}, {17, 31, 257}, {300, 70, 64}, {1024, 64, 64}, {3, 900, 130}}) {
        const auto a = test::noise(static_cast<size_t>(m * k), 1), b = test::noise(static_cast<size_t>(n * k), 2);
        std::vector<float> at(a.size()), bt(b.size()), c(static_cast<size_t>(m * n), 1.0f);
        for (int64_t i = 0; i < m; ++i)
            for (int64_t l = 0; l < k; ++l) at[l * m + i] = a[i * k + l];
        for (int64_t j = 0; j < n; ++j)
            for (int64_t l = 0; l < k; ++l) bt[l * n + j] = b[j * k + l];
        const auto check = [&](double added) {
            for (int64_t i = 0; i < m; i += 1 + m / 7)
                for (int64_t j = 0; j < n; j += 1 + n / 7) {
                    double sum = added;
                    for (int64_t l = 0; l < k; ++l) sum += static_cast<double>(a[i * k + l]) * b[j * k + l];
                    ASSERT_NEAR(c[i * n + j], sum, 1e-5 * std::sqrt(static_cast<double>(k)) + 1e-5) << m << " " << n << " " << k;
                }
        };
        matmul_nt(f.ctx, matrix(a.data(), m, k), matrix(b.data(), n, k), c.data(), n, false), check(0);
        matmul_nn(f.ctx, matrix(a.data(), m, k), matrix(bt.data(), k, n), c.data(), n, false), check(0);
        matmul_tn(f.ctx, matrix(at.data(), k, m), matrix(bt.data(), k, n), c.data(), n, false), check(0);
        std::fill(c.begin(), c.end(), 1.0f);
        matmul_tn(f.ctx, matrix(at.data(), k, m), matrix(bt.data(), k, n), c.data(), n, true), check(1);
        matmul_nn_serial(matrix(a.data(), m, k), matrix(bt.data(), k, n), c.data(), n, false), check(0);
        matmul_tn_serial(matrix(at.data(), k, m), matrix(bt.data(), k, n), c.data(), n, false), check(0);
    }
}

}  // namespace
}  // namespace vitrine
