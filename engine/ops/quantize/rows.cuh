// Cache rows and index keys inside kernels: the bytes of cpu::pack_entry and cpu::pack_index_key, and the Hadamard
// transform.
#pragma once
#include "engine/ops/kernel.cuh"

namespace vitrine::cuda {

// How a cache's rows lie in memory: the numbers of cpu::EntryFormat (its row_bytes is the host's).
struct RowFormat {
    bool is_packed;
    int c, rope;
    int64_t bytes;
};
inline RowFormat entry_rows(const Ctx& ctx, int64_t c, int rope) {
    const cpu::EntryFormat f{ctx.is_reference(), static_cast<int>(c), rope};
    return {f.is_packed, f.c, f.rope, f.row_bytes()};
}
inline RowFormat index_rows(const Ctx& ctx, int64_t d) {
    const cpu::IndexKeyFormat f{ctx.is_reference(), static_cast<int>(d)};
    return {f.is_packed, f.d, 0, f.row_bytes()};
}

// The largest |x| of the warp; NaN if there is one: the bits of magnitudes are ordered as they are, NaN above all.
__device__ inline float warp_amax(float x) {
    return __uint_as_float(__reduce_max_sync(~0u, __float_as_uint(x) & 0x7fffffffu));
}

// One cache row from f.c floats in shared memory, by all threads of the block (whole warps). The row is complete on
// entry.
__device__ inline void write_entry(const RowFormat& f, const float* row, std::byte* out) {
    const int thread = threadIdx.x, n_threads = blockDim.x;
    if (!f.is_packed) {
        for (int i = thread; i < f.c; i += n_threads) reinterpret_cast<float*>(out)[i] = row[i];
        return;
    }
    const int n = f.c - f.rope, lane = thread % kWarp;
    auto* p = reinterpret_cast<uint8_t*>(out);
    uint8_t* scales = p + n + 2 * f.rope;
    for (int b = thread / kWarp; b * cpu::kEntryBlock < n; b += n_threads / kWarp) {
        const int i = b * cpu::kEntryBlock + lane, j = i + kWarp;
        const float u = i < n ? row[i] : 0.0f, v = j < n ? row[j] : 0.0f;
        const float amax = warp_amax(fabsf(u) > fabsf(v) || u != u ? u : v);
        const uint8_t code = cpu::fp8_scale(amax < cpu::kFp8MinAmax ? cpu::kFp8MinAmax : amax);
        const float s = cpu::e8m0_to_f32(code);
        if (i < n) p[i] = cpu::fp8_encode(u / s);
        if (j < n) p[j] = cpu::fp8_encode(v / s);
        if (lane == 0) scales[b] = code;
    }
    for (int i = thread; i < f.rope; i += n_threads) {  // by bytes: n may be odd
        const uint16_t b = cpu::f32_to_bf16(row[n + i]);
        p[n + 2 * i] = static_cast<uint8_t>(b);
        p[n + 2 * i + 1] = static_cast<uint8_t>(b >> 8);
    }
    const int used = n + 2 * f.rope + (n + cpu::kEntryBlock - 1) / cpu::kEntryBlock;
    for (int64_t i = used + thread; i < f.bytes; i += n_threads) p[i] = 0;
}

// FP4 codes of 32 values with one scale, a value in each lane (0 beyond the end).
__device__ inline uint8_t fp4_block(float x, uint8_t& scale) {
    const float amax = warp_amax(x);
    scale = cpu::fp4_scale(amax < cpu::kFp4MinAmax ? cpu::kFp4MinAmax : amax);
    return cpu::fp4_encode(x / cpu::e8m0_to_f32(scale));
}

// One index key from f.c floats in shared memory, by all threads of the block (whole warps).
__device__ inline void write_index_key(const RowFormat& f, const float* row, std::byte* out) {
    const int thread = threadIdx.x, n_threads = blockDim.x;
    if (!f.is_packed) {
        for (int i = thread; i < f.c; i += n_threads) reinterpret_cast<float*>(out)[i] = row[i];
        return;
    }
    const int lane = thread % kWarp;
    auto* p = reinterpret_cast<uint8_t*>(out);
    for (int b = thread / kWarp; b * kWarp < f.c; b += n_threads / kWarp) {
        const int i = b * kWarp + lane;
        uint8_t scale;
        const unsigned code = i < f.c ? fp4_block(row[i], scale) : fp4_block(0.0f, scale);
        const unsigned next = __shfl_down_sync(~0u, code, 1);
        if (lane % 2 == 0 && i < f.c) p[i / 2] = static_cast<uint8_t>(code | (i + 1 < f.c ? next << 4 : 0));
        if (lane == 0) p[(f.c + 1) / 2 + b] = scale;
    }
}

// Hadamard transform of x [n] in shared memory, n a power of two, rounded to BF16: as vitrine::hadamard, bit for bit.
// Thread `thread` of `n_threads`; sync() makes all of them wait. x is complete on entry and on return.
template <class Sync>
__device__ inline void hadamard(float* x, int n, int thread, int n_threads, Sync sync) {
    for (int h = 1; h < n; h *= 2) {
        for (int pair = thread; pair < n / 2; pair += n_threads) {
            const int i = pair / h * 2 * h + pair % h;
            const float a = x[i], b = x[i + h];
            x[i] = a + b;
            x[i + h] = a - b;
        }
        sync();
    }
    const auto f = static_cast<float>(1.0 / sqrt(static_cast<double>(n)));
    for (int i = thread; i < n; i += n_threads) x[i] = round_bf16(x[i] * f);
    sync();
}

}  // namespace vitrine::cuda
