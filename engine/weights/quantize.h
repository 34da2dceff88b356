// Packing weight matrices: FP8 with one scale per 128x128 block, FP4 with one per row and 32 columns
// (v4-spec 5.3, 5.4).
#pragma once
#include <cstdint>
#include <string>

#include "engine/tensor/tensor.h"

namespace vitrine {

struct PackedBytes {
    std::string data, scale;
};

// values: row-major [rows, cols]. Scales are the smallest power of two (E8M0) for which the block fits, or amax/448
// (F32, as in Base checkpoints). Round to nearest, ties to even.
PackedBytes pack_fp8(const float* values, int64_t rows, int64_t cols, DType scale_dtype);
// cols must be even. Two codes a byte, the low nibble is the even column. Scales E8M0.
PackedBytes pack_fp4(const float* values, int64_t rows, int64_t cols);

}  // namespace vitrine
