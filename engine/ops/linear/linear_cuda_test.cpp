// Linear layers on the GPU against the CPU's twin: every format, both numerics, few and many rows, rows alone and in
// company.
#include <array>
#include <cmath>
#include <cstring>
#include <string>

#include "engine/ops/linear/linear.h"
#include "tests/support/cuda_fixture.h"
#include "tests/support/packed.h"

namespace vitrine {
namespace {

using test::CudaFixture;

struct Size {
    int64_t in, out;
};
constexpr Size kSizes[] = {{2, 1}, {34, 17}, {96, 40}, {160, 33}, {384, 257}, {1024, 300}, {1056, 33}, {2048, 40}, {8192, 24}};
constexpr int64_t kRows[] = {1, 3, 16, 17, 257};

// FP32 sums in another order, on tensor cores with less care for the last bits; one step of BF16, 2^-7, where outputs
// are rounded.
double bound(Numerics n, bool is_rounded) {
    return n == Numerics::exact ? 4e-6 : is_rounded ? 0x1p-7 : 2e-5;
}

void compare(CudaFixture& f, const Param& w, int64_t rows, int groups, LinearOptions options, const std::string& what) {
    const Arena::Scope scratch(f.arena), host_scratch(f.cpu.arena);
    const Shape shape{rows, groups * w.view.in};
    const std::vector<float> x = test::bf16_noise(static_cast<size_t>(shape.count()), 7);
    const Param on_gpu = f.up(w);
    const Tensor want = groups > 1 ? grouped_linear(f.cpu.ctx, f.cpu.tensor(shape, x), w, groups)
                                   : linear(f.cpu.ctx, f.cpu.tensor(shape, x), w, options);
    const Tensor got = groups > 1 ? cuda::grouped_linear(f.ctx, f.up(shape, x), on_gpu, groups)
                                  : cuda::linear(f.ctx, f.up(shape, x), on_gpu, options);
    ASSERT_EQ(got.shape, want.shape) << what;
    EXPECT_EQ(got.dtype, options.round_output ? f.ctx.activation() : DType::f32) << what;
    EXPECT_LE(test::distance(f.down(got), want.f32()), bound(f.ctx.numerics, options.round_output)) << what;
}

class LinearCuda : public testing::TestWithParam<Numerics> {};

TEST_P(LinearCuda, agrees_with_the_cpu) {
    if (!CudaFixture::is_there()) GTEST_SKIP() << CudaFixture::why_not();
    CudaFixture f(GetParam());
    for (const test::WeightFormat& format : test::kWeightFormats)
        for (const Size& s : kSizes)
            for (int64_t rows : kRows) {
                const Param w = test::packed_param(format, s.out, s.in, 3);
                const std::string what = std::string(format.name) + " " + std::to_string(s.in) + " to " +
                                         std::to_string(s.out) + ", rows " + std::to_string(rows);
                compare(f, w, rows, 1, {}, what);
                compare(f, w, rows, 1, {.quantise_input = false, .round_output = false},
                        what + ", neither quantised nor rounded");
            }
}

TEST_P(LinearCuda, groups_agree_with_the_cpu) {
    if (!CudaFixture::is_there()) GTEST_SKIP() << CudaFixture::why_not();
    CudaFixture f(GetParam());
    for (const test::WeightFormat& format : test::kWeightFormats)
        for (const auto& [in, out, groups] : {std::array<int, 3>{34, 5, 3}, {96, 48, 2}, {512, 128, 4}})
            for (int64_t rows : kRows)
                compare(f, test::packed_param(format, out * groups, in, 4), rows, groups, {},
                        std::string(format.name) + " " + std::to_string(in) + ", groups " + std::to_string(groups) +
                            ", rows " + std::to_string(rows));
}

TEST_P(LinearCuda, a_row_has_the_same_bits_in_company) {
    if (!CudaFixture::is_there()) GTEST_SKIP() << CudaFixture::why_not();
    CudaFixture f(GetParam());
    for (const test::WeightFormat& format : test::kWeightFormats)
        for (const Size& s : kSizes) {
            const Arena::Scope scratch(f.arena);
            const Param w = f.up(test::packed_param(format, s.out, s.in, 5));
            const std::vector<float> x = test::bf16_noise(static_cast<size_t>(cuda::kFewRows * s.in), 8);
            const LinearOptions wide{.round_output = false};
            const std::vector<float> all = f.down(cuda::linear(f.ctx, f.up({cuda::kFewRows, s.in}, x), w, wide));
            for (int64_t t : {0, 2, 7, 8, 15}) {
                const std::vector<float> row(x.begin() + t * s.in, x.begin() + (t + 1) * s.in);
                const std::vector<float> alone = f.down(cuda::linear(f.ctx, f.up({1, s.in}, row), w, wide));
                EXPECT_EQ(0, std::memcmp(alone.data(), all.data() + t * s.out, alone.size() * sizeof(float)))
                    << format.name << " " << s.in << " to " << s.out << ", row " << t;
            }
        }
}

TEST_P(LinearCuda, many_at_once_have_the_same_bits) {
    if (!CudaFixture::is_there()) GTEST_SKIP() << CudaFixture::why_not();
    CudaFixture f(GetParam());
    std::vector<Param> w;
    std::vector<cuda::LinearItem> items;
    for (const test::WeightFormat& format : test::kWeightFormats)
        w.push_back(f.up(test::packed_param(format, 40 + 16 * format.block_rows, 512, 11)));
    for (const Param& p : w)
        items.push_back({&p, {.round_output = p.view.dtype != DType::bf16}}),
            items.push_back({&p, {.quantise_input = false}});
    for (int64_t rows : {1, 2, 5, 16, 33}) {
        const Arena::Scope scratch(f.arena);
        const Tensor x = f.up({rows, 512}, test::bf16_noise(static_cast<size_t>(rows * 512), 12));
        const std::vector<Tensor> together = cuda::linear_many(f.ctx, x, items);
        for (size_t i = 0; i < items.size(); ++i)
            EXPECT_EQ(f.down(together[i]), f.down(cuda::linear(f.ctx, x, *items[i].w, items[i].options)))
                << i << ", rows " << rows;
    }
}

// What a file may hold but a model should not: NaN codes and scales, and scales at the ends of their range.
TEST_P(LinearCuda, odd_codes_and_scales) {
    if (!CudaFixture::is_there()) GTEST_SKIP() << CudaFixture::why_not();
    CudaFixture f(GetParam());
    for (const test::WeightFormat& format : test::kWeightFormats) {
        if (!format.block_cols || format.scale == DType::f32) continue;
        for (int64_t rows : {1, 16, 40}) {
            Param w = test::packed_param(format, 128, 256, 6);
            auto* data = static_cast<uint8_t*>(const_cast<void*>(w.view.data));
            auto* scale = static_cast<uint8_t*>(const_cast<void*>(w.view.scale));
            if (format.dtype == DType::f8_e4m3)
                data[5 * 256 + 9] = 0x7f, scale[1] = 150;
            else
                scale[3 * 8 + 1] = 255, scale[4 * 8 + 2] = 140, scale[6 * 8] = 1;
            const Arena::Scope scratch(f.arena), host_scratch(f.cpu.arena);
            const std::vector<float> x = test::bf16_noise(static_cast<size_t>(rows * 256), 9);
            const LinearOptions plain{.quantise_input = false, .round_output = false};
            const Tensor want = linear(f.cpu.ctx, f.cpu.tensor({rows, 256}, x), w, plain);
            const std::vector<float> got = f.down(cuda::linear(f.ctx, f.up({rows, 256}, x), f.up(w), plain));
            double size = 0;
            for (int64_t i = 0; i < want.count(); ++i)
                if (std::isfinite(want.f32()[i])) size = std::max(size, std::abs(static_cast<double>(want.f32()[i])));
            for (int64_t i = 0; i < want.count(); ++i) {
                if (std::isnan(want.f32()[i]))
                    EXPECT_TRUE(std::isnan(got[static_cast<size_t>(i)])) << format.name << " " << i;
                else
                    EXPECT_NEAR(got[static_cast<size_t>(i)] / size, want.f32()[i] / size, 2e-5)
                        << format.name << " " << i;
            }
        }
    }
}

INSTANTIATE_TEST_SUITE_P(numerics, LinearCuda, testing::Values(Numerics::exact, Numerics::reference),
                         [](const auto& p) { return p.param == Numerics::exact ? "exact" : "reference"; });

}  // namespace
}  // namespace vitrine
