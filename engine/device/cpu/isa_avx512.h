// AVX-512 (F, BW, DQ, VL): vectors of 16 floats, sums in a fixed order, and how each weight format becomes FP32.
//
// For kernels_avx512*.cpp only. Everything is in an unnamed namespace: the same template compiled for another
// instruction set must not be merged with this one by the linker. For the same reason nothing here calls inline
// functions of the library.
#pragma once
#include <immintrin.h>

#include "engine/device/cpu/kernels.h"
#include "engine/device/cpu/support.h"

namespace vitrine::cpu {
namespace {

struct Avx512 {
    using V = __m512;
    static constexpr int kLanes = 16;
    static constexpr int kXTile = 4;  // 4 x 4 sums, 4 weights and an x: 21 of 32 registers
    static __mmask16 first(int64_t n) { return static_cast<__mmask16>((1u << n) - 1u); }
    static V zero() { return _mm512_setzero_ps(); }
    static V set1(float x) { return _mm512_set1_ps(x); }
    static V load(const void* p) { return _mm512_loadu_ps(p); }
    static V load_n(const void* p, int64_t n) { return _mm512_maskz_loadu_ps(first(n), p); }
    static void store(void* p, V v) { _mm512_storeu_ps(p, v); }
    static void store_n(void* p, V v, int64_t n) { _mm512_mask_storeu_ps(p, first(n), v); }
    static V add(V a, V b) { return _mm512_add_ps(a, b); }
    static V mul(V a, V b) { return _mm512_mul_ps(a, b); }
    static V max(V a, V b) { return _mm512_max_ps(a, b); }  // b where either is NaN
    static V sub(V a, V b) { return _mm512_sub_ps(a, b); }
    static V div(V a, V b) { return _mm512_div_ps(a, b); }
    static V fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
    // a where lane < n, else b.
    static V select_n(V a, V b, int64_t n) { return _mm512_mask_blend_ps(first(n), b, a); }
    // To BF16 and back, nearest even (finite values).
    static V round_bf16(V v) {
        const __m512i u = _mm512_castps_si512(v);
        const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
        const __m512i r = _mm512_add_epi32(u, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
        return _mm512_castsi512_ps(_mm512_and_si512(r, _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
    }
    static V round_int(V v) { return _mm512_roundscale_ps(v, 8); }
    static V times_power(V v, V n) { return _mm512_scalef_ps(v, n); }  // v * 2^n, n whole

    // Sums of the lanes of four vectors: halves are folded (16 to 8 to 4 lanes), then lanes 0+2 and 1+3, then those
    // two.
    static __m128 sum4(V a, V b, V c, V d) {
        const V ab =
            add(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));  // a 2 quarters, b 2 quarters
        const V cd = add(_mm512_shuffle_f32x4(c, d, 0x44), _mm512_shuffle_f32x4(c, d, 0xee));
        const V q = add(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xdd));  // one quarter each
        const V pairs = add(q, _mm512_permute_ps(q, 0x4e));
        const V all = add(pairs, _mm512_permute_ps(pairs, 0xb1));
        return _mm512_castps512_ps128(
            _mm512_permutexvar_ps(_mm512_setr_epi32(0, 4, 8, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), all));
    }
    static float sum(V v) { return _mm_cvtss_f32(sum4(v, zero(), zero(), zero())); }
    static float max_lane(V v) { return _mm512_reduce_max_ps(v); }
};

// FP32 products. Op is what both operands are held as.
struct F32Math {
    using Isa = Avx512;
    using Op = __m512;
    static constexpr int kBytes = 64, kOpLanes = 16, kChunkVectors = 64;
    static Op load(const void* p) { return _mm512_load_ps(p); }
    static void store(void* p, Op v) { _mm512_store_ps(p, v); }
    static __m512 mac(Op w, Op x, __m512 sum) { return _mm512_fmadd_ps(w, x, sum); }
};

// A row of packed weights, and what a block of its columns shares.
struct Row {
    const uint8_t* data;
    const uint8_t* scale;
};
struct NoBlock {};
struct Source {
    const PackedMatrix& w;
    const Tables& t;
};

inline __mmask32 first32(int64_t n) {
    return n >= 32 ? ~__mmask32{0} : static_cast<__mmask32>((1u << n) - 1u);
}

struct F32Codec : F32Math {
    static constexpr int kGroup = 16, kGroupBytes = 64, kVectors = 1, kBlock = 64;
    using Block = NoBlock;
    static Row row(const PackedMatrix& w, int64_t o) {
        return {static_cast<const uint8_t*>(w.data) + o * w.in * 4, nullptr};
    }
    static Block block(const Source&, Row, int64_t, int64_t) { return {}; }
    static void get(Row r, Block, int64_t k, Op* out) { out[0] = Avx512::load(r.data + k * 4); }
    static void get_n(Row r, Block, int64_t k, int64_t n, Op* out) { out[0] = Avx512::load_n(r.data + k * 4, n); }
    static void pack_x(const float* x, Op* out) { out[0] = Avx512::load(x); }
};

struct F16Codec : F32Math {
    static constexpr int kGroup = 16, kGroupBytes = 32, kVectors = 1, kBlock = 64;
    using Block = NoBlock;
    static Row row(const PackedMatrix& w, int64_t o) {
        return {static_cast<const uint8_t*>(w.data) + o * w.in * 2, nullptr};
    }
    static Block block(const Source&, Row, int64_t, int64_t) { return {}; }
    static void get(Row r, Block, int64_t k, Op* out) {
        out[0] = _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(r.data + k * 2)));
    }
    static void get_n(Row r, Block, int64_t k, int64_t n, Op* out) {
        out[0] = _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(Avx512::first(n), r.data + k * 2));
    }
    static void pack_x(const float* x, Op* out) { out[0] = Avx512::load(x); }
};

// x in groups of 32 as 16 even, then 16 odd columns: what splitting 32-bit words into halves, or bytes into nibbles,
// gives.
inline void pack_even_odd(const float* x, __m512* out) {
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512 a = _mm512_loadu_ps(x), b = _mm512_loadu_ps(x + 16);
    out[0] = _mm512_permutex2var_ps(a, even, b);
    out[1] = _mm512_permutex2var_ps(a, _mm512_add_epi32(even, _mm512_set1_epi32(1)), b);
}

struct Bf16Codec : F32Math {
    static constexpr int kGroup = 32, kGroupBytes = 64, kVectors = 2, kBlock = 64;
    using Block = NoBlock;
    static Row row(const PackedMatrix& w, int64_t o) {
        return {static_cast<const uint8_t*>(w.data) + o * w.in * 2, nullptr};
    }
    static Block block(const Source&, Row, int64_t, int64_t) { return {}; }
    static void split(__m512i v, Op* out) {
        out[0] = _mm512_castsi512_ps(_mm512_slli_epi32(v, 16));
        out[1] = _mm512_castsi512_ps(_mm512_and_si512(v, _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
    }
    static void get(Row r, Block, int64_t k, Op* out) { split(_mm512_loadu_si512(r.data + k * 2), out); }
    static void get_n(Row r, Block, int64_t k, int64_t n, Op* out) {
        split(_mm512_maskz_loadu_epi16(first32(n), r.data + k * 2), out);
    }
    static void pack_x(const float* x, Op* out) { pack_even_odd(x, out); }
};

// 32 E4M3 codes to floats, times 2^-8: the code's bits moved into an F16 have an exponent bias of 15 instead of 7. The
// carry out of 0x7f + 1 makes the NaN code an F16 NaN.
inline void fp8_times_2_to_minus_8(__m256i codes, __m512* out) {
    const __m512i wide = _mm512_slli_epi16(_mm512_cvtepu8_epi16(codes), 8);
    const __m512i h = _mm512_and_si512(_mm512_srai_epi16(wide, 1), _mm512_set1_epi16(static_cast<int16_t>(0xbfff)));
    const __m512i carry = _mm512_add_epi16(h, _mm512_set1_epi16(0x80));
    const __m512i f16 = _mm512_ternarylogic_epi32(h, carry, _mm512_set1_epi16(0x4000), 0xf8);  // h | (carry & 0x4000)
    out[0] = _mm512_cvtph_ps(_mm512_castsi512_si256(f16));
    out[1] = _mm512_cvtph_ps(_mm512_extracti64x4_epi64(f16, 1));
}

// E4M3 with a scale per block of 128 columns (E8M0 or FP32). The scale takes the factor 2^8, so a scale above 2^119
// overflows.
struct Fp8Codec : F32Math {
    static constexpr int kGroup = 32, kGroupBytes = 32, kVectors = 2, kBlock = 128;
    using Block = __m512;
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
        return _mm512_set1_ps(s * 256.0f);
    }
    static void widen(__m256i codes, Block b, Op* out) {
        fp8_times_2_to_minus_8(codes, out);
        out[0] = _mm512_mul_ps(out[0], b);
        out[1] = _mm512_mul_ps(out[1], b);
    }
    static void get(Row r, Block b, int64_t k, Op* out) {
        widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(r.data + k)), b, out);
    }
    static void get_n(Row r, Block b, int64_t k, int64_t n, Op* out) {
        widen(_mm256_maskz_loadu_epi8(first32(n), r.data + k), b, out);
    }
    static void pack_x(const float* x, Op* out) { out[0] = Avx512::load(x), out[1] = Avx512::load(x + 16); }
};

// n <= 64 codes of one block of a cache row, times their scale.
inline void unpack_fp8(const uint8_t* codes, int64_t n, float scale, float* out) {
    const __m512 s = _mm512_set1_ps(scale * 256.0f);
    for (int64_t i = 0; i < n; i += 32) {
        __m512 v[2];
        Fp8Codec::widen(_mm256_maskz_loadu_epi8(first32(n - i), codes + i), s, v);
        Avx512::store_n(out + i, v[0], n - i < 16 ? n - i : 16);
        if (n - i > 16) Avx512::store_n(out + i + 16, v[1], n - i < 32 ? n - i - 16 : 16);
    }
}
inline void unpack_bf16(const uint8_t* p, int64_t n, float* out) {
    for (int64_t i = 0; i < n; i += 16) {
        const int64_t k = n - i < 16 ? n - i : 16;
        const __m512i v = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(Avx512::first(k), p + 2 * i));
        Avx512::store_n(out + i, _mm512_castsi512_ps(_mm512_slli_epi32(v, 16)), k);
    }
}

// E2M1 nibbles with an E8M0 scale per row and 32 columns: a table of 16 scaled values, looked up by permutation.
struct Fp4Codec : F32Math {
    static constexpr int kGroup = 32, kGroupBytes = 16, kVectors = 2, kBlock = 32;
    using Block = __m512;
    static Row row(const PackedMatrix& w, int64_t o) {
        return {static_cast<const uint8_t*>(w.data) + o * ((w.in + 1) / 2),
                static_cast<const uint8_t*>(w.scale) + o * ((w.in + 31) / 32)};
    }
    static Block block(const Source& from, Row r, int64_t k, int64_t) {
        const __m512 values = _mm512_setr_ps(0.0f, 0.5f, 1, 1.5f, 2, 3, 4, 6, -0.0f, -0.5f, -1, -1.5f, -2, -3, -4, -6);
        return _mm512_mul_ps(values, _mm512_set1_ps(from.t.e8m0[r.scale[k / 32]]));
    }
    static void widen(__m128i bytes, Block b, Op* out) {
        const __m512i codes = _mm512_cvtepu8_epi32(bytes);  // the permutation looks at the four lowest bits only
        out[0] = _mm512_permutexvar_ps(codes, b);
        out[1] = _mm512_permutexvar_ps(_mm512_srli_epi32(codes, 4), b);
    }
    static void get(Row r, Block b, int64_t k, Op* out) {
        widen(_mm_loadu_si128(reinterpret_cast<const __m128i*>(r.data + k / 2)), b, out);
    }
    static void get_n(Row r, Block b, int64_t k, int64_t n, Op* out) {
        widen(_mm_maskz_loadu_epi8(Avx512::first((n + 1) / 2), r.data + k / 2), b, out);
    }
    static void pack_x(const float* x, Op* out) { pack_even_odd(x, out); }
};

}  // namespace
}  // namespace vitrine::cpu
