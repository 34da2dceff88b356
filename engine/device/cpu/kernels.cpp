// Picks the kernels for this processor, once.
#include "engine/device/cpu/kernels.h"

#include "engine/device/cpu/kernel_tables.h"
#include "engine/device/cpu/support.h"

namespace vitrine::cpu {

std::vector<const Kernels*> runnable_kernels() {
    std::vector<const Kernels*> list{&scalar_kernels()};
#if defined(__x86_64__)
    const Features& has = features();
    if (has.avx2) list.push_back(&avx2_kernels());
    if (has.avx512) list.push_back(&avx512_kernels());
    if (has.avx512_bf16) list.push_back(&avx512_bf16_kernels());
#endif
    return list;
}

const Kernels& kernels() {
    static const Kernels& best = *runnable_kernels().back();
    return best;
}

}  // namespace vitrine::cpu
