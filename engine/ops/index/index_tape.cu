// The indexer's scores on the tape of a GPU: work lists, FP32 kernels, and the sums over pieces. The CPU's twin is struct Scores
// of index_tape.cpp; derivation in docs/math/attention.md.
#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "engine/ops/index/index_tape.cuh"
#include "engine/ops/index/index_tape.h"

namespace vitrine::cuda {
namespace {

constexpr int kThreads = 128, kWarps = kThreads / kWarp;
constexpr int kPerLane = 8;  // dims of a lane: d is at most 256

// A row of d floats, dim lane + 32 i in at[i]; zeros beyond the end.
struct Row {
    float at[kPerLane];
    __device__ Row() : at{} {}
    __device__ Row(const float* from, int d) {
        const int lane = threadIdx.x % kWarp;
#pragma unroll
        for (int i = 0; i < kPerLane; ++i) at[i] = lane + i * kWarp < d ? from[lane + i * kWarp] : 0.0f;
    }
    __device__ float dot(const Row& o) const {
        float sum = 0;
#pragma unroll
        for (int i = 0; i < kPerLane; ++i) sum += at[i] * o.at[i];
        return warp_sum(sum);
    }
    __device__ void add(float factor, const Row& o) {
#pragma unroll
        for (int i = 0; i < kPerLane; ++i) at[i] += factor * o.at[i];
    }
    __device__ void write(float* to, int d, bool accumulates) const {
        const int lane = threadIdx.x % kWarp;
#pragma unroll
        for (int i = 0; i < kPerLane; ++i)
            if (lane + i * kWarp < d) put(to + lane + i * kWarp, at[i], accumulates);
    }
};

// A warp per query, a lane per key.
__global__ void score_rows(const IndexTape x, float* scores) {
    after_previous();
    const int64_t t = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarp;
    if (t >= x.n_tokens) return;
    const Query at = x.queries[t];
    for (int s = threadIdx.x % kWarp; s < x.n_columns; s += kWarp) {
        float sum = 0;
        const float* key = x.keys + static_cast<int64_t>(at.first_key + s) * x.d;
        for (int j = 0; j < x.n_heads && s < at.visible; ++j) {
            const float* q = x.q + (t * x.n_heads + j) * x.d;
            float z = 0;
            for (int i = 0; i < x.d; ++i) z += q[i] * key[i];
            sum += x.factor * x.w[t * x.n_heads + j] * fmaxf(z, 0.0f);
        }
        scores[t * x.n_columns + s] = sum;
    }
}

// A warp per query and head.
__global__ void query_gradients(const IndexTape x, const IndexGradients to) {
    after_previous();
    const int64_t row = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarp, t = row / x.n_heads;
    if (t >= x.n_tokens) return;
    const Query at = x.queries[t];
    const Row q(x.q + row * x.d, x.d);
    const float weight = x.factor * x.w[row];
    Row dq;
    float dw = 0;
    for (int s = 0; s < at.visible; ++s) {
        const Row key(x.keys + static_cast<int64_t>(at.first_key + s) * x.d, x.d);
        const float z = q.dot(key), g = to.scores[t * x.n_columns + s];
        if (!(z > 0)) continue;  // the same in all lanes
        dw += g * z;
        dq.add(g * weight, key);
    }
    dq.write(to.q + row * x.d, x.d, to.q_accumulates);
    if (threadIdx.x % kWarp == 0) put(to.w + row, x.factor * dw, to.w_accumulates);
}

// A warp per piece and key.
__global__ void key_gradients(const IndexTape x, const IndexGradients to) {
    after_previous();
    const int64_t row = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarp;
    const auto i = static_cast<int>(row / kTileRows), in_tile = static_cast<int>(row % kTileRows);
    if (i >= x.n_pieces) return;
    const KeyPiece p = x.pieces[i];
    if (in_tile >= p.n_keys) return;
    const Row key(x.keys + static_cast<int64_t>(p.first_key + in_tile) * x.d, x.d);
    const int s = p.column + in_tile;
    Row sum;
    for (int64_t t = p.t0; t < p.t1; ++t) {
        if (s >= x.queries[t].visible) continue;
        const float g = x.factor * to.scores[t * x.n_columns + s];
        for (int j = 0; j < x.n_heads; ++j) {
            const Row q(x.q + (t * x.n_heads + j) * x.d, x.d);
            if (q.dot(key) > 0) sum.add(g * x.w[t * x.n_heads + j], q);
        }
    }
    sum.write(to.parts + row * x.d, x.d, false);
}

// One block per key tile: its pieces in order.
__global__ void add_pieces(const IndexTape x, const float* parts, float* keys, bool accumulates) {
    after_previous();
    const KeyTile tile = x.key_tiles[blockIdx.x];
    for (int i = threadIdx.x; i < tile.n_keys * x.d; i += blockDim.x) {
        float sum = 0;
#pragma unroll 4
        for (int p = 0; p < tile.n; ++p) sum += parts[static_cast<int64_t>(tile.first + p) * kTileRows * x.d + i];
        put(keys + static_cast<int64_t>(tile.first_key) * x.d + i, sum, accumulates);
    }
}

void forward(Ctx& ctx, const IndexTape& x, float* scores) {
    if (ctx.has_bf16_products && has_tensor_index(x)) return tensor_index_forward(ctx, x, scores);
    VITRINE_ASSERT(x.d <= kPerLane * kWarp);
    score_rows<<<ceil_div(x.n_tokens, kWarps), kThreads, 0, ctx.cuda->stream()>>>(x, scores);
    check_launch(ctx, "index scores on the tape");
}

void backward(Ctx& ctx, const IndexTape& x, const IndexGradients& to) {
    if (ctx.has_bf16_products && has_tensor_index(x)) return tensor_index_backward(ctx, x, to);
    const int64_t n_rows = static_cast<int64_t>(x.n_tokens) * x.n_heads, n_keys = static_cast<int64_t>(x.n_pieces) * kTileRows;
    query_gradients<<<ceil_div(n_rows, kWarps), kThreads, 0, ctx.cuda->stream()>>>(x, to);
    check_launch(ctx, "index scores, gradients of queries");
    key_gradients<<<ceil_div(n_keys, kWarps), kThreads, 0, ctx.cuda->stream()>>>(x, to);
    check_launch(ctx, "index scores, gradients of keys");
}

std::vector<int32_t> list_queries(const Offsets& rows, const Offsets& entries, int64_t ratio) {
    std::vector<int32_t> list;
    list.reserve(static_cast<size_t>(2 * rows.back()));
    for (int64_t s = 0; s < n_segments(rows); ++s)
        for (int64_t t = rows[s]; t < rows[s + 1]; ++t)
            list.push_back(static_cast<int32_t>((t - rows[s] + 1) / ratio)), list.push_back(static_cast<int32_t>(entries[s]));
    return list;
}

std::vector<int32_t> list_query_tiles(const Offsets& rows, const Offsets& entries, int64_t ratio) {
    std::vector<int32_t> list;
    for (int64_t s = 0; s < n_segments(rows); ++s)
        for (int64_t t = rows[s]; t < rows[s + 1]; t += kTileRows) {
            const int64_t end = std::min(t + kTileRows, rows[s + 1]);
            for (int64_t x : {t, end - t, entries[s], (end - rows[s]) / ratio}) list.push_back(static_cast<int32_t>(x));
        }
    return list;
}

// Tiles of keys against runs of tokens, each about as much work, and few enough that their sums are small.
struct KeyLists {
    std::vector<int32_t> pieces, tiles;
    int n_pieces = 0;
    KeyLists(const Offsets& rows, const Offsets& entries, int64_t ratio, int64_t n_heads) {
        constexpr int64_t kFew = 4096;
        int64_t work = 0;
        for (int64_t s = 0; s < n_segments(rows); ++s)
            work += (entries[s + 1] - entries[s] + kTileRows - 1) / kTileRows * (rows[s + 1] - rows[s]) / 2;
        const int64_t step = std::max<int64_t>({kTileRows, 512 / n_heads, work / kFew}) / kTileRows * kTileRows;
        for (int64_t s = 0; s < n_segments(rows); ++s)
            for (int64_t k = 0; k < entries[s + 1] - entries[s]; k += kTileRows) {
                const int64_t n = std::min<int64_t>(kTileRows, entries[s + 1] - entries[s] - k);
                put(tiles, {n_pieces, 0, entries[s] + k, n});
                // The first token that sees key k completes its block.
                for (int64_t t = rows[s] + (k + 1) * ratio - 1; t < rows[s + 1]; t += step, ++n_pieces)
                    put(pieces, {entries[s] + k, k, n, t, std::min(t + step, rows[s + 1])}), ++tiles[tiles.size() - 3];
            }
    }
    static void put(std::vector<int32_t>& list, std::initializer_list<int64_t> values) {
        for (int64_t x : values) list.push_back(static_cast<int32_t>(x));
    }
};

}  // namespace

Tensor index_scores_on_tape(Ctx& ctx, const Tensor& q_TJU, const Tensor& w_TJ, const Tensor& keys_SU, const Offsets& rows,
                            const Offsets& entries, int64_t ratio) {
    VITRINE_ASSERT(entries.back() > 0);
    const int64_t n_heads = q_TJU.dim(1), d = q_TJU.dim(2), most = std::max<int64_t>(1, longest_segment(entries));
    const Tensor scores = ctx.arena.make(DType::f32, {rows.back(), most});
    const std::vector<int32_t> queries = list_queries(rows, entries, ratio), tiles = list_query_tiles(rows, entries, ratio);
    const KeyLists keys(rows, entries, ratio, n_heads);
    Device& device = *ctx.cuda;
    const IndexTape x{q_TJU.f32(), w_TJ.f32(), keys_SU.f32(),
                      reinterpret_cast<const Query*>(device.ints(queries)),
                      reinterpret_cast<const QueryTile*>(device.ints(tiles)),
                      reinterpret_cast<const KeyPiece*>(device.ints(keys.pieces)),
                      reinterpret_cast<const KeyTile*>(device.ints(keys.tiles)),
                      static_cast<int>(rows.back()), static_cast<int>(tiles.size() / 4), keys.n_pieces,
                      static_cast<int>(keys.tiles.size() / 4), static_cast<int>(n_heads), static_cast<int>(d),
                      static_cast<int>(most),
                      static_cast<float>(1 / std::sqrt(static_cast<double>(d) * static_cast<double>(n_heads)))};
    forward(ctx, x, scores.f32());
    ctx.tape->record([=](Ctx& c) {
        if (!c.tape->has_grad(scores)) return;
        const Tape::Flow dq = c.tape->flow(q_TJU), dw = c.tape->flow(w_TJ), dkeys = c.tape->flow(keys_SU);
        const Tensor parts = c.arena.make(DType::f32, {std::max(1, x.n_pieces), kTileRows, x.d});
        backward(c, x, {c.tape->grad(scores).f32(), dq.gradient.f32(), dw.gradient.f32(), parts.f32(), dq.accumulates,
                        dw.accumulates});
        add_pieces<<<static_cast<unsigned>(x.n_key_tiles), 256, 0, c.cuda->stream()>>>(x, parts.f32(), dkeys.gradient.f32(),
                                                                                      dkeys.accumulates);
        check_launch(c, "index scores, gradients of keys");
    });
    return scores;
}

}  // namespace vitrine::cuda
