// Packing weight matrices block by block.
#include "engine/weights/quantize.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "engine/device/cpu/formats.h"
#include "engine/device/cpu/weight_formats.h"

namespace vitrine {

PackedBytes pack_fp8(const float* values, int64_t rows, int64_t cols, DType scale_dtype) {
    VITRINE_ASSERT(scale_dtype == DType::f8_e8m0 || scale_dtype == DType::f32);
    constexpr int64_t kBlock = cpu::kFp8WeightBlock;
    const int64_t grid_cols = (cols + kBlock - 1) / kBlock;
    PackedBytes out;
    out.data.resize(static_cast<size_t>(rows * cols));
    for (int64_t r0 = 0; r0 < rows; r0 += kBlock) {
        const int64_t r1 = std::min(rows, r0 + kBlock);
        for (int64_t g = 0; g < grid_cols; ++g) {
            const int64_t c0 = g * kBlock, c1 = std::min(cols, c0 + kBlock);
            const float* block = values + r0 * cols + c0;
            float scale = cpu::block_amax(block, r1 - r0, c1 - c0, cols, cpu::kFp8MinAmax) / cpu::kFp8Max;
            if (scale_dtype == DType::f8_e8m0) {
                const uint8_t code = cpu::fp8_block_scale(block, r1 - r0, c1 - c0, cols);
                scale = cpu::e8m0_to_f32(code);
                out.scale += static_cast<char>(code);
            } else {
                out.scale.append(reinterpret_cast<const char*>(&scale), sizeof scale);
            }
            for (int64_t r = r0; r < r1; ++r)
                for (int64_t c = c0; c < c1; ++c)
                    out.data[static_cast<size_t>(r * cols + c)] =
                        static_cast<char>(cpu::fp8_encode(values[r * cols + c] / scale));
        }
    }
    return out;
}

PackedBytes pack_fp4(const float* values, int64_t rows, int64_t cols) {
    VITRINE_ASSERT(cols % 2 == 0);
    constexpr int64_t kBlock = cpu::kFp4WeightBlock;
    PackedBytes out;
    out.data.reserve(static_cast<size_t>(rows * cols / 2));
    for (int64_t r = 0; r < rows; ++r) {
        const float* row = values + r * cols;
        for (int64_t c0 = 0; c0 < cols; c0 += kBlock) {
            const int64_t c1 = std::min(cols, c0 + kBlock);
            const uint8_t code = cpu::fp4_block_scale(row + c0, c1 - c0);
            const float inverse = 1.0f / cpu::e8m0_to_f32(code);  // a power of two: exact
            out.scale += static_cast<char>(code);
            for (int64_t c = c0; c < c1; c += 2)
                out.data +=
                    static_cast<char>(cpu::fp4_encode(row[c] * inverse) | cpu::fp4_encode(row[c + 1] * inverse) << 4);
        }
    }
    return out;
}

}  // namespace vitrine
