// Attention over packed rows with products of BF16 pairs (numerics `reference`: q, the rows and p are BF16 values, sums
// FP32).
//
// A row is held as "columns vectors": its FP8 part in groups of 64 as Fp8Dot orders them, then its BF16 part, each
// padded with zeros to whole vectors. Scores pair neighbouring columns of a row. Values pair two rows: interleaving
// their words leaves 16 columns in each vector of sums, put back in order once per head at the end.
#include "engine/device/cpu/isa_avx512_bf16.h"
#include "engine/device/cpu/attend_impl.h"
#include "engine/device/cpu/kernel_tables.h"

namespace vitrine::cpu {
namespace {

constexpr int64_t kTileRows = 32;

struct Layout {
    int64_t n_fp8, rope, n_groups, n_vectors;  // vectors of 32 columns
    explicit Layout(const EntryFormat& f)
        : n_fp8(f.c - f.rope), rope(f.rope), n_groups((n_fp8 + 63) / 64), n_vectors(2 * n_groups + (rope + 31) / 32) {}
    // The column in place `at` (0..31) of vector v, or -1 in the padding.
    int64_t column(int64_t v, int64_t at) const {
        if (v >= 2 * n_groups) {
            const int64_t i = (v - 2 * n_groups) * 32 + at;
            return i < rope ? n_fp8 + i : -1;
        }
        const int64_t i = v / 2 * 64 + at / 8 * 16 + v % 2 * 8 + at % 8;
        return i < n_fp8 ? i : -1;
    }
};

void unpack_pairs(const Tables& t, const Layout& l, const void* packed, __m512i* out) {
    const auto* p = static_cast<const uint8_t*>(packed);
    const uint8_t* scales = p + l.n_fp8 + 2 * l.rope;
    for (int64_t g = 0; g < l.n_groups; ++g, out += 2) {
        const uint8_t *h = t.fp8_high[scales[g]], *low = t.fp8_low[scales[g]];
        const Fp8Dot::Block b{{_mm512_load_si512(h), _mm512_load_si512(h + 64)},
                              {_mm512_load_si512(low), _mm512_load_si512(low + 64)}};
        const int64_t n = l.n_fp8 - g * 64;
        Fp8Dot::widen(
            n >= 64 ? _mm512_loadu_si512(p + g * 64) : _mm512_maskz_loadu_epi8((__mmask64{1} << n) - 1, p + g * 64), b,
            out);
    }
    for (int64_t i = 0; i < l.rope; i += 32)
        *out++ = _mm512_maskz_loadu_epi16(first32(l.rope - i), p + l.n_fp8 + 2 * i);
}

// q as columns vectors; false if a value is not a BF16 value.
bool pack_query(const Layout& l, const float* q, __m512i* out) {
    __m512i wrong = _mm512_setzero_si512();
    for (int64_t i = 0; i < l.n_fp8 + l.rope; i += 16) {
        const int64_t n = l.n_fp8 + l.rope - i < 16 ? l.n_fp8 + l.rope - i : 16;
        wrong = _mm512_or_si512(wrong, _mm512_castps_si512(Avx512::load_n(q + i, n)));
    }
    if (_mm512_test_epi32_mask(wrong, _mm512_set1_epi32(0xffff))) return false;
    alignas(64) float part[64];
    for (int64_t g = 0; g < l.n_groups; ++g, out += 2) {
        for (int64_t i = 0; i < 64; ++i) part[i] = g * 64 + i < l.n_fp8 ? q[g * 64 + i] : 0.0f;
        Fp8Dot::pack_x(part, out);
    }
    for (int64_t i = 0; i < l.rope; i += 32) {
        for (int64_t k = 0; k < 32; ++k) part[k] = i + k < l.rope ? q[l.n_fp8 + i + k] : 0.0f;
        Bf16Dot::pack_x(part, out++);
    }
    return true;
}

// scores[h][j] of up to 4 keys (unpacked) and kHeads heads.
template <int kHeads>
void score_tile(const Layout& l, const __m512i* keys, const __m512i* q, float scale, float* scores, int64_t n,
                int64_t n_keys) {
    __m512 sum[kHeads][kTile];
#pragma GCC unroll 4
    for (int i = 0; i < kHeads; ++i) {
#pragma GCC unroll 4
        for (int r = 0; r < kTile; ++r) sum[i][r] = _mm512_setzero_ps();
    }
    for (int64_t v = 0; v < l.n_vectors; ++v) {
        __m512i k[kTile];
#pragma GCC unroll 4
        for (int r = 0; r < kTile; ++r) k[r] = keys[r * l.n_vectors + v];
#pragma GCC unroll 4
        for (int i = 0; i < kHeads; ++i) {
            const __m512i x = q[i * l.n_vectors + v];
#pragma GCC unroll 4
            for (int r = 0; r < kTile; ++r) sum[i][r] = DotMath::mac(k[r], x, sum[i][r]);
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < kHeads; ++i) {
        const __m128 s = Avx512::sum4(sum[i][0], sum[i][1], sum[i][2], sum[i][3]);
        put4(scores + i * n, _mm_mul_ps(s, _mm_set1_ps(scale)), n_keys, true);
    }
}

// sums[h][4 vectors] += pairs of p times pairs of rows; pairs[j] is the row pair j, p_pairs the words of two BF16.
template <int kHeads>
void value_tile(const __m512i* pairs, int64_t stride, int64_t n_pairs, const uint32_t* p_pairs, int64_t ldp,
                float* sums, int64_t lds, bool is_first) {
    __m512 sum[kHeads][4];
#pragma GCC unroll 4
    for (int i = 0; i < kHeads; ++i) {
#pragma GCC unroll 4
        for (int v = 0; v < 4; ++v)
            sum[i][v] = is_first ? _mm512_setzero_ps() : _mm512_load_ps(sums + i * lds + v * 16);
    }
    for (int64_t j = 0; j < n_pairs; ++j, pairs += stride) {
        __m512i row[4];
#pragma GCC unroll 4
        for (int v = 0; v < 4; ++v) row[v] = pairs[v];
#pragma GCC unroll 4
        for (int i = 0; i < kHeads; ++i) {
            const __m512i p = _mm512_set1_epi32(static_cast<int>(p_pairs[i * ldp + j]));
#pragma GCC unroll 4
            for (int v = 0; v < 4; ++v) sum[i][v] = DotMath::mac(row[v], p, sum[i][v]);
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < kHeads; ++i) {
#pragma GCC unroll 4
        for (int v = 0; v < 4; ++v) _mm512_store_ps(sums + i * lds + v * 16, sum[i][v]);
    }
}

// Where the pieces of one call lie in the caller's scratch.
struct Pieces {
    float* p;           // [n_heads, n]
    uint32_t* p_pairs;  // [n_heads, ceil(n/2)]
    float* z;           // [n_heads]
    int32_t* place;     // [c]: where a column's sum lies
    __m512i* q;         // [n_heads, n_vectors]
    __m512i* rows;      // [kTileRows, n_vectors], then interleaved in place of them: [kTileRows/2, 2 n_vectors]
    float* sums;        // [n_heads, padded]
    int64_t padded;     // floats of sums per head: 32 n_vectors rounded up to 64
    int64_t floats;     // all of it
    Pieces(float* at, const Layout& l, int64_t n, int64_t n_heads) : padded((32 * l.n_vectors + 63) / 64 * 64) {
        char* begin = reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(at) + 63) / 64 * 64);
        char* next = begin;
        const auto take = [&](int64_t bytes) {
            char* here = next;
            next += (bytes + 63) / 64 * 64;
            return here;
        };
        q = reinterpret_cast<__m512i*>(take(n_heads * l.n_vectors * 64));
        rows = reinterpret_cast<__m512i*>(take(kTileRows * (l.n_vectors + 2) * 64));
        sums = reinterpret_cast<float*>(take(n_heads * padded * 4));
        p = reinterpret_cast<float*>(take(n_heads * n * 4));
        p_pairs = reinterpret_cast<uint32_t*>(take(n_heads * ((n + 1) / 2) * 4));
        z = reinterpret_cast<float*>(take(n_heads * 4));
        place = reinterpret_cast<int32_t*>(take((l.n_fp8 + l.rope) * 4));
        floats = (next - begin) / 4 + 16;
    }
};

void scores_bf16(const Layout& l, const Tables& t, const void* const* rows, int64_t n, int64_t row_bytes,
                 int64_t n_heads, float scale, const Pieces& at) {
    prefetch_rows(rows, 0, kRowsAhead, n, row_bytes);
    for (int64_t j = 0; j < n; j += kTile) {
        prefetch_rows(rows, j + kRowsAhead, j + kRowsAhead + kTile, n, row_bytes);
        const int64_t n_keys = n - j < kTile ? n - j : kTile;
        for (int64_t r = 0; r < kTile; ++r)
            unpack_pairs(t, l, rows[j + (r < n_keys ? r : n_keys - 1)], at.rows + r * l.n_vectors);
        for (int64_t h = 0; h < n_heads; h += 4) {
            with_rows<4>(n_heads - h < 4 ? n_heads - h : 4, [&](auto heads) {
                score_tile<heads.value>(l, at.rows, at.q + h * l.n_vectors, scale, at.p + h * n + j, n, n_keys);
            });
        }
    }
}

void values_bf16(const Layout& l, const Tables& t, const void* const* rows, int64_t n, int64_t n_heads,
                 const Pieces& at) {
    const int64_t wide = at.padded / 16, ldp = (n + 1) / 2;  // vectors of sums
    __m512i pair[2][64];
    for (int64_t j = 0; j < n; j += kTileRows) {
        const int64_t n_pairs = ((n - j < kTileRows ? n - j : kTileRows) + 1) / 2;
        for (int64_t i = 0; i < n_pairs; ++i) {
            for (int64_t v0 = 0; v0 < 2; ++v0) {  // an odd last row is paired with itself, at p = 0
                const int64_t r = j + 2 * i + v0 < n ? j + 2 * i + v0 : n - 1;
                unpack_pairs(t, l, rows[r], pair[v0]);
            }
            __m512i* to = at.rows + i * wide;
            for (int64_t v = 0; v < l.n_vectors; ++v) {
                to[2 * v] = _mm512_unpacklo_epi16(pair[0][v], pair[1][v]);
                to[2 * v + 1] = _mm512_unpackhi_epi16(pair[0][v], pair[1][v]);
            }
            for (int64_t v = 2 * l.n_vectors; v < wide; ++v) to[v] = _mm512_setzero_si512();
        }
        for (int64_t v = 0; v < wide; v += 4) {
            for (int64_t h = 0; h < n_heads; h += 4) {
                with_rows<4>(n_heads - h < 4 ? n_heads - h : 4, [&](auto heads) {
                    value_tile<heads.value>(at.rows + v, wide, n_pairs, at.p_pairs + h * ldp + j / 2, ldp,
                                            at.sums + h * at.padded + v * 16, at.padded, j == 0);
                });
            }
        }
    }
}

// Numerators to words of two BF16, probabilities out, Z.
void finish_softmax(int64_t n, int64_t h, float sink_score, bool has_sink, float* probs, float* sink_prob,
                    const Pieces& at, int64_t i) {
    float* p = at.p + i * n;
    float largest = 0.0f;
    const float keys = softmax_numerators<Avx512>(p, n, &largest);
    const float sink = has_sink ? exp_any(sink_score - largest) : 0.0f, z = keys + sink;
    at.z[i] = z;
    if (sink_prob) *sink_prob = __builtin_isinf(z) ? 1.0f : sink / z;
    auto* words = reinterpret_cast<uint16_t*>(at.p_pairs + i * ((n + 1) / 2));
    if (n % 2) words[n] = 0;
    for (int64_t j = 0; j < n; j += 16) {
        const int64_t k = n - j < 16 ? n - j : 16;
        const __m512 v = Avx512::load_n(p + j, k);
        if (probs) Avx512::store_n(probs + h * n + j, _mm512_div_ps(v, _mm512_set1_ps(z)), k);
        _mm256_mask_storeu_epi16(words + j, Avx512::first(k), (__m256i)_mm512_cvtneps_pbh(v));
    }
}

}  // namespace

int64_t attend_scratch_floats_bf16(int64_t n, int64_t c, int64_t n_heads) {
    // The rotated part is not known here: every split of c into two parts needs at most three vectors more than c
    // alone.
    EntryFormat widest{true, static_cast<int>(c) + 96, 0};
    const int64_t mine = Pieces(nullptr, Layout(widest), n, n_heads).floats + 16;
    const int64_t other = avx512_kernels().attend_scratch_floats(n, c, n_heads);
    return mine > other ? mine : other;
}

void attend_bf16(const EntryFormat& format, const void* const* rows, int64_t n, const float* q, int64_t h0, int64_t h1,
                 float scale, const float* sinks, bool p_bf16, float* out, float* probs, float* sink_probs,
                 float* scratch) {
    const Layout l(format);
    const int64_t c = format.c, n_heads = h1 - h0;
    const Pieces at(scratch, l, n, n_heads);
    bool is_bf16 = p_bf16 && format.is_packed && n > 0 && l.n_vectors <= 64;
    for (int64_t h = 0; h < n_heads && is_bf16; ++h) is_bf16 = pack_query(l, q + (h0 + h) * c, at.q + h * l.n_vectors);
    if (!is_bf16)
        return avx512_kernels().attend(format, rows, n, q, h0, h1, scale, sinks, p_bf16, out, probs, sink_probs,
                                       scratch);
    const Tables& t = tables();
    scores_bf16(l, t, rows, n, format.row_bytes(), n_heads, scale, at);
    for (int64_t i = 0; i < n_heads; ++i) {
        const int64_t h = h0 + i;
        finish_softmax(n, h, sinks ? sinks[h] : 0.0f, sinks != nullptr, probs, sink_probs ? sink_probs + h : nullptr,
                       at, i);
    }
    values_bf16(l, t, rows, n, n_heads, at);
    // Interleaving took words 0-3 of each quarter to the first vector and 4-7 to the second.
    for (int64_t v = 0; v < l.n_vectors; ++v) {
        for (int64_t i = 0; i < 32; ++i) {
            const int64_t column = l.column(v, i);
            if (column >= 0) at.place[column] = static_cast<int32_t>((2 * v + i % 8 / 4) * 16 + i / 8 * 4 + i % 4);
        }
    }
    for (int64_t h = 0; h < n_heads; ++h) {
        const __m512 z = _mm512_set1_ps(at.z[h]);
        for (int64_t i = 0; i < c; i += 16) {
            const __mmask16 m = Avx512::first(c - i < 16 ? c - i : 16);
            const __m512i index = _mm512_maskz_loadu_epi32(m, at.place + i);
            const __m512 v = _mm512_mask_i32gather_ps(_mm512_setzero_ps(), m, index, at.sums + h * at.padded, 4);
            _mm512_mask_storeu_ps(out + (h0 + h) * c + i, m, _mm512_div_ps(v, z));
        }
    }
}

}  // namespace vitrine::cpu
