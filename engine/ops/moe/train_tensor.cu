// The experts' products of a training step on tensor cores: up, down, and both backward, over tiles of a group's slots; and the
// gradients of the weights over pieces of them.
#include "engine/ops/linear/tensor.cuh"
#include "engine/ops/moe/stages.cuh"
#include "engine/ops/moe/train.cuh"
#include "engine/ops/moe/warpgroup.cuh"

namespace vitrine::cuda {
namespace {

// Four warps make kSide x kSide outputs; a block of kGroups times as many threads makes kGroups kSide rows of them, with one
// operand B. Operands lie in a stage of kDepth terms as they do in memory: [kSide, kDepth], or "wide" as [kDepth, kSide].
constexpr int kGroupThreads = 128, kSide = 128, kDepth = 64, kWarpSide = 64;
constexpr int kOperandBytes = kSide * kDepth * 2;
constexpr int kStagedRow = kSide + 8;  // floats from one row of sums to the next in shared memory
template <int kGroups>
struct Stages {
    // Copies run two stages ahead. Alone on its multiprocessor a block has the products of one stage queued behind another's.
    static constexpr int kAhead = 2, kQueued = kGroups - 1, kCount = kAhead + 1 + kQueued;
    static constexpr int kBytes = (kGroups + 1) * kOperandBytes, kSharedBytes = kCount * kBytes;
};
constexpr int kTileGroups = 2, kTileThreads = kGroupThreads * kTileGroups;  // of products of rows
static_assert(kTileGroups * kSide == kRowsOfTile && kSide == kColumnsOfPart);
static_assert(kRowsOfTile * kStagedRow * 4 <= Stages<kTileGroups>::kSharedBytes);
// What a thread has of its group's sums: a warp's 64 x 64, or of two halves of 64 rows by the warpgroup.
using Sums = std::conditional_t<kHasWarpgroups, float[2][kSide / 8][4], float[kWarpSide / 16][kWarpSide / 8][4]>;

enum class Product { up, down, down_backward, up_backward };
constexpr bool is_wide(Product p) { return p == Product::down_backward || p == Product::up_backward; }  // its weights

// Sums of one stage.
template <bool kIsAWide, bool kIsBWide, class Sums>
__device__ void multiply_by_warps(uint32_t as, uint32_t bs, Sums& sum) {
    const int lane = threadIdx.x % kWarp, warp = threadIdx.x % kGroupThreads / kWarp;
    const int m0 = warp / 2 * kWarpSide, n0 = warp % 2 * kWarpSide;
#pragma unroll
    for (int k = 0; k < kDepth / 8; k += 2) {
        uint32_t b[kWarpSide / 16][4];
#pragma unroll
        for (int j = 0; j < kWarpSide / 16; ++j) {
            if constexpr (kIsBWide)
                load_turned(b[j], bs + wide_piece(k * 8 + lane % 16, n0 / 8 + j * 2 + lane / 16));
            else
                load_matrices(b[j], bs + piece(n0 + j * 16 + lane / 16 * 8 + lane % 8, k + lane / 8 % 2));
        }
#pragma unroll
        for (int i = 0; i < kWarpSide / 16; ++i) {
            uint32_t a[4];
            if constexpr (kIsAWide)
                load_turned(a, as + wide_piece(k * 8 + lane / 16 * 8 + lane % 8, m0 / 8 + i * 2 + lane / 8 % 2));
            else
                load_matrices(a, as + piece(m0 + i * 16 + lane % 16, k + lane / 16));
#pragma unroll
            for (int j = 0; j < kWarpSide / 8; ++j)
                multiply_16x8x16(sum[i][j], a[0], a[1], a[2], a[3], b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]);
        }
    }
}

// The same by the warpgroup, queued: n_rows of 128 are there.
template <bool kIsAWide, bool kIsBWide, class Sums>
__device__ void queue_products(uint32_t as, uint32_t bs, int n_rows, Sums& sum) {
    constexpr uint32_t kStepA = kIsAWide ? 16 * 128 : 32, kStepB = kIsBWide ? 16 * 128 : 32, kHalf = 64 * 128;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        if (n_rows <= half * 64) continue;
        begin_products();
#pragma unroll
        for (uint32_t k = 0; k < kDepth / 16; ++k)
            multiply_64x128x16<kIsAWide, kIsBWide>(sum[half], operand_at(as + half * kHalf + k * kStepA),
                                                   operand_at(bs + k * kStepB));
    }
    end_products();
}

// Runs n stages; fill(stage, a, b) queues the copies of one, n_rows of a's outputs are wanted. A stage is filled when every warp
// has left what lay there.
template <int kGroups, bool kIsAWide, bool kIsBWide, class Sums, class Fill>
__device__ void multiply_stages(uint32_t base, int n, int n_rows, Sums& sum, Fill&& fill) {
    using S = Stages<kGroups>;
    const int group = same_in_warp(threadIdx.x / kGroupThreads), n_mine = same_in_warp(n_rows) - group * kSide;
    const auto fill_next = [&](int stage) {
        if (stage < n) {
            const uint32_t at = base + stage % S::kCount * S::kBytes;
            fill(stage, at, at + kGroups * kOperandBytes);
        }
        asm volatile("cp.async.commit_group;" ::: "memory");  // empty ones too: their number is what is waited for
    };
    for (int stage = 0; stage < S::kAhead; ++stage) fill_next(stage);
    for (int stage = 0; stage < n; ++stage) {
        asm volatile("cp.async.wait_group %0;" ::"n"(S::kAhead - 1) : "memory");
        const uint32_t at = base + stage % S::kCount * S::kBytes;
        const uint32_t as = at + group * kOperandBytes, bs = at + kGroups * kOperandBytes;
        if constexpr (kHasWarpgroups) {
            show_to_products();
            if constexpr (S::kQueued == 0) wait_for_products<0>();
            __syncthreads();
            queue_products<kIsAWide, kIsBWide>(as, bs, n_mine, sum);
            if constexpr (S::kQueued > 0) wait_for_products<S::kQueued>();
            fill_next(stage + S::kAhead);
        } else {
            __syncthreads();
            fill_next(stage + S::kAhead);
            multiply_by_warps<kIsAWide, kIsBWide>(as, bs, sum);
        }
    }
    if constexpr (kHasWarpgroups) wait_for_products<0>();
    asm volatile("cp.async.wait_all;" ::: "memory");
}

// f(row, column, the sum there, that of the next column), as a thread holds them.
template <class Sums, class F>
__device__ void for_sums(Sums& sum, F&& f) {
    const int lane = threadIdx.x % kWarp, group = threadIdx.x / kGroupThreads, warp = threadIdx.x % kGroupThreads / kWarp;
    const int row = group * kSide + (kHasWarpgroups ? warp * 16 : warp / 2 * kWarpSide) + lane / 4,
              col = (kHasWarpgroups ? 0 : warp % 2 * kWarpSide) + lane % 4 * 2;
    constexpr int kBlocks = sizeof(Sums) / sizeof(sum[0]), kRowStep = kHasWarpgroups ? 64 : 16;
#pragma unroll
    for (int i = 0; i < kBlocks; ++i)
#pragma unroll
        for (int j = 0; j < static_cast<int>(sizeof(sum[0]) / sizeof(sum[0][0])); ++j)
#pragma unroll
            for (int half = 0; half < 2; ++half)
                f(row + i * kRowStep + half * 8, col + j * 8, sum[i][j][2 * half], sum[i][j][2 * half + 1]);
}

// Eight BF16 values.
struct Eight8 {
    uint4 bits;
    __device__ float at(int i) const {
        const uint32_t word = i < 2 ? bits.x : i < 4 ? bits.y : i < 6 ? bits.z : bits.w;
        return __uint_as_float(i % 2 ? word & 0xffff0000u : word << 16);
    }
};
__device__ uint32_t pair_of(float a, float b) { return pair_bits(__floats2bfloat162_rn(a, b)); }
__device__ void store_eight(bf16* to, const float (&v)[8]) {
    *reinterpret_cast<uint4*>(to) = {pair_of(v[0], v[1]), pair_of(v[2], v[3]), pair_of(v[4], v[5]), pair_of(v[6], v[7])};
}

struct RowsArgs {
    TensorJob job;
    const bf16* x;           // rows to multiply: by token (up, down_backward) or by slot
    const bf16* gu;          // down_backward
    bf16 *gu_out, *h;        // up, down_backward
    float *y, *dweights;     // down, up_backward; down_backward
};

// A tile's rows of x, kDepth columns at a time.
template <Product P>
struct RowsOfX {
    static constexpr int kShare = kRowsOfTile * 8 / kTileThreads;
    int32_t row[kShare];
    __device__ RowsOfX(const TapePlan& plan, const Tile& tile) {
#pragma unroll
        for (int i = 0; i < kShare; ++i) {
            const int r = threadIdx.x / 8 + i * (kTileThreads / 8), slot = tile.slot + r;
            row[i] = r >= tile.n_rows ? -1 : P == Product::up || P == Product::down_backward ? plan.token_of[slot] : slot;
        }
    }
    // Columns [from, from + kDepth), of which n are there.
    __device__ void copy(uint32_t to, const bf16* x, int64_t ld, int from, int n) const {
        const int at = threadIdx.x % 8;
#pragma unroll
        for (int i = 0; i < kShare; ++i) {
            const bool is_there = row[i] >= 0 && at * 8 < n;
            copy_async(to + piece(threadIdx.x / 8 + i * (kTileThreads / 8), at), is_there ? x + row[i] * ld + from + at * 8 : x,
                       is_there ? 16 : 0);
        }
    }
};

// Rows of weights from output o0 on, [kSide, kDepth]. Up: of every 64 the first 32 are of w1, the others the same of w3.
template <Product P>
__device__ void copy_weights(uint32_t to, const bf16* w, const bf16* w3, int o0, int n_out, int k0, int n_terms) {
    const int at = threadIdx.x % 8, col = k0 + at * 8;
#pragma unroll
    for (int i = 0; i < kSide * 8 / kTileThreads; ++i) {
        const int r = threadIdx.x / 8 + i * (kTileThreads / 8);
        const int o = P == Product::up ? o0 + r / 64 * 32 + r % 32 : o0 + r;
        const bf16* from = P == Product::up && r % 64 >= 32 ? w3 : w;
        const bool is_there = o < n_out && col < n_terms;
        copy_async(to + piece(r, at), is_there ? from + static_cast<int64_t>(o) * n_terms + col : w, is_there ? 16 : 0);
    }
}
// [kDepth, kSide] of weights [n_terms, n_out].
__device__ void copy_wide_weights(uint32_t to, const bf16* w, int o0, int n_out, int k0, int n_terms) {
    const int at = threadIdx.x % 16, col = o0 + at * 8;
#pragma unroll
    for (int i = 0; i < kDepth * 16 / kTileThreads; ++i) {
        const int r = threadIdx.x / 16 + i * (kTileThreads / 16);
        const bool is_there = col < n_out && k0 + r < n_terms;
        copy_async(to + wide_piece(r, at), is_there ? w + static_cast<int64_t>(k0 + r) * n_out + col : w, is_there ? 16 : 0);
    }
}

// Sums of gate and up through SwiGLU; eight channels a thread.
__device__ void store_up(const RowsArgs& a, const Tile& tile, int o0, int width, const float* staged) {
    const int ld = a.job.ld;
    for (int p = threadIdx.x; p < kRowsOfTile * 8; p += kTileThreads) {
        const int row = p / 8, c = p % 8 * 8, col = o0 + c;
        if (row >= tile.n_rows || col >= width) continue;
        const int64_t slot = tile.slot + row;
        const float *g = staged + row * kStagedRow + c / 32 * 64 + c % 32, weight = a.job.plan.weight_of[slot];
        float gate[8], up[8], h[8];
#pragma unroll
        for (int i = 0; i < 8; ++i) gate[i] = g[i], up[i] = g[32 + i], h[i] = swiglu(gate[i], up[i], a.job.limit, weight);
        store_eight(a.gu_out + slot * 2 * ld + col, gate);
        store_eight(a.gu_out + slot * 2 * ld + ld + col, up);
        store_eight(a.h + slot * ld + col, h);
    }
}

// Sums are gradients of h without its weight. Half a warp has a row.
__device__ void store_down_backward(const RowsArgs& a, const Tile& tile, int o0, int width, const float* staged) {
    const int ld = a.job.ld;
    for (int p = threadIdx.x; p < kRowsOfTile * 16; p += kTileThreads) {
        const int row = p / 16, c = p % 16 * 8, col = o0 + c;
        const int64_t slot = tile.slot + row;
        float dweight = 0;
        if (row < tile.n_rows && col < width) {
            const Eight8 gate{*reinterpret_cast<const uint4*>(a.gu + slot * 2 * ld + col)},
                up{*reinterpret_cast<const uint4*>(a.gu + slot * 2 * ld + ld + col)};
            const float weight = a.job.plan.weight_of[slot];
            float h[8], dgate[8], dup[8];
#pragma unroll
            for (int i = 0; i < 8; ++i)
                dweight += swiglu_backward(gate.at(i), up.at(i), staged[row * kStagedRow + c + i], a.job.limit, weight, h[i],
                                           dgate[i], dup[i]);
            store_eight(a.h + slot * ld + col, h);
            store_eight(a.gu_out + slot * 2 * ld + col, dgate);
            store_eight(a.gu_out + slot * 2 * ld + ld + col, dup);
        }
        for (int i = 8; i > 0; i /= 2) dweight += __shfl_xor_sync(~0u, dweight, i);
        if (threadIdx.x % 16 == 0 && row < tile.n_rows) a.dweights[blockIdx.x * a.job.plan.n_slots + slot] = dweight;
    }
}

// grid: (tiles of outputs, tiles of slots)
template <Product P>
__global__ void __launch_bounds__(kTileThreads, 1) multiply_tiles(const __grid_constant__ RowsArgs a) {
    after_previous();
    extern __shared__ __align__(1024) std::byte stages[];
    if (static_cast<int>(blockIdx.y) >= *a.job.plan.n_tiles) return;
    const Tile tile = a.job.plan.tiles[blockIdx.y];
    constexpr bool kIsToWidth = P == Product::up || P == Product::down_backward;
    const int width = a.job.width.of(tile.expert), d = a.job.d, n_out = kIsToWidth ? width : d, n_terms = kIsToWidth ? d : width;
    const int o0 = static_cast<int>(blockIdx.x) * (P == Product::up ? kSide / 2 : kSide);
    if (o0 >= n_out) return;
    const bool is_second = P == Product::down || P == Product::down_backward;
    const bf16 *w = (is_second ? a.job.w2 : a.job.w1).of(tile.expert), *w3 = a.job.w3.of(tile.expert);
    const int64_t ldx = kIsToWidth ? d : P == Product::down ? a.job.ld : 2 * a.job.ld;
    const int n_once = (n_terms + kDepth - 1) / kDepth, n = P == Product::up_backward ? 2 * n_once : n_once;
    const RowsOfX<P> rows(a.job.plan, tile);
    Sums sum = {};
    const auto base = static_cast<uint32_t>(__cvta_generic_to_shared(stages));
    multiply_stages<kTileGroups, false, is_wide(P)>(base, n, tile.n_rows, sum, [&](int stage, uint32_t xs, uint32_t ws) {
        const bool is_up = stage >= n_once;  // up_backward: the gradients of gate through w1, then those of up through w3
        const int k0 = (is_up ? stage - n_once : stage) * kDepth;
        rows.copy(xs, a.x, ldx, k0 + (is_up ? a.job.ld : 0), n_terms - k0);
        if constexpr (is_wide(P)) copy_wide_weights(ws, is_up ? w3 : w, o0, n_out, k0, n_terms);
        else copy_weights<P>(ws, w, w3, o0, n_out, k0, n_terms);
    });
    if constexpr (!kIsToWidth) {
        for_sums(sum, [&](int row, int col, float v, float next) {
            if (row < tile.n_rows && o0 + col < d)
                *reinterpret_cast<float2*>(a.y + static_cast<int64_t>(tile.slot + row) * d + o0 + col) = {v, next};
        });
    } else {
        float* staged = reinterpret_cast<float*>(stages);
        __syncthreads();
        for_sums(sum, [&](int row, int col, float v, float next) {
            *reinterpret_cast<float2*>(staged + row * kStagedRow + col) = {v, next};
        });
        __syncthreads();
        if constexpr (P == Product::up) store_up(a, tile, o0, width, staged);
        else store_down_backward(a, tile, o0, width, staged);
    }
}

// ---- gradients of weights: sums over slots of a row of a, turned, times a row of b

// kIsUp: of w1 and w3 at once, [2 ld, D] from the gradients of gate and up and from x; else of w2, [D, ld] from dy and h.
struct GradientArgs {
    TensorJob job;
    const bf16 *a, *b;
    WeightGradients dw;
    float* parts;            // [parts, m, n]
    int m, n, m_tiles;
};

// Where the gradient of output (row, col) is; null: nobody wants it, or there is none.
template <bool kIsUp>
__device__ float* gradient_at(const GradientArgs& a, int group, int row, int col) {
    const int width = a.job.width.of(group);
    if constexpr (kIsUp) {
        const bool is_up = row >= a.job.ld;
        const int o = is_up ? row - a.job.ld : row;
        const Stack<float>& dw = (is_up ? a.dw.w3 : a.dw.w1).to;
        return dw.routed && o < width && row < a.m && col < a.n ? dw.of(group) + static_cast<int64_t>(o) * a.n + col : nullptr;
    } else {
        const Stack<float>& dw = a.dw.w2.to;
        return dw.routed && row < a.m && col < width ? dw.of(group) + static_cast<int64_t>(row) * width + col : nullptr;
    }
}
template <bool kIsUp>
__device__ bool accumulates(const GradientArgs& a, int row) {
    return kIsUp ? (row >= a.job.ld ? a.dw.w3 : a.dw.w1).accumulates : a.dw.w2.accumulates;
}

// kDepth slots' rows of an operand, kSide columns of them; rows by token are looked up a stage ahead.
template <bool kIsByToken>
struct SlotRows {
    static constexpr int kShare = kDepth * 16 / kGroupThreads, kStep = kGroupThreads / 16;
    int32_t row[kShare];
    __device__ void find(const TapePlan& plan, const Piece& p, int stage) {
#pragma unroll
        for (int i = 0; i < kShare; ++i) {
            const int k = stage * kDepth + static_cast<int>(threadIdx.x) / 16 + i * kStep;
            row[i] = k >= p.n_rows ? -1 : kIsByToken ? plan.token_of[p.slot + k] : p.slot + k;
        }
    }
    __device__ void copy(uint32_t to, const bf16* x, int64_t ld, int col0, int n) const {
        const int at = threadIdx.x % 16, col = col0 + at * 8;
#pragma unroll
        for (int i = 0; i < kShare; ++i) {
            const bool is_there = row[i] >= 0 && col < n;
            copy_async(to + wide_piece(threadIdx.x / 16 + i * kStep, at), is_there ? x + row[i] * ld + col : x, is_there ? 16 : 0);
        }
    }
};

// grid: (tiles of the gradient, pieces)
template <bool kIsUp>
__global__ void __launch_bounds__(kGroupThreads, 2) add_gradients(const __grid_constant__ GradientArgs a) {
    after_previous();
    extern __shared__ __align__(1024) std::byte stages[];
    if (static_cast<int>(blockIdx.y) >= *a.job.plan.n_pieces) return;
    const Piece p = a.job.plan.pieces[blockIdx.y];
    const int m0 = static_cast<int>(blockIdx.x) % a.m_tiles * kSide, n0 = static_cast<int>(blockIdx.x) / a.m_tiles * kSide;
    const int n_cols = kIsUp ? a.n : a.job.width.of(p.group);
    if (n0 >= n_cols) return;
    SlotRows<!kIsUp> rows_a;
    SlotRows<kIsUp> rows_b;
    rows_a.find(a.job.plan, p, 0), rows_b.find(a.job.plan, p, 0);
    Sums sum = {};
    const auto base = static_cast<uint32_t>(__cvta_generic_to_shared(stages));
    multiply_stages<1, true, true>(base, (p.n_rows + kDepth - 1) / kDepth, kSide, sum, [&](int stage, uint32_t as, uint32_t bs) {
        rows_a.copy(as, a.a, a.m, m0, a.m);
        rows_b.copy(bs, a.b, kIsUp ? a.n : a.job.ld, n0, n_cols);
        rows_a.find(a.job.plan, p, stage + 1), rows_b.find(a.job.plan, p, stage + 1);
    });
    float* part = p.part < 0 ? nullptr : a.parts + static_cast<int64_t>(p.part) * a.m * a.n;
    const auto place = [&](int row, int col) {  // null: nobody wants it
        float* to = gradient_at<kIsUp>(a, p.group, m0 + row, n0 + col);
        return to && part ? part + static_cast<int64_t>(m0 + row) * a.n + n0 + col : to;
    };
    if (!part)  // all are read before the first is written: one after the other takes many times as long
        for_sums(sum, [&](int row, int col, float& v, float& next) {
            if (!accumulates<kIsUp>(a, m0 + row)) return;
            const float* from = place(row, col);
            const float2 before = from ? *reinterpret_cast<const float2*>(from) : float2{0, 0};
            v += before.x, next += before.y;
        });
    for_sums(sum, [&](int row, int col, float v, float next) {
        if (float* to = place(row, col)) *reinterpret_cast<float2*>(to) = {v, next};
    });
}

// grid: (blocks of a group, groups). Most groups have nothing to add.
template <bool kIsUp>
__global__ void add_parts(const __grid_constant__ GradientArgs a) {
    after_previous();
    const int group = static_cast<int>(blockIdx.y);
    const GroupSlots slots = a.job.plan.groups[group];
    if (slots.n_parts == 0) return;
    const int64_t size = static_cast<int64_t>(a.m) * a.n, step = static_cast<int64_t>(gridDim.x) * blockDim.x * 4;
    for (int64_t i = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * 4; i < size; i += step) {
        const int row = static_cast<int>(i / a.n);
        float* to = gradient_at<kIsUp>(a, group, row, static_cast<int>(i % a.n));
        if (!to) continue;
        float4 sum = accumulates<kIsUp>(a, row) ? *reinterpret_cast<const float4*>(to) : float4{0, 0, 0, 0};
        for (int p = 0; p < slots.n_parts; ++p) {
            const float4 v = *reinterpret_cast<const float4*>(a.parts + (slots.first_part + p) * size + i);
            sum.x += v.x, sum.y += v.y, sum.z += v.z, sum.w += v.w;
        }
        *reinterpret_cast<float4*>(to) = sum;
    }
}

template <Product P>
void launch(Ctx& ctx, const RowsArgs& a) {
    constexpr int kBytes = Stages<kTileGroups>::kSharedBytes;
    const auto kernel = multiply_tiles<P>;
    allow_shared(ctx, kernel, kBytes);
    const int n_out = P == Product::up || P == Product::down_backward ? a.job.width.largest() : a.job.d;
    const dim3 grid(ceil_div(n_out, P == Product::up ? kSide / 2 : kSide), a.job.plan.max_tiles);
    kernel<<<grid, kTileThreads, kBytes, ctx.cuda->stream()>>>(a);
    check_launch(ctx, "a product of experts on tensor cores");
}

template <bool kIsUp>
void launch_gradients(Ctx& ctx, GradientArgs a) {
    constexpr int kBytes = Stages<1>::kSharedBytes;
    const Arena::Scope scratch(ctx.arena);
    const auto kernel = add_gradients<kIsUp>;
    allow_shared(ctx, kernel, kBytes);
    const TapePlan& plan = a.job.plan;
    if (plan.max_parts > 0) a.parts = ctx.arena.make(DType::f32, {plan.max_parts, a.m, a.n}).f32();
    a.m_tiles = static_cast<int>(ceil_div(a.m, kSide));
    const dim3 grid(static_cast<unsigned>(a.m_tiles) * ceil_div(a.n, kSide), plan.max_pieces);
    kernel<<<grid, kGroupThreads, kBytes, ctx.cuda->stream()>>>(a);
    constexpr int kSumThreads = 256;
    const dim3 sums(std::min(ceil_div(static_cast<int64_t>(a.m) * a.n, 4 * kSumThreads), 64u),
                    static_cast<unsigned>(plan.n_groups));
    if (plan.max_parts > 0) add_parts<kIsUp><<<sums, kSumThreads, 0, ctx.cuda->stream()>>>(a);
    check_launch(ctx, "gradients of experts");
}

}  // namespace

void up_on_tensor_cores(Ctx& ctx, const TensorJob& job, bf16* gu, bf16* h) {
    launch<Product::up>(ctx, {job, job.x, nullptr, gu, h, nullptr, nullptr});
}
void down_on_tensor_cores(Ctx& ctx, const TensorJob& job, const bf16* h, float* y) {
    launch<Product::down>(ctx, {job, h, nullptr, nullptr, nullptr, y, nullptr});
}
void down_backward_on_tensor_cores(Ctx& ctx, const TensorJob& job, const bf16* dy, const bf16* gu, bf16* dgu, bf16* h,
                                   float* dweights) {
    launch<Product::down_backward>(ctx, {job, dy, gu, dgu, h, nullptr, dweights});
}
void up_backward_on_tensor_cores(Ctx& ctx, const TensorJob& job, const bf16* dgu, float* dx) {
    launch<Product::up_backward>(ctx, {job, dgu, nullptr, nullptr, nullptr, dx, nullptr});
}

void gradients_on_tensor_cores(Ctx& ctx, const TensorJob& job, const bf16* dy, const bf16* dgu, const bf16* h,
                               const WeightGradients& dw) {
    if (dw.w1.to.routed || dw.w3.to.routed) launch_gradients<true>(ctx, {job, dgu, job.x, dw, nullptr, 2 * job.ld, job.d, 0});
    if (dw.w2.to.routed) launch_gradients<false>(ctx, {job, dy, h, dw, nullptr, job.d, job.ld, 0});
}

}  // namespace vitrine::cuda
