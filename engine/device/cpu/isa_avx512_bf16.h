// AVX-512 with BF16 dot products, VBMI and VNNI: how each weight format becomes BF16 pairs.
//
// For files compiled with those flags only; unnamed namespace for the reason given in isa_avx512.h.
#pragma once
#include "engine/device/cpu/isa_avx512.h"

namespace vitrine::cpu {
namespace {

// Products of BF16 pairs into FP32 lanes. The instruction takes subnormal inputs as zero.
struct DotMath {
    using Isa = Avx512;
    using Op = __m512i;
    static constexpr int kBytes = 64, kOpLanes = 32, kChunkVectors = 64;
    static Op load(const void* p) { return _mm512_load_si512(p); }
    static void store(void* p, Op v) { _mm512_store_si512(p, v); }
    static __m512 mac(Op w, Op x, __m512 sum) { return _mm512_dpbf16_ps(sum, (__m512bh)w, (__m512bh)x); }
    static __m512i two(const float* x) {  // 32 floats in order
        return (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(x + 16), _mm512_loadu_ps(x));
    }
};

struct Bf16Dot : DotMath {
    static constexpr int kGroup = 32, kGroupBytes = 64, kVectors = 1, kBlock = 256;
    using Block = NoBlock;
    static Row row(const PackedMatrix& w, int64_t o) {
        return {static_cast<const uint8_t*>(w.data) + o * w.in * 2, nullptr};
    }
    static Block block(const Source&, Row, int64_t, int64_t) { return {}; }
    static void get(Row r, Block, int64_t k, Op* out) { out[0] = _mm512_loadu_si512(r.data + k * 2); }
    static void get_n(Row r, Block, int64_t k, int64_t n, Op* out) {
        out[0] = _mm512_maskz_loadu_epi16(first32(n), r.data + k * 2);
    }
    static void pack_x(const float* x, Op* out) { out[0] = two(x); }
};

// 64 E4M3 codes become 64 scaled BF16 values by looking up both bytes of each among the 128 magnitudes. Interleaving
// the bytes leaves the columns in the order 0-7, 16-23, 32-39, 48-55 | 8-15, ..., in which x is packed too.
struct Fp8Dot : DotMath {
    static constexpr int kGroup = 64, kGroupBytes = 64, kVectors = 2, kBlock = 128;
    struct Block {
        __m512i high[2], low[2];
    };
    static Row row(const PackedMatrix& w, int64_t o) { return Fp8Codec::row(w, o); }
    static Block block(const Source& from, Row r, int64_t k, int64_t) {
        const uint8_t s = r.scale[k / 128];
        const uint8_t *h = from.t.fp8_high[s], *l = from.t.fp8_low[s];
        return {{_mm512_load_si512(h), _mm512_load_si512(h + 64)}, {_mm512_load_si512(l), _mm512_load_si512(l + 64)}};
    }
    static void widen(__m512i codes, const Block& b, Op* out) {
        const __m512i magnitude = _mm512_permutex2var_epi8(b.high[0], codes, b.high[1]);
        const __m512i high =
            _mm512_ternarylogic_epi32(magnitude, codes, _mm512_set1_epi8(static_cast<char>(0x80)), 0xf8);
        const __m512i low = _mm512_permutex2var_epi8(b.low[0], codes, b.low[1]);
        out[0] = _mm512_unpacklo_epi8(low, high);
        out[1] = _mm512_unpackhi_epi8(low, high);
    }
    static void get(Row r, const Block& b, int64_t k, Op* out) { widen(_mm512_loadu_si512(r.data + k), b, out); }
    static void get_n(Row r, const Block& b, int64_t k, int64_t n, Op* out) {
        const __mmask64 m = (__mmask64{1} << n) - 1;
        widen(_mm512_maskz_loadu_epi8(m, r.data + k), b, out);
    }
    static void pack_x(const float* x, Op* out) {
        const __m512i a = two(x), b = two(x + 32);  // quarters of 8 values: 0 1 2 3 | 4 5 6 7
        const __m512i even = _mm512_setr_epi64(0, 1, 4, 5, 8, 9, 12, 13);
        out[0] = _mm512_permutex2var_epi64(a, even, b);
        out[1] = _mm512_permutex2var_epi64(a, _mm512_add_epi64(even, _mm512_set1_epi64(2)), b);
    }
};

// 64 nibbles, two blocks of 32 columns: each block's 16 scaled values fill one half of the table that words are looked
// up in. Even columns come first, then odd ones.
struct Fp4Dot : DotMath {
    static constexpr int kGroup = 64, kGroupBytes = 32, kVectors = 2, kBlock = 64;
    using Block = __m512i;
    static Row row(const PackedMatrix& w, int64_t o) { return Fp4Codec::row(w, o); }
    static Block block(const Source& from, Row r, int64_t k, int64_t n) {
        const uint8_t* s = r.scale + k / 32;
        const __m256i a = _mm256_load_si256(reinterpret_cast<const __m256i*>(from.t.fp4[s[0]]));
        const __m256i b = n > 32 ? _mm256_load_si256(reinterpret_cast<const __m256i*>(from.t.fp4[s[1]])) : a;
        return _mm512_inserti64x4(_mm512_castsi256_si512(a), b, 1);
    }
    static void widen(__m256i bytes, Block table, Op* out) {
        const __m512i second = _mm512_inserti64x4(_mm512_setzero_si512(), _mm256_set1_epi16(16), 1);
        const __m512i wide = _mm512_cvtepu8_epi16(bytes);
        const __m512i even =
            _mm512_ternarylogic_epi32(second, wide, _mm512_set1_epi16(15), 0xf8);  // second | (wide & 15)
        const __m512i odd = _mm512_or_si512(second, _mm512_srli_epi16(wide, 4));
        out[0] = _mm512_permutexvar_epi16(even, table);
        out[1] = _mm512_permutexvar_epi16(odd, table);
    }
    static void get(Row r, Block b, int64_t k, Op* out) {
        widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(r.data + k / 2)), b, out);
    }
    static void get_n(Row r, Block b, int64_t k, int64_t n, Op* out) {
        widen(_mm256_maskz_loadu_epi8(first32((n + 1) / 2), r.data + k / 2), b, out);
    }
    static void pack_x(const float* x, Op* out) {
        const __m512i a = two(x), b = two(x + 32);
        const __m512i low = _mm512_set1_epi32(0xffff);
        // Even columns: lower halves of the 32-bit words, narrowed to 16 bits; odd: upper halves.
        out[0] = _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi32_epi16(_mm512_and_si512(a, low))),
                                    _mm512_cvtepi32_epi16(_mm512_and_si512(b, low)), 1);
        out[1] = _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi32_epi16(_mm512_srli_epi32(a, 16))),
                                    _mm512_cvtepi32_epi16(_mm512_srli_epi32(b, 16)), 1);
    }
};

}  // namespace
}  // namespace vitrine::cpu
