// Weights of random numbers in every format a file may hold, for tests of packed products.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <vector>

#include "engine/device/cpu/formats.h"
#include "tests/support/op_fixture.h"

namespace vitrine::test {

struct WeightFormat {
    const char* name;
    DType dtype, scale;
    int block_rows, block_cols;
};
inline constexpr WeightFormat kWeightFormats[] = {
    {"f32", DType::f32, DType::f32, 0, 0},
    {"bf16", DType::bf16, DType::f32, 0, 0},
    {"f16", DType::f16, DType::f32, 0, 0},
    {"fp8 e8m0", DType::f8_e4m3, DType::f8_e8m0, 128, 128},
    {"fp8 f32", DType::f8_e4m3, DType::f32, 128, 128},
    {"fp4", DType::fp4_e2m1, DType::f8_e8m0, 1, 32},
};

// A matrix [out, in] of values of about 1 / sqrt(in); `in` is even for fp4.
inline Param packed_param(const WeightFormat& f, int64_t out, int64_t in, uint32_t seed) {
    const std::vector<float> v = noise(static_cast<size_t>(out * in), seed);
    const auto size = static_cast<float>(1 / std::sqrt(static_cast<double>(in)));
    const auto row =
        static_cast<size_t>(f.dtype == DType::fp4_e2m1 ? (in + 1) / 2 : in * static_cast<int64_t>(dtype_bits(f.dtype) / 8));
    const size_t n_data = static_cast<size_t>(out) * row;
    const int64_t n_scales = f.block_cols ? (out + f.block_rows - 1) / f.block_rows * ((in + f.block_cols - 1) / f.block_cols) : 0;
    auto bytes = std::make_shared<std::vector<uint8_t>>(n_data + static_cast<size_t>(n_scales) * 4 + 4);
    uint8_t* data = bytes->data();
    uint8_t* scale = data + (n_data + 3) / 4 * 4;
    for (int64_t i = 0; i < out * in; ++i) {
        const float x = v[static_cast<size_t>(i)], small = x * size;
        const uint16_t half = f.dtype == DType::f16 ? cpu::f32_to_f16(small) : cpu::f32_to_bf16(small);
        switch (f.dtype) {
            case DType::f32: std::memcpy(data + i * 4, &small, 4); break;
            case DType::f16:
            case DType::bf16: std::memcpy(data + i * 2, &half, 2); break;
            case DType::f8_e4m3: data[i] = i % 16 ? cpu::fp8_encode(x * 400) : static_cast<uint8_t>(i / 16 % 8 | 0x80); break;
            default: data[static_cast<size_t>(i / in) * row + static_cast<size_t>(i % in / 2)] |=
                     static_cast<uint8_t>(cpu::fp4_encode(x * 6) << (i % in % 2 * 4));
        }
    }
    // Scales that bring codes back to about `size`, a few powers of two around it.
    const float unit = size / (f.dtype == DType::fp4_e2m1 ? 6.0f : 400.0f);
    for (int64_t i = 0; i < n_scales; ++i) {
        const float s = unit * (0.5f + static_cast<float>(i * 7 % 5) * 0.3f);
        if (f.scale == DType::f32) std::memcpy(scale + 4 * i, &s, 4);
        else scale[i] = static_cast<uint8_t>(cpu::e8m0_ceil(s) - i % 3);
    }
    return {
        f.name, {out, in}, {data, n_scales ? scale : nullptr, f.dtype, f.scale, out, in, f.block_rows, f.block_cols}, bytes, {}};
}

// Values as a BF16 activation holds them.
inline std::vector<float> bf16_noise(size_t n, uint32_t seed) {
    std::vector<float> v = noise(n, seed);
    for (float& x : v) x = cpu::round_bf16(x);
    return v;
}

// The largest |a - b| over the largest |b|.
inline double distance(const std::vector<float>& a, const float* b) {
    double worst = 0, size = 1e-30;
    for (size_t i = 0; i < a.size(); ++i) {
        const double e = std::abs(static_cast<double>(a[i]) - b[i]);
        worst = e <= worst ? worst : e;  // a NaN stays
        size = std::max(size, std::abs(static_cast<double>(b[i])));
    }
    return worst / size;
}

}  // namespace vitrine::test
