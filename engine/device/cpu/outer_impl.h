// Products whose left matrix is read by strides, written once for every instruction set.
//
// Unnamed namespace, as isa_avx512.h explains. Rows of B are vectors along the result's rows, elements of A are spread over the
// lanes: neither is copied transposed. A tile of sums stays in registers over a chunk of k; chunks are added to C in their order.
#pragma once
#include "engine/device/cpu/outer.h"
#include "engine/device/cpu/support.h"

namespace vitrine::cpu {
namespace {

constexpr int64_t kOuterChunk = 256;

// R rows of C, at most W vectors wide: sum_k a[r, k] b[k, :] over n_k values of k.
template <class Isa, int R, int W>
[[gnu::always_inline]] inline void outer_tile(const OuterProduct& p, int64_t n_k, int64_t n) {
    using V = typename Isa::V;
    V sum[R][W];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
        for (int w = 0; w < W; ++w) sum[r][w] = Isa::zero();
    }
    const int64_t n_last = n - (W - 1) * Isa::kLanes;  // columns in the last vector
    const bool is_whole = n_last >= Isa::kLanes;
    const auto step = [&](int64_t k, V last) __attribute__((always_inline)) {
        const float* row = p.b + k * p.ldb;
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) {
            const V x = Isa::set1(p.a[r * p.a_row + k * p.a_k]);
            if constexpr (W == 2) sum[r][0] = Isa::fma(x, Isa::load(row), sum[r][0]);
            sum[r][W - 1] = Isa::fma(x, last, sum[r][W - 1]);
        }
    };
    const float* last = p.b + (W - 1) * Isa::kLanes;
    if (is_whole) {
        for (int64_t k = 0; k < n_k; ++k) step(k, Isa::load(last + k * p.ldb));
    } else {
        for (int64_t k = 0; k < n_k; ++k) step(k, Isa::load_n(last + k * p.ldb, n_last));
    }
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
        float* row = p.c + r * p.ldc;
        if constexpr (W == 2) Isa::store(row, p.accumulate ? Isa::add(Isa::load(row), sum[r][0]) : sum[r][0]);
        float* end = row + (W - 1) * Isa::kLanes;
        const V v = sum[r][W - 1];
        if (is_whole) Isa::store(end, p.accumulate ? Isa::add(Isa::load(end), v) : v);
        else Isa::store_n(end, p.accumulate ? Isa::add(Isa::load_n(end, n_last), v) : v, n_last);
    }
}

// m <= R rows.
template <class Isa, int R, int W>
void outer_rows(const OuterProduct& p, int64_t m, int64_t n_k, int64_t n) {
    if constexpr (R > 0) {
        if (m == R) return outer_tile<Isa, R, W>(p, n_k, n);
        outer_rows<Isa, R - 1, W>(p, m, n_k, n);
    }
}

template <class Isa>
void outer_product(const OuterProduct& p) {
    constexpr int64_t kLanes = Isa::kLanes, kColumns = 2 * kLanes;
    constexpr int kRows = kLanes == 16 ? 8 : 6;  // 16 or 12 sums, two vectors of B, one of A: of 32 or 16 registers
    for (int64_t i = 0; p.k == 0 && !p.accumulate && i < p.m; ++i)
        for (int64_t j = 0; j < p.n; ++j) p.c[i * p.ldc + j] = 0;
    // Columns of B side by side, if that pays.
    float* panel = static_cast<float*>(thread_scratch(kSlotW, static_cast<size_t>(kOuterChunk * kColumns) * sizeof(float)));
    const bool packs = p.m > 2 * kRows && p.ldb > kColumns;
    for (int64_t k = 0; k < p.k; k += kOuterChunk) {
        const int64_t n_k = p.k - k < kOuterChunk ? p.k - k : kOuterChunk;
        for (int64_t j = 0; j < p.n; j += kColumns) {
            const int64_t n = p.n - j < kColumns ? p.n - j : kColumns;
            OuterProduct tile = p;
            tile.b += k * p.ldb + j, tile.accumulate = p.accumulate || k > 0;
            if (packs) {
                for (int64_t i = 0; i < n_k; ++i)
                    for (int64_t l = 0; l < n; l += kLanes) {
                        const float* from = tile.b + i * p.ldb + l;
                        Isa::store(panel + i * kColumns + l,
                                   n - l >= kLanes ? Isa::load(from) : Isa::load_n(from, n - l));
                    }
                tile.b = panel, tile.ldb = kColumns;
            }
            for (int64_t i = 0; i < p.m; i += kRows) {
                const int64_t m = p.m - i < kRows ? p.m - i : kRows;
                tile.a = p.a + i * p.a_row + k * p.a_k, tile.c = p.c + i * p.ldc + j;
                n > kLanes ? outer_rows<Isa, kRows, 2>(tile, m, n_k, n) : outer_rows<Isa, kRows, 1>(tile, m, n_k, n);
            }
        }
    }
}

}  // namespace
}  // namespace vitrine::cpu
