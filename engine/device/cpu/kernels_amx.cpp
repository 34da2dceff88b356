// Kernels for AMX-BF16: products of 16x32 by 32x16 BF16 tiles when there are many rows of x; everything else as
// avx512_bf16.
//
// The weights are the first operand: a tile's 16 rows are 16 rows of the (widened) weights as they lie, so only x is
// rearranged, once per call: pairs of columns of 16 rows of x, interleaved. A tile of sums is then y transposed. Unlike
// the other paths a result is summed over k in order (pair by pair), so its last bits differ from those of a call with
// few rows of x.
//
// Untested: no machine with AMX was at hand when this was written. Therefore kernels.cpp lets it run only where it
// agrees with the AVX-512 kernels in a small product at start-up; kernels_test covers it on processors that have it.
#include <immintrin.h>

#include "engine/device/cpu/isa_avx512_bf16.h"
#include "engine/device/cpu/gemm_impl.h"
#include "engine/device/cpu/kernel_tables.h"

namespace vitrine::cpu {
namespace {

constexpr int64_t kFewRows = 16;  // of x: below, tiles would be mostly empty

// Palette 1, all eight tiles of 16 rows of 64 bytes.
struct alignas(64) TileConfig {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(TileConfig) == 64);

// 16 rows of x (the missing ones zero) in groups of 32 columns: word [k/2 within the group][row] holds columns k and k
// + 1. The columns are first put into the order of the weights' codec.
template <class C>
void pack_x_tile(const float* x, int64_t ldx, int64_t rows, int64_t k, char* out) {
    const int64_t n_vectors = packed_vectors<C>(k);
    char* line = static_cast<char*>(thread_scratch(kSlotOther, static_cast<size_t>(n_vectors * C::kBytes)));
    for (int64_t i = 0; i < 16; ++i) {
        if (i < rows) {
            pack_x_rows<C>(x + i * ldx, ldx, 1, k, line);
        } else {
            __builtin_memset(line, 0, static_cast<size_t>(n_vectors * C::kBytes));
        }
        for (int64_t v = 0; v < n_vectors; ++v) {
            for (int64_t a = 0; a < 16; ++a)
                __builtin_memcpy(out + (v * 16 + a) * 64 + i * 4, line + v * 64 + a * 4, 4);
        }
    }
}

// 32 weight rows against 32 rows of x (two tiles each), all columns.
void multiply(const char* w, int64_t w_stride, const char* x0, const char* x1, int64_t n_vectors, float* sums) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t v = 0; v < n_vectors; ++v) {
        _tile_loadd(4, w + v * 64, w_stride);
        _tile_loadd(5, w + 16 * w_stride + v * 64, w_stride);
        _tile_loadd(6, x0 + v * 1024, 64);
        _tile_loadd(7, x1 + v * 1024, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, sums, 128);
    _tile_stored(1, sums + 16, 128);
    _tile_stored(2, sums + 512, 128);
    _tile_stored(3, sums + 528, 128);
}

// Widened weights: 32 rows of all columns, `stride` bytes apart.
template <class C>
void widen_rows(const Source& from, int64_t o, int64_t n, int64_t stride, char* out) {
    for (int64_t r = 0; r < n; ++r) {
        const Row row = C::row(from.w, o + r);
        char* to = out + r * stride;
        for (int64_t k = 0; k < from.w.in; k += C::kBlock) {
            const int64_t n_block = from.w.in - k < C::kBlock ? from.w.in - k : C::kBlock;
            const typename C::Block block = C::block(from, row, k, n_block);
            for (int64_t g = 0; g < n_block; g += C::kGroup) {
                typename C::Op v[C::kVectors];
                if (n_block - g >= C::kGroup) {
                    C::get(row, block, k + g, v);
                } else {
                    C::get_n(row, block, k + g, n_block - g, v);
                }
                for (int a = 0; a < C::kVectors; ++a, to += C::kBytes) C::store(to, v[a]);
            }
        }
    }
}

template <class C>
void tiled_gemm(const PackedMatrix& w, const float* x, int64_t ldx, int64_t m, float* y, int64_t ldy, int64_t o0,
                int64_t o1) {
    const Source from{w, tables()};
    const int64_t n_vectors = packed_vectors<C>(w.in), tile_bytes = n_vectors * 1024, stride = n_vectors * 64 + 64;
    const int64_t n_tiles = (m + 31) / 32 * 2;
    char* xs = static_cast<char*>(thread_scratch(kSlotX, static_cast<size_t>(n_tiles * tile_bytes)));
    for (int64_t i = 0; i < n_tiles; ++i) {
        const int64_t rows = m - i * 16 < 0 ? 0 : m - i * 16 < 16 ? m - i * 16 : 16;
        pack_x_tile<C>(x + (rows ? i * 16 : 0) * ldx, ldx, rows, w.in, xs + i * tile_bytes);
    }
    char* ws = static_cast<char*>(thread_scratch(kSlotW, static_cast<size_t>(32 * stride)));
    const TileConfig config;
    _tile_loadconfig(&config);
    alignas(64) float sums[32 * 32];
    for (int64_t o = o0; o < o1; o += 32) {
        const int64_t n = o1 - o < 32 ? o1 - o : 32;
        widen_rows<C>(from, o, n, stride, ws);  // rows beyond n keep older numbers: their sums are not used
        for (int64_t t = 0; t < m; t += 32) {
            multiply(ws, stride, xs + t / 16 * tile_bytes, xs + (t / 16 + 1) * tile_bytes, n_vectors, sums);
            const int64_t rows = m - t < 32 ? m - t : 32;
            for (int64_t i = 0; i < rows; ++i) {
                for (int64_t r = 0; r < n; ++r) y[(t + i) * ldy + o + r] = sums[r * 32 + i];
            }
        }
    }
    _tile_release();
}

void gemm_bf16(const PackedMatrix& w, const float* x, int64_t ldx, int64_t m, float* y, int64_t ldy, int64_t o0,
               int64_t o1) {
    if (m >= kFewRows) {
        if (w.dtype == DType::bf16) return tiled_gemm<Bf16Dot>(w, x, ldx, m, y, ldy, o0, o1);
        if (w.dtype == DType::f8_e4m3 && w.block_rows >= 1 && w.block_cols == 128 && w.scale_dtype == DType::f8_e8m0)
            return tiled_gemm<Fp8Dot>(w, x, ldx, m, y, ldy, o0, o1);
        if (w.dtype == DType::fp4_e2m1 && w.block_rows == 1 && w.block_cols == 32)
            return tiled_gemm<Fp4Dot>(w, x, ldx, m, y, ldy, o0, o1);
    }
    avx512_bf16_kernels().gemm_bf16(w, x, ldx, m, y, ldy, o0, o1);
}

}  // namespace

const Kernels& amx_kernels() {
    static const Kernels table = [] {
        Kernels k = avx512_bf16_kernels();
        k.name = "amx_bf16";
        k.gemm_bf16 = gemm_bf16;
        return k;
    }();
    return table;
}

}  // namespace vitrine::cpu
