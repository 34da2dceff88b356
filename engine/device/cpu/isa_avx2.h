// AVX2 with FMA and F16C: vectors of 8 floats, sums in a fixed order, and how each weight format becomes FP32.
//
// For kernels_avx2.cpp only; unnamed namespace for the reason given in isa_avx512.h, whose twin this is.
#pragma once
#include <immintrin.h>

#include "engine/device/cpu/kernels.h"
#include "engine/device/cpu/support.h"

namespace vitrine::cpu {
namespace {

struct Avx2 {
    using V = __m256;
    static constexpr int kLanes = 8;
    static constexpr int kXTile = 2;  // 2 x 4 sums, 4 weights, 2 x: 14 of 16 registers
    static __m256i first(int64_t n) {
        return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    }
    static V zero() { return _mm256_setzero_ps(); }
    static V set1(float x) { return _mm256_set1_ps(x); }
    static V load(const void* p) { return _mm256_loadu_ps(static_cast<const float*>(p)); }
    static V load_n(const void* p, int64_t n) { return _mm256_maskload_ps(static_cast<const float*>(p), first(n)); }
    static void store(void* p, V v) { _mm256_storeu_ps(static_cast<float*>(p), v); }
    static void store_n(void* p, V v, int64_t n) { _mm256_maskstore_ps(static_cast<float*>(p), first(n), v); }
    static V add(V a, V b) { return _mm256_add_ps(a, b); }
    static V sub(V a, V b) { return _mm256_sub_ps(a, b); }
    static V mul(V a, V b) { return _mm256_mul_ps(a, b); }
    static V div(V a, V b) { return _mm256_div_ps(a, b); }
    static V max(V a, V b) { return _mm256_max_ps(a, b); }  // b where either is NaN
    static V fma(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
    static V select_n(V a, V b, int64_t n) { return _mm256_blendv_ps(b, a, _mm256_castsi256_ps(first(n))); }
    static V round_bf16(V v) {
        const __m256i u = _mm256_castps_si256(v);
        const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
        const __m256i r = _mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
        return _mm256_castsi256_ps(_mm256_and_si256(r, _mm256_set1_epi32(static_cast<int>(0xffff0000u))));
    }
    static V round_int(V v) { return _mm256_round_ps(v, 8); }
    // v * 2^n, n whole and at most 0; 0 where n < -126.
    static V times_power(V v, V n) {
        const __m256i e = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
        const V small = _mm256_cmp_ps(n, set1(-126.0f), _CMP_LT_OQ);
        return _mm256_mul_ps(v, _mm256_andnot_ps(small, _mm256_castsi256_ps(e)));
    }
    // Sums of the lanes of four vectors: halves are folded, then lanes 0+2 and 1+3, then those two.
    static __m128 sum4(V a, V b, V c, V d) {
        const V ab = add(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31));  // a | b
        const V cd = add(_mm256_permute2f128_ps(c, d, 0x20), _mm256_permute2f128_ps(c, d, 0x31));
        const V lo = _mm256_shuffle_ps(ab, cd, 0x44), hi = _mm256_shuffle_ps(ab, cd, 0xee);
        const V pairs = add(lo, hi);                               // a02 a13 c02 c13 | b02 b13 d02 d13
        const V all = add(pairs, _mm256_permute_ps(pairs, 0xb1));  // a a c c | b b d d
        const __m128 ac = _mm256_castps256_ps128(all), bd = _mm256_extractf128_ps(all, 1);
        const __m128 mixed = _mm_unpacklo_ps(ac, bd);  // a b a b
        return _mm_movelh_ps(mixed, _mm_unpackhi_ps(ac, bd));
    }
    static float sum(V v) { return _mm_cvtss_f32(sum4(v, zero(), zero(), zero())); }
    static float max_lane(V v) {
        __m128 m = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
        m = _mm_max_ps(m, _mm_movehl_ps(m, m));
        return _mm_cvtss_f32(_mm_max_ss(m, _mm_shuffle_ps(m, m, 1)));
    }
};

struct F32Math {
    using Isa = Avx2;
    using Op = __m256;
    static constexpr int kBytes = 32, kOpLanes = 8, kChunkVectors = 128;
    static Op load(const void* p) { return _mm256_load_ps(static_cast<const float*>(p)); }
    static void store(void* p, Op v) { _mm256_store_ps(static_cast<float*>(p), v); }
    static __m256 mac(Op w, Op x, __m256 sum) { return _mm256_fmadd_ps(w, x, sum); }
};

struct Row {
    const uint8_t* data;
    const uint8_t* scale;
};
struct NoBlock {};
struct Source {
    const PackedMatrix& w;
    const Tables& t;
};

// The first `bytes` of a vector, the rest zero, without reading further.
inline __m256i load_bytes(const void* p, int64_t bytes) {
    alignas(32) uint8_t part[32] = {};
    __builtin_memcpy(part, p, static_cast<size_t>(bytes));
    return _mm256_load_si256(reinterpret_cast<const __m256i*>(part));
}
inline __m128i low(__m256i v) {
    return _mm256_castsi256_si128(v);
}

struct F32Codec : F32Math {
    static constexpr int kGroup = 8, kGroupBytes = 32, kVectors = 1, kBlock = 32;
    using Block = NoBlock;
    static Row row(const PackedMatrix& w, int64_t o) {
        return {static_cast<const uint8_t*>(w.data) + o * w.in * 4, nullptr};
    }
    static Block block(const Source&, Row, int64_t, int64_t) { return {}; }
    static void get(Row r, Block, int64_t k, Op* out) { out[0] = Avx2::load(r.data + k * 4); }
    static void get_n(Row r, Block, int64_t k, int64_t n, Op* out) { out[0] = Avx2::load_n(r.data + k * 4, n); }
    static void pack_x(const float* x, Op* out) { out[0] = Avx2::load(x); }
};

struct F16Codec : F32Math {
    static constexpr int kGroup = 8, kGroupBytes = 16, kVectors = 1, kBlock = 32;
    using Block = NoBlock;
    static Row row(const PackedMatrix& w, int64_t o) {
        return {static_cast<const uint8_t*>(w.data) + o * w.in * 2, nullptr};
    }
    static Block block(const Source&, Row, int64_t, int64_t) { return {}; }
    static void get(Row r, Block, int64_t k, Op* out) {
        out[0] = _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(r.data + k * 2)));
    }
    static void get_n(Row r, Block, int64_t k, int64_t n, Op* out) {
        out[0] = _mm256_cvtph_ps(low(load_bytes(r.data + k * 2, n * 2)));
    }
    static void pack_x(const float* x, Op* out) { out[0] = Avx2::load(x); }
};

// x in groups of 16 as 8 even, then 8 odd columns.
inline void pack_even_odd(const float* x, __m256* out) {
    const __m256 a = _mm256_loadu_ps(x), b = _mm256_loadu_ps(x + 8);
    const auto order = [](__m256 v) { return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(v), 0xd8)); };
    out[0] = order(_mm256_shuffle_ps(a, b, 0x88));
    out[1] = order(_mm256_shuffle_ps(a, b, 0xdd));
}

struct Bf16Codec : F32Math {
    static constexpr int kGroup = 16, kGroupBytes = 32, kVectors = 2, kBlock = 32;
    using Block = NoBlock;
    static Row row(const PackedMatrix& w, int64_t o) {
        return {static_cast<const uint8_t*>(w.data) + o * w.in * 2, nullptr};
    }
    static Block block(const Source&, Row, int64_t, int64_t) { return {}; }
    static void split(__m256i v, Op* out) {
        out[0] = _mm256_castsi256_ps(_mm256_slli_epi32(v, 16));
        out[1] = _mm256_castsi256_ps(_mm256_and_si256(v, _mm256_set1_epi32(static_cast<int>(0xffff0000u))));
    }
    static void get(Row r, Block, int64_t k, Op* out) {
        split(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(r.data + k * 2)), out);
    }
    static void get_n(Row r, Block, int64_t k, int64_t n, Op* out) { split(load_bytes(r.data + k * 2, n * 2), out); }
    static void pack_x(const float* x, Op* out) { pack_even_odd(x, out); }
};

// 16 E4M3 codes to floats times 2^-8, by way of F16 (see isa_avx512.h).
inline void fp8_times_2_to_minus_8(__m128i codes, __m256* out) {
    const __m256i wide = _mm256_slli_epi16(_mm256_cvtepu8_epi16(codes), 8);
    const __m256i h = _mm256_and_si256(_mm256_srai_epi16(wide, 1), _mm256_set1_epi16(static_cast<int16_t>(0xbfff)));
    const __m256i nan = _mm256_and_si256(_mm256_add_epi16(h, _mm256_set1_epi16(0x80)), _mm256_set1_epi16(0x4000));
    const __m256i f16 = _mm256_or_si256(h, nan);
    out[0] = _mm256_cvtph_ps(_mm256_castsi256_si128(f16));
    out[1] = _mm256_cvtph_ps(_mm256_extracti128_si256(f16, 1));
}

struct Fp8Codec : F32Math {
    static constexpr int kGroup = 16, kGroupBytes = 16, kVectors = 2, kBlock = 128;
    using Block = __m256;
    static Row row(const PackedMatrix& w, int64_t o) {
        const int64_t n_columns = (w.in + 127) / 128, size = w.scale_dtype == DType::f32 ? 4 : 1;
        return {static_cast<const uint8_t*>(w.data) + o * w.in,
                static_cast<const uint8_t*>(w.scale) + o / w.block_rows * n_columns * size};
    }
    static Block block(const Source& from, Row r, int64_t k, int64_t) {
        float s;
        if (from.w.scale_dtype == DType::f32) {
            __builtin_memcpy(&s, r.scale + k / 128 * 4, 4);
        } else {
            s = from.t.e8m0[r.scale[k / 128]];
        }
        return _mm256_set1_ps(s * 256.0f);
    }
    static void widen(__m128i codes, Block b, Op* out) {
        fp8_times_2_to_minus_8(codes, out);
        out[0] = _mm256_mul_ps(out[0], b);
        out[1] = _mm256_mul_ps(out[1], b);
    }
    static void get(Row r, Block b, int64_t k, Op* out) {
        widen(_mm_loadu_si128(reinterpret_cast<const __m128i*>(r.data + k)), b, out);
    }
    static void get_n(Row r, Block b, int64_t k, int64_t n, Op* out) { widen(low(load_bytes(r.data + k, n)), b, out); }
    static void pack_x(const float* x, Op* out) { out[0] = Avx2::load(x), out[1] = Avx2::load(x + 8); }
};

// E2M1 nibbles: 8 scaled magnitudes looked up by permutation, the sign bit moved to the top.
struct Fp4Codec : F32Math {
    static constexpr int kGroup = 16, kGroupBytes = 8, kVectors = 2, kBlock = 32;
    using Block = __m256;
    static Row row(const PackedMatrix& w, int64_t o) {
        return {static_cast<const uint8_t*>(w.data) + o * ((w.in + 1) / 2),
                static_cast<const uint8_t*>(w.scale) + o * ((w.in + 31) / 32)};
    }
    static Block block(const Source& from, Row r, int64_t k, int64_t) {
        return _mm256_mul_ps(_mm256_setr_ps(0.0f, 0.5f, 1, 1.5f, 2, 3, 4, 6),
                             _mm256_set1_ps(from.t.e8m0[r.scale[k / 32]]));
    }
    static void widen(__m128i bytes, Block b, Op* out) {
        const __m256i codes = _mm256_cvtepu8_epi32(bytes), top = _mm256_set1_epi32(static_cast<int>(0x80000000u));
        const auto look_up = [&](__m256i index, __m256i sign) {
            return _mm256_xor_ps(_mm256_permutevar8x32_ps(b, index), _mm256_castsi256_ps(_mm256_and_si256(sign, top)));
        };
        out[0] = look_up(codes, _mm256_slli_epi32(codes, 28));
        out[1] = look_up(_mm256_srli_epi32(codes, 4), _mm256_slli_epi32(codes, 24));
    }
    static void get(Row r, Block b, int64_t k, Op* out) {
        widen(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(r.data + k / 2)), b, out);
    }
    static void get_n(Row r, Block b, int64_t k, int64_t n, Op* out) {
        widen(low(load_bytes(r.data + k / 2, (n + 1) / 2)), b, out);
    }
    static void pack_x(const float* x, Op* out) { pack_even_odd(x, out); }
};

// n <= 64 codes of one block of a cache row, times their scale.
inline void unpack_fp8(const uint8_t* codes, int64_t n, float scale, float* out) {
    const __m256 s = _mm256_set1_ps(scale * 256.0f);
    for (int64_t i = 0; i < n; i += 16) {
        const int64_t k = n - i < 16 ? n - i : 16;
        __m256 v[2];
        Fp8Codec::widen(low(load_bytes(codes + i, k)), s, v);
        Avx2::store_n(out + i, v[0], k < 8 ? k : 8);
        if (k > 8) Avx2::store_n(out + i + 8, v[1], k - 8);
    }
}
inline void unpack_bf16(const uint8_t* p, int64_t n, float* out) {
    for (int64_t i = 0; i < n; i += 8) {
        const int64_t k = n - i < 8 ? n - i : 8;
        const __m256i v = _mm256_cvtepu16_epi32(low(load_bytes(p + 2 * i, 2 * k)));
        Avx2::store_n(out + i, _mm256_castsi256_ps(_mm256_slli_epi32(v, 16)), k);
    }
}

}  // namespace
}  // namespace vitrine::cpu
