// Sums of rows in two ordered stages.
#include "engine/ops/row_sums.h"

#include "engine/ops/kernel.cuh"

namespace vitrine::cuda {
namespace {

constexpr int kStrands = 16;

// 32 columns a block; strand s adds rows s, s + kStrands, ..., then the strands are added in order.
__global__ void row_sums(const float* partial, int64_t n_rows, int64_t ld, int64_t width, float* to, bool accumulates) {
    after_previous();
    __shared__ float sums[kStrands][kWarp];
    const int64_t i = static_cast<int64_t>(blockIdx.x) * kWarp + threadIdx.x;
    float sum = 0;
    if (i < width)
        for (int64_t r = threadIdx.y; r < n_rows; r += kStrands) sum += partial[r * ld + i];
    sums[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y != 0 || i >= width) return;
    for (int s = 1; s < kStrands; ++s) sum += sums[s][threadIdx.x];
    to[i] = accumulates ? to[i] + sum : sum;
}

}  // namespace

void add_row_sums(Ctx& ctx, const float* partial, int64_t n_rows, int64_t ld, int64_t width, float* to, bool accumulates) {
    if (width == 0) return;
    row_sums<<<ceil_div(width, kWarp), dim3(kWarp, kStrands), 0, ctx.cuda->stream()>>>(partial, n_rows, ld, width, to, accumulates);
    check_launch(ctx, "adding partial sums");
}

}  // namespace vitrine::cuda
