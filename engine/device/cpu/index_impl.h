// The indexer's scores, written once for every instruction set: keys and heads meet in registers as in a matrix
// product.
//
// For kernels_<isa>.cpp only (unnamed namespace: see isa_avx512.h).
#pragma once
#include "engine/device/cpu/gemm_impl.h"

namespace vitrine::cpu {
namespace {

constexpr int64_t kKeys = 16;  // keys whose dot products with all heads are held at a time

// scores of n <= kKeys keys from dots [n_heads, kKeys].
template <class Isa>
void sum_over_heads(const float* dots, const float* w, int64_t n_heads, int64_t n, bool bf16_scores, float* scores) {
    using V = typename Isa::V;
    for (int64_t j = 0; j < n; j += Isa::kLanes) {
        V sum = Isa::zero();
        for (int64_t h = 0; h < n_heads; ++h) {
            V s = Isa::load(dots + h * kKeys + j);
            if (bf16_scores) s = Isa::round_bf16(s);
            s = Isa::mul(Isa::set1(w[h]), Isa::max(Isa::zero(), s));
            sum = Isa::add(sum, bf16_scores ? Isa::round_bf16(s) : s);
        }
        if (bf16_scores) sum = Isa::round_bf16(sum);
        Isa::store_n(scores + j, sum, n - j < Isa::kLanes ? n - j : Isa::kLanes);
    }
}

// C widens a key: floats, or nibbles with scales behind them (the FP4 weights' codec reads those).
template <class C>
void scores_by_codec(const IndexKeyFormat& format, const uint8_t* keys, int64_t n, const float* q, const float* w,
                     int64_t n_heads, bool bf16_scores, float* scores) {
    using Isa = typename C::Isa;
    const PackedMatrix none;
    const Source from{none, tables()};
    const int64_t d = format.d, stride = format.row_bytes(), n_vectors = packed_vectors<C>(d);
    char* packed = static_cast<char*>(thread_scratch(kSlotX, static_cast<size_t>(n_heads * n_vectors * C::kBytes)));
    float* dots = static_cast<float*>(thread_scratch(kSlotOther, static_cast<size_t>(n_heads * kKeys) * 4));
    pack_x_rows<C>(q, d, n_heads, d, packed);
    for (int64_t first = 0; first < n; first += kKeys) {
        const int64_t n_keys = n - first < kKeys ? n - first : kKeys;
        for (int64_t j = 0; j < n_keys; j += kTile) {
            Row rows[kTile];
            for (int64_t r = 0; r < kTile; ++r) {
                const int64_t at = first + (j + r < n_keys ? j + r : n_keys - 1);
                rows[r] = {keys + at * stride, keys + at * stride + (d + 1) / 2};
            }
            for (int64_t h = 0; h < n_heads; h += Isa::kXTile) {
                const int64_t n_tile = n_heads - h < Isa::kXTile ? n_heads - h : Isa::kXTile;
                with_rows<Isa::kXTile>(n_tile, [&](auto heads) {
                    typename Isa::V sum[kTile][heads.value];
                    direct<C, heads.value, kTile>(from, rows, packed + h * n_vectors * C::kBytes, 0, d, sum);
                    for (int i = 0; i < heads.value; ++i)
                        _mm_storeu_ps(dots + (h + i) * kKeys + j,
                                      Isa::sum4(sum[0][i], sum[1][i], sum[2][i], sum[3][i]));
                });
            }
        }
        sum_over_heads<Isa>(dots, w, n_heads, n_keys, bf16_scores, scores + first);
    }
}

template <class F32, class Fp4>
void index_scores(const IndexKeyFormat& format, const void* keys, int64_t n, const float* q, const float* w,
                  int64_t n_heads, bool bf16_scores, float* scores) {
    const auto* bytes = static_cast<const uint8_t*>(keys);
    if (format.is_packed) return scores_by_codec<Fp4>(format, bytes, n, q, w, n_heads, bf16_scores, scores);
    scores_by_codec<F32>(format, bytes, n, q, w, n_heads, bf16_scores, scores);
}

}  // namespace
}  // namespace vitrine::cpu
