// Fake quantisation of rows on a GPU's tape against the CPU's, bit for bit.
#include <gtest/gtest.h>

#include <cstring>

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

}  // namespace
}  // namespace vitrine
