// Attention of one token over rows that are key and value at once, written once for every instruction set.
//
// For kernels_<isa>.cpp only (unnamed namespace: see isa_avx512.h). Heads and keys meet in registers, 4 keys by
// Isa::kXTile heads, so a row is loaded once per kXTile heads. Order: a score is summed as a matrix product is; Z per
// lane over keys, then across lanes; an output over keys in list order. None depends on which heads are asked for.
#pragma once
#include "engine/device/cpu/gemm_impl.h"

namespace vitrine::cpu {
namespace {

constexpr int64_t kRowsUnpacked = 32;  // packed rows held as floats while the values are summed

// e^x for x <= 0, at most 1.5 ulp off (measured over all floats in [-87, 0]); below -87.3 results fade to 0 through the
// subnormals where the instruction set scales exactly, else at once. x = n ln 2 + r, then Taylor to the seventh power:
// |r| <= 0.3466, so the next term is below 6e-9.
template <class Isa>
[[gnu::always_inline]] inline typename Isa::V exp_negative(typename Isa::V x) {
    const auto c = [](float v) { return Isa::set1(v); };
    x = Isa::max(c(-110.0f), x);
    const auto n = Isa::round_int(Isa::mul(x, c(1.44269504f)));
    auto r = Isa::fma(n, c(-0.693359375f), x);  // ln 2 in two parts: the first has 9 bits, so n times it is exact
    r = Isa::fma(n, c(2.12194440e-4f), r);
    auto p = c(1.0f / 5040);
    for (float a : {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f}) p = Isa::fma(p, r, c(a));
    return Isa::times_power(p, n);
}

inline void unpack_row(const Tables& t, const EntryFormat& format, const void* packed, float* row) {
    const int64_t n = format.c - format.rope;
    const auto* p = static_cast<const uint8_t*>(packed);
    const uint8_t* scales = p + n + 2 * static_cast<int64_t>(format.rope);
    for (int64_t i = 0; i < n; i += 64) unpack_fp8(p + i, n - i < 64 ? n - i : 64, t.e8m0[scales[i / 64]], row + i);
    unpack_bf16(p + n, format.rope, row + n);
}

// Chosen entries lie anywhere in memory, where no stream of addresses tells the processor what comes next: scores ask
// for the rows of later tiles while they work on one. 640 rows of 584 bytes, none of them in a cache, 8 heads: 238 us
// without, 190 with 8 or 24 rows ahead into the first level, 150 with 24 to 48 ahead into the second.
constexpr int64_t kRowsAhead = 32;
inline void prefetch_rows(const void* const* rows, int64_t begin, int64_t end, int64_t n, int64_t row_bytes) {
    for (int64_t j = begin; j < end && j < n; ++j)
        for (int64_t at = 0; at < row_bytes; at += 64)
            _mm_prefetch(static_cast<const char*>(rows[j]) + at, _MM_HINT_T1);
}

template <class C>
int64_t attend_scratch_floats(int64_t n, int64_t c, int64_t n_heads) {
    const int64_t packed_q = n_heads * packed_vectors<C>(c) * C::kBytes / 4;
    return n_heads * n + packed_q + kRowsUnpacked * c + 16;
}

// scores[h][j] = scale * q_h . row_j for all heads of packed q.
template <class C>
void attend_scores(const EntryFormat& format, const void* const* rows, int64_t n, const char* q, int64_t n_heads,
                   float scale, float* buffer, float* scores) {
    using Isa = typename C::Isa;
    const PackedMatrix none;
    const Source from{none, tables()};
    const int64_t c = format.c, n_vectors = packed_vectors<C>(c);
    prefetch_rows(rows, 0, kRowsAhead, n, format.row_bytes());
    for (int64_t j = 0; j < n; j += kTile) {
        prefetch_rows(rows, j + kRowsAhead, j + kRowsAhead + kTile, n, format.row_bytes());
        Row keys[kTile];
        const int64_t n_keys = n - j < kTile ? n - j : kTile;
        for (int64_t r = 0; r < kTile; ++r) {
            const int64_t at = r < n_keys ? r : n_keys - 1;
            if (format.is_packed && at == r) unpack_row(from.t, format, rows[j + r], buffer + r * c);
            keys[r] = {static_cast<const uint8_t*>(format.is_packed ? buffer + at * c : rows[j + at]), nullptr};
        }
        for (int64_t h = 0; h < n_heads; h += Isa::kXTile) {
            const int64_t n_tile = n_heads - h < Isa::kXTile ? n_heads - h : Isa::kXTile;
            with_rows<Isa::kXTile>(n_tile, [&](auto heads) {
                typename Isa::V sum[kTile][heads.value];
                direct<C, heads.value, kTile>(from, keys, q + h * n_vectors * C::kBytes, 0, c, sum);
                for (int i = 0; i < heads.value; ++i) {
                    const __m128 s = Isa::sum4(sum[0][i], sum[1][i], sum[2][i], sum[3][i]);
                    put4(scores + (h + i) * n + j, _mm_mul_ps(s, _mm_set1_ps(scale)), n_keys, true);
                }
            });
        }
    }
}

// Scores of one head to p_j = exp(score - max), in place; returns Z without the sink and the maximum.
template <class Isa>
float softmax_numerators(float* p, int64_t n, float* largest) {
    using V = typename Isa::V;
    const int64_t whole = n / Isa::kLanes * Isa::kLanes;
    V top = Isa::set1(p[0]);
    for (int64_t j = 0; j < whole; j += Isa::kLanes) top = Isa::max(top, Isa::load(p + j));
    if (whole < n) top = Isa::max(top, Isa::select_n(Isa::load_n(p + whole, n - whole), Isa::set1(p[0]), n - whole));
    *largest = Isa::max_lane(top);
    const V m = Isa::set1(*largest);
    V z = Isa::zero();
    for (int64_t j = 0; j < whole; j += Isa::kLanes) {
        const V e = exp_negative<Isa>(Isa::sub(Isa::load(p + j), m));
        Isa::store(p + j, e);
        z = Isa::add(z, e);
    }
    if (whole < n) {
        const V e = exp_negative<Isa>(Isa::sub(Isa::load_n(p + whole, n - whole), m));
        Isa::store_n(p + whole, e, n - whole);
        z = Isa::add(z, Isa::select_n(e, Isa::zero(), n - whole));
    }
    return Isa::sum(z);
}

// out[h][columns] += sum_j p[h][j] row_j[columns] for kHeads heads and kVecs vectors (or one partial vector of
// `lanes`).
template <class Isa, int kHeads, int kVecs, bool kPartial>
[[gnu::always_inline]] inline void attend_values(const float* const* rows, int64_t n, const float* p, int64_t ldp,
                                                 float* out, int64_t ldo, int64_t lanes, bool is_first) {
    using V = typename Isa::V;
    V sum[kHeads][kVecs];
#pragma GCC unroll 8
    for (int i = 0; i < kHeads; ++i) {
#pragma GCC unroll 8
        for (int v = 0; v < kVecs; ++v) {
            const float* at = out + i * ldo + v * Isa::kLanes;
            sum[i][v] = is_first ? Isa::zero() : kPartial ? Isa::load_n(at, lanes) : Isa::load(at);
        }
    }
    for (int64_t j = 0; j < n; ++j) {
        V row[kVecs];
#pragma GCC unroll 8
        for (int v = 0; v < kVecs; ++v)
            row[v] = kPartial ? Isa::load_n(rows[j], lanes) : Isa::load(rows[j] + v * Isa::kLanes);
#pragma GCC unroll 8
        for (int i = 0; i < kHeads; ++i) {
            const V pj = Isa::set1(p[i * ldp + j]);
#pragma GCC unroll 8
            for (int v = 0; v < kVecs; ++v) sum[i][v] = Isa::fma(pj, row[v], sum[i][v]);
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < kHeads; ++i) {
#pragma GCC unroll 8
        for (int v = 0; v < kVecs; ++v) {
            float* at = out + i * ldo + v * Isa::kLanes;
            kPartial ? Isa::store_n(at, sum[i][v], lanes) : Isa::store(at, sum[i][v]);
        }
    }
}

// The same for all columns [0, c) of n rows.
template <class Isa>
void attend_rows(const float** rows, int64_t n, const float* p, int64_t ldp, int64_t n_heads, int64_t c, float* out,
                 bool is_first) {
    constexpr int kVecs = 4, kWide = kVecs * Isa::kLanes;
    for (int64_t i = 0; i < c;) {
        const int64_t width = c - i >= kWide ? kWide : c - i < Isa::kLanes ? c - i : Isa::kLanes;
        for (int64_t h = 0; h < n_heads; h += Isa::kXTile) {
            const int64_t n_tile = n_heads - h < Isa::kXTile ? n_heads - h : Isa::kXTile;
            with_rows<Isa::kXTile>(n_tile, [&](auto heads) {
                float* to = out + h * c + i;
                if (width == kWide) {
                    attend_values<Isa, heads.value, kVecs, false>(rows, n, p + h * ldp, ldp, to, c, 0, is_first);
                } else {
                    attend_values<Isa, heads.value, 1, true>(rows, n, p + h * ldp, ldp, to, c, width, is_first);
                }
            });
        }
        for (int64_t j = 0; j < n; ++j) rows[j] += width;
        i += width;
    }
}

template <class C>
void attend(const EntryFormat& format, const void* const* rows, int64_t n, const float* q, int64_t h0, int64_t h1,
            float scale, const float* sinks, bool p_bf16, float* out, float* probs, float* sink_probs, float* scratch) {
    using Isa = typename C::Isa;
    const int64_t c = format.c, n_heads = h1 - h0;
    float* p = scratch;
    float* buffer = p + n_heads * n;
    char* packed_q = reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(buffer + kRowsUnpacked * c) + 63) / 64 * 64);
    pack_x_rows<C>(q + h0 * c, c, n_heads, c, packed_q);
    attend_scores<C>(format, rows, n, packed_q, n_heads, scale, buffer, p);

    float* z = reinterpret_cast<float*>(packed_q);  // q has done its work
    for (int64_t h = 0; h < n_heads; ++h) {
        float* ph = p + h * n;
        float largest = 0.0f, sink = 0.0f;
        z[h] = n > 0 ? softmax_numerators<Isa>(ph, n, &largest) : 0.0f;
        if (sinks) sink = exp_any(sinks[h0 + h] - largest);
        z[h] += sink;
        if (sink_probs) sink_probs[h0 + h] = __builtin_isinf(z[h]) ? 1.0f : sink / z[h];
        for (int64_t j = 0; j < n; j += Isa::kLanes) {
            const int64_t k = n - j < Isa::kLanes ? n - j : Isa::kLanes;
            const typename Isa::V v = Isa::load_n(ph + j, k);
            if (probs) Isa::store_n(probs + (h0 + h) * n + j, Isa::div(v, Isa::set1(z[h])), k);
            if (p_bf16) Isa::store_n(ph + j, Isa::round_bf16(v), k);
        }
    }

    const Tables& t = tables();
    float* to = out + h0 * c;
    for (int64_t j = 0; j < n; j += kRowsUnpacked) {
        const float* some[kRowsUnpacked];
        const int64_t n_some = n - j < kRowsUnpacked ? n - j : kRowsUnpacked;
        for (int64_t r = 0; r < n_some; ++r) {
            if (format.is_packed) unpack_row(t, format, rows[j + r], buffer + r * c);
            some[r] = format.is_packed ? buffer + r * c : static_cast<const float*>(rows[j + r]);
        }
        attend_rows<Isa>(some, n_some, p + j, n, n_heads, c, to, j == 0);
    }
    for (int64_t h = 0; h < n_heads; ++h) {
        for (int64_t i = 0; i < c; i += Isa::kLanes) {
            const int64_t k = c - i < Isa::kLanes ? c - i : Isa::kLanes;
            const typename Isa::V v = n > 0 ? Isa::load_n(to + h * c + i, k) : Isa::zero();
            Isa::store_n(to + h * c + i, Isa::div(v, Isa::set1(z[h])), k);
        }
    }
}

template <class Isa>
float dot(const float* a, const float* b, int64_t n) {
    typename Isa::V s[4] = {Isa::zero(), Isa::zero(), Isa::zero(), Isa::zero()};
    int64_t i = 0;
    for (; i + 4 * Isa::kLanes <= n; i += 4 * Isa::kLanes) {
#pragma GCC unroll 4
        for (int v = 0; v < 4; ++v)
            s[v] = Isa::fma(Isa::load(a + i + v * Isa::kLanes), Isa::load(b + i + v * Isa::kLanes), s[v]);
    }
    for (int v = 0; i < n; i += Isa::kLanes, ++v) {
        const int64_t k = n - i < Isa::kLanes ? n - i : Isa::kLanes;
        s[v] = Isa::fma(Isa::load_n(a + i, k), Isa::load_n(b + i, k), s[v]);
    }
    return Isa::sum(Isa::add(Isa::add(s[0], s[1]), Isa::add(s[2], s[3])));
}

template <class Isa>
void axpy(float a, const float* x, float* y, int64_t n) {
    const typename Isa::V va = Isa::set1(a);
    int64_t i = 0;
    for (; i + Isa::kLanes <= n; i += Isa::kLanes) Isa::store(y + i, Isa::fma(va, Isa::load(x + i), Isa::load(y + i)));
    if (i < n) Isa::store_n(y + i, Isa::fma(va, Isa::load_n(x + i, n - i), Isa::load_n(y + i, n - i)), n - i);
}

}  // namespace
}  // namespace vitrine::cpu
