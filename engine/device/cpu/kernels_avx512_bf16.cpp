// Kernels for AVX-512 with BF16 dot products, VBMI and VNNI: adds products of BF16 pairs to the FP32 kernels.
#include "engine/device/cpu/isa_avx512.h"
#include "engine/device/cpu/gemm_impl.h"
#include "engine/device/cpu/kernel_tables.h"

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
    static constexpr int kGroup = 32, kGroupBytes = 64, kVectors = 1, kBlock = 128;
    static constexpr bool kSharesBlock = true;
    using Block = NoBlock;
    static Row row(const PackedMatrix& w, int64_t o) { return {static_cast<const uint8_t*>(w.data) + o * w.in * 2, nullptr}; }
    static Block block(const Source&, Row, int64_t, int64_t) { return {}; }
    static void get(Row r, Block, int64_t k, Op* out) { out[0] = _mm512_loadu_si512(r.data + k * 2); }
    static void get_n(Row r, Block, int64_t k, int64_t n, Op* out) {
        out[0] = _mm512_maskz_loadu_epi16(first32(n), r.data + k * 2);
    }
    static void pack_x(const float* x, Op* out) { out[0] = two(x); }
};

// 64 E4M3 codes become 64 scaled BF16 values by looking up both bytes of each among the 128 magnitudes. Interleaving the bytes
// leaves the columns in the order 0-7, 16-23, 32-39, 48-55 | 8-15, ..., in which x is packed too.
struct Fp8Dot : DotMath {
    static constexpr int kGroup = 64, kGroupBytes = 64, kVectors = 2, kBlock = 128;
    static constexpr bool kSharesBlock = true;
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
        const __m512i high = _mm512_ternarylogic_epi32(magnitude, codes, _mm512_set1_epi8(static_cast<char>(0x80)), 0xf8);
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

// 64 nibbles, two blocks of 32 columns: each block's 16 scaled values fill one half of the table that words are looked up in.
// Even columns come first, then odd ones.
struct Fp4Dot : DotMath {
    static constexpr int kGroup = 64, kGroupBytes = 32, kVectors = 2, kBlock = 64;
    static constexpr bool kSharesBlock = false;
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
        const __m512i even = _mm512_ternarylogic_epi32(second, wide, _mm512_set1_epi16(15), 0xf8);  // second | (wide & 15)
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

// The same lookup for FP32 products: each pair of BF16 values is split into two floats. 64 columns in four vectors: the even,
// then the odd ones of each of Fp8Dot's two.
struct Fp8Lookup : F32Math {
    static constexpr int kGroup = 64, kGroupBytes = 64, kVectors = 4, kBlock = 128;
    static constexpr bool kSharesBlock = true;
    using Block = Fp8Dot::Block;
    static Row row(const PackedMatrix& w, int64_t o) { return Fp8Codec::row(w, o); }
    static Block block(const Source& from, Row r, int64_t k, int64_t n) { return Fp8Dot::block(from, r, k, n); }
    static void split(const __m512i* pairs, Op* out) {
        Bf16Codec::split(pairs[0], out);
        Bf16Codec::split(pairs[1], out + 2);
    }
    static void get(Row r, const Block& b, int64_t k, Op* out) {
        __m512i pairs[2];
        Fp8Dot::get(r, b, k, pairs);
        split(pairs, out);
    }
    static void get_n(Row r, const Block& b, int64_t k, int64_t n, Op* out) {
        __m512i pairs[2];
        Fp8Dot::get_n(r, b, k, n, pairs);
        split(pairs, out);
    }
    static void pack_x(const float* x, Op* out) {
        const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 16, 18, 20, 22, 0, 0, 0, 0, 0, 0, 0, 0);
        for (int v = 0; v < 4; ++v) {
            const __m512i at = _mm512_add_epi32(even, _mm512_set1_epi32(v / 2 * 8 + v % 2));
            const __m512 low = _mm512_permutex2var_ps(_mm512_loadu_ps(x), at, _mm512_loadu_ps(x + 16));
            const __m512 high = _mm512_permutex2var_ps(_mm512_loadu_ps(x + 32), at, _mm512_loadu_ps(x + 48));
            out[v] = _mm512_insertf32x8(low, _mm512_castps512_ps256(high), 1);
        }
    }
};

void gemm(const PackedMatrix& w, const float* x, int64_t ldx, int64_t m, float* y, int64_t ldy, int64_t o0, int64_t o1) {
    if (w.dtype == DType::f8_e4m3 && w.block_rows >= 1 && w.block_cols == 128 && w.scale_dtype == DType::f8_e8m0)
        return packed_gemm<Fp8Lookup>(w, x, ldx, m, y, ldy, o0, o1);
    avx512_kernels().gemm(w, x, ldx, m, y, ldy, o0, o1);
}

void gemm_bf16(const PackedMatrix& w, const float* x, int64_t ldx, int64_t m, float* y, int64_t ldy, int64_t o0, int64_t o1) {
    switch (w.dtype) {
        case DType::bf16: return packed_gemm<Bf16Dot>(w, x, ldx, m, y, ldy, o0, o1);
        case DType::f8_e4m3:
            if (w.block_rows >= 1 && w.block_cols == 128 && w.scale_dtype == DType::f8_e8m0)
                return packed_gemm<Fp8Dot>(w, x, ldx, m, y, ldy, o0, o1);
            break;
        case DType::fp4_e2m1:
            if (w.block_rows == 1 && w.block_cols == 32) return packed_gemm<Fp4Dot>(w, x, ldx, m, y, ldy, o0, o1);
            break;
        default: break;
    }
    avx512_kernels().gemm(w, x, ldx, m, y, ldy, o0, o1);  // F32 and F16 weights, FP32 scales: not exact in BF16
}

}  // namespace

const Kernels& avx512_bf16_kernels() {
    static const Kernels table = [] {
        Kernels k = avx512_kernels();
        k.name = "avx512_bf16";
        k.gemm = gemm;
        k.index_scores = index_scores_vnni;
        k.gemm_bf16 = gemm_bf16;
        return k;
    }();
    return table;
}

}  // namespace vitrine::cpu
