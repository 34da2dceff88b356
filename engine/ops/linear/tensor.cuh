// Tensor cores: BF16 products with FP32 sums, and packed weights as BF16 pairs.
#pragma once
#include <algorithm>

#include "engine/ops/linear/packed.cuh"

namespace vitrine::cuda {

// c [16, 8] += A [16, 16] B [16, 8]. Lane 4 g + t holds of A: rows g and g + 8, columns 2t, 2t + 1 (a[0], a[1]) and 8 further
// (a[2], a[3]); of B: column g, rows 2t, 2t + 1 and 8 further; of c: rows g (c[0], c[1]) and g + 8, columns 2t and 2t + 1.
__device__ inline void multiply_16x8x16(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0,
                                        uint32_t b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

__device__ inline uint32_t pair_bits(__nv_bfloat162 v) { return *reinterpret_cast<const uint32_t*>(&v); }
__device__ inline uint32_t times(uint32_t pair, uint32_t factor) {
    return pair_bits(__hmul2(*reinterpret_cast<const __nv_bfloat162*>(&pair), *reinterpret_cast<const __nv_bfloat162*>(&factor)));
}
// 2^(code - 127 + bias) as a pair, for code + bias in 1 .. 254.
__device__ inline uint32_t power_pair(uint32_t code, uint32_t bias) { return ((code + bias) << 7) * 0x10001u; }

// Eight weights as four BF16 pairs (0,1), (2,3), (4,5), (6,7), with their scale applied.
struct Eight {
    uint32_t pair[4];
};

template <DType D>
__device__ inline Eight slow_eight(const uint4& raw, int part, float scale) {
    const float4 a = widen_four<D>(raw, 2 * part), b = widen_four<D>(raw, 2 * part + 1);
    const auto pair = [&](float x, float y) { return pair_bits(__floats2bfloat162_rn(x * scale, y * scale)); };
    return {{pair(a.x, a.y), pair(a.z, a.w), pair(b.x, b.y), pair(b.z, b.w)}};
}

// Elements 8 part .. 8 part + 7 of a chunk. E8M0 scales, `code` is that of the chunk. The codes' exponents and mantissas are
// moved to those of a BF16 number, and one exact product makes up for the other bias and applies the scale; NaN codes and
// scales too large for that go the long way.
template <DType D>
__device__ inline Eight eight_of(const uint4& raw, int part, uint32_t code) {
    if constexpr (D == DType::bf16) {
        return {{raw.x, raw.y, raw.z, raw.w}};
    } else if constexpr (D == DType::f8_e4m3) {
        const uint32_t u = word_of(raw, 2 * part), v = word_of(raw, 2 * part + 1);
        const uint32_t nan = ((u & 0x7f7f7f7fu) + 0x01010101u) | ((v & 0x7f7f7f7fu) + 0x01010101u);
        if ((nan & 0x80808080u) || code > 134) return slow_eight<D>(raw, part, cpu::e8m0_to_f32(static_cast<uint8_t>(code)));
        const uint32_t factor = power_pair(code, 120);
        const auto pair = [&](uint32_t w, uint32_t which) {
            const uint32_t p = __byte_perm(w, 0, which);
            return times((p >> 4 & 0x07f007f0u) | (p & 0x80008000u), factor);
        };
        return {{pair(u, 0x1404), pair(u, 0x3424), pair(v, 0x1404), pair(v, 0x3424)}};
    } else {
        const uint32_t u = word_of(raw, part);
        if (code > 128) return slow_eight<D>(raw, part, cpu::e8m0_to_f32(static_cast<uint8_t>(code)));
        const uint32_t factor = power_pair(code, 126);
        // Codes i and i + 4 side by side.
        const uint32_t p0 = times((u << 6 & 0x01c001c0u) | (u << 12 & 0x80008000u), factor);
        const uint32_t p1 = times((u << 2 & 0x01c001c0u) | (u << 8 & 0x80008000u), factor);
        const uint32_t p2 = times((u >> 2 & 0x01c001c0u) | (u << 4 & 0x80008000u), factor);
        const uint32_t p3 = times((u >> 6 & 0x01c001c0u) | (u & 0x80008000u), factor);
        return {
            {__byte_perm(p0, p1, 0x5410), __byte_perm(p2, p3, 0x5410), __byte_perm(p0, p1, 0x7632), __byte_perm(p2, p3, 0x7632)}};
    }
}

// What these kernels take: weights that are BF16 numbers in rows of whole 16-byte chunks, so that rows of x are aligned too, and
// scales in the blocks of the file formats.
inline bool fits_tensor_cores(const cpu::PackedMatrix& w) {
    if (!is_bf16_exact(w) || !has_whole_chunks(w)) return false;
    if (w.dtype == DType::f8_e4m3) return w.block_rows == 128 && w.block_cols == 128;
    return w.dtype == DType::bf16 || (w.block_rows == 1 && w.block_cols == 32);
}

// One row of such a matrix.
template <DType D>
struct ChunkRow {
    const uint4* data;
    const uint8_t* scale;
    __device__ ChunkRow(const cpu::PackedMatrix& w, int64_t row) {
        data = reinterpret_cast<const uint4*>(static_cast<const std::byte*>(w.data) + row * row_bytes<D>(w));
        if constexpr (D == DType::f8_e4m3) scale = static_cast<const uint8_t*>(w.scale) + row / 128 * ((w.in + 127) / 128);
        else scale = static_cast<const uint8_t*>(w.scale) + row * (w.in / 32);
    }
    __device__ uint4 chunk(int c) const { return __ldg(data + c); }
    __device__ uint32_t code(int c) const {
        if constexpr (D == DType::bf16) return 0;
        else return __ldg(scale + (D == DType::f8_e4m3 ? c / 8 : c));
    }
};

// Which lines the second-level cache gives up first: those that are read once, where the weights of a token are more than it holds,
// so that code, activations and cache rows stay.
__device__ inline uint64_t cache_policy(bool is_once) {
    uint64_t policy;
    if (is_once) asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
    else asm("createpolicy.fractional.L2::evict_normal.b64 %0, 1.0;" : "=l"(policy));
    return policy;
}
__device__ inline uint4 load_by(uint64_t policy, const uint4* from) {
    uint4 v;
    asm volatile("ld.global.nc.L1::no_allocate.L2::cache_hint.v4.u32 {%0, %1, %2, %3}, [%4], %5;"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(from), "l"(policy));
    return v;
}
// To the second-level cache, whole 16 bytes.
__device__ inline void prefetch_by(uint64_t policy, const std::byte* from, uint32_t bytes) {
#if __CUDA_ARCH__ >= 900
    asm volatile("cp.async.bulk.prefetch.L2.global.L2::cache_hint [%0], %1, %2;" ::"l"(from), "r"(bytes), "l"(policy));
#else
    for (uint32_t i = 0; i < bytes; i += 128) prefetch(from + i);
#endif
}

constexpr int kAhead = 4;  // quadruples of chunks that a warp has on their way

// Few rows: 16 rows of W from `row0` times 8 columns, one row of x each, over groups of kAhead neighbouring quadruples of chunks
// first, first + step, ... Lane 4 g + t reads chunk t of a quadruple of rows g and g + 8, and the same columns of x: which of them
// a tensor core calls k is the same for both. The order of a column's sum depends on the matrix, first and step alone.
template <DType D>
struct RowsAhead {
    ChunkRow<D> low, high;
    int n_chunks, first, step;
    uint64_t policy;  // of the second-level cache
    uint4 raw[kAhead][2];
    uint32_t code[kAhead][2];

    // Asks for the first group: weights depend on no kernel, so this may come before after_previous(). is_at_work: else nothing.
    __device__ RowsAhead(const cpu::PackedMatrix& w, int64_t row0, int first_group, int n_groups, bool is_at_work, bool is_once)
        : RowsAhead(w, row0, w, row0 + 8, first_group, n_groups, is_at_work, is_once) {}
    // Of eight rows of one matrix and eight of another of the same shape and format. is_once: nobody reads them soon again.
    __device__ RowsAhead(const cpu::PackedMatrix& w, int64_t row0, const cpu::PackedMatrix& v, int64_t other_row0, int first_group,
                         int n_groups, bool is_at_work, bool is_once)
        : low(w, min(row0 + threadIdx.x % kWarp / 4, w.out - 1)),
          high(v, min(other_row0 + threadIdx.x % kWarp / 4, v.out - 1)),
          n_chunks(is_at_work ? static_cast<int>(w.in / kChunk<D>) : 0),
          first(first_group * kAhead),
          step(n_groups * kAhead),
          policy(cache_policy(is_once)) {
#pragma unroll
        for (int a = 0; a < kAhead; ++a) fetch(a, first + a);
    }
    __device__ void fetch(int a, int quadruple) {
        const int c = quadruple * 4 + static_cast<int>(threadIdx.x) % 4;
        if (c >= n_chunks) return;
        raw[a][0] = load_by(policy, low.data + c), raw[a][1] = load_by(policy, high.data + c);
        code[a][0] = low.code(c), code[a][1] = high.code(c);
    }
    __device__ uint4 columns(const bf16* x, int chunk, int part) const {
        if (!x || chunk >= n_chunks) return {0, 0, 0, 0};
        return reinterpret_cast<const uint4*>(x + static_cast<int64_t>(chunk) * kChunk<D>)[part];
    }
    // `x`: the row of this lane's column (lane / 4), or null for none: zeros.
    __device__ void multiply(const bf16* x, float (&sum)[4]) {
        multiply_by([&](int chunk, int part) { return columns(x, chunk, part); }, sum);
    }
    // columns(chunk, part): eight of this lane's column of x.
    template <class Columns>
    __device__ void multiply_by(Columns&& columns, float (&sum)[4]) {
        constexpr int kParts = kChunk<D> / 8;
        const int t = static_cast<int>(threadIdx.x) % 4, n = (n_chunks + 3) / 4;
        for (int base = first; base < n; base += step) {
            uint4 ahead[kAhead];  // of x, where a chunk meets no more than 16 bytes of it
#pragma unroll
            for (int a = 0; a < kAhead && kParts == 1; ++a) ahead[a] = columns((base + a) * 4 + t, 0);
#pragma unroll
            for (int a = 0; a < kAhead; ++a) {
                if (base + a >= n) break;
                const bool is_there = (base + a) * 4 + t < n_chunks;
                const uint4 u = is_there ? raw[a][0] : uint4{0, 0, 0, 0}, v = is_there ? raw[a][1] : uint4{0, 0, 0, 0};
                const uint32_t cu = is_there ? code[a][0] : 0, cv = is_there ? code[a][1] : 0;
                fetch(a, base + step + a);
#pragma unroll
                for (int part = 0; part < kParts; ++part) {
                    const uint4 b = kParts == 1 ? ahead[a] : columns((base + a) * 4 + t, part);
                    const Eight lo = eight_of<D>(u, part, cu), hi = eight_of<D>(v, part, cv);
                    multiply_16x8x16(sum, lo.pair[0], hi.pair[0], lo.pair[1], hi.pair[1], b.x, b.y);
                    multiply_16x8x16(sum, lo.pair[2], hi.pair[2], lo.pair[3], hi.pair[3], b.z, b.w);
                }
            }
        }
    }
};

// The same for any format that fits_tensor_cores; of eight rows of w and eight of v.
__device__ inline void add_tensor_products(const cpu::PackedMatrix& w, int64_t row0, const cpu::PackedMatrix& v, int64_t other_row0,
                                           const bf16* x, int first, int step, float (&sum)[4]) {
    const auto add = [&](auto rows) { rows.multiply(x, sum); };
    if (w.dtype == DType::bf16) add(RowsAhead<DType::bf16>(w, row0, v, other_row0, first, step, true, false));
    else if (w.dtype == DType::f8_e4m3) add(RowsAhead<DType::f8_e4m3>(w, row0, v, other_row0, first, step, true, false));
    else add(RowsAhead<DType::fp4_e2m1>(w, row0, v, other_row0, first, step, true, false));
}
__device__ inline void add_tensor_products(const cpu::PackedMatrix& w, int64_t row0, const bf16* x, int first, int step,
                                           float (&sum)[4]) {
    add_tensor_products(w, row0, w, row0 + 8, x, first, step, sum);
}
// Brings groups first, first + step, ... of such rows to the second-level cache, `n_groups` of them at most.
__device__ inline void prefetch_rows(const cpu::PackedMatrix& w, int64_t row0, int first, int step, int n_groups, bool is_once) {
    const uint64_t policy = cache_policy(is_once);
    const int bits = w.dtype == DType::bf16 ? 16 : w.dtype == DType::f8_e4m3 ? 8 : 4, lane = threadIdx.x % kWarp;
    const int64_t size = w.in * bits / 8;
    // A group is 256 bytes of each of 16 rows: a lane each.
    const auto* row = static_cast<const std::byte*>(w.data) + min(row0 + lane, w.out - 1) * size;
    for (int i = 0; i < n_groups && lane < 16; ++i) {
        const int64_t at = static_cast<int64_t>(first + i * step) * (kAhead * 64);
        if (at >= size) break;
        const auto bytes = static_cast<uint32_t>(min(size - at, static_cast<int64_t>(kAhead * 64)));
        prefetch_by(policy, row + at, bytes);
    }
}
// Warps that share a row's sum: four quadruples of chunks each, as long as there are warps.
inline int tensor_warps(const cpu::PackedMatrix& w, int most) {
    const int64_t n = (w.in / chunk_of(w.dtype) + 3) / 4;
    return static_cast<int>(std::clamp<int64_t>((n + 3) / 4, 1, most));
}

// A warp's sums to `to` [8 columns][16 rows].
__device__ inline void store_sums(const float (&sum)[4], float* to) {
    const int lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4;
    to[2 * t * 16 + g] = sum[0], to[(2 * t + 1) * 16 + g] = sum[1];
    to[2 * t * 16 + g + 8] = sum[2], to[(2 * t + 1) * 16 + g + 8] = sum[3];
}

// 128 columns of a row from `b` after the FP8 simulation, by one warp: x [width], a multiple of 4, to `to` in shared memory. The
// same bits as fp8_rows.
__device__ inline void stage_fp8_block(const bf16* x, int64_t width, int64_t b, bf16* to) {
    const int64_t col = b + threadIdx.x % kWarp * 4;
    const float4 v = col < width ? load_four(x + col, width - col, true) : float4{0, 0, 0, 0};
    const Fp8Scale s = fp8_scale_of(v);
    if (col < width)
        store_four(to + col, {through_fp8(v.x, s), through_fp8(v.y, s), through_fp8(v.z, s), through_fp8(v.w, s)}, 4, true);
}
// Rows [0, n_rows) by the whole block: row(i) is where row i lies (null: left out), width(i) its columns, at most `widest`; they
// are `pitch` apart at `to`.
template <class Row, class Width>
__device__ inline void stage_fp8_rows(Row&& row, Width&& width, int n_rows, int64_t widest, bf16* to, int64_t pitch) {
    const int per_row = static_cast<int>((widest + 127) / 128);
    for (int at = threadIdx.x / kWarp; at < n_rows * per_row; at += blockDim.x / kWarp) {
        const int i = at / per_row, b = at % per_row * 128;
        const bf16* x = row(i);
        if (x && b < width(i)) stage_fp8_block(x, width(i), b, to + i * pitch);
    }
}

}  // namespace vitrine::cuda
