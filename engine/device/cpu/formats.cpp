// Packing of cache rows and index keys, quantisation in place, and widening of packed weight rows.
#include "engine/device/cpu/formats.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "engine/base/error.h"

namespace vitrine::cpu {
namespace {

// Largest magnitude, NaN if there is one.
float amax_of(const float* x, int64_t n) {
    float a = 0;
    for (int64_t i = 0; i < n; ++i) {
        const float v = std::fabs(x[i]);
        if (!(v <= a)) a = v;
        if (a != a) return a;
    }
    return a;
}
uint8_t block_scale_fp8(const float* x, int64_t n) {
    const float a = amax_of(x, n);
    return fp8_scale(a < kFp8MinAmax ? kFp8MinAmax : a);
}
uint8_t block_scale_fp4(const float* x, int64_t n) {
    const float a = amax_of(x, n);
    return fp4_scale(a < kFp4MinAmax ? kFp4MinAmax : a);
}

struct Fp8Table {
    float value[256];
    Fp8Table() {
        for (int i = 0; i < 256; ++i) value[i] = fp8_decode(static_cast<uint8_t>(i));
    }
};
const float* fp8_table() {
    static const Fp8Table table;
    return table.value;
}

uint8_t nibble(const uint8_t* p, int64_t i) {
    return i & 1 ? p[i >> 1] >> 4 : p[i >> 1] & 15u;
}

float scale_at(const PackedMatrix& w, int64_t row, int64_t column) {
    const int64_t n_columns = (w.in + w.block_cols - 1) / w.block_cols;
    const int64_t at = row / w.block_rows * n_columns + column / w.block_cols;
    if (w.scale_dtype == DType::f8_e8m0) return e8m0_to_f32(static_cast<const uint8_t*>(w.scale)[at]);
    VITRINE_ASSERT(w.scale_dtype == DType::f32);
    return static_cast<const float*>(w.scale)[at];
}

void widen_scaled(const PackedMatrix& w, int64_t row, float* out) {
    const float* codes = fp8_table();
    const bool is_fp4 = w.dtype == DType::fp4_e2m1;
    const uint8_t* p = static_cast<const uint8_t*>(w.data) + row * (is_fp4 ? (w.in + 1) / 2 : w.in);
    for (int64_t i = 0; i < w.in; i += w.block_cols) {
        const float s = scale_at(w, row, i);
        const int64_t end = std::min<int64_t>(w.in, i + w.block_cols);
        for (int64_t k = i; k < end; ++k) out[k] = s * (is_fp4 ? fp4_decode(nibble(p, k)) : codes[p[k]]);
    }
}

}  // namespace

int64_t EntryFormat::row_bytes() const {
    if (!is_packed) return 4 * static_cast<int64_t>(c);
    const int64_t body = c - rope + 2 * static_cast<int64_t>(rope) + (c - rope + kEntryBlock - 1) / kEntryBlock;
    return (body + 7) / 8 * 8;
}

int64_t IndexKeyFormat::row_bytes() const {
    if (!is_packed) return 4 * static_cast<int64_t>(d);
    return (d + 1) / 2 + (d + kIndexKeyBlock - 1) / kIndexKeyBlock;
}

uint64_t PackedMatrix::bytes() const {
    const uint64_t n_out = static_cast<uint64_t>(out), n_in = static_cast<uint64_t>(in);
    const uint64_t row = dtype == DType::fp4_e2m1 ? (n_in + 1) / 2 : n_in * (dtype_bits(dtype) / 8);
    if (!scale) return n_out * row;
    const uint64_t grid = (n_out + block_rows - 1) / block_rows * ((n_in + block_cols - 1) / block_cols);
    return n_out * row + grid * (dtype_bits(scale_dtype) / 8);
}

void fp8_simulate(float* x, int64_t n, int64_t block) {
    const float* codes = fp8_table();
    for (int64_t i = 0; i < n; i += block) {
        const int64_t len = std::min(block, n - i);
        const float s = e8m0_to_f32(block_scale_fp8(x + i, len)), inverse = 1.0f / s;
        for (int64_t k = i; k < i + len; ++k) x[k] = codes[fp8_encode(x[k] * inverse)] * s;
    }
}

void fp4_simulate(float* x, int64_t n, int64_t block) {
    for (int64_t i = 0; i < n; i += block) {
        const int64_t len = std::min(block, n - i);
        const float s = e8m0_to_f32(block_scale_fp4(x + i, len));
        for (int64_t k = i; k < i + len; ++k) x[k] = fp4_decode(fp4_encode(x[k] / s)) * s;
    }
}

void pack_entry(const EntryFormat& format, const float* row, void* out) {
    const int64_t n = format.c - format.rope;
    auto* p = static_cast<uint8_t*>(out);
    std::memset(p, 0, static_cast<size_t>(format.row_bytes()));
    uint8_t* scales = p + n + 2 * static_cast<int64_t>(format.rope);
    for (int64_t i = 0; i < n; i += kEntryBlock) {
        const int64_t len = std::min<int64_t>(kEntryBlock, n - i);
        const uint8_t code = block_scale_fp8(row + i, len);
        const float s = e8m0_to_f32(code);
        scales[i / kEntryBlock] = code;
        for (int64_t k = i; k < i + len; ++k) p[k] = fp8_encode(row[k] / s);
    }
    for (int64_t k = 0; k < format.rope; ++k) {
        const uint16_t b = f32_to_bf16(row[n + k]);
        std::memcpy(p + n + 2 * k, &b, 2);
    }
}

void unpack_entry(const EntryFormat& format, const void* packed, float* row) {
    const float* codes = fp8_table();
    const int64_t n = format.c - format.rope;
    const auto* p = static_cast<const uint8_t*>(packed);
    const uint8_t* scales = p + n + 2 * static_cast<int64_t>(format.rope);
    for (int64_t i = 0; i < n; ++i) row[i] = codes[p[i]] * e8m0_to_f32(scales[i / kEntryBlock]);
    for (int64_t k = 0; k < format.rope; ++k) {
        uint16_t b;
        std::memcpy(&b, p + n + 2 * k, 2);
        row[n + k] = bf16_to_f32(b);
    }
}

void pack_index_key(const IndexKeyFormat& format, const float* key, void* out) {
    auto* p = static_cast<uint8_t*>(out);
    std::memset(p, 0, static_cast<size_t>(format.row_bytes()));
    uint8_t* scales = p + (format.d + 1) / 2;
    for (int64_t i = 0; i < format.d; i += kIndexKeyBlock) {
        const int64_t len = std::min<int64_t>(kIndexKeyBlock, format.d - i);
        const uint8_t code = block_scale_fp4(key + i, len);
        const float s = e8m0_to_f32(code);
        scales[i / kIndexKeyBlock] = code;
        for (int64_t k = i; k < i + len; ++k)
            p[k >> 1] |= static_cast<uint8_t>(fp4_encode(key[k] / s) << (k & 1 ? 4 : 0));
    }
}

void unpack_index_key(const IndexKeyFormat& format, const void* packed, float* key) {
    const auto* p = static_cast<const uint8_t*>(packed);
    const uint8_t* scales = p + (format.d + 1) / 2;
    for (int64_t i = 0; i < format.d; ++i) key[i] = fp4_decode(nibble(p, i)) * e8m0_to_f32(scales[i / kIndexKeyBlock]);
}

void widen_row(const PackedMatrix& w, int64_t row, float* out) {
    VITRINE_ASSERT(row >= 0 && row < w.out);
    const auto* p = static_cast<const unsigned char*>(w.data);
    const int64_t first = row * w.in;
    const auto each = [&](auto zero, auto convert) {  // memcpy: a file's tensors need not be aligned
        using T = decltype(zero);
        for (int64_t i = 0; i < w.in; ++i) {
            T v;
            std::memcpy(&v, p + (first + i) * static_cast<int64_t>(sizeof(T)), sizeof(T));
            out[i] = convert(v);
        }
    };
    switch (w.dtype) {
        case DType::f32:
            return each(0.0f, [](float v) { return v; });
        case DType::f64:
            return each(0.0, [](double v) { return static_cast<float>(v); });
        case DType::f16:
            return each(uint16_t{0}, f16_to_f32);
        case DType::bf16:
            return each(uint16_t{0}, bf16_to_f32);
        case DType::f8_e4m3:
        case DType::fp4_e2m1:
            return widen_scaled(w, row, out);
        default:
            VITRINE_ASSERT(!"a weight matrix of this dtype");
    }
}

}  // namespace vitrine::cpu
