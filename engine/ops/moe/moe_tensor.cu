// Grouped products on tensor cores: tiles of an expert's rows times tiles of its weights, which are widened to BF16 on their way to
// shared memory.
#include "engine/ops/linear/tensor.cuh"
#include "engine/ops/moe/experts.cuh"
#include "engine/ops/moe/stages.cuh"
#include "engine/ops/moe/warpgroup.cuh"

namespace vitrine::cuda {
namespace {

// 4 warps, 2 along the rows and 2 along the outputs: the larger a warp's tile, the less it reads from shared memory. Three stages
// of 64 columns.
constexpr int kThreads = 128, kOut = 128, kIn = 64, kStages = 3, kWarpOut = 64, kWarpsOut = kOut / kWarpOut;
// A thread's sums: of a warp's kRows / 2 x 64 in pieces of 16 x 8, or of the warpgroup's kRows / 64 times 64 x 128.
template <int kRows>
using Sums = std::conditional_t<kHasWarpgroups, float[kRows / 64][kOut / 8][4], float[kRows / 32][kWarpOut / 8][4]>;

template <int kRows>
constexpr int kStageBytes = (kRows + kOut) * kIn * 2;

struct Args {
    Grouped g;             // w: w1 or w2
    Experts w3;            // up only
    const float* weight_of;
    float limit;
};

__device__ void store_shared(uint32_t to, uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
    asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(a), "r"(b), "r"(c), "r"(d) : "memory");
}
// A thread's share of the activations' rows, kIn columns at a time.
template <int kRows>
struct RowsOfX {
    static constexpr int kShare = kRows * 8 / kThreads;
    const bf16* row[kShare];
    __device__ RowsOfX(const Grouped& g, const Tile& tile, const bf16* x) {
        for (int i = 0; i < kShare; ++i) {
            const int r = threadIdx.x / 8 + i * (kThreads / 8), slot = tile.slot + r;
            row[i] = r < tile.n_rows ? x + (g.row_of ? g.row_of[slot] : slot) * g.ldx : nullptr;
        }
    }
    __device__ void copy(const bf16* base, uint32_t to, int k0, int64_t in) const {
#pragma unroll
        for (int i = 0; i < kShare; ++i) {
            const int at = threadIdx.x % 8, col = k0 + at * 8;
            const bool is_there = row[i] && col < in;
            copy_async(to + piece(threadIdx.x / 8 + i * (kThreads / 8), at), is_there ? row[i] + col : base, is_there ? 16 : 0);
        }
    }
};

// A thread's share of the weights' rows. BF16 is copied as it is; codes wait in registers until they are widened.
template <DType D, bool kIsUp>
struct RowsOfW {
    static constexpr int kChunks = kIn / kChunk<D>, kShare = kOut * kChunks / kThreads, kStep = kThreads / kChunks;
    const uint4* data[kShare];
    const uint8_t* scale[kShare];
    uint4 raw[kShare];
    uint32_t code[kShare];
    int n_chunks;

    __device__ static int row(int i) { return threadIdx.x / kChunks + i * kStep; }
    __device__ RowsOfW(const Args& a, int expert, int64_t o0) {
        const cpu::PackedMatrix w = a.g.w.at(expert);
        n_chunks = static_cast<int>(w.in / kChunk<D>);
        for (int i = 0; i < kShare; ++i) {
            const int r = row(i);
            // Up: of every warp's 64 outputs the first 32 are of w1, the others the same of w3.
            const int64_t o = kIsUp ? o0 + r / kWarpOut * (kWarpOut / 2) + r % (kWarpOut / 2) : o0 + r;
            const bool is_third = kIsUp && r % kWarpOut >= kWarpOut / 2;
            const ChunkRow<D> mine(is_third ? a.w3.at(expert) : w, min(o, w.out - 1));
            data[i] = mine.data, scale[i] = mine.scale;
        }
    }
    __device__ void copy(uint32_t to, int k0) const {  // BF16
#pragma unroll
        for (int i = 0; i < kShare; ++i) {
            const int c = k0 / kChunk<D> + threadIdx.x % kChunks;
            copy_async(to + piece(row(i), threadIdx.x % kChunks), c < n_chunks ? data[i] + c : data[i], c < n_chunks ? 16 : 0);
        }
    }
    __device__ void load(int k0) {
#pragma unroll
        for (int i = 0; i < kShare; ++i) {
            const int c = k0 / kChunk<D> + threadIdx.x % kChunks;
            const bool is_there = c < n_chunks;
            raw[i] = is_there ? __ldg(data[i] + c) : uint4{0, 0, 0, 0};
            code[i] = is_there ? __ldg(scale[i] + (D == DType::f8_e4m3 ? c / 8 : c)) : 127;
        }
    }
    __device__ void widen(uint32_t to) const {
        constexpr int kParts = kChunk<D> / 8;
#pragma unroll
        for (int i = 0; i < kShare; ++i)
#pragma unroll
            for (int part = 0; part < kParts; ++part) {
                const Eight e = eight_of<D>(raw[i], part, code[i]);
                store_shared(to + piece(row(i), threadIdx.x % kChunks * kParts + part), e.pair[0], e.pair[1], e.pair[2], e.pair[3]);
            }
    }
};

// Sums of one stage: warp tile kRows / 2 x 64.
template <int kRows, class Sums>
__device__ void multiply_by_warps(uint32_t xs, uint32_t ws, Sums& sum) {
    const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
    const int m0 = warp / kWarpsOut * (kRows / 2) + lane % 16, n0 = warp % kWarpsOut * kWarpOut + lane / 16 * 8 + lane % 8;
#pragma unroll
    for (int k = 0; k < kIn / 8; k += 2) {
        uint32_t w[kWarpOut / 16][4];
#pragma unroll
        for (int j = 0; j < kWarpOut / 16; ++j) load_matrices(w[j], ws + piece(n0 + j * 16, k + lane / 8 % 2));
#pragma unroll
        for (int i = 0; i < kRows / 32; ++i) {
            uint32_t x[4];
            load_matrices(x, xs + piece(m0 + i * 16, k + lane / 16));
#pragma unroll
            for (int j = 0; j < kWarpOut / 8; ++j)
                multiply_16x8x16(sum[i][j], x[0], x[1], x[2], x[3], w[j / 2][j % 2 * 2], w[j / 2][j % 2 * 2 + 1]);
        }
    }
}

// The same by the warpgroup, queued: n_rows of kRows are there.
template <int kRows, class Sums>
__device__ void queue_products(uint32_t xs, uint32_t ws, int n_rows, Sums& sum) {
#pragma unroll
    for (int i = 0; i < kRows / 64; ++i) {
        if (i * 64 >= n_rows) continue;
        begin_products();
#pragma unroll
        for (uint32_t k = 0; k < kIn / 16; ++k)
            multiply_64x128x16<false, false>(sum[i], operand_at(xs + i * 64 * 128 + k * 32), operand_at(ws + k * 32));
    }
    end_products();
}

// A tile's sums go where they belong, in pairs of columns: as BF16, through SwiGLU on the way up.
template <int kRows, bool kIsUp>
__device__ void store_tile(const Args& a, const Tile& tile, int64_t o0, int64_t out, const Sums<kRows>& sum, bf16* y) {
    constexpr int kBlocks = sizeof(sum) / sizeof(sum[0]), kRowStep = kHasWarpgroups ? 64 : 16, kGroups = kHasWarpgroups ? 2 : 1;
    const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
    const int row0 = kHasWarpgroups ? warp * 16 : warp / kWarpsOut * (kRows / 2), group0 = kHasWarpgroups ? 0 : warp % kWarpsOut;
#pragma unroll
    for (int i = 0; i < kBlocks; ++i)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int row = row0 + i * kRowStep + lane / 4 + half * 8;
            if (row >= tile.n_rows) continue;
            const int64_t slot = tile.slot + row;
            const float weight = kIsUp ? a.weight_of[slot] : 1;
#pragma unroll
            for (int group = 0; group < kGroups; ++group)
#pragma unroll
                for (int j = 0; j < (kIsUp ? kWarpOut / 16 : kWarpOut / 8); ++j) {
                    const int64_t col = o0 + (group0 + group) * (kIsUp ? kWarpOut / 2 : kWarpOut) + j * 8 + lane % 4 * 2;
                    const float* const at = sum[i][group * (kWarpOut / 8) + j] + 2 * half;
                    float v[2] = {at[0], at[1]};
                    if constexpr (kIsUp) {
                        const float* const up = sum[i][group * (kWarpOut / 8) + j + kWarpOut / 16] + 2 * half;
                        for (int c = 0; c < 2; ++c) v[c] = swiglu(round_bf16(v[c]), round_bf16(up[c]), a.limit, weight);
                    }
                    if (col < out) *reinterpret_cast<__nv_bfloat162*>(y + slot * a.g.ldy + col) = __floats2bfloat162_rn(v[0], v[1]);
                }
        }
}

// grid: (tiles of outputs, tiles of rows). A stage is filled two rounds before it is read: by then every warp has left it.
template <DType D, int kRows, bool kIsUp>
__global__ void __launch_bounds__(kThreads, 2) multiply_tiles(const __grid_constant__ Args a, const bf16* x, bf16* y) {
    after_previous();
    extern __shared__ __align__(1024) std::byte stages[];
    const int first = static_cast<int>(blockIdx.y) * kRows;
    Tile tile{0, static_cast<int32_t>(a.g.slot0) + first, min(static_cast<int>(a.g.n_rows) - first, kRows)};
    if (a.g.tiles) {
        if (static_cast<int>(blockIdx.y) >= *a.g.n_tiles) return;
        tile = a.g.tiles[blockIdx.y];
    }
    const int64_t o0 = static_cast<int64_t>(blockIdx.x) * (kIsUp ? kOut / 2 : kOut), in = a.g.w.first.in;
    const auto base = static_cast<uint32_t>(__cvta_generic_to_shared(stages));
    const auto xs = [&](int stage) { return base + stage % kStages * kStageBytes<kRows>; };
    const auto ws = [&](int stage) { return xs(stage) + kRows * kIn * 2; };
    const int n = static_cast<int>((in + kIn - 1) / kIn);
    const RowsOfX<kRows> rows_x(a.g, tile, x);
    RowsOfW<D, kIsUp> rows_w(a, tile.expert, o0);
    const auto fill = [&](int stage) {
        if (stage < n) {
            rows_x.copy(x, xs(stage), stage * kIn, in);
            if constexpr (D == DType::bf16) {
                rows_w.copy(ws(stage), stage * kIn);
            } else {
                rows_w.widen(ws(stage));
                rows_w.load((stage + 1) * kIn);
            }
        }
        asm volatile("cp.async.commit_group;" ::: "memory");  // empty ones too: their number is what is waited for
    };
    Sums<kRows> sum = {};
    if constexpr (D != DType::bf16) rows_w.load(0);
    for (int stage = 0; stage < kStages - 1; ++stage) fill(stage);
    for (int stage = 0; stage < n; ++stage) {
        asm volatile("cp.async.wait_group %0;" ::"n"(kStages - 2) : "memory");
        if constexpr (kHasWarpgroups) {
            show_to_products();
            wait_for_products<0>();  // of the stage before
            __syncthreads();
            queue_products<kRows>(xs(stage), ws(stage), same_in_warp(tile.n_rows), sum);
            fill(stage + kStages - 1);
        } else {
            __syncthreads();
            fill(stage + kStages - 1);
            multiply_by_warps<kRows>(xs(stage), ws(stage), sum);
        }
    }
    if constexpr (kHasWarpgroups) wait_for_products<0>();
    asm volatile("cp.async.wait_all;" ::: "memory");
    store_tile<kRows, kIsUp>(a, tile, o0, a.g.w.first.out, sum, y);
}

template <DType D, int kRows, bool kIsUp>
void launch(const Ctx& ctx, const Args& a, const Tensor& x, const Tensor& y) {
    constexpr int kBytes = kStages * kStageBytes<kRows>;
    const auto kernel = multiply_tiles<D, kRows, kIsUp>;
    allow_shared(ctx, kernel, kBytes);
    const dim3 grid(ceil_div(a.g.w.first.out, kIsUp ? kOut / 2 : kOut), a.g.tiles ? a.g.max_tiles : ceil_div(a.g.n_rows, kRows));
    kernel<<<grid, kThreads, kBytes, ctx.cuda->stream()>>>(a, static_cast<const bf16*>(x.data), static_cast<bf16*>(y.data));
    check_launch(ctx, "a product of experts on tensor cores");
}

template <bool kIsUp>
void multiply(const Ctx& ctx, const Args& a, int tile_rows, const Tensor& x, const Tensor& y) {
    VITRINE_ASSERT(x.dtype == DType::bf16 && y.dtype == DType::bf16 && fits_tensor_cores(a.g.w.first));
    with_format(a.g.w.first, [&](auto format) {
        constexpr DType D = decltype(format)::value;
        if constexpr (D == DType::bf16 || kIsScaled<D>)
            tile_rows == 128 ? launch<D, 128, kIsUp>(ctx, a, x, y) : launch<D, 64, kIsUp>(ctx, a, x, y);
    });
}

}  // namespace

bool takes_tensor_cores(const Job& job) {
    if (!job.ctx.is_reference() || job.width % 8 || job.x.dim(1) % 8) return false;
    for (const Kind& kind : job.kinds)
        if (!fits_tensor_cores(kind.w1.first) || !fits_tensor_cores(kind.w2.first) || !fits_tensor_cores(kind.w3.first) ||
            kind.w1.first.dtype != kind.w3.first.dtype)
            return false;
    return true;
}

void multiply_up(const Ctx& ctx, const Grouped& w1, const Experts& w3, const float* weight_of, float limit, int tile_rows,
                 const Tensor& x, const Tensor& h) {
    multiply<true>(ctx, {w1, w3, weight_of, limit}, tile_rows, x, h);
}

void multiply_down(const Ctx& ctx, const Grouped& w2, int tile_rows, const Tensor& h, const Tensor& y) {
    multiply<false>(ctx, {w2, {}, nullptr, 0}, tile_rows, h, y);
}

}  // namespace vitrine::cuda
