// Matrix products over packed weights, written once for every instruction set and weight format (a "codec").
//
// For kernels_<isa>.cpp only (unnamed namespace: see isa_avx512.h). Vectors run along the columns k of both operands,
// so that no operand is transposed and a result is summed in the same order whatever the number of rows of x and
// wherever the caller cuts the outputs: per lane over k in steps of one vector, then across lanes by Isa::sum4, then
// over chunks of kChunkVectors.
//   few rows of x (up to Isa::kXTile): weights are widened in registers and used at once (the case bound by memory);
//   more: four weight rows are widened once per chunk into a buffer in the L1 cache and meet all rows of x.
#pragma once
#include "engine/device/cpu/kernels.h"
#include "engine/device/cpu/support.h"

namespace vitrine::cpu {
namespace {

constexpr int kTile = 4;                      // rows of w that meet Isa::kXTile rows of x in registers
constexpr int64_t kLongX = 6 * 1024;          // a packed row of x that weights push out of the L1 cache
constexpr int64_t kXBlockBytes = 384 * 1024;  // packed rows of x that stay in the L2 cache

// Packed x: tiles of up to kXTile rows; in a tile, vector v of row i lies at (v * rows + i) * kBytes.
template <class C>
int64_t packed_vectors(int64_t k) {
    return (k + C::kGroup - 1) / C::kGroup * C::kVectors;
}

template <class C>
void pack_x_rows(const float* x, int64_t ldx, int64_t m, int64_t k, char* out) {
    constexpr int64_t kRows = C::Isa::kXTile;
    const int64_t n_vectors = packed_vectors<C>(k);
    for (int64_t i = 0; i < m; ++i) {
        const int64_t tile = i / kRows * kRows, rows = m - tile < kRows ? m - tile : kRows;
        char* to = out + (tile * n_vectors + i - tile) * C::kBytes;
        const float* from = x + i * ldx;
        typename C::Op v[C::kVectors];
        int64_t j = 0;
        for (; j + C::kGroup <= k; j += C::kGroup) {
            C::pack_x(from + j, v);
            for (int a = 0; a < C::kVectors; ++a, to += rows * C::kBytes) C::store(to, v[a]);
        }
        if (j < k) {
            float last[C::kGroup] = {};
            for (int64_t a = j; a < k; ++a) last[a - j] = from[a];
            C::pack_x(last, v);
            for (int a = 0; a < C::kVectors; ++a, to += rows * C::kBytes) C::store(to, v[a]);
        }
    }
}

// One group of columns of S weight rows meets M rows of x.
template <class C, int M, int S>
[[gnu::always_inline]] inline void step(const Row* rows, const typename C::Block* blocks, int64_t k, int64_t n,
                                        const char* x, typename C::Isa::V (&sum)[S][M]) {
    typename C::Op xv[C::kVectors][M];
#pragma GCC unroll 8
    for (int v = 0; v < C::kVectors; ++v) {
#pragma GCC unroll 8
        for (int i = 0; i < M; ++i) xv[v][i] = C::load(x + (v * M + i) * C::kBytes);
    }
#pragma GCC unroll 8
    for (int s = 0; s < S; ++s) {
        typename C::Op w[C::kVectors];
        if (n >= C::kGroup) {
            C::get(rows[s], blocks[s], k, w);
        } else {
            C::get_n(rows[s], blocks[s], k, n, w);
        }
#pragma GCC unroll 8
        for (int v = 0; v < C::kVectors; ++v) {
#pragma GCC unroll 8
            for (int i = 0; i < M; ++i) sum[s][i] = C::mac(w[v], xv[v][i], sum[s][i]);
        }
    }
}

// Columns [k0, k1) of S weight rows against M rows of x.
template <class C, int M, int S>
[[gnu::always_inline]] inline void direct(const Source& from, const Row* rows, const char* x, int64_t k0, int64_t k1,
                                          typename C::Isa::V (&sum)[S][M]) {
#pragma GCC unroll 8
    for (int s = 0; s < S; ++s) {
#pragma GCC unroll 8
        for (int i = 0; i < M; ++i) sum[s][i] = C::Isa::zero();
    }
    constexpr int64_t kStep = static_cast<int64_t>(C::kVectors) * M * C::kBytes;
    typename C::Block blocks[S];
    int64_t k = k0;
    for (; k + C::kBlock <= k1; k += C::kBlock) {
#pragma GCC unroll 8
        for (int s = 0; s < S; ++s) blocks[s] = C::block(from, rows[s], k, C::kBlock);
#pragma GCC unroll 8
        for (int g = 0; g < C::kBlock; g += C::kGroup, x += kStep)
            step<C, M, S>(rows, blocks, k + g, C::kGroup, x, sum);
    }
    if (k >= k1) return;
    for (int s = 0; s < S; ++s) blocks[s] = C::block(from, rows[s], k, k1 - k);
    for (; k + C::kGroup <= k1; k += C::kGroup, x += kStep) step<C, M, S>(rows, blocks, k, C::kGroup, x, sum);
    if (k < k1) step<C, M, S>(rows, blocks, k, k1 - k, x, sum);
}

// Puts (first chunk) or adds n <= 4 sums to y.
inline void put4(float* y, __m128 s, int64_t n, bool is_first) {
    if (n >= 4) {
        _mm_storeu_ps(y, is_first ? s : _mm_add_ps(_mm_loadu_ps(y), s));
        return;
    }
    alignas(16) float v[4];
    _mm_store_ps(v, s);
    for (int64_t i = 0; i < n; ++i) y[i] = is_first ? v[i] : y[i] + v[i];
}

template <class C>
constexpr int64_t chunk_columns() {
    return static_cast<int64_t>(C::kChunkVectors) / C::kVectors * C::kGroup;
}

// n <= kTile weight rows from each of `o`, `o + apart`, ... (S places) against M <= kXTile rows of x. A row is read to
// its end (or kChunksAtOnce chunks) before the next one; its chunks are put together when the tile's other rows are
// there.
template <class C, int M, int S>
[[gnu::always_inline]] inline void small_tile(const Source& from, const char* x, float* y, int64_t ldy, int64_t o,
                                              int64_t apart, int64_t n) {
    using V = typename C::Isa::V;
    constexpr int64_t kChunk = chunk_columns<C>(), kChunksAtOnce = 8, kStep = C::kVectors * M * C::kBytes;
    for (int64_t first = 0; first < from.w.in; first += kChunksAtOnce * kChunk) {
        const int64_t rest = from.w.in - first,
                      end = first + (rest < kChunksAtOnce * kChunk ? rest : kChunksAtOnce * kChunk);
        V sums[kChunksAtOnce][kTile][S][M];
        for (int r = 0; r < n; ++r) {
            Row rows[S];
#pragma GCC unroll 8
            for (int s = 0; s < S; ++s) rows[s] = C::row(from.w, o + s * apart + r);
            for (int64_t k = first, c = 0; k < end; k += kChunk, ++c) {
                const int64_t k1 = k + kChunk < end ? k + kChunk : end;
                direct<C, M, S>(from, rows, x + k / C::kGroup * kStep, k, k1, sums[c][r]);
            }
        }
        for (int64_t k = first, c = 0; k < end; k += kChunk, ++c) {
            const auto& v = sums[c];
            for (int s = 0; s < S; ++s)
                for (int i = 0; i < M; ++i)
                    put4(y + i * ldy + o + s * apart, C::Isa::sum4(v[0][s][i], v[1][s][i], v[2][s][i], v[3][s][i]), n,
                         k == 0);
        }
    }
}

// Few rows of x: bound by memory. Rows are read as they lie, in two places at once that are far apart; in four where a
// row of x is so long that it leaves the L1 cache between two uses. Measured with BF16 and short rows: two such streams
// read at the bandwidth, one at 92 to 99 %; neighbouring rows side by side at 40 to 60 %, with prefetch at 70 to 85 %.
template <class C, int M, int S>
void stream_rows(const Source& from, const char* x, float* y, int64_t ldy, int64_t o0, int64_t o1) {
    const int64_t apart = (o1 - o0) / S / kTile * kTile;
    for (int64_t o = o0; o < o0 + apart; o += kTile) small_tile<C, M, S>(from, x, y, ldy, o, apart, kTile);
    for (int64_t o = o0 + apart * S; o < o1; o += kTile)
        small_tile<C, M, 1>(from, x, y, ldy, o, 0, o1 - o < kTile ? o1 - o : kTile);
}

template <class C, int M>
void small_gemm(const Source& from, const float* x, int64_t ldx, float* y, int64_t ldy, int64_t o0, int64_t o1) {
    const int64_t x_bytes = packed_vectors<C>(from.w.in) * M * C::kBytes;
    char* packed = static_cast<char*>(thread_scratch(kSlotX, static_cast<size_t>(x_bytes)));
    pack_x_rows<C>(x, ldx, M, from.w.in, packed);
    if (M == 1 && x_bytes > kLongX) return stream_rows<C, M, 4>(from, packed, y, ldy, o0, o1);
    stream_rows<C, M, 2>(from, packed, y, ldy, o0, o1);
}

// Widened weights against M packed rows of x, both interleaved by vector: all of it contiguous.
template <class C, int M>
void panel_tile(const char* w, const char* x, int64_t n_vectors, float* y, int64_t ldy, int64_t n, bool is_first) {
    typename C::Isa::V sum[M][kTile];
#pragma GCC unroll 8
    for (int i = 0; i < M; ++i) {
#pragma GCC unroll 8
        for (int r = 0; r < kTile; ++r) sum[i][r] = C::Isa::zero();
    }
    for (int64_t v = 0; v < n_vectors; ++v, w += kTile * C::kBytes, x += M * C::kBytes) {
        typename C::Op wv[kTile];
#pragma GCC unroll 8
        for (int r = 0; r < kTile; ++r) wv[r] = C::load(w + r * C::kBytes);
#pragma GCC unroll 8
        for (int i = 0; i < M; ++i) {
            const typename C::Op xv = C::load(x + i * C::kBytes);
#pragma GCC unroll 8
            for (int r = 0; r < kTile; ++r) sum[i][r] = C::mac(wv[r], xv, sum[i][r]);
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < M; ++i)
        put4(y + i * ldy, C::Isa::sum4(sum[i][0], sum[i][1], sum[i][2], sum[i][3]), n, is_first);
}

// Columns [k0, k1) of kTile weight rows, widened and interleaved by vector.
template <class C>
void widen_panel(const Source& from, const Row* rows, int64_t k0, int64_t k1, char* panel) {
    for (int r = 0; r < kTile; ++r) {
        char* out = panel + r * C::kBytes;
        for (int64_t k = k0; k < k1; k += C::kBlock) {
            const int64_t n_block = k1 - k < C::kBlock ? k1 - k : C::kBlock;
            const typename C::Block block = C::block(from, rows[r], k, n_block);
            for (int64_t g = 0; g < n_block; g += C::kGroup, out += kTile * C::kVectors * C::kBytes) {
                typename C::Op v[C::kVectors];
                if (n_block - g >= C::kGroup) {
                    C::get(rows[r], block, k + g, v);
                } else {
                    C::get_n(rows[r], block, k + g, n_block - g, v);
                }
                for (int a = 0; a < C::kVectors; ++a) C::store(out + a * kTile * C::kBytes, v[a]);
            }
        }
    }
}

template <int N>
struct Number {
    static constexpr int value = N;
};
// f(Number<rows>) for 1 <= rows <= N.
template <int N, class F>
[[gnu::always_inline]] inline void with_rows(int64_t rows, F&& f) {
    if constexpr (N == 1) {
        f(Number<1>{});
    } else if (rows == N) {
        f(Number<N>{});
    } else {
        with_rows<N - 1>(rows, f);
    }
}

template <class C>
void panel_rows(const char* w, const char* x, int64_t all_vectors, int64_t first_vector, int64_t n_vectors, int64_t m,
                float* y, int64_t ldy, int64_t n) {
    constexpr int64_t kRows = C::Isa::kXTile;
    for (int64_t t = 0; t < m; t += kRows) {
        const int64_t rows = m - t < kRows ? m - t : kRows;
        const char* xt = x + (t * all_vectors + first_vector * rows) * C::kBytes;
        float* yt = y + t * ldy;
        const bool is_first = first_vector == 0;
        with_rows<kRows>(rows, [&](auto r) { panel_tile<C, r.value>(w, xt, n_vectors, yt, ldy, n, is_first); });
    }
}

template <class C>
void large_gemm(const Source& from, const float* x, int64_t ldx, int64_t m, float* y, int64_t ldy, int64_t o0,
                int64_t o1) {
    const PackedMatrix& w = from.w;
    const int64_t n_vectors = packed_vectors<C>(w.in);
    constexpr int64_t kRows = C::Isa::kXTile;
    int64_t block = kXBlockBytes / (n_vectors * C::kBytes) / kRows * kRows;
    if (block < 16) block = 16;
    if (block > m) block = m;
    char* packed = static_cast<char*>(thread_scratch(kSlotX, static_cast<size_t>(block * n_vectors * C::kBytes)));
    char* panel = static_cast<char*>(thread_scratch(kSlotW, static_cast<size_t>(kTile * C::kChunkVectors * C::kBytes)));
    constexpr int64_t kChunk = chunk_columns<C>();
    for (int64_t t = 0; t < m; t += block) {
        const int64_t rows = m - t < block ? m - t : block;
        pack_x_rows<C>(x + t * ldx, ldx, rows, w.in, packed);
        for (int64_t o = o0; o < o1; o += kTile) {
            const int64_t n = o1 - o < kTile ? o1 - o : kTile;
            Row wr[kTile];
            for (int r = 0; r < kTile; ++r) wr[r] = C::row(w, o + (r < n ? r : n - 1));
            for (int64_t k = 0, v = 0; k < w.in; k += kChunk, v += C::kChunkVectors) {
                const int64_t end = k + kChunk < w.in ? k + kChunk : w.in;
                widen_panel<C>(from, wr, k, end, panel);
                panel_rows<C>(panel, packed, n_vectors, v, packed_vectors<C>(end - k), rows, y + t * ldy + o, ldy, n);
            }
        }
    }
}

template <class C>
void packed_gemm(const PackedMatrix& w, const float* x, int64_t ldx, int64_t m, float* y, int64_t ldy, int64_t o0,
                 int64_t o1) {
    const Source from{w, tables()};
    if (m > C::Isa::kXTile) return large_gemm<C>(from, x, ldx, m, y, ldy, o0, o1);
    if (m > 0) with_rows<C::Isa::kXTile>(m, [&](auto r) { small_gemm<C, r.value>(from, x, ldx, y, ldy, o0, o1); });
}

// Any format and block size: rows are widened by plain loops, a few at a time, and used as FP32.
template <class F32>
void widened_gemm(const PackedMatrix& w, const float* x, int64_t ldx, int64_t m, float* y, int64_t ldy, int64_t o0,
                  int64_t o1) {
    constexpr int64_t kRows = 32;
    float* rows = static_cast<float*>(thread_scratch(kSlotOther, static_cast<size_t>(kRows * w.in) * 4));
    for (int64_t o = o0; o < o1; o += kRows) {
        const int64_t n = o1 - o < kRows ? o1 - o : kRows;
        for (int64_t r = 0; r < n; ++r) widen_row(w, o + r, rows + r * w.in);
        const PackedMatrix some{rows, nullptr, DType::f32, DType::f32, n, w.in};
        packed_gemm<F32>(some, x, ldx, m, y + o, ldy, 0, n);
    }
}

}  // namespace
}  // namespace vitrine::cpu
