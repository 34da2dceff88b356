// Packed weights in kernels: 16-byte chunks of a row, widened in registers.
#pragma once
#include <cuda_fp8.h>

#include <type_traits>

#include "engine/ops/kernel.cuh"

namespace vitrine::cuda {

// Elements in 16 bytes.
template <DType D>
inline constexpr int kChunk = D == DType::f32 ? 4 : D == DType::f8_e4m3 ? 16 : D == DType::fp4_e2m1 ? 32 : 8;
template <DType D>
inline constexpr bool kIsScaled = D == DType::f8_e4m3 || D == DType::fp4_e2m1;

inline int chunk_of(DType t) { return static_cast<int>(128 / dtype_bits(t)); }
// Rows start at multiples of 16 bytes and hold whole chunks.
inline bool has_whole_chunks(const cpu::PackedMatrix& w) { return w.in % chunk_of(w.dtype) == 0; }
// Every weight is a BF16 number: FP8 and FP4 codes with scales that are powers of two have at most four bits.
inline bool is_bf16_exact(const cpu::PackedMatrix& w) {
    return w.dtype == DType::bf16 ||
           ((w.dtype == DType::f8_e4m3 || w.dtype == DType::fp4_e2m1) && w.scale_dtype == DType::f8_e8m0);
}

// Calls f with the format as a constant. A scale serves whole chunks.
template <class F>
void with_format(const cpu::PackedMatrix& w, F&& f) {
    VITRINE_ASSERT(w.scale == nullptr || w.block_cols % chunk_of(w.dtype) == 0);
    switch (w.dtype) {
        case DType::f32: return f(std::integral_constant<DType, DType::f32>{});
        case DType::bf16: return f(std::integral_constant<DType, DType::bf16>{});
        case DType::f16: return f(std::integral_constant<DType, DType::f16>{});
        case DType::f8_e4m3: return f(std::integral_constant<DType, DType::f8_e4m3>{});
        case DType::fp4_e2m1: return f(std::integral_constant<DType, DType::fp4_e2m1>{});
        default:
            throw Error(ErrorKind::bad_input, std::string("weights in ") + dtype_name(w.dtype) +
                                                  ": expected F32, BF16, F16, F8_E4M3 or FP4 on a GPU; --device cpu runs them");
    }
}

template <DType D>
__device__ inline int64_t row_bytes(const cpu::PackedMatrix& w) {
    if constexpr (D == DType::fp4_e2m1) return (w.in + 1) / 2;
    else return w.in * 16 / kChunk<D>;
}

// Chunk `at` of a row: 16 bytes; what lies beyond the row's end is zero.
template <DType D>
__device__ inline uint4 load_chunk(const cpu::PackedMatrix& w, int64_t row, int64_t at, bool is_whole) {
    const int64_t size = row_bytes<D>(w), first = at * 16;
    const auto* p = static_cast<const uint8_t*>(w.data) + row * size + first;
    if (is_whole) return __ldg(reinterpret_cast<const uint4*>(p));
    uint32_t words[4] = {0, 0, 0, 0};
#pragma unroll
    for (int i = 0; i < 16; ++i)
        if (first + i < size) words[i / 4] |= static_cast<uint32_t>(p[i]) << (i % 4 * 8);
    return {words[0], words[1], words[2], words[3]};
}

// To the second-level cache.
__device__ inline void prefetch(const void* p) { asm volatile("prefetch.global.L2 [%0];" ::"l"(p)); }
// A row of a small matrix, of any type but packed ones, by all threads of the block.
__device__ inline void prefetch_row(const cpu::PackedMatrix& w, int64_t row) {
    const int64_t bytes = w.in * (w.dtype == DType::i64 ? 8 : w.dtype == DType::f32 || w.dtype == DType::i32 ? 4 : 2);
    if (w.scale) return;
    for (int64_t i = threadIdx.x * 128; i < bytes; i += blockDim.x * 128)
        prefetch(static_cast<const std::byte*>(w.data) + row * bytes + i);
}

// The scale of element (row, col); 1 for formats without.
template <DType D>
__device__ inline float scale_at(const cpu::PackedMatrix& w, int64_t row, int64_t col) {
    if constexpr (!kIsScaled<D>) return 1;
    const auto r = static_cast<uint32_t>(row), c = static_cast<uint32_t>(col),
               n = static_cast<uint32_t>(w.in);  // 32 bits divide faster
    const uint32_t rows = w.block_rows, cols = w.block_cols;
    const int64_t i = static_cast<int64_t>(r / rows) * ((n + cols - 1) / cols) + c / cols;
    return w.scale_dtype == DType::f32 ? static_cast<const float*>(w.scale)[i]
                                       : cpu::e8m0_to_f32(static_cast<const uint8_t*>(w.scale)[i]);
}

__device__ inline uint32_t word_of(const uint4& raw, int i) { return i == 0 ? raw.x : i == 1 ? raw.y : i == 2 ? raw.z : raw.w; }

__device__ inline float2 bf16_pair(uint32_t u) { return {__uint_as_float(u << 16), __uint_as_float(u & 0xffff0000u)}; }
__device__ inline float2 f16_pair(uint32_t u) {
    const __half2_raw raw{static_cast<unsigned short>(u), static_cast<unsigned short>(u >> 16)};
    return __half22float2(__half2(raw));
}
__device__ inline float2 fp8_pair(uint32_t u) {
    return __half22float2(__half2(__nv_cvt_fp8x2_to_halfraw2(static_cast<__nv_fp8x2_storage_t>(u), __NV_E4M3)));
}
// The code's exponent and mantissa moved to those of a float, whose bias is 126 greater.
__device__ inline float fp4_value(uint32_t nibble) {
    return __fmul_rn(__uint_as_float((nibble & 7u) << 22 | (nibble & 8u) << 28), 0x1p126f);
}

// Elements 4 part .. 4 part + 3 of a chunk, without their scale. `part` is a constant after unrolling.
template <DType D>
__device__ inline float4 widen_four(const uint4& raw, int part) {
    if constexpr (D == DType::f32) {
        return {__uint_as_float(raw.x), __uint_as_float(raw.y), __uint_as_float(raw.z), __uint_as_float(raw.w)};
    } else if constexpr (D == DType::fp4_e2m1) {
        const uint32_t u = word_of(raw, part / 2) >> (part % 2 * 16);
        return {fp4_value(u), fp4_value(u >> 4), fp4_value(u >> 8), fp4_value(u >> 12)};
    } else {
        float2 a, b;
        if constexpr (D == DType::f8_e4m3) {
            const uint32_t u = word_of(raw, part);
            a = fp8_pair(u & 0xffffu), b = fp8_pair(u >> 16);
        } else if constexpr (D == DType::bf16) {
            a = bf16_pair(word_of(raw, 2 * part)), b = bf16_pair(word_of(raw, 2 * part + 1));
        } else {
            a = f16_pair(word_of(raw, 2 * part)), b = f16_pair(word_of(raw, 2 * part + 1));
        }
        return {a.x, a.y, b.x, b.y};
    }
}

// x[0 .. 3] of which `left` are there, the others zero. `is_whole`: all are, and x is aligned to four elements.
__device__ inline float4 load_four(const float* x, int64_t left, bool is_whole) {
    if (is_whole) return *reinterpret_cast<const float4*>(x);
    return {left > 0 ? x[0] : 0, left > 1 ? x[1] : 0, left > 2 ? x[2] : 0, left > 3 ? x[3] : 0};
}
__device__ inline float4 load_four(const bf16* x, int64_t left, bool is_whole) {
    if (!is_whole)
        return {left > 0 ? widen(x[0]) : 0, left > 1 ? widen(x[1]) : 0, left > 2 ? widen(x[2]) : 0, left > 3 ? widen(x[3]) : 0};
    const uint2 u = *reinterpret_cast<const uint2*>(x);
    const float2 a = bf16_pair(u.x), b = bf16_pair(u.y);
    return {a.x, a.y, b.x, b.y};
}

__device__ inline void store_four(float* y, float4 v, int64_t left, bool is_whole) {
    if (is_whole) {
        *reinterpret_cast<float4*>(y) = v;
        return;
    }
    y[0] = v.x;
    if (left > 1) y[1] = v.y;
    if (left > 2) y[2] = v.z;
    if (left > 3) y[3] = v.w;
}
__device__ inline void store_four(bf16* y, float4 v, int64_t left, bool is_whole) {
    if (is_whole) {
        reinterpret_cast<__nv_bfloat162*>(y)[0] = __floats2bfloat162_rn(v.x, v.y);
        reinterpret_cast<__nv_bfloat162*>(y)[1] = __floats2bfloat162_rn(v.z, v.w);
        return;
    }
    y[0] = narrow<bf16>(v.x);
    if (left > 1) y[1] = narrow<bf16>(v.y);
    if (left > 2) y[2] = narrow<bf16>(v.z);
    if (left > 3) y[3] = narrow<bf16>(v.w);
}

// The FP8 simulation's scale of 128 values, four a lane; NaN where one of them is. As cpu::fp8_simulate.
struct Fp8Scale {
    float scale, inverse;
};
__device__ inline Fp8Scale fp8_scale_of(float4 v) {
    const bool has_nan = v.x != v.x || v.y != v.y || v.z != v.z || v.w != v.w;
    const float amax = warp_max(fmaxf(fmaxf(fabsf(v.x), fabsf(v.y)), fmaxf(fabsf(v.z), fabsf(v.w))));
    const uint8_t code = __any_sync(~0u, has_nan) ? 255 : cpu::fp8_scale(fmaxf(amax, cpu::kFp8MinAmax));
    const float scale = cpu::e8m0_to_f32(code);
    return {scale, 1.0f / scale};
}
__device__ inline float through_fp8(float x, Fp8Scale s) { return cpu::fp8_decode(cpu::fp8_encode(x * s.inverse)) * s.scale; }

// sum[r][m] += row rows[r] . x[m] over chunks first, first + step, ...: FP32 products in an order that `first`, `step` and the
// matrix decide, whatever R and M are.
template <DType D, class X, int R, int M>
__device__ inline void add_products(const cpu::PackedMatrix& w, const int64_t (&rows)[R], const X* const (&x)[M], int64_t first,
                                    int64_t step, bool is_whole, float (&sum)[R][M]) {
    const int64_t n_chunks = (w.in + kChunk<D> - 1) / kChunk<D>;
#pragma unroll 2
    for (int64_t c = first; c < n_chunks; c += step) {
        const int64_t col = c * kChunk<D>;
        uint4 raw[R];
        float scale[R];
#pragma unroll
        for (int r = 0; r < R; ++r) raw[r] = load_chunk<D>(w, rows[r], c, is_whole), scale[r] = scale_at<D>(w, rows[r], col);
#pragma unroll
        for (int part = 0; part < kChunk<D> / 4; ++part) {
            float4 v[R];
#pragma unroll
            for (int r = 0; r < R; ++r) {
                v[r] = widen_four<D>(raw[r], part);
                if constexpr (kIsScaled<D>)
                    v[r] = {__fmul_rn(v[r].x, scale[r]), __fmul_rn(v[r].y, scale[r]), __fmul_rn(v[r].z, scale[r]),
                            __fmul_rn(v[r].w, scale[r])};
            }
#pragma unroll
            for (int m = 0; m < M; ++m) {
                const float4 a = load_four(x[m] + col + 4 * part, w.in - col - 4 * part, is_whole);
#pragma unroll
                for (int r = 0; r < R; ++r) {
                    sum[r][m] = fmaf(v[r].x, a.x, sum[r][m]);
                    sum[r][m] = fmaf(v[r].y, a.y, sum[r][m]);
                    sum[r][m] = fmaf(v[r].z, a.z, sum[r][m]);
                    sum[r][m] = fmaf(v[r].w, a.w, sum[r][m]);
                }
            }
        }
    }
}

// Sums of N values over the threads of the block's first n_warps warps, into total[N]: lanes first, then warps in order.
// scratch: [32][N]. The caller synchronises before another thread than `i` reads total[i].
template <int N>
__device__ inline void block_totals(const float (&value)[N], int n_warps, float* scratch, float* total) {
    const int warp = threadIdx.x / kWarp;
#pragma unroll
    for (int i = 0; i < N; ++i) {
        const float s = warp_sum(value[i]);
        if (threadIdx.x % kWarp == 0) scratch[warp * N + i] = s;
    }
    __syncthreads();
    for (int i = threadIdx.x; i < N; i += blockDim.x) {
        float s = 0;
        for (int j = 0; j < n_warps; ++j) s += scratch[j * N + i];
        total[i] = s;
    }
}

}  // namespace vitrine::cuda
