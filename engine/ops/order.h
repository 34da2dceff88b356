// The order of scores in every selection: by value, -0 equal to +0, NaN somewhere fixed, so that sorting never misbehaves.
#pragma once
#include <bit>
#include <cstdint>

namespace vitrine {

// Unsigned integers in the order of the floats.
constexpr uint32_t order_key(float x) {
    const auto bits = std::bit_cast<uint32_t>(x + 0.0f);  // -0 + 0 = +0
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

}  // namespace vitrine
