// Single values and rows of weights, widened to float.
#include "engine/model/param.h"

#include <cstring>

#include "engine/device/cpu/formats.h"

namespace vitrine {
namespace {

template <class T>
T load(const void* data, int64_t i) {
    T v;
    std::memcpy(&v, static_cast<const char*>(data) + i * static_cast<int64_t>(sizeof(T)), sizeof v);
    return v;
}

float scale_of(const cpu::PackedMatrix& m, int64_t row, int64_t col) {
    const int64_t n = (m.in + m.block_cols - 1) / m.block_cols;
    const int64_t i = row / m.block_rows * n + col / m.block_cols;
    return m.scale_dtype == DType::f32 ? load<float>(m.scale, i) : cpu::e8m0_to_f32(load<uint8_t>(m.scale, i));
}

float element(const cpu::PackedMatrix& m, int64_t row, int64_t col) {
    const int64_t i = row * m.in + col;
    switch (m.dtype) {
        case DType::f32:
            return load<float>(m.data, i);
        case DType::f64:
            return static_cast<float>(load<double>(m.data, i));
        case DType::f16:
            return cpu::f16_to_f32(load<uint16_t>(m.data, i));
        case DType::bf16:
            return cpu::bf16_to_f32(load<uint16_t>(m.data, i));
        case DType::f8_e4m3:
            return cpu::fp8_decode(load<uint8_t>(m.data, i)) * scale_of(m, row, col);
        case DType::fp4_e2m1: {
            const uint8_t pair = load<uint8_t>(m.data, i / 2);  // rows have an even number of columns
            return cpu::fp4_decode(col % 2 ? pair >> 4 : pair & 15) * scale_of(m, row, col);
        }
        default:
            throw Error(ErrorKind::internal,
                        std::string("a weight of type ") + dtype_name(m.dtype) + " has no real values");
    }
}

}  // namespace

float Param::value(int64_t i) const {
    VITRINE_ASSERT(!empty() && i >= 0 && i < view.out * view.in);
    return element(view, i / view.in, i % view.in);
}

void Param::widen_row(int64_t row, float* out) const {
    VITRINE_ASSERT(!empty() && row >= 0 && row < view.out);
    if (view.dtype == DType::f32) {
        std::memcpy(out, static_cast<const float*>(view.data) + row * view.in,
                    static_cast<size_t>(view.in) * sizeof(float));
        return;
    }
    if (view.dtype == DType::bf16) {
        for (int64_t i = 0; i < view.in; ++i) out[i] = cpu::bf16_to_f32(load<uint16_t>(view.data, row * view.in + i));
        return;
    }
    for (int64_t i = 0; i < view.in; ++i) out[i] = element(view, row, i);
}

}  // namespace vitrine
