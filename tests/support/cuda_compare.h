// Comparing a GPU's twin with the CPU's.
#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "engine/base/config/numerics.h"
#include "engine/device/cpu/formats.h"
#include "engine/model/param.h"

namespace vitrine::test {

// Values that an activation can hold: BF16 in `reference`.
inline std::vector<float> as_activation(Numerics numerics, std::vector<float> v) {
    if (numerics == Numerics::reference)
        for (float& x : v) x = cpu::round_bf16(x);
    return v;
}

// A BF16 parameter that owns its numbers; rank 1 or 2.
inline Param make_bf16_param(const std::vector<float>& values, Shape shape) {
    auto owner = std::make_shared<std::vector<uint16_t>>();
    for (float x : values) owner->push_back(cpu::f32_to_bf16(x));
    const int64_t out = shape.rank == 2 ? shape[0] : 1, in = shape.rank == 2 ? shape[1] : shape[0];
    Param p{"test", shape, {owner->data(), nullptr, DType::bf16, DType::f8_e8m0, out, in, 0, 0}, owner};
    return p;
}

// |got - want| <= tolerance * the largest |want|, with a tolerance for each of the numerics.
inline void expect_close(const std::vector<float>& got, const std::vector<float>& want, Numerics numerics, double exact,
                         double reference, const std::string& what) {
    ASSERT_EQ(got.size(), want.size()) << what;
    double largest = 0, worst = 0;
    size_t at = 0;
    for (size_t i = 0; i < want.size(); ++i) {
        largest = std::max(largest, std::abs(static_cast<double>(want[i])));
        const double off = std::abs(static_cast<double>(got[i]) - want[i]);
        if (!(off <= worst)) worst = off, at = i;
    }
    EXPECT_LE(worst, (numerics == Numerics::exact ? exact : reference) * largest)
        << what << ": " << got[at] << " at " << at << ", expected " << want[at];
}
inline void expect_close(const std::vector<float>& got, const Tensor& want, Numerics numerics, double exact,
                         double reference, const std::string& what) {
    expect_close(got, std::vector<float>(want.f32(), want.f32() + want.count()), numerics, exact, reference, what);
}

}  // namespace vitrine::test
