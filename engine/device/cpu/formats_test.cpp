// Codes, roundings and packed rows against the specification's numbers and against arithmetic done another way.
#include "engine/device/cpu/formats.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "engine/base/rng.h"

namespace vitrine::cpu {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
const float kNan = std::numeric_limits<float>::quiet_NaN();

// The value of `table` nearest to x, ties to the even index: rounding without bit tricks.
int nearest(const std::vector<double>& table, double x) {
    int best = 0;
    for (int i = 1; i < static_cast<int>(table.size()); ++i) {
        const double a = std::fabs(table[static_cast<size_t>(i)] - x),
                     b = std::fabs(table[static_cast<size_t>(best)] - x);
        if (a < b || (a == b && i % 2 == 0)) best = i;
    }
    return best;
}

// 3.1 * sin(0.37 i) in BF16: the input of v4-spec 15.3.
std::vector<float> spec_input() {
    std::vector<float> v(64);
    for (int i = 0; i < 64; ++i) v[static_cast<size_t>(i)] = round_bf16(static_cast<float>(3.1 * std::sin(0.37 * i)));
    return v;
}

TEST(Formats, Bf16) {
    EXPECT_EQ(round_bf16(1.0f), 1.0f);
    EXPECT_EQ(f32_to_bf16(1.0f + 0x1p-8f), 0x3f80);     // tie to even: down
    EXPECT_EQ(f32_to_bf16(1.0f + 0x3p-8f), 0x3f82);     // tie to even: up
    EXPECT_EQ(f32_to_bf16(1.0f + 0x1.02p-8f), 0x3f81);  // just above a tie
    EXPECT_EQ(round_bf16(3.4e38f), kInf);
    EXPECT_EQ(round_bf16(-kInf), -kInf);
    EXPECT_TRUE(std::isnan(round_bf16(kNan)));
    EXPECT_TRUE(std::isnan(round_bf16(std::bit_cast<float>(0x7f800001u))));  // would become infinity by truncation
    EXPECT_TRUE(std::signbit(round_bf16(-0.0f)));
    for (uint32_t b = 0; b < 65536; ++b) {
        const float v = bf16_to_f32(static_cast<uint16_t>(b));
        if (std::isnan(v)) continue;
        ASSERT_EQ(f32_to_bf16(v), b);
    }
}

TEST(Formats, F16) {
    for (uint32_t b = 0; b < 65536; ++b) {
        const float v = f16_to_f32(static_cast<uint16_t>(b));
        const int e = b >> 10 & 31, m = b & 1023;
        if (e == 31) {
            ASSERT_EQ(std::isnan(v), m != 0);
        } else {
            ASSERT_EQ(std::fabs(v), e ? std::ldexp(1024.0 + m, e - 25) : std::ldexp(m, -24));
        }
        ASSERT_TRUE(std::isnan(v) || f32_to_f16(v) == b) << b;
        if (e < 30) {  // the middle between two neighbours goes to the even one
            const float next = f16_to_f32(static_cast<uint16_t>(b + 1));
            const float middle = 0.5f * (v + next);
            ASSERT_EQ(f32_to_f16(middle), b + (b & 1)) << b;
            ASSERT_EQ(f32_to_f16(std::nextafter(middle, v)), b);
            ASSERT_EQ(f32_to_f16(std::nextafter(middle, next)), b + 1);
        }
    }
    EXPECT_EQ(f32_to_f16(65519.0f), 0x7bff);
    EXPECT_EQ(f32_to_f16(65520.0f), 0x7c00);
}

TEST(Formats, Fp8) {
    std::vector<double> table;
    for (int b = 0; b < 127; ++b) {
        const int e = b >> 3, m = b & 7;
        table.push_back(e ? std::ldexp(8.0 + m, e - 10) : std::ldexp(m, -9));
        ASSERT_EQ(fp8_decode(static_cast<uint8_t>(b)), table.back());
        ASSERT_EQ(fp8_decode(static_cast<uint8_t>(b | 128)), -table.back());
        ASSERT_EQ(fp8_encode(static_cast<float>(table.back())), b);
    }
    EXPECT_EQ(table.back(), 448.0);
    EXPECT_TRUE(std::isnan(fp8_decode(0x7f)) && std::isnan(fp8_decode(0xff)));
    for (int i = 0; i + 1 < 127; ++i) {
        const auto at = static_cast<size_t>(i);
        const float a = static_cast<float>(table[at]), b = static_cast<float>(table[at + 1]);
        for (float x : {0.5f * (a + b), std::nextafter(0.5f * (a + b), 0.0f), std::nextafter(0.5f * (a + b), kInf)}) {
            ASSERT_EQ(fp8_encode(x), nearest(table, x)) << x;
            ASSERT_EQ(fp8_encode(-x), nearest(table, x) | 128) << x;
        }
    }
    EXPECT_EQ(fp8_encode(1e9f), 0x7e);
    EXPECT_EQ(fp8_encode(463.0f), 0x7e);
    EXPECT_EQ(fp8_encode(-kInf), 0xfe);
    EXPECT_EQ(fp8_encode(kNan) & 0x7f, 0x7f);
}

TEST(Formats, Fp4) {
    const float want[8] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
    std::vector<double> table(want, want + 8);
    for (int b = 0; b < 8; ++b) {
        ASSERT_EQ(fp4_decode(static_cast<uint8_t>(b)), want[b]);
        ASSERT_EQ(fp4_decode(static_cast<uint8_t>(b | 8)), -want[b]);
    }
    for (int i = -700; i <= 700; ++i) {
        const float x = static_cast<float>(i) / 100.0f;
        const int code = nearest(table, std::fabs(x)) | (std::signbit(x) ? 8 : 0);
        ASSERT_EQ(fp4_encode(x), code) << x;
    }
    const float ties[7][2] = {{0.25f, 0}, {0.75f, 1}, {1.25f, 1}, {1.75f, 2}, {2.5f, 2}, {3.5f, 4}, {5, 4}};
    for (const auto& t : ties) EXPECT_EQ(fp4_decode(fp4_encode(t[0])), t[1]);
}

TEST(Formats, E8m0) {
    EXPECT_EQ(e8m0_to_f32(127), 1.0f);
    EXPECT_EQ(e8m0_to_f32(0), std::ldexp(1.0f, -127));
    EXPECT_EQ(e8m0_to_f32(254), std::ldexp(1.0f, 127));
    EXPECT_TRUE(std::isnan(e8m0_to_f32(255)));
    // Exactly at the largest value times a power of two the scale is that power: no off-by-one from the FP32 product.
    for (int k = -118; k <= 118; ++k) {
        const float at448 = std::ldexp(448.0f, k), at6 = std::ldexp(6.0f, k);
        ASSERT_EQ(e8m0_to_f32(fp8_scale(at448)), std::ldexp(1.0f, k)) << k;
        ASSERT_EQ(e8m0_to_f32(fp4_scale(at6)), std::ldexp(1.0f, k)) << k;
        ASSERT_EQ(e8m0_to_f32(fp8_scale(at448 * (1 + 0x1p-22f))), std::ldexp(1.0f, k + 1)) << k;
        ASSERT_EQ(e8m0_to_f32(fp4_scale(at6 * (1 + 0x1p-22f))), std::ldexp(1.0f, k + 1)) << k;
    }
    EXPECT_EQ(fp8_scale(kInf), 254);
    EXPECT_EQ(fp8_scale(kNan), 255);
}

TEST(Formats, SpecificationExample) {
    std::vector<float> v = spec_input();
    const float first[8] = {0, 1.1171875f, 2.09375f, 2.78125f, 3.09375f, 2.984375f, 2.46875f, 1.625f};
    for (int i = 0; i < 8; ++i) EXPECT_EQ(v[static_cast<size_t>(i)], first[i]);
    EXPECT_EQ(e8m0_to_f32(fp8_scale(3.09375f)), 0x1p-7f);
    EXPECT_EQ(e8m0_to_f32(fp4_scale(3.09375f)), 1.0f);
    std::vector<float> f8 = v, f4 = v;
    fp8_simulate(f8.data(), 64, 64);
    fp4_simulate(f4.data(), 32, 32);
    const float want8[8] = {0, 1.125f, 2, 2.75f, 3, 3, 2.5f, 1.625f}, want4[8] = {0, 1, 2, 3, 3, 3, 2, 1.5f};
    for (int i = 0; i < 8; ++i) {
        EXPECT_EQ(f8[static_cast<size_t>(i)], want8[i]);
        EXPECT_EQ(f4[static_cast<size_t>(i)], want4[i]);
    }
}

std::vector<float> random_row(int64_t n, uint64_t seed) {
    std::vector<float> v(static_cast<size_t>(n));
    for (int64_t i = 0; i < n; ++i)
        v[static_cast<size_t>(i)] = 3 * CounterRng(seed, 1).normal(static_cast<uint64_t>(i));
    return v;
}

// Packing then unpacking is the simulation (unrotated dims) and BF16 rounding (the rest); doing it again changes
// nothing.
TEST(Formats, EntryPackAndUnpack) {
    for (const auto& [c, rope] :
         std::vector<std::pair<int, int>>{{512, 64}, {32, 8}, {128, 32}, {17, 1}, {65, 0}, {8, 8}}) {
        const EntryFormat format{true, c, rope};
        const std::vector<float> row = random_row(c, static_cast<uint64_t>(c));
        std::vector<float> want = row, got(row.size()), again(row.size());
        fp8_simulate(want.data(), c - rope, 64);
        for (int i = c - rope; i < c; ++i) want[static_cast<size_t>(i)] = round_bf16(want[static_cast<size_t>(i)]);
        std::vector<uint8_t> packed(static_cast<size_t>(format.row_bytes()) + 1, 0xab);
        pack_entry(format, row.data(), packed.data());
        EXPECT_EQ(packed.back(), 0xab);
        unpack_entry(format, packed.data(), got.data());
        EXPECT_EQ(got, want) << c;
        std::vector<uint8_t> second = packed;
        pack_entry(format, got.data(), second.data());
        unpack_entry(format, second.data(), again.data());
        EXPECT_EQ(again, got) << c;
        EXPECT_EQ(format.row_bytes() % 8, 0);
    }
    EXPECT_EQ((EntryFormat{true, 512, 64}).row_bytes(), 584);
    EXPECT_EQ((EntryFormat{false, 512, 64}).row_bytes(), 2048);
}

TEST(Formats, IndexKeyPackAndUnpack) {
    for (int d : {128, 16, 32, 33, 1}) {
        const IndexKeyFormat format{true, d};
        const std::vector<float> key = random_row(d, static_cast<uint64_t>(d) + 99);
        std::vector<float> want = key, got(key.size());
        fp4_simulate(want.data(), d, 32);
        std::vector<uint8_t> packed(static_cast<size_t>(format.row_bytes()) + 1, 0xab);
        pack_index_key(format, key.data(), packed.data());
        EXPECT_EQ(packed.back(), 0xab);
        unpack_index_key(format, packed.data(), got.data());
        EXPECT_EQ(got, want) << d;
    }
    EXPECT_EQ((IndexKeyFormat{true, 128}).row_bytes(), 68);
    // Low nibble is the even dim; the scale of amax 6 is 1.
    const float two[2] = {0.5f, -6.0f};
    uint8_t packed[2];
    pack_index_key({true, 2}, two, packed);
    EXPECT_EQ(packed[0], 0xf1);
    EXPECT_EQ(packed[1], 127);
}

// A NaN is never packed into an innocent number.
TEST(Formats, NanSurvivesPacking) {
    std::vector<float> row(40, 1.0f), got(40);
    row[3] = kNan;
    std::vector<uint8_t> packed(200);
    pack_entry({true, 40, 8}, row.data(), packed.data());
    unpack_entry({true, 40, 8}, packed.data(), got.data());
    EXPECT_TRUE(std::isnan(got[3]));
    pack_index_key({true, 40}, row.data(), packed.data());
    unpack_index_key({true, 40}, packed.data(), got.data());
    EXPECT_TRUE(std::isnan(got[3]));
    EXPECT_EQ(got[39], 1.0f);  // another block
}

TEST(Formats, WidenRow) {
    const uint16_t half[2] = {0x3c00, 0xc000}, brain[2] = {0x3f80, 0xc000};
    const double wide[2] = {0.1, -2};
    float out[2];
    widen_row({half, nullptr, DType::f16, DType::f8_e8m0, 1, 2}, 0, out);
    EXPECT_EQ(out[1], -2.0f);
    widen_row({brain, nullptr, DType::bf16, DType::f8_e8m0, 2, 1}, 1, out);
    EXPECT_EQ(out[0], -2.0f);
    widen_row({wide, nullptr, DType::f64, DType::f8_e8m0, 1, 2}, 0, out);
    EXPECT_EQ(out[0], 0.1f);
    // FP8 with 128x128 blocks: 2x2 grid; element (129, 130) uses scale (1, 1).
    std::vector<uint8_t> codes(130 * 131, fp8_encode(1.5f));
    const uint8_t scales[4] = {127, 128, 129, 130};
    std::vector<float> row(131);
    widen_row({codes.data(), scales, DType::f8_e4m3, DType::f8_e8m0, 130, 131, 128, 128}, 129, row.data());
    EXPECT_EQ(row[127], 1.5f * 4);
    EXPECT_EQ(row[128], 1.5f * 8);
    const float real_scales[4] = {1, 2, 3, 0.7f};
    widen_row({codes.data(), real_scales, DType::f8_e4m3, DType::f32, 130, 131, 128, 128}, 129, row.data());
    EXPECT_EQ(row[130], 1.5f * 0.7f);
    // FP4: low nibble = even column, one scale per row and 32 columns.
    const uint8_t nibbles[34] = {0xf1};
    const uint8_t row_scales[4] = {128, 0, 0, 0};
    widen_row({nibbles, row_scales, DType::fp4_e2m1, DType::f8_e8m0, 2, 34, 1, 32}, 0, row.data());
    EXPECT_EQ(row[0], 1.0f);
    EXPECT_EQ(row[1], -12.0f);
}

}  // namespace
}  // namespace vitrine::cpu
