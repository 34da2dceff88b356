// RoPE on the GPU against the CPU: angles at long range, rotation of f32 and BF16 rows and back.
#include <gtest/gtest.h>

#include "engine/ops/linear/copies.h"
#include "engine/ops/rmsnorm/rmsnorm.h"
#include "engine/ops/rope/rope.h"
#include "engine/ops/training.h"
#include "tests/support/cuda_compare.h"
#include "tests/support/cuda_fixture.h"

namespace vitrine {
namespace {

TEST(RopeCuda, EqualsTheCpu) {
    if (!test::CudaFixture::is_there()) GTEST_SKIP() << test::CudaFixture::why_not();
    ModelConfig config;
    config.compress_rope_theta = 160000;
    config.has_yarn = true;
    config.yarn = {16, 32, 1, 65536};
    const std::vector<int64_t> positions{0, 1, 77, 4095, 131071, 1048575};
    const auto n = static_cast<int64_t>(positions.size());
    for (Numerics numerics : {Numerics::exact, Numerics::reference})
        for (const auto& [rope, c, heads] : {std::tuple{2, 2, 1}, {16, 64, 6}, {8, 31, 3}, {64, 512, 16}}) {
            test::CudaFixture f(numerics);
            config.rope_dim = rope;
            const std::vector<double> frequencies = rope_frequencies(config, true);
            std::vector<cuda::TokenAt> tokens;
            for (int64_t p : positions) tokens.push_back({0, 0, p});
            f.set_step(tokens, {});
            const RopeAngles want = rope_angles(f.cpu.ctx, positions, frequencies),
                             got = cuda::rope_angles(f.ctx, frequencies);
            test::expect_close(f.down(got.cos), want.cos, numerics, 1e-7, 1e-7, "cos");
            test::expect_close(f.down(got.sin), want.sin, numerics, 1e-7, 1e-7, "sin");

            const Shape shape{n, heads, c};
            const std::vector<float> x = test::as_activation(numerics, test::noise(shape.count(), 3));
            const Tensor host = f.cpu.tensor(shape, x), device = f.up(shape, x);
            for (int sign : {1, -1}) {
                apply_rope(f.cpu.ctx, host, want, sign);
                cuda::apply_rope(f.ctx, device, got, sign);
                test::expect_close(f.down(device), host, numerics, 1e-6, 0x1p-8, "rotated by " + std::to_string(sign));
            }
        }
}

TEST(RopeCuda, NormAndRotationInOnePassEqualTheCpu) {
    if (!test::CudaFixture::is_there()) GTEST_SKIP() << test::CudaFixture::why_not();
    ModelConfig config;
    config.compress_rope_theta = 160000;
    const std::vector<int64_t> positions{0, 5, 4095};
    for (Numerics numerics : {Numerics::exact, Numerics::reference})
        for (const auto& [rope, c, heads] : {std::tuple{16, 64, 6}, {8, 31, 3}, {8, 40, 5}, {64, 512, 16}}) {
            test::CudaFixture f(numerics);
            config.rope_dim = rope;
            const std::vector<double> frequencies = rope_frequencies(config, true);
            f.set_step({{0, 0, 0}, {0, 0, 5}, {0, 0, 4095}}, {});
            const Shape shape{3, heads, c};
            const std::vector<float> x = test::as_activation(numerics, test::noise(shape.count(), 3));
            const Tensor want = apply_rope(f.cpu.ctx, rmsnorm_heads(f.cpu.ctx, f.cpu.tensor(shape, x), 1e-6),
                                           rope_angles(f.cpu.ctx, positions, frequencies));
            const Tensor got =
                cuda::norm_and_rotate(f.ctx, f.up(shape, x), 1e-6, cuda::rope_angles(f.ctx, frequencies));
            test::expect_close(f.down(got), want, numerics, 1e-6, 0x1p-7, "c " + std::to_string(c));
        }
}

// What the tape's rotation leaves for the product that follows is what a conversion would make.
TEST(RopeCuda, CopiesForProductsAreTheRoundedValues) {
    if (!test::CudaFixture::is_there()) GTEST_SKIP() << test::CudaFixture::why_not();
    const int64_t positions[] = {0, 5, 4095};
    for (const auto& [c, heads, sign] : {std::tuple{64, 6, -1}, {31, 3, -1}, {512, 1, 1}}) {
        test::CudaFixture f;
        Tape tape(false, f.device.get());
        TrainingStep step;
        f.ctx.tape = &tape, f.ctx.training = &step, f.ctx.has_bf16_products = true;
        const Shape shape{3, heads, c};
        const Tensor y = apply_rope(f.ctx, f.up(shape, test::noise(static_cast<size_t>(shape.count()), 3)),
                                    rope_angles(f.ctx, positions, {1.0, 0.3, 0.1, 0.03}), sign);
        EXPECT_TRUE(step.on_gpu && !step.on_gpu->values.empty());
        EXPECT_EQ(f.down(cuda::bf16_value(f.ctx, y)), f.down(cuda::bf16_copy(f.ctx, y))) << c;
    }
}

}  // namespace
}  // namespace vitrine
