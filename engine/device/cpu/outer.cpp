// Picks the kernel for products by strides; plain loops.
#include "engine/device/cpu/outer.h"

#include "engine/device/cpu/support.h"

namespace vitrine::cpu {

void outer_plain(const OuterProduct& p) {
    for (int64_t i = 0; i < p.m; ++i)
        for (int64_t j = 0; j < p.n; ++j) {
            float sum = 0;
            for (int64_t l = 0; l < p.k; ++l) sum += p.a[i * p.a_row + l * p.a_k] * p.b[l * p.ldb + j];
            float& out = p.c[i * p.ldc + j];
            out = p.accumulate ? out + sum : sum;
        }
}

std::vector<OuterKernel> runnable_outer_kernels() {
    std::vector<OuterKernel> list{outer_plain};
#if defined(__x86_64__)
    if (features().avx2) list.push_back(outer_avx2);
    if (features().avx512) list.push_back(outer_avx512);
#endif
    return list;
}

OuterKernel outer_kernel() {
    static const OuterKernel best = runnable_outer_kernels().back();
    return best;
}

}  // namespace vitrine::cpu
