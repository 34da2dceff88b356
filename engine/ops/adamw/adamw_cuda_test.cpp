// AdamW, Muon and sums of squares on the GPU against the CPU's twins.
#include "engine/ops/adamw/adamw.h"

#include <cmath>

#include "engine/ops/muon/muon.h"
#include "engine/ops/squares/squares.h"
#include "tests/support/cuda_fixture.h"

namespace vitrine {
namespace {

// Sizes around a chunk, views that are not aligned, several steps; some slices decay.
TEST(AdamWCuda, does_as_the_cpu) {
    if (!test::CudaFixture::is_there()) GTEST_SKIP() << test::CudaFixture::why_not();
    test::CudaFixture f;
    const std::vector<int64_t> sizes = {1, 3, 16383, 16384, 16385, 40001, 257};
    int64_t n = 5;
    for (const int64_t size : sizes) n += size;
    const auto count = static_cast<size_t>(n);
    std::vector<float> here[4] = {test::noise(count, 1), {}, std::vector<float>(count), std::vector<float>(count)};
    Tensor there[4];
    for (int i : {0, 2, 3}) there[i] = f.up({n}, here[i], DType::f32);
    for (int t = 1; t <= 3; ++t) {
        here[1] = test::noise(count, 10 + static_cast<uint32_t>(t));
        there[1] = f.up({n}, here[1], DType::f32);
        std::vector<AdamWSlice> on_cpu, on_gpu;
        int64_t at = 0;
        for (size_t s = 0; s < sizes.size(); ++s) {
            const auto cpu = [&](int i) { return Tensor{here[i].data() + at, DType::f32, {sizes[s]}}; };
            const auto gpu = [&](int i) { return Tensor{there[i].f32() + at, DType::f32, {sizes[s]}}; };
            on_cpu.push_back({cpu(0), cpu(1), cpu(2), cpu(3), s % 2 == 0, t + static_cast<int64_t>(s)});
            on_gpu.push_back({gpu(0), gpu(1), gpu(2), gpu(3), s % 2 == 0, t + static_cast<int64_t>(s)});
            at += sizes[s] + (s == 2);
        }
        const AdamW rule{1e-2, 0.9, 0.95, 1e-8, 0.1, 0.5};
        const auto want = adamw(f.cpu.ctx, rule, on_cpu), got = adamw(f.ctx, rule, on_gpu);
        ASSERT_EQ(got.size(), want.size());
        for (size_t s = 0; s < want.size(); ++s) {
            EXPECT_EQ(got[s].count, want[s].count);
            EXPECT_NEAR(got[s].weight, want[s].weight, 1e-6 * want[s].weight) << s;
            EXPECT_NEAR(got[s].update, want[s].update, 1e-5 * want[s].update) << s;
            EXPECT_NEAR(got[s].surprise, want[s].surprise, 1e-5 * want[s].surprise) << s;
        }
        for (int i : {0, 2, 3}) {
            const std::vector<float> back = f.down(there[i]);
            for (size_t e = 0; e < count; ++e) ASSERT_NEAR(back[e], here[i][e], 1e-6) << t << " " << i << " " << e;
        }
    }
}

TEST(SquaresCuda, are_the_same) {
    if (!test::CudaFixture::is_there()) GTEST_SKIP() << test::CudaFixture::why_not();
    test::CudaFixture f;
    const std::vector<float> a = test::noise(70001, 3), b = {1, 2, NAN}, c = {1e30f, 1};
    const Tensor up = f.up({70001}, a, DType::f32);
    const auto got = sums_of_squares(f.ctx, std::vector{up, Tensor{up.f32() + 1, DType::f32, {16389}}, f.up({3}, b, DType::f32),
                                                        f.up({2}, c, DType::f32)});
    const auto want = sums_of_squares(
        f.cpu.ctx, std::vector{f.cpu.tensor({70001}, a), f.cpu.tensor({16389}, {a.begin() + 1, a.begin() + 16390})});
    for (size_t i = 0; i < 2; ++i) EXPECT_NEAR(got[i], want[i], 1e-12 * want[i]);
    EXPECT_TRUE(std::isnan(got[2]));
    EXPECT_NEAR(got[3], 1e60, 1e54);
}

// Wide, tall, square and one-row matrices, several of a shape, one that gets no gradient.
TEST(MuonCuda, does_as_the_cpu) {
    if (!test::CudaFixture::is_there()) GTEST_SKIP() << test::CudaFixture::why_not();
    test::CudaFixture f;
    const std::array<int64_t, 2> shapes[] = {{33, 17}, {17, 33}, {70, 64}, {8, 64}, {64, 8}, {1, 5}, {31, 31}, {33, 17}};
    std::vector<std::vector<float>> w, g, m;
    std::vector<MuonMatrix> here, there;
    for (uint32_t i = 0; i < 8; ++i) {
        const auto n = static_cast<size_t>(shapes[i][0] * shapes[i][1]);
        w.push_back(test::noise(n, i)), g.push_back(i == 7 ? std::vector<float>(n) : test::noise(n, 20 + i));
        m.push_back(i == 7 ? std::vector<float>(n) : test::noise(n, 40 + i));
    }
    for (size_t i = 0; i < w.size(); ++i) {
        const Shape shape{shapes[i][0], shapes[i][1]};
        const auto t = [&](std::vector<float>& x) { return Tensor{x.data(), DType::f32, shape}; };
        there.push_back({f.up(shape, w[i], DType::f32), f.up(shape, g[i], DType::f32), f.up(shape, m[i], DType::f32)});
        here.push_back({t(w[i]), t(g[i]), t(m[i])});
    }
    const Muon rule{0.02, 0.95, 0.1, 0.18, 10, 0.5};
    const auto want = muon(f.cpu.ctx, rule, here), got = muon(f.ctx, rule, there);
    for (size_t i = 0; i < w.size(); ++i) {
        // A square random matrix has small singular values, which ten steps bring near 1 from wherever rounding left them.
        const double tolerance = shapes[i][0] == shapes[i][1] ? 1e-4 : 1e-5;
        EXPECT_EQ(got[i].count, want[i].count);
        EXPECT_NEAR(got[i].weight, want[i].weight, 1e-6 * want[i].weight) << i;
        EXPECT_NEAR(got[i].update, want[i].update, 1e-3 * want[i].update) << i;
        const auto weight = f.down(there[i].weight), momentum = f.down(there[i].momentum);
        for (size_t e = 0; e < weight.size(); ++e) {
            ASSERT_NEAR(weight[e], w[i][e], tolerance) << i << " " << e;
            ASSERT_NEAR(momentum[e], m[i][e], 1e-6) << i << " " << e;
        }
    }
}

}  // namespace
}  // namespace vitrine
