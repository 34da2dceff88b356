// Counter-based random numbers: a value is a function of (seed, stream, counter), the same on every device and thread count.
#pragma once
#include <cstdint>
#include <string_view>

namespace vitrine {

// SplitMix64's step and finaliser, a bijective mix of 64 bits (Steele, Lea, Flood 2014).
constexpr uint64_t mix64(uint64_t z) {
    z += 0x9E3779B97F4A7C15ull;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
}

// FNV-1a, 64 bits: names to streams.
constexpr uint64_t fnv1a64(std::string_view s) {
    uint64_t h = 0xCBF29CE484222325ull;
    for (char c : s) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001B3ull;
    return h;
}

struct CounterRng {
    uint64_t key;  // from seed and stream
    constexpr CounterRng(uint64_t seed, uint64_t stream) : key(mix64(seed ^ mix64(stream))) {}
    constexpr uint64_t bits(uint64_t counter) const { return mix64(key + counter * 0xD1342543DE82EF95ull); }
    // Uniform in [0, 1) with 24 bits: exactly representable in float.
    constexpr float uniform(uint64_t counter) const { return static_cast<float>(bits(counter) >> 40) * 0x1p-24f; }
    // Standard normal by Box-Muller on the counters 2i and 2i+1.
    float normal(uint64_t i) const;
};

}  // namespace vitrine
