// Picks the kernels for this processor, once.
#include "engine/device/cpu/kernels.h"

#include "engine/device/cpu/kernel_tables.h"
#include "engine/base/log.h"
#include "engine/device/cpu/support.h"

namespace vitrine::cpu {
namespace {

#if defined(__x86_64__)
// The tile kernels were written without a machine to run them on: they are used only if a small product (small whole
// numbers, so that every sum is exact in any order) comes out as it does with AVX-512.
bool tiles_agree() {
    constexpr int64_t kOut = 40, kIn = 70, kRows = 37;
    std::vector<uint16_t> w(kOut * kIn);
    std::vector<float> x(kRows * kIn), tiled(kRows * kOut), plain(kRows * kOut);
    for (size_t i = 0; i < w.size(); ++i)
        w[i] = static_cast<uint16_t>(i % 3 == 0 ? 0x3f80 : i % 3 == 1 ? 0xc000 : 0x4040);  // 1, -2, 3
    for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(static_cast<int>(i % 7) - 3);
    const PackedMatrix matrix{w.data(), nullptr, DType::bf16, DType::f32, kOut, kIn};
    amx_kernels().gemm_bf16(matrix, x.data(), kIn, kRows, tiled.data(), kOut, 0, kOut);
    avx512_bf16_kernels().gemm_bf16(matrix, x.data(), kIn, kRows, plain.data(), kOut, 0, kOut);
    if (tiled == plain) return true;
    log_warning(
        "AMX tiles gave a wrong product on this processor: not used, AVX-512 BF16 instead. Please report this.");
    return false;
}
#endif

}  // namespace

std::vector<const Kernels*> runnable_kernels() {
    std::vector<const Kernels*> list{&scalar_kernels()};
#if defined(__x86_64__)
    const Features& has = features();
    if (has.avx2) list.push_back(&avx2_kernels());
    if (has.avx512) list.push_back(&avx512_kernels());
    if (has.avx512_bf16) list.push_back(&avx512_bf16_kernels());
    static const bool use_tiles = has.amx_bf16 && tiles_agree();
    if (use_tiles) list.push_back(&amx_kernels());
#endif
    return list;
}

const Kernels& kernels() {
    static const Kernels& best = *runnable_kernels().back();
    return best;
}

}  // namespace vitrine::cpu
