// Fake quantisation: the packed formats' own values bit for bit, gradients straight through, weights rounded once.
#include "engine/ops/quantize/quantize_tape.h"

#include <array>
#include <numeric>

#include "engine/device/cpu/formats.h"
#include "engine/ops/linear/linear.h"
#include "engine/ops/quantize/quantize.h"
#include "engine/weights/quantize.h"
#include "tests/support/gradcheck.h"

namespace vitrine {
namespace {

struct Taped : test::OpFixture {
    Tape tape;
    TrainingStep step;
    Taped() { ctx.tape = &tape, ctx.training = &step; }
    Tensor some(Shape shape, uint32_t seed, float scale = 1) {
        auto v = test::noise(static_cast<size_t>(shape.count()), seed);
        for (size_t i = 0; i < v.size(); ++i) v[i] *= scale * (i % 97 == 5 ? 30.0f : 1.0f);
        return tensor(shape, v);
    }
};

Param trained(const Tensor& values) {
    return {"w",
            values.shape,
            {values.data, nullptr, DType::f32, DType::f8_e8m0, values.dim(0), values.dim(1), 0, 0},
            {},
            values};
}

std::vector<float> unpacked(const PackedBytes& p, DType dtype, int64_t rows, int64_t cols) {
    const bool is_fp4 = dtype == DType::fp4_e2m1;
    const cpu::PackedMatrix m{p.data.data(),    p.scale.data(),   dtype, DType::f8_e8m0, rows, cols,
                              is_fp4 ? 1 : 128, is_fp4 ? 32 : 128};
    std::vector<float> w(static_cast<size_t>(rows * cols));
    for (int64_t r = 0; r < rows; ++r) cpu::widen_row(m, r, w.data() + r * cols);
    return w;
}

TEST(QuantizeTape, weights_are_what_the_checkpoint_holds) {
    Taped f;
    for (const auto& [rows, cols] : {std::array<int64_t, 2>{1, 2}, {131, 270}, {257, 34}}) {
        const Tensor w = f.some({rows, cols}, 3, 0.1f);
        const Param p = trained(w);
        EXPECT_EQ(dense_weight(f.ctx, p).data, w.data) << "not asked";
        f.step.quant = {.fp8_weights = true, .fp4_experts = true};
        const auto fp8 = unpacked(pack_fp8(w.f32(), rows, cols, DType::f8_e8m0), DType::f8_e4m3, rows, cols);
        const Tensor dense = dense_weight(f.ctx, p);
        EXPECT_EQ(0, std::memcmp(dense.data, fp8.data(), fp8.size() * 4));
        EXPECT_EQ(dense_weight(f.ctx, p).data, dense.data) << "made once";
        f.step.rounded.reset();
        const auto fp4 = unpacked(pack_fp4(w.f32(), rows, cols), DType::fp4_e2m1, rows, cols);
        EXPECT_EQ(0, std::memcmp(expert_weight(f.ctx, p, false).data, fp4.data(), fp4.size() * 4));
        f.step.rounded.reset();
        EXPECT_EQ(0, std::memcmp(expert_weight(f.ctx, p, true).data, fp8.data(), fp8.size() * 4));
        f.step.rounded.reset(), f.step.quant = {};
    }
}

TEST(QuantizeTape, rows_are_what_the_cache_holds) {
    Taped f;
    f.step.quant = {.fp8_cache = true, .fp4_index = true};
    const Tensor x = f.some({5, 150}, 4);
    const Tensor y = cache_rows(f.ctx, x, 22);
    const cpu::EntryFormat entry{true, 150, 22};
    std::vector<float> row(150);
    std::vector<std::byte> packed(static_cast<size_t>(entry.row_bytes()));
    for (int64_t r = 0; r < 5; ++r) {
        cpu::pack_entry(entry, x.row<float>(r), packed.data());
        cpu::unpack_entry(entry, packed.data(), row.data());
        EXPECT_EQ(0, std::memcmp(y.row<float>(r), row.data(), 150 * 4)) << r;
    }
    const Tensor q = f.some({3, 64}, 5);
    const Tensor k = index_rows(f.ctx, q);
    const cpu::IndexKeyFormat key{true, 64};
    row.resize(64), packed.resize(static_cast<size_t>(key.row_bytes()));
    for (int64_t r = 0; r < 3; ++r) {
        std::copy_n(q.row<float>(r), 64, row.data());
        hadamard(row.data(), 64);
        cpu::pack_index_key(key, row.data(), packed.data());
        cpu::unpack_index_key(key, packed.data(), row.data());
        EXPECT_EQ(0, std::memcmp(k.row<float>(r), row.data(), 64 * 4)) << r;
    }
    EXPECT_THROW(index_rows(f.ctx, f.some({1, 48}, 6)), Error);
}

TEST(QuantizeTape, gradients_pass_straight_through) {
    Taped f;
    f.step.quant = {.fp8_cache = true, .fp4_index = true};
    const Tensor x = f.some({3, 64}, 7), y = cache_rows(f.ctx, x, 8), z = index_rows(f.ctx, x);
    const Tensor dy = f.some({3, 64}, 8), dz = f.some({3, 64}, 9);
    std::copy_n(dy.f32(), 192, f.tape.grad(y).f32());
    std::copy_n(dz.f32(), 192, f.tape.grad(z).f32());
    f.tape.backward(f.ctx);
    for (int64_t r = 0; r < 3; ++r) {
        walsh(dz.row<float>(r), 64);
        for (int i = 0; i < 64; ++i)
            EXPECT_NEAR(f.tape.grad(x).row<float>(r)[i], dy.row<float>(r)[i] + dz.row<float>(r)[i], 1e-6);
    }
}

// y = Q(W) Q(x): dW = dy Q(x)^T, dx = Q(W)^T dy.
TEST(QuantizeTape, a_linear_multiplies_rounded_values) {
    Taped f;
    f.step.quant = {.fp8_weights = true, .fp8_activations = true};
    f.step.wants_rounding = true;
    const Tensor wv = f.some({3, 140}, 10), x = f.some({2, 140}, 11), dw = f.tensor({3, 140}, std::vector<float>(420));
    wv.f32()[0] = 1e-9f;     // below the smallest FP8 of its block
    x.f32()[280 - 1] = 448;  // the largest: its block's scale is 1
    const Param w = trained(wv);
    f.tape.bind(wv, dw);
    const Tensor y = linear(f.ctx, x, w);
    const Tensor exact = linear(f.ctx, x, w, {.quantise_input = false});
    const Tensor qw = dense_weight(f.ctx, w), qx = linear_input(f.ctx, x);
    double difference = 0;
    for (int t = 0; t < 2; ++t)
        for (int o = 0; o < 3; ++o) {
            double sum = 0;
            for (int i = 0; i < 140; ++i) sum += static_cast<double>(qw.row<float>(o)[i]) * qx.row<float>(t)[i];
            EXPECT_NEAR(y.row<float>(t)[o], sum, 1e-4 * std::max(1.0, std::abs(sum)));
            difference += std::abs(y.row<float>(t)[o] - exact.row<float>(t)[o]);
        }
    EXPECT_GT(difference, 1e-3);
    f.tape.grad(y).f32()[0] = 1;  // of y[0][0]
    f.tape.backward(f.ctx);
    for (int i = 0; i < 140; ++i) {
        EXPECT_FLOAT_EQ(dw.row<float>(0)[i], qx.row<float>(0)[i]);
        EXPECT_FLOAT_EQ(f.tape.grad(x).row<float>(0)[i], qw.row<float>(0)[i]);
    }
    EXPECT_EQ(f.step.rounding.weights.n, 420);
    EXPECT_EQ(f.step.rounding.activations.n, 560);  // twice: the linear, and this test
    EXPECT_EQ(f.step.rounding.weights.flushed, 1);
    const auto n_blocks = [](const cpu::RoundingCount& c) {
        return std::accumulate(c.scales.begin(), c.scales.end(), int64_t{0});
    };
    EXPECT_EQ(n_blocks(f.step.rounding.weights), 2);
    EXPECT_EQ(n_blocks(f.step.rounding.activations), 8) << "twice two rows of 128 and 12";
    EXPECT_EQ(f.step.rounding.activations.saturated, 2);
}

// What became 0 and what lies at 6 scales, read off the values before and after.
TEST(QuantizeTape, fp4_underflow_is_counted) {
    Taped f;
    f.step.quant = {.fp4_experts = true, .fp4_index = true};
    const Tensor wv = f.some({5, 70}, 10), x = f.some({3, 64}, 11);
    wv.f32()[3] = 0;  // was 0 before: not flushed
    expert_weight(f.ctx, trained(wv), false);
    EXPECT_EQ(f.step.rounding.fp4_experts.n, 0) << "not asked for";
    f.step.rounded = nullptr, f.step.wants_rounding = true;
    const Tensor w = expert_weight(f.ctx, trained(wv), false), y = index_rows(f.ctx, x);
    const auto count = [](const std::vector<float>& before, const float* after, int64_t cols) {
        cpu::RoundingCount c;
        for (int64_t i = 0; i < static_cast<int64_t>(before.size()); ++i) {
            const int64_t row = i / cols * cols, block = row + (i - row) / 32 * 32,
                          end = std::min(block + 32, row + cols);
            float top = 0;
            for (int64_t j = block; j < end; ++j) top = std::max(top, std::abs(before[static_cast<size_t>(j)]));
            const double scale = std::exp2(std::ceil(std::log2(static_cast<double>(top) / 6)));
            if (i == block) ++c.scales[static_cast<size_t>(127 + std::lround(std::log2(scale)))];
            ++c.n, c.flushed += before[static_cast<size_t>(i)] != 0 && after[i] == 0;
            c.saturated += std::abs(after[i]) == 6 * scale;
        }
        return c;
    };
    std::vector<float> turned(x.f32(), x.f32() + x.count());
    for (int64_t r = 0; r < 3; ++r) hadamard(turned.data() + r * 64, 64);
    const cpu::RoundingCount experts = count({wv.f32(), wv.f32() + wv.count()}, w.f32(), 70),
                             index = count(turned, y.f32(), 64);
    for (const auto& [got, want] :
         {std::pair{f.step.rounding.fp4_experts, experts}, {f.step.rounding.fp4_index, index}}) {
        EXPECT_EQ(got.n, want.n);
        EXPECT_EQ(got.flushed, want.flushed);
        EXPECT_EQ(got.saturated, want.saturated);
        EXPECT_EQ(got.scales, want.scales);
        EXPECT_GT(want.flushed, 0);
        EXPECT_GT(want.saturated, 0);
    }
}

TEST(QuantizeTape, doubles_are_rounded_as_floats) {
    Taped f;
    f.ctx.dtype = DType::f64;
    f.step.quant = {.fp8_activations = true};
    const Tensor narrow = f.some({2, 200}, 12), wide = f.arena.make(DType::f64, {2, 200});
    std::copy_n(narrow.f32(), 400, wide.as<double>());
    const Tensor a = linear_input(f.ctx, narrow), b = linear_input(f.ctx, wide);
    for (int i = 0; i < 400; ++i) EXPECT_EQ(a.f32()[i], b.as<double>()[i]);
}

// One scale for the tensor: a row a million times smaller than the largest value is flushed, with a scale per row it isn't.
TEST(QuantizeTape, activations_by_row_or_by_tensor) {
    Taped f;
    f.step.quant = {.fp8_activations = true};
    const Tensor x = f.some({2, 40}, 12);
    for (int i = 0; i < 40; ++i) x.f32()[i] *= 1e4f, x.f32()[40 + i] = 1e-2f * (1 + static_cast<float>(i) / 64);
    const Tensor by_row = linear_input(f.ctx, x);
    f.step.quant.fp8_per_tensor = true;
    const Tensor by_tensor = linear_input(f.ctx, x);
    std::vector<float> all(x.f32(), x.f32() + 80);
    cpu::fp8_simulate(all.data(), 80, 80);
    for (int i = 0; i < 80; ++i) EXPECT_EQ(by_tensor.f32()[i], all[static_cast<size_t>(i)]);
    for (int i = 40; i < 80; ++i) {
        EXPECT_NEAR(by_row.f32()[i], x.f32()[i], 1e-3);
        EXPECT_EQ(by_tensor.f32()[i], 0);
    }
}

// Delayed scaling: the first step takes the tensor's own scale, a later one that of what it saw before; beyond it
// values saturate.
TEST(QuantizeTape, delayed_scales_are_those_of_steps_before) {
    Taped f;
    DelayedScales scales;
    f.step.quant = {.fp8_activations = true, .fp8_per_tensor = true};
    f.step.wants_rounding = true;
    const Tensor x = f.some({2, 40}, 12);
    for (int i = 0; i < 80; ++i) x.f32()[i] /= 8;
    x.f32()[5] = 7;  // 448 * 2^-6: the largest that a scale of 2^-6 holds
    const Tensor own = linear_input(f.ctx, x);
    f.step.delayed = &scales;
    const int site = 0, other = 0;
    const Tensor first = linear_input(f.ctx, x, &site);
    for (int i = 0; i < 80; ++i) EXPECT_EQ(first.f32()[i], own.f32()[i]);
    ASSERT_EQ(scales.now.size(), 1u);
    EXPECT_EQ(scales.now.at(&site), 7);
    scales.before = scales.now, scales.now.clear();
    x.f32()[6] = -100, x.f32()[7] = 6.9f;
    f.step.rounding = {};
    const Tensor later = linear_input(f.ctx, x, &site), fresh = linear_input(f.ctx, x, &other);
    EXPECT_EQ(later.f32()[6], -7) << "cut at 448 steps of the old scale";
    EXPECT_EQ(later.f32()[5], 7);
    EXPECT_EQ(later.f32()[7], 7) << "448 of 2^-6, the nearest to 441.6";
    EXPECT_EQ(fresh.f32()[6], -96) << "no history: the scale 2^-2, steps of 32 above 256: 100 / 0.25 = 400 to 384";
    EXPECT_EQ(scales.now.at(&site), 100) << "for the next step";
    EXPECT_EQ(f.step.rounding.activations.saturated, 3);
    std::array<int64_t, 256> blocks{};
    blocks[127 - 6] = blocks[127 - 2] = 1;
    EXPECT_EQ(f.step.rounding.activations.scales, blocks) << "one scale for a tensor";
}

}  // namespace
}  // namespace vitrine
