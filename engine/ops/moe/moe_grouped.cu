// Grouped products on FP32 lanes: `exact` numerics, and formats that tensor cores don't take.
#include "engine/ops/moe/experts.cuh"

namespace vitrine::cuda {
namespace {

// A tile: kTileRows slots times kTileOut rows of W, kTileIn columns at a time; a thread holds 4 x 4 sums.
constexpr int kTileOut = 64, kTileIn = 32, kThreads = 256, kPad = 4;

template <DType D, class X>
__global__ void __launch_bounds__(kThreads) multiply_tiles(Grouped g, const X* x, void* y, bool is_bf16, bool is_whole) {
    after_previous();
    __shared__ __align__(16) float xs[kTileIn][kTileRows + kPad], ws[kTileIn][kTileOut + kPad];
    const int64_t first = static_cast<int64_t>(blockIdx.y) * kTileRows;
    Tile tile{0, static_cast<int32_t>(g.slot0 + first),
              static_cast<int32_t>(min(g.n_rows - first, static_cast<int64_t>(kTileRows)))};
    if (g.tiles) {
        if (blockIdx.y >= *g.n_tiles) return;
        tile = g.tiles[blockIdx.y];
    }
    const cpu::PackedMatrix w = g.w.at(tile.expert);
    const int64_t o0 = static_cast<int64_t>(blockIdx.x) * kTileOut;
    const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
    float sum[4][4] = {};
    for (int64_t k0 = 0; k0 < w.in; k0 += kTileIn) {
        for (int i = threadIdx.x; i < kTileRows * kTileIn / 4; i += kThreads) {
            const int row = i / (kTileIn / 4), k = i % (kTileIn / 4) * 4;
            float4 v{0, 0, 0, 0};
            const int64_t left = w.in - k0 - k;
            if (row < tile.n_rows && left > 0) {
                const int64_t from = g.row_of ? g.row_of[tile.slot + row] : tile.slot + row;
                v = load_four(x + from * g.ldx + k0 + k, left, is_whole);
            }
            xs[k][row] = v.x, xs[k + 1][row] = v.y, xs[k + 2][row] = v.z, xs[k + 3][row] = v.w;
        }
        constexpr int kChunks = kTileIn / kChunk<D>;
        for (int i = threadIdx.x; i < kTileOut * kChunks; i += kThreads) {
            const int row = i / kChunks, k = i % kChunks * kChunk<D>;
            const bool is_there = o0 + row < w.out && k0 + k < w.in;
            const uint4 raw = is_there ? load_chunk<D>(w, o0 + row, (k0 + k) / kChunk<D>, is_whole) : uint4{0, 0, 0, 0};
            const float scale = is_there ? scale_at<D>(w, o0 + row, k0 + k) : 0;
#pragma unroll
            for (int part = 0; part < kChunk<D> / 4; ++part) {
                const float4 v = widen_four<D>(raw, part);
                float* to = &ws[k + 4 * part][row];
                constexpr int kNext = kTileOut + kPad;
                to[0] = v.x * scale, to[kNext] = v.y * scale, to[2 * kNext] = v.z * scale, to[3 * kNext] = v.w * scale;
            }
        }
        __syncthreads();
#pragma unroll 8
        for (int k = 0; k < kTileIn; ++k) {
            const float4 a = *reinterpret_cast<const float4*>(&xs[k][ty * 4]), b = *reinterpret_cast<const float4*>(&ws[k][tx * 4]);
            const float rows[4] = {a.x, a.y, a.z, a.w}, cols[4] = {b.x, b.y, b.z, b.w};
#pragma unroll
            for (int i = 0; i < 4; ++i)
#pragma unroll
                for (int j = 0; j < 4; ++j) sum[i][j] = fmaf(rows[i], cols[j], sum[i][j]);
        }
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < 4; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            const int row = ty * 4 + i;
            const int64_t o = o0 + tx * 4 + j, at = (tile.slot + row) * g.ldy + o;
            if (row >= tile.n_rows || o >= w.out) continue;
            if (is_bf16) static_cast<bf16*>(y)[at] = narrow<bf16>(sum[i][j]);
            else static_cast<float*>(y)[at] = sum[i][j];
        }
}

}  // namespace

void multiply_grouped(Ctx& ctx, const Grouped& g, const Tensor& x, const Tensor& y) {
    const dim3 grid(ceil_div(g.w.first.out, kTileOut), g.tiles ? g.max_tiles : ceil_div(g.n_rows, kTileRows));
    with_format(g.w.first, [&](auto format) {
        with_activation(x.dtype, [&](auto type) {
            using X = decltype(type);
            multiply_tiles<decltype(format)::value><<<grid, kThreads, 0, ctx.cuda->stream()>>>(
                g, static_cast<const X*>(x.data), y.data, y.dtype == DType::bf16, has_whole_chunks(g.w.first));
        });
    });
    check_launch(ctx, "a product of experts");
}

}  // namespace vitrine::cuda
