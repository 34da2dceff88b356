// Kernels for AVX2 with FMA and F16C, all FP32.
#include "engine/device/cpu/isa_avx2.h"
#include "engine/device/cpu/fp32_table_impl.h"
#include "engine/device/cpu/kernel_tables.h"
#include "engine/device/cpu/outer_impl.h"

namespace vitrine::cpu {

const Kernels& avx2_kernels() {
    static const Kernels table = fp32_table("avx2");
    return table;
}

void outer_avx2(const OuterProduct& p) { outer_product<Avx2>(p); }

}  // namespace vitrine::cpu
