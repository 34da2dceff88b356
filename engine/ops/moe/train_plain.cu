// Grouped products in plain FP32: for tests, for parity with the CPU, and for extents that tensor cores can't take.
#include "engine/ops/moe/train.cuh"

namespace vitrine::cuda {
namespace {

constexpr int kSide = 64, kDepth = 16, kThreads = 256;  // a block's outputs, terms at a time; a thread has 4 x 4 outputs

// Terms of kSide rows of each operand in shared memory, [kDepth, kSide].
struct Stage {
    float a[kDepth][kSide + 4], b[kDepth][kSide + 4];
};

__device__ void multiply_stage(const Stage& s, float (&sum)[4][4]) {
    const int row = threadIdx.x / 16 * 4, col = threadIdx.x % 16 * 4;
#pragma unroll
    for (int k = 0; k < kDepth; ++k) {
#pragma unroll
        for (int i = 0; i < 4; ++i)
#pragma unroll
            for (int j = 0; j < 4; ++j) sum[i][j] += s.a[k][row + i] * s.b[k][col + j];
    }
}

// grid: (tiles of outputs, tiles of slots, 2 halves of one)
template <bool kIsTurned>
__global__ void multiply_rows(TapePlan plan, PlainRows p, Stack<const float> stack) {
    after_previous();
    __shared__ Stage stage;
    if (static_cast<int>(blockIdx.y) >= *plan.n_tiles) return;
    const Tile tile = plan.tiles[blockIdx.y];
    const int n_out = p.n_out.of(tile.expert), n_in = p.n_in.of(tile.expert), o0 = static_cast<int>(blockIdx.x) * kSide;
    const int r0 = static_cast<int>(blockIdx.z) * kSide, n_rows = tile.n_rows - r0;
    if (o0 >= n_out || n_rows <= 0) return;
    const float* w = stack.of(tile.expert);
    float sum[4][4] = {};
    for (int k0 = 0; k0 < n_in; k0 += kDepth) {
        for (int i = threadIdx.x; i < kSide * kDepth; i += kThreads) {
            const int k = i % kDepth, r = i / kDepth, slot = tile.slot + r0 + r;
            const bool is_there = r < n_rows && k0 + k < n_in;
            stage.a[k][r] = is_there ? p.x[static_cast<int64_t>(p.row_of ? p.row_of[slot] : slot) * p.ldx + k0 + k] : 0;
            // Neighbouring threads read neighbouring weights.
            const int kb = kIsTurned ? i / kSide : k, o = kIsTurned ? i % kSide : r;
            const bool is_weight = o0 + o < n_out && k0 + kb < n_in;
            const int64_t at = kIsTurned ? static_cast<int64_t>(k0 + kb) * n_out + o0 + o
                                         : static_cast<int64_t>(o0 + o) * n_in + k0 + kb;
            stage.b[kb][o] = is_weight ? w[at] : 0;
        }
        __syncthreads();
        multiply_stage(stage, sum);
        __syncthreads();
    }
    const int row = threadIdx.x / 16 * 4, col = o0 + static_cast<int>(threadIdx.x) % 16 * 4;
    for (int i = 0; i < 4 && row + i < n_rows; ++i)
        for (int j = 0; j < 4 && col + j < n_out; ++j) {
            float& y = p.y[static_cast<int64_t>(tile.slot + r0 + row + i) * p.ldy + col + j];
            y = p.accumulates ? y + sum[i][j] : sum[i][j];
        }
}

// grid: (tiles of inputs, tiles of outputs, groups)
__global__ void add_gradient(TapePlan plan, PlainGradient p, GradientStack dw) {
    after_previous();
    __shared__ Stage stage;
    const int group = static_cast<int>(blockIdx.z);
    const GroupSlots slots = plan.groups[group];
    const int n_out = p.n_out.of(group), n_in = p.n_in.of(group);
    const int o0 = static_cast<int>(blockIdx.y) * kSide, c0 = static_cast<int>(blockIdx.x) * kSide;
    if (o0 >= n_out || c0 >= n_in || (slots.n_rows == 0 && dw.accumulates)) return;
    float sum[4][4] = {};
    for (int s0 = 0; s0 < slots.n_rows; s0 += kDepth) {
        for (int i = threadIdx.x; i < kSide * kDepth; i += kThreads) {
            const int k = i / kSide, at = i % kSide, slot = slots.slot + s0 + k;
            const bool is_there = s0 + k < slots.n_rows;
            const int64_t a = !is_there    ? 0
                              : p.row_of_a ? p.row_of_a[slot]
                                           : slot,
                          b = !is_there    ? 0
                              : p.row_of_b ? p.row_of_b[slot]
                                           : slot;
            stage.a[k][at] = is_there && o0 + at < n_out ? p.a[a * p.lda + o0 + at] : 0;
            stage.b[k][at] = is_there && c0 + at < n_in ? p.b[b * p.ldb + c0 + at] : 0;
        }
        __syncthreads();
        multiply_stage(stage, sum);
        __syncthreads();
    }
    const int row = o0 + static_cast<int>(threadIdx.x) / 16 * 4, col = c0 + static_cast<int>(threadIdx.x) % 16 * 4;
    for (int i = 0; i < 4 && row + i < n_out; ++i)
        for (int j = 0; j < 4 && col + j < n_in; ++j) {
            float& to = dw.to.of(group)[static_cast<int64_t>(row + i) * n_in + col + j];
            to = dw.accumulates ? to + sum[i][j] : sum[i][j];
        }
}

}  // namespace

void multiply_plain(Ctx& ctx, const TapePlan& plan, const PlainRows& p, const Stack<const float>& w, bool turned) {
    const dim3 grid(ceil_div(p.n_out.largest(), kSide), plan.max_tiles, kRowsOfTile / kSide);
    if (turned) multiply_rows<true><<<grid, kThreads, 0, ctx.cuda->stream()>>>(plan, p, w);
    else multiply_rows<false><<<grid, kThreads, 0, ctx.cuda->stream()>>>(plan, p, w);
    check_launch(ctx, "a product of experts");
}

void gradient_plain(Ctx& ctx, const TapePlan& plan, const PlainGradient& p, const GradientStack& dw) {
    const dim3 grid(ceil_div(p.n_in.largest(), kSide), ceil_div(p.n_out.largest(), kSide), static_cast<unsigned>(plan.n_groups));
    add_gradient<<<grid, kThreads, 0, ctx.cuda->stream()>>>(plan, p, dw);
    check_launch(ctx, "an expert's gradient");
}

}  // namespace vitrine::cuda
