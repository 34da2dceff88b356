// RMSNorm on the GPU, with and without weight.
#include <algorithm>

#include "engine/ops/kernel.cuh"
#include "engine/ops/rmsnorm/rmsnorm.h"

namespace vitrine::cuda {
namespace {

// Rows of d = kWide * blocks of elements; a row belongs to blockDim.x threads, a block holds blockDim.y rows. The order
// of a sum depends on d alone. kWide 4: rows are read 4 elements at a time (d is a multiple of 4). w.data null: no
// weight. y may be x.
template <class In, class Out, int kWide>
__global__ void norm_rows(const In* x, cpu::PackedMatrix w, int64_t n_rows, int d, float eps, bool is_rounded, Out* y) {
    after_previous();
    __shared__ float scratch[kWarp];
    const int64_t row = static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
    if (row >= n_rows) return;  // only where a row is a warp's
    x += row * d;
    y += row * d;
    struct alignas(sizeof(In) * kWide) Some {
        In at[kWide];
    };
    struct alignas(sizeof(Out) * kWide) Results {
        Out at[kWide];
    };
    float sum = 0;
    for (int i = threadIdx.x * kWide; i < d; i += blockDim.x * kWide) {
        const Some v = *reinterpret_cast<const Some*>(x + i);
#pragma unroll
        for (int j = 0; j < kWide; ++j) sum += widen(v.at[j]) * widen(v.at[j]);
    }
    sum = blockDim.x == kWarp ? warp_sum(sum) : block_sum(sum, scratch);
    const float factor = 1.0f / sqrtf(sum / static_cast<float>(d) + eps);
    for (int i = threadIdx.x * kWide; i < d; i += blockDim.x * kWide) {
        const Some v = *reinterpret_cast<const Some*>(x + i);
        Results r;
#pragma unroll
        for (int j = 0; j < kWide; ++j) {
            float value = widen(v.at[j]) * factor;
            if (w.data) value *= element(w, 0, i + j);
            r.at[j] = narrow<Out>(is_rounded ? round_bf16(value) : value);
        }
        *reinterpret_cast<Results*>(y + i) = r;
    }
}

void norm(Ctx& ctx, const Tensor& x, const cpu::PackedMatrix& w, int64_t d, double eps, const Tensor& y) {
    const int64_t n_rows = x.count() / d;
    const bool is_wide = d % 4 == 0, is_by_warp = d <= 256;
    const auto threads = static_cast<unsigned>(is_by_warp ? kWarp : std::min<int64_t>((d / 4 + 31) / 32 * 32, 512));
    const dim3 block(threads, is_by_warp ? 4 : 1);
    with_activation(x.dtype, [&](auto in) {
        with_activation(y.dtype, [&](auto out) {
            using In = decltype(in);
            using Out = decltype(out);
            const auto kernel = is_wide ? norm_rows<In, Out, 4> : norm_rows<In, Out, 1>;
            kernel<<<ceil_div(n_rows, block.y), block, 0, ctx.cuda->stream()>>>(
                static_cast<const In*>(x.data), w, n_rows, static_cast<int>(d), static_cast<float>(eps),
                ctx.is_reference(), static_cast<Out*>(y.data));
        });
    });
    check_launch(ctx, "rmsnorm");
}

}  // namespace

Tensor rmsnorm(Ctx& ctx, const Tensor& x_TD, const Param& weight_D, double eps) {
    const OpTimer timer(ctx, OpKind::norm);
    const int64_t d = weight_D.shape.count();
    VITRINE_ASSERT(x_TD.count() % d == 0);
    const Tensor y = ctx.arena.make(ctx.activation(), x_TD.shape);
    norm(ctx, x_TD, weight_D.view, d, eps, y);
    return y;
}

Tensor rmsnorm_heads(Ctx& ctx, const Tensor& x_THC, double eps) {
    const OpTimer timer(ctx, OpKind::norm);
    norm(ctx, x_THC, {}, x_THC.dim(2), eps, x_THC);
    return x_THC;
}

}  // namespace vitrine::cuda
