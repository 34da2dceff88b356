// The indexer's scores on the tape of a GPU, on tensor cores: a warp per 16 queries, or per 16 keys. Operands come from global
// memory in FP32 (a tile's rows stay in the cache) and are rounded to BF16 on the way; sums are FP32.
#include "engine/device/cuda/mma.cuh"
#include "engine/ops/index/index_tape.cuh"

namespace vitrine::cuda {
namespace {

constexpr int kThreads = 128, kWarps = kThreads / kWarp;
constexpr int kColumns = 64;  // keys of a warp in forward

__device__ inline uint32_t pack(float low, float high) {
    const __nv_bfloat162 x = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<const uint32_t*>(&x);
}
__device__ inline uint32_t pack(const float* two) {
    const float2 x = *reinterpret_cast<const float2*>(two);
    return pack(x.x, x.y);
}
// A lane holds, of a product's 16 rows, `row` and row + 8; of its columns (and of the inner 16), `column`, the next, and both + 8.
struct Lane {
    int row, column;
    __device__ Lane() : row(threadIdx.x % kWarp / 4), column(threadIdx.x % 4 * 2) {}
};

// Left operand: 16 rows of 16 kSteps floats, rows beyond the n-th repeat it. `ld` floats between rows.
template <int kSteps>
__device__ inline void load_left(uint32_t (&a)[kSteps][4], const float* rows, int64_t ld, int n, const Lane& lane) {
    const float* upper = rows + min(lane.row, n - 1) * ld + lane.column;
    const float* lower = rows + min(lane.row + 8, n - 1) * ld + lane.column;
#pragma unroll
    for (int k = 0; k < kSteps; ++k) {
        a[k][0] = pack(upper + 16 * k), a[k][1] = pack(lower + 16 * k);
        a[k][2] = pack(upper + 16 * k + 8), a[k][3] = pack(lower + 16 * k + 8);
    }
}
// Right operand, transposed: 8 rows of 16 kSteps floats give 8 columns of the product.
template <int kSteps>
__device__ inline void load_right(uint32_t (&b)[kSteps][2], const float* rows, int64_t ld, int n, const Lane& lane) {
    const float* from = rows + min(lane.row, n - 1) * ld + lane.column;
#pragma unroll
    for (int k = 0; k < kSteps; ++k) b[k][0] = pack(from + 16 * k), b[k][1] = pack(from + 16 * k + 8);
}
// sum [16, 16 kSteps] += e [16, 16] times 16 rows of 16 kSteps floats; rows beyond the n-th repeat it, e is 0 there.
template <int kSteps>
__device__ inline void multiply(float (&sum)[2 * kSteps][4], const uint32_t (&e)[4], const float* rows, int64_t ld, int n,
                                const Lane& lane) {
    const float* at[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) at[i] = rows + min(lane.column + i % 2 + i / 2 * 8, n - 1) * ld + lane.row;
#pragma unroll
    for (int i = 0; i < 2 * kSteps; ++i)
        mma(sum[i], e, pack(at[0][8 * i], at[1][8 * i]), pack(at[2][8 * i], at[3][8 * i]));
}
// Two neighbouring values of a row to memory.
__device__ inline void put_pair(float* to, float x, float y, bool accumulates) {
    float2 v{x, y};
    if (accumulates) {
        const float2 old = *reinterpret_cast<const float2*>(to);
        v.x += old.x, v.y += old.y;
    }
    *reinterpret_cast<float2*>(to) = v;
}

// A warp per tile of queries and kColumns keys (y).
template <int kSteps>
__global__ void __launch_bounds__(kThreads) score_tiles(const IndexTape x, float* scores) {
    after_previous();
    constexpr int kGroup = kSteps <= 2 ? 8 : kSteps <= 4 ? 4 : 2;  // tiles of 8 keys at a time
    const int i_tile = blockIdx.x * kWarps + threadIdx.x / kWarp;
    if (i_tile >= x.n_tiles) return;
    const QueryTile tile = x.tiles[i_tile];
    const Lane lane;
    int visible[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) visible[r] = lane.row + 8 * r < tile.n ? x.queries[tile.t0 + lane.row + 8 * r].visible : 0;
    const int begin = blockIdx.y * kColumns, end = min(begin + kColumns, x.n_columns);
    for (int s0 = begin; s0 < end; s0 += 8 * kGroup) {
        float sum[kGroup][4] = {};
        if (s0 < tile.n_keys) {
            uint32_t keys[kGroup][kSteps][2];
#pragma unroll
            for (int i = 0; i < kGroup; ++i) {
                const int s = min(s0 + 8 * i, tile.n_keys - 1);
                load_right(keys[i], x.keys + static_cast<int64_t>(tile.first_key + s) * x.d, x.d, tile.n_keys - s, lane);
            }
            for (int j = 0; j < x.n_heads; ++j) {
                const int64_t row = static_cast<int64_t>(tile.t0) * x.n_heads + j;
                uint32_t q[kSteps][4];
                load_left(q, x.q + row * x.d, static_cast<int64_t>(x.n_heads) * x.d, tile.n, lane);
                const float w0 = x.factor * x.w[row + min(lane.row, tile.n - 1) * x.n_heads];
                const float w1 = x.factor * x.w[row + min(lane.row + 8, tile.n - 1) * x.n_heads];
#pragma unroll
                for (int i = 0; i < kGroup; ++i) {
                    float z[4] = {};
#pragma unroll
                    for (int k = 0; k < kSteps; ++k) mma(z, q[k], keys[i][k][0], keys[i][k][1]);
                    sum[i][0] += w0 * fmaxf(z[0], 0.0f), sum[i][1] += w0 * fmaxf(z[1], 0.0f);
                    sum[i][2] += w1 * fmaxf(z[2], 0.0f), sum[i][3] += w1 * fmaxf(z[3], 0.0f);
                }
            }
        }
#pragma unroll
        for (int i = 0; i < kGroup; ++i) {
#pragma unroll
            for (int r = 0; r < 2; ++r) {
                const int s = s0 + 8 * i + lane.column;
                if (lane.row + 8 * r >= tile.n) continue;
                float* to = scores + static_cast<int64_t>(tile.t0 + lane.row + 8 * r) * x.n_columns + s;
                const float left = s < visible[r] ? sum[i][2 * r] : 0.0f, right = s + 1 < visible[r] ? sum[i][2 * r + 1] : 0.0f;
                if (s + 1 < end && x.n_columns % 2 == 0) {
                    put_pair(to, left, right, false);
                } else {
                    if (s < end) to[0] = left;
                    if (s + 1 < end) to[1] = right;
                }
            }
        }
    }
}

// dL/dz, times what multiplies it, as the left operand of the next product.
__device__ inline void pack_left(uint32_t (&a)[4], const float (&e)[2][4]) {
    a[0] = pack(e[0][0], e[0][1]), a[1] = pack(e[0][2], e[0][3]), a[2] = pack(e[1][0], e[1][1]), a[3] = pack(e[1][2], e[1][3]);
}

// A block per tile of queries; a warp takes heads warp, warp + 4, ..
template <int kSteps>
__global__ void __launch_bounds__(kThreads) query_tile_gradients(const IndexTape x, const IndexGradients to) {
    after_previous();
    const QueryTile tile = x.tiles[blockIdx.x];
    const Lane lane;
    int visible[2];
    const float* g[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
        const int row = tile.t0 + min(lane.row + 8 * r, tile.n - 1);
        visible[r] = lane.row + 8 * r < tile.n ? x.queries[row].visible : 0;
        g[r] = to.scores + static_cast<int64_t>(row) * x.n_columns + lane.column;
    }
    const float* keys = x.keys + static_cast<int64_t>(tile.first_key) * x.d;
    for (int j = threadIdx.x / kWarp; j < x.n_heads; j += kWarps) {
        const int64_t row = static_cast<int64_t>(tile.t0) * x.n_heads + j;
        uint32_t q[kSteps][4];
        load_left(q, x.q + row * x.d, static_cast<int64_t>(x.n_heads) * x.d, tile.n, lane);
        const float w0 = x.factor * x.w[row + min(lane.row, tile.n - 1) * x.n_heads];
        const float w1 = x.factor * x.w[row + min(lane.row + 8, tile.n - 1) * x.n_heads];
        float sum[2 * kSteps][4] = {}, dw[2] = {};
        for (int s0 = 0; s0 < tile.n_keys; s0 += 16) {
            float e[2][4];
#pragma unroll
            for (int i = 0; i < 2; ++i) {
                const int s = min(s0 + 8 * i, tile.n_keys - 1);
                uint32_t b[kSteps][2];
                load_right(b, keys + static_cast<int64_t>(s) * x.d, x.d, tile.n_keys - s, lane);
                float z[4] = {};
#pragma unroll
                for (int k = 0; k < kSteps; ++k) mma(z, q[k], b[k][0], b[k][1]);
#pragma unroll
                for (int v = 0; v < 4; ++v) {
                    const int r = v / 2, column = s0 + 8 * i + v % 2;
                    const float gradient = column + lane.column < visible[r] && z[v] > 0 ? g[r][column] : 0.0f;
                    dw[r] += gradient * z[v];
                    e[i][v] = gradient * (r ? w1 : w0);
                }
            }
            uint32_t a[4];
            pack_left(a, e);
            multiply<kSteps>(sum, a, keys + static_cast<int64_t>(s0) * x.d, x.d, tile.n_keys - s0, lane);
        }
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            dw[r] += __shfl_xor_sync(~0u, dw[r], 1);
            dw[r] += __shfl_xor_sync(~0u, dw[r], 2);
            if (lane.row + 8 * r >= tile.n) continue;
            const int64_t at = row + static_cast<int64_t>(lane.row + 8 * r) * x.n_heads;
            if (lane.column == 0) put(to.w + at, x.factor * dw[r], to.w_accumulates);
#pragma unroll
            for (int i = 0; i < 2 * kSteps; ++i)
                put_pair(to.q + at * x.d + 8 * i + lane.column, sum[i][2 * r], sum[i][2 * r + 1], to.q_accumulates);
        }
    }
}

// A warp per piece: the products' rows are keys, their columns tokens.
template <int kSteps>
__global__ void __launch_bounds__(kThreads) key_piece_gradients(const IndexTape x, const IndexGradients to) {
    after_previous();
    const int i_piece = blockIdx.x * kWarps + threadIdx.x / kWarp;
    if (i_piece >= x.n_pieces) return;
    const KeyPiece p = x.pieces[i_piece];
    const Lane lane;
    uint32_t keys[kSteps][4];
    load_left(keys, x.keys + static_cast<int64_t>(p.first_key) * x.d, x.d, p.n_keys, lane);
    float sum[2 * kSteps][4] = {};
    const int64_t ld = static_cast<int64_t>(x.n_heads) * x.d;
    for (int t0 = p.t0; t0 < p.t1; t0 += 16) {
        const int n = p.t1 - t0;
        float g[2][4];  // of key row + 8 r and token t0 + 8 i + column + c: g[i][2 r + c]
        int64_t at[2][2];
#pragma unroll
        for (int i = 0; i < 2; ++i) {
#pragma unroll
            for (int c = 0; c < 2; ++c) {
                const int in_tile = 8 * i + lane.column + c;
                const int64_t t = t0 + min(in_tile, n - 1);
                const int visible = in_tile < n ? x.queries[t].visible : 0;
                at[i][c] = t * x.n_heads;
#pragma unroll
                for (int r = 0; r < 2; ++r) {
                    const int key = lane.row + 8 * r, s = p.column + key;
                    g[i][2 * r + c] = key < p.n_keys && s < visible ? x.factor * to.scores[t * x.n_columns + s] : 0.0f;
                }
            }
        }
        for (int j = 0; j < x.n_heads; ++j) {
            const float* q = x.q + (static_cast<int64_t>(t0) * x.n_heads + j) * x.d;
            float e[2][4];
#pragma unroll
            for (int i = 0; i < 2; ++i) {
                const int first = min(8 * i, n - 1);
                uint32_t b[kSteps][2];
                load_right(b, q + first * ld, ld, n - first, lane);
                float z[4] = {};
#pragma unroll
                for (int k = 0; k < kSteps; ++k) mma(z, keys[k], b[k][0], b[k][1]);
                const float w0 = x.w[at[i][0] + j], w1 = x.w[at[i][1] + j];
#pragma unroll
                for (int v = 0; v < 4; ++v) e[i][v] = z[v] > 0 ? g[i][v] * (v % 2 ? w1 : w0) : 0.0f;
            }
            uint32_t a[4];
            pack_left(a, e);
            multiply<kSteps>(sum, a, q, ld, n, lane);
        }
    }
    float* part = to.parts + static_cast<int64_t>(i_piece) * kTileRows * x.d;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
#pragma unroll
        for (int i = 0; i < 2 * kSteps; ++i)
            put_pair(part + (lane.row + 8 * r) * x.d + 8 * i + lane.column, sum[i][2 * r], sum[i][2 * r + 1], false);
    }
}

// f of the number of steps of 16 dims.
template <class F>
void with_steps(const IndexTape& x, F&& f) {
    if (x.d == 16) f(std::integral_constant<int, 1>{});
    else if (x.d == 32) f(std::integral_constant<int, 2>{});
    else if (x.d == 64) f(std::integral_constant<int, 4>{});
    else f(std::integral_constant<int, 8>{});
}

}  // namespace

bool has_tensor_index(const IndexTape& x) { return x.d == 16 || x.d == 32 || x.d == 64 || x.d == 128; }

void tensor_index_forward(Ctx& ctx, const IndexTape& x, float* scores) {
    const dim3 grid(ceil_div(x.n_tiles, kWarps), ceil_div(x.n_columns, kColumns));
    with_steps(x, [&](auto steps) { score_tiles<decltype(steps)::value><<<grid, kThreads, 0, ctx.cuda->stream()>>>(x, scores); });
    check_launch(ctx, "index scores on the tape");
}

void tensor_index_backward(Ctx& ctx, const IndexTape& x, const IndexGradients& to) {
    with_steps(x, [&](auto steps) {
        constexpr int kSteps = decltype(steps)::value;
        query_tile_gradients<kSteps><<<static_cast<unsigned>(x.n_tiles), kThreads, 0, ctx.cuda->stream()>>>(x, to);
        check_launch(ctx, "index scores, gradients of queries");
        key_piece_gradients<kSteps><<<ceil_div(x.n_pieces, kWarps), kThreads, 0, ctx.cuda->stream()>>>(x, to);
        check_launch(ctx, "index scores, gradients of keys");
    });
}

}  // namespace vitrine::cuda
