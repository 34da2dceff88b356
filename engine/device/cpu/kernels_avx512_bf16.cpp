// Kernels for AVX-512 with BF16 dot products, VBMI and VNNI: adds products of BF16 pairs to the FP32 kernels.
#include "engine/device/cpu/isa_avx512_bf16.h"
#include "engine/device/cpu/gemm_impl.h"
#include "engine/device/cpu/kernel_tables.h"

namespace vitrine::cpu {
namespace {

// The same lookup for FP32 products: each pair of BF16 values is split into two floats. 64 columns in four vectors: the
// even, then the odd ones of each of Fp8Dot's two.
struct Fp8Lookup : F32Math {
    static constexpr int kGroup = 64, kGroupBytes = 64, kVectors = 4, kBlock = 128;
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

// The same where scales are FP32: values are looked up unscaled and multiplied once.
struct Fp8LookupScaled : Fp8Lookup {
    struct Block {
        Fp8Dot::Block table;
        __m512 scale;
    };
    static Row row(const PackedMatrix& w, int64_t o) { return Fp8Codec::row(w, o); }
    static Block block(const Source& from, Row r, int64_t k, int64_t) {
        constexpr int kOne = 127;  // the E8M0 code of 1
        const uint8_t *h = from.t.fp8_high[kOne], *l = from.t.fp8_low[kOne];
        float s;
        __builtin_memcpy(&s, r.scale + k / 128 * 4, 4);
        return {{{_mm512_load_si512(h), _mm512_load_si512(h + 64)}, {_mm512_load_si512(l), _mm512_load_si512(l + 64)}},
                _mm512_set1_ps(s)};
    }
    static void scaled(const Block& b, Op* out) {
        for (int v = 0; v < kVectors; ++v) out[v] = _mm512_mul_ps(out[v], b.scale);
    }
    static void get(Row r, const Block& b, int64_t k, Op* out) {
        Fp8Lookup::get(r, b.table, k, out);
        scaled(b, out);
    }
    static void get_n(Row r, const Block& b, int64_t k, int64_t n, Op* out) {
        Fp8Lookup::get_n(r, b.table, k, n, out);
        scaled(b, out);
    }
};

bool is_fp8_in_128_columns(const PackedMatrix& w) {
    return w.dtype == DType::f8_e4m3 && w.block_rows >= 1 && w.block_cols == 128;
}

void gemm(const PackedMatrix& w, const float* x, int64_t ldx, int64_t m, float* y, int64_t ldy, int64_t o0,
          int64_t o1) {
    if (is_fp8_in_128_columns(w) && w.scale_dtype == DType::f8_e8m0)
        return packed_gemm<Fp8Lookup>(w, x, ldx, m, y, ldy, o0, o1);
    if (is_fp8_in_128_columns(w) && w.scale_dtype == DType::f32)
        return packed_gemm<Fp8LookupScaled>(w, x, ldx, m, y, ldy, o0, o1);
    avx512_kernels().gemm(w, x, ldx, m, y, ldy, o0, o1);
}

void gemm_bf16(const PackedMatrix& w, const float* x, int64_t ldx, int64_t m, float* y, int64_t ldy, int64_t o0,
               int64_t o1) {
    switch (w.dtype) {
        case DType::bf16:
            return packed_gemm<Bf16Dot>(w, x, ldx, m, y, ldy, o0, o1);
        case DType::f8_e4m3:
            if (w.block_rows >= 1 && w.block_cols == 128 && w.scale_dtype == DType::f8_e8m0)
                return packed_gemm<Fp8Dot>(w, x, ldx, m, y, ldy, o0, o1);
            break;
        case DType::fp4_e2m1:
            if (w.block_rows == 1 && w.block_cols == 32) return packed_gemm<Fp4Dot>(w, x, ldx, m, y, ldy, o0, o1);
            break;
        default:
            break;
    }
    gemm(w, x, ldx, m, y, ldy, o0, o1);  // F32 and F16 weights, FP32 scales: not exact in BF16
}

}  // namespace

const Kernels& avx512_bf16_kernels() {
    static const Kernels table = [] {
        Kernels k = avx512_kernels();
        k.name = "avx512_bf16";
        k.gemm = gemm;
        k.attend = attend_bf16;
        k.attend_scratch_floats = attend_scratch_floats_bf16;
        k.index_scores = index_scores_vnni;
        k.gemm_bf16 = gemm_bf16;
        return k;
    }();
    return table;
}

}  // namespace vitrine::cpu
