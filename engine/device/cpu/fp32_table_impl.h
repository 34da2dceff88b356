// The FP32 kernels of one instruction set as a table, from its codecs. For kernels_<isa>.cpp only.
#pragma once
#include "engine/device/cpu/attend_impl.h"
#include "engine/device/cpu/elementwise_impl.h"
#include "engine/device/cpu/hyper_impl.h"
#include "engine/device/cpu/index_impl.h"

namespace vitrine::cpu {
namespace {

void gemm_f32(const PackedMatrix& w, const float* x, int64_t ldx, int64_t m, float* y, int64_t ldy, int64_t o0,
              int64_t o1) {
    switch (w.dtype) {
        case DType::f32:
            return packed_gemm<F32Codec>(w, x, ldx, m, y, ldy, o0, o1);
        case DType::f16:
            return packed_gemm<F16Codec>(w, x, ldx, m, y, ldy, o0, o1);
        case DType::bf16:
            return packed_gemm<Bf16Codec>(w, x, ldx, m, y, ldy, o0, o1);
        case DType::f8_e4m3:
            if (w.block_rows >= 1 && w.block_cols == 128) return packed_gemm<Fp8Codec>(w, x, ldx, m, y, ldy, o0, o1);
            break;
        case DType::fp4_e2m1:
            if (w.block_rows == 1 && w.block_cols == 32) return packed_gemm<Fp4Codec>(w, x, ldx, m, y, ldy, o0, o1);
            break;
        default:
            break;
    }
    widened_gemm<F32Codec>(w, x, ldx, m, y, ldy, o0, o1);
}

// The instruction set as hyper_impl.h takes it.
template <class Isa>
struct HyperMath : Isa {
    using T = float;
    using V = typename Isa::V;
    static V exp_negative(V x) { return cpu::exp_negative<Isa>(x); }
    static float root(float x) { return __builtin_sqrtf(x); }
    static void sum4(V a, V b, V c, V d, float* out) { _mm_storeu_ps(out, Isa::sum4(a, b, c, d)); }
};

Kernels fp32_table(const char* name) {
    using Isa = F32Codec::Isa;
    static constexpr HyperKernels<float> hyper = hyper_table<HyperMath<Isa>>();
    return {name,
            gemm_f32,
            gemm_f32,
            dot<Isa>,
            axpy<Isa>,
            attend<F32Codec>,
            attend_scratch_floats<F32Codec>,
            index_scores<F32Codec, Fp4Codec>,
            round_row<Isa>,
            weighted_sum<Isa>,
            rms_row<Isa>,
            swiglu_row<Isa>,
            sum_rows<Isa>,
            sum<Isa>,
            exp_row<Isa>,
            exp_axpy<Isa>,
            swiglu_backward_row<Isa>,
            &hyper};
}

}  // namespace
}  // namespace vitrine::cpu
