// Row-wise kernels: every instruction set against plain loops, at odd sizes.
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "engine/device/cpu/kernel_tables.h"
#include "tests/support/op_fixture.h"

namespace vitrine::cpu {
namespace {

constexpr int kSizes[] = {1, 7, 15, 16, 17, 31, 64, 257, 1000};

std::vector<float> values(int n, int seed, float scale) {
    auto v = test::noise(n, seed);
    for (float& x : v) x *= scale;
    return v;
}

// Relative to the largest value: the order of sums and the last bit of e^x differ.
void expect_near(const std::vector<float>& a, const std::vector<float>& b, double tolerance, const char* what) {
    double largest = 1e-30;
    for (float x : b) largest = std::max<double>(largest, std::abs(x));
    for (size_t i = 0; i < a.size(); ++i)
        ASSERT_LE(std::abs(a[i] - b[i]), tolerance * largest) << what << " element " << i << " of " << a.size();
}

TEST(Elementwise, EveryInstructionSetAgreesWithPlainLoops) {
    const Kernels& plain = scalar_kernels();
    for (const Kernels* k : runnable_kernels())
        for (int n : kSizes) {
            const auto x = values(n, n, 3), w = values(n, n + 1, 1), up = values(n, n + 2, 15), gate = values(n, n + 3, 40);
            std::vector<float> got(n), want(n);
            k->rms_row(x.data(), w.data(), n, 1e-6f, false, got.data());
            plain.rms_row(x.data(), w.data(), n, 1e-6f, false, want.data());
            expect_near(got, want, 1e-6, k->name);
            k->rms_row(x.data(), nullptr, n, 1e-6f, false, got.data());
            plain.rms_row(x.data(), nullptr, n, 1e-6f, false, want.data());
            expect_near(got, want, 1e-6, k->name);
            k->swiglu_row(gate.data(), up.data(), n, 10, 0.7f, false, got.data());
            plain.swiglu_row(gate.data(), up.data(), n, 10, 0.7f, false, want.data());
            expect_near(got, want, 1e-6, k->name);
            const float* rows[] = {x.data(), up.data(), gate.data()};
            const float a[] = {0.5f, -2, 0.25f};
            k->weighted_sum(rows, a, 3, n, false, got.data());
            plain.weighted_sum(rows, a, 3, n, false, want.data());
            expect_near(got, want, 1e-6, k->name);
            k->weighted_sum(rows, a, 1, n, true, got.data());  // a product alone: rounded alike, bit for bit
            plain.weighted_sum(rows, a, 1, n, true, want.data());
            EXPECT_EQ(got, want) << k->name;
            std::vector<double> sums(n), plain_sums(n);  // in one order: bit for bit
            const std::vector<float> three = values(3 * n, n + 4, 1);
            k->sum_rows(three.data(), 3, n, sums.data()), plain.sum_rows(three.data(), 3, n, plain_sums.data());
            EXPECT_EQ(sums, plain_sums) << k->name;
            EXPECT_NEAR(sums[n - 1], double{three[n - 1]} + three[2 * n - 1] + three[3 * n - 1], 1e-12) << k->name;
            EXPECT_EQ(k->sum(up.data(), n), plain.sum(up.data(), n)) << k->name;
            EXPECT_NEAR(k->sum(up.data(), n), std::accumulate(up.begin(), up.end(), 0.0), 1e-9) << k->name;
            got = want = up;
            k->round_row(got.data(), n);
            plain.round_row(want.data(), n);
            EXPECT_EQ(got, want) << k->name;
        }
}

TEST(Elementwise, TrainingRowsAgreeWithPlainLoops) {
    const Kernels& plain = scalar_kernels();
    for (const Kernels* k : runnable_kernels())
        for (int n : kSizes) {
            const auto x = values(n, n, 30), up = values(n, n + 2, 15), gate = values(n, n + 3, 20), dh = values(n, n + 4, 1);
            std::vector<float> got(n), want(n);
            const float top = *std::max_element(x.begin(), x.end());
            const float sum = plain.exp_row(x.data(), n, top, want.data());
            EXPECT_NEAR(k->exp_row(x.data(), n, top, got.data()), sum, 2e-6 * sum) << k->name;
            expect_near(got, want, 1e-6, k->name);
            EXPECT_EQ(k->exp_row(x.data(), n, top, nullptr), k->exp_row(x.data(), n, top, got.data())) << k->name;
            got = want = up;
            k->exp_axpy(0.3f, x.data(), n, top, got.data()), plain.exp_axpy(0.3f, x.data(), n, top, want.data());
            expect_near(got, want, 1e-6, k->name);
            std::vector<float> a[3], b[3];
            for (int i = 0; i < 3; ++i) a[i].resize(n), b[i].resize(n);
            a[2] = dh;  // in place
            const float dw = k->swiglu_backward_row(gate.data(), up.data(), a[2].data(), n, 10, 0.7f, a[0].data(), a[1].data(),
                                                    a[2].data());
            const float dw_plain = plain.swiglu_backward_row(gate.data(), up.data(), dh.data(), n, 10, 0.7f, b[0].data(),
                                                             b[1].data(), b[2].data());
            EXPECT_NEAR(dw, dw_plain, 1e-6 * 100 * n) << k->name;
            for (int i = 0; i < 3; ++i) expect_near(a[i], b[i], 1e-6, k->name);
        }
}

TEST(Elementwise, SwigluClampsAndKeepsNaN) {
    for (const Kernels* k : runnable_kernels()) {
        const float gate[4] = {100, -100, 0, NAN}, up[4] = {20, -20, 5, 1};
        float h[4];
        k->swiglu_row(gate, up, 4, 10, 1, false, h);
        EXPECT_NEAR(h[0], 10 / (1 + std::exp(-10.0)) * 10, 1e-4) << k->name;  // both clamped
        EXPECT_NEAR(h[1], 0, 1e-6) << k->name;                                // the gate has no lower clamp
        EXPECT_EQ(h[2], 0) << k->name;
        EXPECT_TRUE(std::isnan(h[3])) << k->name << ": damage must stay visible";
    }
}

}  // namespace
}  // namespace vitrine::cpu
