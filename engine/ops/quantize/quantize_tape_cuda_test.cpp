// Fake quantisation on a GPU's tape against the CPU's, bit for bit.
#include <gtest/gtest.h>

#include <cstring>

#include "engine/ops/linear/copies.h"
#include "engine/ops/linear/linear.h"
#include "engine/ops/quantize/quantize_tape.h"
#include "engine/ops/training.h"
#include "tests/support/cuda_fixture.h"

namespace vitrine {
namespace {

TEST(QuantizeTapeCuda, rows_are_the_cpus_bit_for_bit) {
    if (!test::CudaFixture::is_there()) GTEST_SKIP() << test::CudaFixture::why_not();
    for (const auto& [rows, c, rope] : {std::array<int, 3>{5, 150, 22}, {257, 64, 16}, {3, 512, 64}, {17, 64, 0}, {2, 32, 32}}) {
        test::OpFixture host;
        test::CudaFixture gpu;
        Tape host_tape, tape(true, gpu.device.get());
        TrainingStep step;
        host.ctx.tape = &host_tape, host.ctx.training = &step;
        gpu.ctx.tape = &tape, gpu.ctx.training = &step;
        step.quant = {.fp8_cache = true, .fp4_index = true};
        const Shape shape{rows, c};
        const auto some = [&](uint32_t seed) {
            std::vector<float> v = test::noise(static_cast<size_t>(shape.count()), seed);
            for (size_t i = 5; i < v.size(); i += 97) v[i] *= 30;
            return host.tensor(shape, v);
        };
        const Tensor x = some(4), dy = some(5);
        x.f32()[0] = 0, x.f32()[1] = -1e-9f, x.f32()[2] = 1e30f;
        const auto values = [](const Tensor& t) { return std::vector<float>(t.f32(), t.f32() + t.count()); };
        const Tensor x_there = gpu.up(shape, values(x));
        std::vector<std::array<Tensor, 2>> results{{cache_rows(host.ctx, x, rope), cache_rows(gpu.ctx, x_there, rope)}};
        if ((c & (c - 1)) == 0) results.push_back({index_rows(host.ctx, x), index_rows(gpu.ctx, x_there)});
        for (const auto& [want, got] : results) {
            EXPECT_EQ(0, std::memcmp(want.data, gpu.down(got).data(), static_cast<size_t>(x.count()) * 4)) << c;
            std::copy_n(dy.f32(), dy.count(), host_tape.grad(want).f32());
            gpu.device->upload(tape.grad(got).data, dy.data, static_cast<size_t>(dy.count()) * 4);
        }
        host_tape.backward(host.ctx);
        tape.backward(gpu.ctx);
        EXPECT_EQ(gpu.down(tape.grad(x_there)), values(host_tape.grad(x))) << c;
    }
}

// Values with a few far from the others, a zero, a tiny and a huge one.
std::vector<float> uneven(int64_t n, uint32_t seed) {
    std::vector<float> v = test::noise(static_cast<size_t>(n), seed);
    for (size_t i = 5; i < v.size(); i += 97) v[i] *= 30;
    v[0] = 0;
    if (n > 2) v[1] = -1e-9f, v[2] = 1e30f;
    return v;
}

struct TapedPair {  // the same step on the host and on the GPU
    test::OpFixture host;
    test::CudaFixture gpu;
    Tape host_tape, tape{true, gpu.device.get()};
    TrainingStep host_step, step;
    TapedPair(FakeQuant quant, bool has_bf16_products) {
        host_step.quant = step.quant = quant;
        host.ctx.tape = &host_tape, host.ctx.training = &host_step;
        gpu.ctx.tape = &tape, gpu.ctx.training = &step, gpu.ctx.has_bf16_products = has_bf16_products;
    }
    static Param trained(const Tensor& x) {
        return {"w", x.shape, {x.data, nullptr, DType::f32, DType::f8_e8m0, x.dim(0), x.dim(1), 0, 0}, {}, x};
    }
};

TEST(QuantizeTapeCuda, weights_are_the_cpus_bit_for_bit) {
    if (!test::CudaFixture::is_there()) GTEST_SKIP() << test::CudaFixture::why_not();
    using enum cuda::WeightUse;
    for (const auto& [rows, cols] : {std::array<int64_t, 2>{1, 1}, {131, 270}, {257, 34}, {128, 256}}) {
        TapedPair f({.fp8_weights = true, .fp4_experts = true}, true);
        std::vector<Param> params, there;
        std::vector<const Param*> list;
        for (uint32_t i = 0; i < 3; ++i) {
            const std::vector<float> v = uneven(rows * cols, 3 + i);
            params.push_back(TapedPair::trained(f.host.tensor({rows, cols}, v)));
            there.push_back(TapedPair::trained(f.gpu.up({rows, cols}, v)));
        }
        for (const Param& p : there) list.push_back(&p);
        for (const auto use : {plain, dense, routed}) {
            f.host_step.rounded.reset();  // known by the weight alone there
            const Tensor all = cuda::bf16_weights(f.gpu.ctx, list, use), one = cuda::bf16_weight(f.gpu.ctx, there[0], use);
            const std::vector<float> narrow = f.gpu.down(all), narrow_one = f.gpu.down(one);
            EXPECT_EQ(all.shape, (Shape{3, rows, cols}));
            EXPECT_EQ(cuda::bf16_weights(f.gpu.ctx, list, use).data, all.data) << "made once";
            for (size_t i = 0; i < 3; ++i) {
                const Tensor want = use == plain    ? params[i].master
                                    : use == dense ? dense_weight(f.host.ctx, params[i])
                                                   : expert_weight(f.host.ctx, params[i], false);
                const std::vector<float> got = f.gpu.down(cuda::f32_weight(f.gpu.ctx, there[i], use));
                for (int64_t e = 0; e < rows * cols; ++e) {
                    const float x = want.f32()[e], rounded = cpu::round_bf16(x);
                    ASSERT_EQ(got[static_cast<size_t>(e)], x) << e;
                    ASSERT_EQ(narrow[i * static_cast<size_t>(rows * cols) + static_cast<size_t>(e)], rounded) << e;
                    if (i > 0) continue;
                    ASSERT_EQ(narrow_one[static_cast<size_t>(e)], rounded) << e;
                }
            }
        }
    }
}

TEST(QuantizeTapeCuda, inputs_of_linears_are_the_cpus_bit_for_bit) {
    if (!test::CudaFixture::is_there()) GTEST_SKIP() << test::CudaFixture::why_not();
    for (const auto& [rows, cols] : {std::array<int64_t, 2>{1, 1}, {5, 150}, {257, 384}}) {
        TapedPair f({.fp8_activations = true}, true);
        const std::vector<float> v = uneven(rows * cols, 6);
        const Tensor x = f.host.tensor({rows, cols}, v), there = f.gpu.up({rows, cols}, v);
        const Tensor want = linear_input(f.host.ctx, x), got = linear_input(f.gpu.ctx, there);
        EXPECT_EQ(0, std::memcmp(want.data, f.gpu.down(got).data(), v.size() * 4)) << cols;
        const std::vector<float> narrow = f.gpu.down(cuda::bf16_value(f.gpu.ctx, there, true));
        for (size_t i = 0; i < v.size(); ++i) ASSERT_EQ(narrow[i], want.f32()[i]) << i;
        EXPECT_EQ(cuda::bf16_value(f.gpu.ctx, there, true).data, cuda::bf16_value(f.gpu.ctx, there, true).data) << "made once";
        EXPECT_NE(cuda::bf16_value(f.gpu.ctx, there).data, cuda::bf16_value(f.gpu.ctx, there, true).data);
        f.step.quant.fp8_per_tensor = true;
        EXPECT_THROW(linear_input(f.gpu.ctx, there), Error);
        EXPECT_THROW(cuda::bf16_value(f.gpu.ctx, there, true), Error);
    }
}

// With rounded weights and inputs both kinds of products multiply the same numbers: FP8 values are BF16 numbers.
TEST(QuantizeTapeCuda, a_linear_multiplies_rounded_values) {
    if (!test::CudaFixture::is_there()) GTEST_SKIP() << test::CudaFixture::why_not();
    const int64_t rows = 33, in = 140, out = 17;
    for (const bool is_bf16 : {false, true}) {
        TapedPair f({.fp8_weights = true, .fp8_activations = true}, is_bf16);
        const auto w = test::noise(static_cast<size_t>(out * in), 7), x = test::noise(static_cast<size_t>(rows * in), 8);
        const Param here = TapedPair::trained(f.host.tensor({out, in}, w)), there = TapedPair::trained(f.gpu.up({out, in}, w));
        const Tensor want = linear(f.host.ctx, f.host.tensor({rows, in}, x), here);
        const std::vector<float> got = f.gpu.down(linear(f.gpu.ctx, f.gpu.up({rows, in}, x), there));
        for (size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], want.f32()[i], 1e-4) << i << " BF16 products " << is_bf16;
    }
}

}  // namespace
}  // namespace vitrine
