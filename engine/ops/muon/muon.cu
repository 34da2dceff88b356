// Muon on the GPU: matrices of equal shape side by side, as one batch of products for each step of Newton-Schulz.
#include "engine/ops/muon/muon.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "engine/device/cuda/blas.h"
#include "engine/ops/squares/chunks.cuh"

namespace vitrine::cuda {
namespace {

constexpr int kTile = 32;                              // a block's share of a matrix: kTile x kTile, four rows a warp
constexpr int kThreads = kChunkThreads, kWarps = kThreads / kWarp;
constexpr int64_t kMaxScratch = int64_t{3} << 29;      // bytes of a slab: matrices of one shape that are worked on at once

struct Item {
    float *weight, *momentum;
    const float* gradient;
    int32_t is_turned, padding;                        // tall ones are turned: the scratch is [rows, cols] with rows <= cols
};
struct Slab {
    const Item* items;
    float* x;                                          // [items, rows, cols]
    double* sums;                                      // [items, tiles, 2]
    int rows, cols, n_tiles;
};

// The block's tile (blockIdx.x) of item blockIdx.y, by its place in the matrix as it lies in memory.
struct TileAt {
    int n, m, row0, col0;
    __device__ TileAt(const Slab& s, bool is_turned) : n(is_turned ? s.cols : s.rows), m(is_turned ? s.rows : s.cols) {
        const int per_row = (m + kTile - 1) / kTile, at = static_cast<int>(blockIdx.x);
        row0 = at / per_row * kTile, col0 = at % per_row * kTile;
    }
};

// f(index in the matrix, value in tile) for each element of the tile that there is.
template <class F>
__device__ void for_tile(const TileAt& t, float (&tile)[kTile][kTile + 1], F&& f) {
    const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
    for (int r = warp; r < kTile; r += kWarps)
        if (t.row0 + r < t.n && t.col0 + lane < t.m) f(static_cast<int64_t>(t.row0 + r) * t.m + t.col0 + lane, tile[r][lane]);
}
// g(x's element, value in tile): the same elements in the order of the scratch.
template <class G>
__device__ void for_scratch(const Slab& s, const TileAt& t, bool is_turned, float (&tile)[kTile][kTile + 1], G&& g) {
    float* x = s.x + static_cast<int64_t>(blockIdx.y) * s.rows * s.cols;
    if (!is_turned) return for_tile(t, tile, [&](int64_t i, float& v) { g(x[i], v); });
    const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
    for (int c = warp; c < kTile; c += kWarps)
        if (t.col0 + c < t.m && t.row0 + lane < t.n) g(x[static_cast<int64_t>(t.col0 + c) * t.n + t.row0 + lane], tile[lane][c]);
}

// M <- mu M + G; x <- mu M + G, and its squares. grid: (tiles, items)
__global__ void add_momentum(Slab s, float mu, float scale) {
    after_previous();
    __shared__ float tile[kTile][kTile + 1];
    const Item item = s.items[blockIdx.y];
    const TileAt t(s, item.is_turned);
    double squares = 0;
    for_tile(t, tile, [&](int64_t i, float& v) {
        const float g = scale * item.gradient[i], m = mu * item.momentum[i] + g;
        item.momentum[i] = m;
        v = mu * m + g;
        squares += static_cast<double>(v) * static_cast<double>(v);
    });
    __syncthreads();
    for_scratch(s, t, item.is_turned, tile, [](float& x, float v) { x = v; });
    squares = chunk_sum(squares);
    if (threadIdx.x == 0) s.sums[2 * (static_cast<int64_t>(blockIdx.y) * s.n_tiles + blockIdx.x)] = squares;
}

// x <- x / |x|; zero stays zero. grid: (chunks of an item, items)
__global__ void normalise(Slab s) {
    after_previous();
    double squares = 0;
    for (int i = threadIdx.x; i < s.n_tiles; i += kThreads)
        squares += s.sums[2 * (static_cast<int64_t>(blockIdx.y) * s.n_tiles + i)];
    squares = chunk_sum(squares);
    const auto scale = squares == 0 ? 0.0f : static_cast<float>(1 / sqrt(squares));
    const int64_t size = static_cast<int64_t>(s.rows) * s.cols, i0 = static_cast<int64_t>(blockIdx.x) * kChunkElements;
    float* x = s.x + blockIdx.y * size;
    for (int64_t i = i0 + threadIdx.x; i < size && i < i0 + kChunkElements; i += kThreads) x[i] *= scale;
}

// gram <- a 1 + b gram + c square, of n_items matrices [rows, rows].
__global__ void combine(float* gram, const float* square, int64_t count, int rows, float a, float b, float c) {
    after_previous();
    const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= count) return;
    const bool is_diagonal = i / rows % rows == i % rows;
    gram[i] = b * gram[i] + c * square[i] + (is_diagonal ? a : 0);
}

// W <- keep W - rate x, and the sums of an update. grid: (tiles, items)
__global__ void move_weights(Slab s, float keep, float rate) {
    after_previous();
    __shared__ float tile[kTile][kTile + 1];
    const Item item = s.items[blockIdx.y];
    const TileAt t(s, item.is_turned);
    for_scratch(s, t, item.is_turned, tile, [](float& x, float& v) { v = x; });
    __syncthreads();
    double weight = 0, update = 0;
    for_tile(t, tile, [&](int64_t i, float v) {
        const float before = item.weight[i], after = before * keep - rate * v;
        item.weight[i] = after;
        const double moved = static_cast<double>(after) - static_cast<double>(before);
        weight += static_cast<double>(before) * static_cast<double>(before), update += moved * moved;
    });
    weight = chunk_sum(weight);
    update = chunk_sum(update);
    double* sums = s.sums + 2 * (static_cast<int64_t>(blockIdx.y) * s.n_tiles + blockIdx.x);
    if (threadIdx.x == 0) sums[0] = weight, sums[1] = update;
}

// A block per item: its tiles' sums.
__global__ void sum_tiles(Slab s, double* sums) {
    after_previous();
    for (int k = 0; k < 2; ++k) {
        double sum = 0;
        for (int i = threadIdx.x; i < s.n_tiles; i += kThreads)
            sum += s.sums[2 * (static_cast<int64_t>(blockIdx.x) * s.n_tiles + i) + k];
        sum = chunk_sum(sum);
        if (threadIdx.x == 0) sums[2 * blockIdx.x + k] = sum;
    }
}

// Steps of Newton-Schulz on n matrices [rows, cols] at x; `other` is as large. Returns which of the two holds the result.
float* iterate(Ctx& ctx, const Muon& a, int64_t n, int64_t rows, int64_t cols, float* x, float* other) {
    float *gram = ctx.arena.make(DType::f32, {n, rows, rows}).f32(), *square = ctx.arena.make(DType::f32, {n, rows, rows}).f32();
    Gemm to_gram{rows, rows, cols, cols, cols, rows, DType::f32, DType::f32},
        to_square{rows, rows, rows, rows, rows, rows, DType::f32, DType::f32},
        to_x{rows, cols, rows, rows, cols, cols, DType::f32, DType::f32};
    to_x.b_is_kn = true;
    for (Gemm* g : {&to_gram, &to_square, &to_x}) g->batch = n, g->may_use_tf32 = ctx.has_bf16_products;
    to_gram.stride_a = to_gram.stride_b = to_x.stride_b = to_x.stride_c = rows * cols;
    to_gram.stride_c = to_square.stride_a = to_square.stride_b = to_square.stride_c = to_x.stride_a = rows * rows;
    const int n_fast = a.n_steps - std::min(kNewtonSchulzFinalSteps, a.n_steps);
    const int64_t count = n * rows * rows;
    for (int i = 0; i < a.n_steps; ++i) {
        const double* p = i < n_fast ? kNewtonSchulzFast : kNewtonSchulzFinal;
        gemm(*ctx.cuda, to_gram, x, x, gram);
        gemm(*ctx.cuda, to_square, gram, gram, square);  // it is symmetric
        combine<<<ceil_div(count, kThreads), kThreads, 0, ctx.cuda->stream()>>>(
            gram, square, count, static_cast<int>(rows), static_cast<float>(p[0]), static_cast<float>(p[1]),
            static_cast<float>(p[2]));
        check_launch(ctx, "Newton-Schulz");
        gemm(*ctx.cuda, to_x, gram, x, other);
        std::swap(x, other);
    }
    return x;
}

// Matrices of one shape; sums [items, 2] of squares of weights and of what was added.
void update(Ctx& ctx, const Muon& a, const std::vector<Item>& items, int64_t rows, int64_t cols, double* sums) {
    const Arena::Scope scratch(ctx.arena);
    const auto n = static_cast<int64_t>(items.size());
    const auto rows_of_tiles = ceil_div(rows, kTile), cols_of_tiles = ceil_div(cols, kTile);
    float *x = ctx.arena.make(DType::f32, {n, rows, cols}).f32(), *other = ctx.arena.make(DType::f32, {n, rows, cols}).f32();
    Slab s{place_list(ctx, items), x, nullptr, static_cast<int>(rows), static_cast<int>(cols),
           static_cast<int>(rows_of_tiles * cols_of_tiles)};
    s.sums = ctx.arena.make(DType::f64, {n, s.n_tiles, 2}).as<double>();
    const auto stream = ctx.cuda->stream();
    const dim3 tiles(static_cast<unsigned>(s.n_tiles), static_cast<unsigned>(n));
    add_momentum<<<tiles, kThreads, 0, stream>>>(s, static_cast<float>(a.momentum), static_cast<float>(a.gradient_scale));
    normalise<<<dim3(ceil_div(rows * cols, kChunkElements), static_cast<unsigned>(n)), kThreads, 0, stream>>>(s);
    check_launch(ctx, "momentum");
    s.x = iterate(ctx, a, n, rows, cols, x, other);
    move_weights<<<tiles, kThreads, 0, stream>>>(s, static_cast<float>(1 - a.lr * a.weight_decay),
                                                 static_cast<float>(a.lr * a.scale * std::sqrt(static_cast<double>(cols))));
    sum_tiles<<<static_cast<unsigned>(n), kThreads, 0, stream>>>(s, sums);
    check_launch(ctx, "Muon");
}

}  // namespace

std::vector<UpdateSums> muon(Ctx& ctx, const Muon& a, std::span<const MuonMatrix> matrices) {
    if (matrices.empty()) return {};
    const Arena::Scope scratch(ctx.arena);
    std::map<std::pair<int64_t, int64_t>, std::vector<size_t>> by_shape;  // (rows, cols) of the scratch
    for (size_t i = 0; i < matrices.size(); ++i) {
        const int64_t n = matrices[i].weight.dim(0), m = matrices[i].weight.dim(1);
        by_shape[{std::min(n, m), std::max(n, m)}].push_back(i);
    }
    const Tensor sums = ctx.arena.make(DType::f64, {static_cast<int64_t>(matrices.size()), 2});
    std::vector<size_t> order;  // of the sums
    for (const auto& [shape, members] : by_shape) {
        const auto [rows, cols] = shape;
        const auto n_at_once = static_cast<size_t>(std::clamp<int64_t>(kMaxScratch / (8 * rows * (cols + rows)), 1, 32768));
        for (size_t first = 0; first < members.size(); first += n_at_once) {
            std::vector<Item> items;
            double* to = sums.as<double>() + 2 * order.size();
            for (size_t i = first; i < std::min(first + n_at_once, members.size()); ++i) {
                const MuonMatrix& x = matrices[members[i]];
                items.push_back({x.weight.f32(), x.momentum.f32(), x.gradient.f32(), x.weight.dim(0) > x.weight.dim(1), 0});
                order.push_back(members[i]);
            }
            update(ctx, a, items, rows, cols, to);
        }
    }
    std::vector<UpdateSums> result(matrices.size());
    ctx.cuda->read_later(sums, [&](const void* data) {
        const auto* at = static_cast<const double*>(data);
        for (size_t i = 0; i < order.size(); ++i)
            result[order[i]] = {at[2 * i], at[2 * i + 1], 0, matrices[order[i]].weight.count()};
    });
    ctx.cuda->collect();
    return result;
}

}  // namespace vitrine::cuda
