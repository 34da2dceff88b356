// RMSNorm on the GPU against the CPU: odd and real sizes, weights in the formats of files, in place.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "engine/ops/rmsnorm/rmsnorm.h"
#include "tests/support/cuda_compare.h"
#include "tests/support/cuda_fixture.h"

namespace vitrine {
namespace {

TEST(RmsnormCuda, EqualsTheCpu) {
    if (!test::CudaFixture::is_there()) GTEST_SKIP() << test::CudaFixture::why_not();
    for (Numerics numerics : {Numerics::exact, Numerics::reference})
        for (int64_t d : {1, 17, 31, 64, 257, 384, 512, 2048, 7168})
            for (bool is_bf16 : {false, true}) {
                test::CudaFixture f(numerics);
                const int64_t n = 5;
                const Param w =
                    is_bf16 ? test::make_bf16_param(test::noise(d, 7), {d}) : test::make_param(test::noise(d, 7), {d});
                const std::vector<float> x =
                    test::as_activation(numerics, test::noise(n * d, static_cast<uint32_t>(d)));
                const Tensor want = rmsnorm(f.cpu.ctx, f.cpu.tensor({n, d}, x), w, 1e-6);
                const Tensor got = cuda::rmsnorm(f.ctx, f.up({n, d}, x), f.up(w), 1e-6);
                test::expect_close(f.down(got), want, numerics, 1e-6, 0x1p-8, "d " + std::to_string(d));
            }
}

TEST(RmsnormCuda, HeadsInPlaceEqualTheCpu) {
    if (!test::CudaFixture::is_there()) GTEST_SKIP() << test::CudaFixture::why_not();
    for (Numerics numerics : {Numerics::exact, Numerics::reference})
        for (int64_t c : {1, 17, 64, 128, 257, 512}) {
            test::CudaFixture f(numerics);
            const Shape shape{3, 7, c};
            const std::vector<float> x =
                test::as_activation(numerics, test::noise(shape.count(), static_cast<uint32_t>(c)));
            const Tensor want = rmsnorm_heads(f.cpu.ctx, f.cpu.tensor(shape, x), 1e-6), there = f.up(shape, x);
            const Tensor got = cuda::rmsnorm_heads(f.ctx, there, 1e-6);
            EXPECT_EQ(got.data, there.data);
            test::expect_close(f.down(got), want, numerics, 1e-6, 0x1p-8, "c " + std::to_string(c));
        }
}

// A row's bits don't depend on the rows beside it.
TEST(RmsnormCuda, RowsAreIndependent) {
    if (!test::CudaFixture::is_there()) GTEST_SKIP() << test::CudaFixture::why_not();
    test::CudaFixture f;
    const int64_t d = 2048, n = 33;
    const Param w = f.up(test::make_param(test::noise(d, 7), {d}));
    const std::vector<float> x = test::noise(n * d, 1);
    const std::vector<float> all = f.down(cuda::rmsnorm(f.ctx, f.up({n, d}, x), w, 1e-6));
    const std::vector<float> last(x.end() - d, x.end()),
        one = f.down(cuda::rmsnorm(f.ctx, f.up({1, d}, last), w, 1e-6));
    EXPECT_TRUE(std::equal(one.begin(), one.end(), all.end() - d));
}

}  // namespace
}  // namespace vitrine
