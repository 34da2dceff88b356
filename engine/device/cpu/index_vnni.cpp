// Index scores of packed FP4 keys in exact integers, for AVX-512 with VNNI: E2M1 values are halves, so twice a value is
// a small integer, and so are queries that went through the FP4 simulation.
#include "engine/device/cpu/isa_avx512.h"
#include "engine/device/cpu/kernel_tables.h"

namespace vitrine::cpu {
namespace {

// One head's query as small integers: q = unit[b] * i, |i| <= 127, in each block of 32 dims. The FP4 simulation leaves
// multiples of a power of two, at most 12 of them. Returns false if q is anything else; then the caller takes the path
// for any floats.
bool query_as_integers(const float* q, int64_t n_blocks, int8_t* out, float* unit) {
    for (int64_t b = 0; b < n_blocks; ++b) {
        const float* v = q + b * 32;
        const __m512 lo = _mm512_loadu_ps(v), hi = _mm512_loadu_ps(v + 16);
        const float amax = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(lo), _mm512_abs_ps(hi)));
        unit[b] = 0.0f;
        __builtin_memset(out + b * 32, 0, 32);
        if (amax == 0.0f) continue;
        if (!(amax >= 0x1p-100f && amax <= 0x1p100f)) return false;
        const __m512 exponent =
            _mm512_set1_ps(__builtin_bit_cast(float, __builtin_bit_cast(uint32_t, amax) & 0x7f800000u));
        const __m512 eighth = _mm512_mul_ps(exponent, _mm512_set1_ps(0.125f));  // the largest is 8 to 15 of these
        unit[b] = _mm512_cvtss_f32(eighth);
        const __m512i a = _mm512_cvtps_epi32(_mm512_div_ps(lo, eighth)),
                      c = _mm512_cvtps_epi32(_mm512_div_ps(hi, eighth));
        const __mmask16 same = _mm512_cmpeq_ps_mask(_mm512_mul_ps(_mm512_cvtepi32_ps(a), eighth), lo) &
                               _mm512_cmpeq_ps_mask(_mm512_mul_ps(_mm512_cvtepi32_ps(c), eighth), hi);
        if (same != 0xffff) return false;
        _mm_storeu_si128(reinterpret_cast<__m128i*>(out + b * 32), _mm512_cvtepi32_epi8(a));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(out + b * 32 + 16), _mm512_cvtepi32_epi8(c));
    }
    return true;
}

// Sixteen packed keys with their dims across, keys along the lanes: word[2 i] of a lane holds the even dims 8 i, 8 i +
// 2, .. + 6 of its key as twice the value plus 12 (unsigned bytes), word[2 i + 1] the odd ones; scale[b] half the scale
// of block b.
struct KeyTile {
    __m512i word[32];
    __m512 scale[4];
};

// 16x16 words of 32 bits, rows to columns.
inline void transpose16(__m512i (&r)[16]) {
    __m512i t[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; i += 4) {
        const __m512i a = _mm512_unpacklo_epi32(r[i], r[i + 1]), b = _mm512_unpackhi_epi32(r[i], r[i + 1]);
        const __m512i c = _mm512_unpacklo_epi32(r[i + 2], r[i + 3]), d = _mm512_unpackhi_epi32(r[i + 2], r[i + 3]);
        t[i] = _mm512_unpacklo_epi64(a, c), t[i + 1] = _mm512_unpackhi_epi64(a, c);
        t[i + 2] = _mm512_unpacklo_epi64(b, d), t[i + 3] = _mm512_unpackhi_epi64(b, d);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 4; ++i) {  // t[i + 4 g]: quarter c holds column 4 c + i of rows 4 g .. 4 g + 3
        const __m512i a = _mm512_shuffle_i32x4(t[i], t[i + 4], 0x88), b = _mm512_shuffle_i32x4(t[i], t[i + 4], 0xdd);
        const __m512i c = _mm512_shuffle_i32x4(t[i + 8], t[i + 12], 0x88),
                      d = _mm512_shuffle_i32x4(t[i + 8], t[i + 12], 0xdd);
        r[i] = _mm512_shuffle_i32x4(a, c, 0x88), r[i + 8] = _mm512_shuffle_i32x4(a, c, 0xdd);
        r[i + 4] = _mm512_shuffle_i32x4(b, d, 0x88), r[i + 12] = _mm512_shuffle_i32x4(b, d, 0xdd);
    }
}

inline void load_keys(const uint8_t* keys, int64_t n, const Tables& t, KeyTile& tile) {
    constexpr int64_t kStride = 68;
    const __m512i values =
        _mm512_broadcast_i32x4(_mm_setr_epi8(12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0));
    const __m512i low = _mm512_set1_epi8(15);
    __m512i r[16];
    alignas(64) float scale[4][16];
    for (int64_t j = 0; j < 16; ++j) {
        const uint8_t* key = keys + (j < n ? j : n - 1) * kStride;
        r[j] = _mm512_loadu_si512(key);
        for (int b = 0; b < 4; ++b) scale[b][j] = 0.5f * t.e8m0[key[64 + b]];
    }
    transpose16(r);
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) {
        tile.word[2 * i] = _mm512_shuffle_epi8(values, _mm512_and_si512(r[i], low));
        tile.word[2 * i + 1] = _mm512_shuffle_epi8(values, _mm512_and_si512(_mm512_srli_epi16(r[i], 4), low));
    }
    for (int b = 0; b < 4; ++b) tile.scale[b] = _mm512_load_ps(scale[b]);
}

// A head for dot products with KeyTiles: 32 words of four dims each in the tile's order, per block its unit and what
// the keys' offset of 12 adds to the integer sum.
struct QueryWords {
    int32_t word[32];
    int32_t offset[4];
    float unit[4];
};

// Dot products of kHeads heads: a word of the tile is loaded once for all of them.
template <int kHeads>
inline void head_dots(const KeyTile& keys, const QueryWords* q, __m512* sum) {
#pragma GCC unroll 4
    for (int h = 0; h < kHeads; ++h) sum[h] = _mm512_setzero_ps();
#pragma GCC unroll 4
    for (int b = 0; b < 4; ++b) {
        __m512i exact[kHeads];
#pragma GCC unroll 4
        for (int h = 0; h < kHeads; ++h) exact[h] = _mm512_set1_epi32(q[h].offset[b]);
#pragma GCC unroll 8
        for (int i = 8 * b; i < 8 * b + 8; ++i) {
#pragma GCC unroll 4
            for (int h = 0; h < kHeads; ++h)
                exact[h] = _mm512_dpbusd_epi32(exact[h], keys.word[i], _mm512_set1_epi32(q[h].word[i]));
        }
#pragma GCC unroll 4
        for (int h = 0; h < kHeads; ++h)
            sum[h] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(exact[h]),
                                     _mm512_mul_ps(keys.scale[b], _mm512_set1_ps(q[h].unit[b])), sum[h]);
    }
}

// Packed keys of 128 dims against FP4 queries: a block's sum is an exact integer, four of them are added in FP32.
void index_scores_fp4(const uint8_t* keys, int64_t n, const QueryWords* q, const float* w, int64_t n_heads,
                      bool bf16_scores, float* scores) {
    const Tables& t = tables();
    for (int64_t first = 0; first < n; first += 16) {
        const int64_t n_keys = n - first < 16 ? n - first : 16;
        for (int64_t at = 0; at < 16 * 68; at += 64)  // two tiles ahead
            _mm_prefetch(reinterpret_cast<const char*>(keys + (first + 32) * 68 + at), _MM_HINT_T0);
        KeyTile tile;
        load_keys(keys + first * 68, n_keys, t, tile);
        __m512 sum = _mm512_setzero_ps();
        const auto add = [&](__m512 s, float weight) {
            if (bf16_scores) s = Avx512::round_bf16(s);
            s = Avx512::mul(Avx512::set1(weight), Avx512::max(Avx512::zero(), s));
            sum = Avx512::add(sum, bf16_scores ? Avx512::round_bf16(s) : s);
        };
        int64_t h = 0;
        for (__m512 s[4]; h + 4 <= n_heads; h += 4) {
            head_dots<4>(tile, q + h, s);
            for (int i = 0; i < 4; ++i) add(s[i], w[h + i]);
        }
        for (__m512 s; h < n_heads; ++h) {
            head_dots<1>(tile, q + h, &s);
            add(s, w[h]);
        }
        if (bf16_scores) sum = Avx512::round_bf16(sum);
        Avx512::store_n(scores + first, sum, n_keys);
    }
}

// The heads' words, false if q is not what the FP4 simulation leaves. A token's keys come in many blocks, one call for
// each, so a thread keeps the words of its last query: comparing costs a tenth of converting, which cost two thirds of
// a block's scores.
bool words_of(const float* q, int64_t n_heads, const QueryWords*& out) {
    thread_local struct {
        int64_t n_heads = 0;
        bool is_exact = false;
    } last;
    const size_t q_bytes = static_cast<size_t>(n_heads) * 128 * sizeof(float);
    char* kept = static_cast<char*>(
        thread_scratch(kSlotIndexQuery, q_bytes + static_cast<size_t>(n_heads) * sizeof(QueryWords)));
    auto* words = reinterpret_cast<QueryWords*>(kept + q_bytes);
    out = words;
    if (last.n_heads == n_heads && __builtin_memcmp(kept, q, q_bytes) == 0) return last.is_exact;
    __builtin_memcpy(kept, q, q_bytes);
    last = {n_heads, false};
    for (int64_t h = 0; h < n_heads; ++h) {
        alignas(64) int8_t v[128];
        if (!query_as_integers(q + h * 128, 4, v, words[h].unit)) return false;
        int8_t* to = reinterpret_cast<int8_t*>(words[h].word);
        for (int i = 0; i < 128; ++i) to[i / 8 * 8 + i % 2 * 4 + i % 8 / 2] = v[i];
        for (int b = 0; b < 4; ++b) {
            words[h].offset[b] = 0;
            for (int i = 0; i < 32; ++i) words[h].offset[b] -= 12 * v[b * 32 + i];
        }
    }
    return last.is_exact = true;
}

}  // namespace

void index_scores_vnni(const IndexKeyFormat& format, const void* keys, int64_t n, const float* q, const float* w,
                       int64_t n_heads, bool bf16_scores, float* scores) {
    const QueryWords* words = nullptr;
    if (!format.is_packed || format.d != 128 || !words_of(q, n_heads, words))
        return avx512_kernels().index_scores(format, keys, n, q, w, n_heads, bf16_scores, scores);
    index_scores_fp4(static_cast<const uint8_t*>(keys), n, words, w, n_heads, bf16_scores, scores);
}

}  // namespace vitrine::cpu
