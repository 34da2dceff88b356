// Tensors: names and sizes of dtypes.
#include "engine/tensor/tensor.h"

namespace vitrine {

const char* dtype_name(DType t) {
    static const char* const names[] = {"F32", "F64", "F16", "BF16", "F8_E4M3", "F8_E8M0", "FP4", "I8", "I32", "I64", "U8"};
    return names[static_cast<int>(t)];
}

uint64_t dtype_bits(DType t) {
    static const uint8_t bits[] = {32, 64, 16, 16, 8, 8, 4, 8, 32, 64, 8};
    return bits[static_cast<int>(t)];
}

}  // namespace vitrine
