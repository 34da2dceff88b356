// Kernels for AVX-512 (F, BW, DQ, VL), all FP32.
#include "engine/device/cpu/isa_avx512.h"
#include "engine/device/cpu/fp32_table_impl.h"
#include "engine/device/cpu/kernel_tables.h"
#include "engine/device/cpu/outer_impl.h"

namespace vitrine::cpu {

const Kernels& avx512_kernels() {
    static const Kernels table = fp32_table("avx512");
    return table;
}

void outer_avx512(const OuterProduct& p) { outer_product<Avx512>(p); }

}  // namespace vitrine::cpu
