// Kernels for AVX-512 (F, BW, DQ, VL), all FP32.
#include "engine/device/cpu/isa_avx512.h"
#include "engine/device/cpu/gemm_impl.h"
#include "engine/device/cpu/kernel_tables.h"

namespace vitrine::cpu {
namespace {

void gemm(const PackedMatrix& w, const float* x, int64_t ldx, int64_t m, float* y, int64_t ldy, int64_t o0, int64_t o1) {
    switch (w.dtype) {
        case DType::f32: return packed_gemm<F32Codec, 8>(w, x, ldx, m, y, ldy, o0, o1);
        case DType::f16: return packed_gemm<F16Codec, 8>(w, x, ldx, m, y, ldy, o0, o1);
        case DType::bf16: return packed_gemm<Bf16Codec, 8>(w, x, ldx, m, y, ldy, o0, o1);
        case DType::f8_e4m3:
            if (has_blocks(w, 1, 128)) return packed_gemm<Fp8Codec, 8>(w, x, ldx, m, y, ldy, o0, o1);
            break;
        case DType::fp4_e2m1:
            if (has_blocks(w, 1, 32) && w.block_rows == 1) return packed_gemm<Fp4Codec, 8>(w, x, ldx, m, y, ldy, o0, o1);
            break;
        default: break;
    }
    widened_gemm<F32Codec, 8>(w, x, ldx, m, y, ldy, o0, o1);
}

}  // namespace

const Kernels& avx512_kernels() {
    static const Kernels table = [] {
        Kernels k = scalar_kernels();
        k.name = "avx512";
        k.gemm = k.gemm_bf16 = gemm;
        return k;
    }();
    return table;
}

}  // namespace vitrine::cpu
