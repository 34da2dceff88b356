// Number formats on the CPU: the one place where values are rounded, encoded and decoded (v4-spec 3.8, 4.6, 5.3, 5.4).
//
// All roundings are to nearest, ties to even. The functions here are `static` on purpose: files compiled for different
// instruction sets include them, and a shared inline copy could be one that the processor does not have.
#pragma once
#include <cstdint>

#include "engine/device/cpu/kernels.h"

// What GPU kernels call too.
#ifdef __CUDACC__
#define VITRINE_BOTH __host__ __device__
#else
#define VITRINE_BOTH
#endif

namespace vitrine::cpu {

constexpr float kFp8Max = 448.0f;
constexpr float kFp8MinAmax = 1e-4f;        // floor of a block's largest magnitude before its scale
constexpr float kFp4MinAmax = 0x1.8p-124f;  // 6 * 2^-126
constexpr int kEntryBlock = 64, kIndexKeyBlock = 32;

// BF16: the upper half of an FP32. NaN stays NaN (quiet).
VITRINE_BOTH static inline float bf16_to_f32(uint16_t b) {
    return __builtin_bit_cast(float, static_cast<uint32_t>(b) << 16);
}
VITRINE_BOTH static inline uint16_t f32_to_bf16(float x) {
    const uint32_t u = __builtin_bit_cast(uint32_t, x);
    if ((u & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>(u >> 16 | 0x40u);
    return static_cast<uint16_t>((u + 0x7fffu + (u >> 16 & 1u)) >> 16);
}
VITRINE_BOTH static inline float round_bf16(float x) {
    return bf16_to_f32(f32_to_bf16(x));
}

// F16 (IEEE binary16), subnormals kept, overflow to infinity.
VITRINE_BOTH static inline float f16_to_f32(uint16_t h) {
    const uint32_t sign = static_cast<uint32_t>(h & 0x8000u) << 16, e = h >> 10 & 31u, m = h & 1023u;
    if (e == 31) return __builtin_bit_cast(float, sign | 0x7f800000u | m << 13);
    if (e == 0) {
        const float v = static_cast<float>(m) * 0x1p-24f;
        return sign ? -v : v;
    }
    return __builtin_bit_cast(float, sign | (e + 112u) << 23 | m << 13);
}
VITRINE_BOTH static inline uint16_t f32_to_f16(float x) {
    const uint32_t u = __builtin_bit_cast(uint32_t, x), sign = u >> 16 & 0x8000u, a = u & 0x7fffffffu;
    if (a > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u);
    if (a >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);  // rounds to 65536 or more
    if (a < 0x38800000u) {                                               // below 2^-14: multiples of 2^-24
        const float t = __builtin_bit_cast(float, a) + 0.5f;             // 0.5 has an ulp of 2^-24: the addition rounds
        return static_cast<uint16_t>(sign | (__builtin_bit_cast(uint32_t, t) - 0x3f000000u));
    }
    return static_cast<uint16_t>(sign | ((a - 0x38000000u + 0xfffu + (a >> 13 & 1u)) >> 13));
}

// E8M0: 2^(b-127), 255 is NaN.
VITRINE_BOTH static inline float e8m0_to_f32(uint8_t b) {
    if (b == 255) return __builtin_bit_cast(float, 0x7fc00000u);
    return b == 0 ? 0x1p-127f : __builtin_bit_cast(float, static_cast<uint32_t>(b) << 23);
}
// The E8M0 code of 2^ceil(log2(t)), read off the bits of t > 0; NaN gives 255, too large saturates at 254.
VITRINE_BOTH static inline uint8_t e8m0_ceil(float t) {
    const uint32_t u = __builtin_bit_cast(uint32_t, t);
    if (u > 0x7f800000u) return 255;
    const uint32_t e = (u >> 23) + ((u & 0x7fffffu) != 0);
    return static_cast<uint8_t>(e > 254 ? 254 : e);
}
// Scale codes of a block whose largest magnitude is `amax` (the caller applies the floor): 2^ceil(log2(amax/448)), /6.
VITRINE_BOTH static inline uint8_t fp8_scale(float amax) {
    return e8m0_ceil(amax * (1.0f / 448.0f));
}
VITRINE_BOTH static inline uint8_t fp4_scale(float amax) {
    return e8m0_ceil(amax * (1.0f / 6.0f));
}

// E4M3 "fn": bias 7, subnormals k*2^-9, largest 448, 0x7f/0xff NaN, no infinities. Encoding saturates.
VITRINE_BOTH static inline float fp8_decode(uint8_t b) {
    const uint32_t a = b & 0x7fu, sign = static_cast<uint32_t>(b & 0x80u) << 24;
    if (a == 0x7f) return __builtin_bit_cast(float, sign | 0x7fc00000u);
    if (a < 8) {
        const float v = static_cast<float>(a) * 0x1p-9f;
        return sign ? -v : v;
    }
    return __builtin_bit_cast(float, sign | ((a << 20) + (120u << 23)));
}
VITRINE_BOTH static inline uint8_t fp8_encode(float x) {
    const uint32_t u = __builtin_bit_cast(uint32_t, x), sign = u >> 24 & 0x80u, a = u & 0x7fffffffu;
    if (a > 0x7f800000u) return static_cast<uint8_t>(sign | 0x7fu);
    if (a >= 0x43e00000u) return static_cast<uint8_t>(sign | 0x7eu);  // >= 448
    if (a < 0x3c800000u) {                                            // below 2^-6: multiples of 2^-9
        const float t = __builtin_bit_cast(float, a) + 0x1p14f;       // 2^14 has an ulp of 2^-9
        return static_cast<uint8_t>(sign | (__builtin_bit_cast(uint32_t, t) & 0xffu));
    }
    const uint32_t r = (a - 0x3c000000u + 0x7ffffu + (a >> 20 & 1u)) >> 20;
    return static_cast<uint8_t>(sign | (r > 0x7eu ? 0x7eu : r));
}

// E2M1: 0, 0.5, 1, 1.5, 2, 3, 4, 6 and a sign. No NaN: the caller marks a block with NaN by the scale 255.
VITRINE_BOTH static inline float fp4_decode(uint8_t code) {
    constexpr float kValue[8] = {0.0f, 0.5f, 1.0f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f};
    return code & 8u ? -kValue[code & 7u] : kValue[code & 7u];
}
VITRINE_BOTH static inline uint8_t fp4_encode(float x) {
    const uint32_t sign = __builtin_bit_cast(uint32_t, x) >> 28 & 8u;
    const float a = __builtin_fabsf(x);
    // Between two neighbours the tie goes to the even code.
    const int code = (a > 0.25f) + (a >= 0.75f) + (a > 1.25f) + (a >= 1.75f) + (a > 2.5f) + (a >= 3.5f) + (a > 5.0f);
    return static_cast<uint8_t>(sign | static_cast<uint32_t>(code));
}

// Quantises and dequantises x in place, in blocks of `block` from the start (the last may be short): what an FP8 linear
// layer does to its input (v4-spec 3.8, block 128), a cache entry's unrotated part (block 64), the indexer's q and k
// (FP4, 32).
void fp8_simulate(float* x, int64_t n, int64_t block);
void fp4_simulate(float* x, int64_t n, int64_t block);

// One cache row of c floats to format.row_bytes() bytes and back; the rotated dims are rounded to BF16.
void pack_entry(const EntryFormat& format, const float* row, void* out);
void unpack_entry(const EntryFormat& format, const void* packed, float* row);
// One index key of d floats to format.row_bytes() bytes and back.
void pack_index_key(const IndexKeyFormat& format, const float* key, void* out);
void unpack_index_key(const IndexKeyFormat& format, const void* packed, float* key);

}  // namespace vitrine::cpu
