// Attention on the tape by tensor cores, backward: one pass for the queries, one for the keys. Both make the scores
// again.
#include <type_traits>

#include "engine/ops/attend/attend_tape_tensor.cuh"

namespace vitrine::cuda {
namespace {

// Tiles that lie in shared memory at once; the widest fill it with one.
template <int kC>
constexpr int kStages = kC <= 256 ? 2 : 1;

// Brings tile 0; then, for every tile: begin (its copies have arrived), work, end (nobody reads it any more).
template <int kC, class Load>
struct Pipeline {
    Load load;  // (tile, stage)
    int n_tiles;
    __device__ void start() const {
        if (n_tiles > 0) load(0, 0), commit_copies();
    }
    __device__ void begin(int tile) const {
        if (kStages<kC> == 2 && tile + 1 < n_tiles) {
            load(tile + 1, (tile + 1) % 2);
            commit_copies();
            wait_copies<1>();
        } else {
            wait_copies<0>();
        }
        __syncthreads();
    }
    __device__ void end(int tile) const {
        __syncthreads();
        if (kStages<kC> == 1 && tile + 1 < n_tiles) load(tile + 1, 0), commit_copies();
    }
    __device__ static int stage(int tile) { return tile % kStages<kC>; }
};
template <int kC, class Load>
__device__ Pipeline<kC, Load> pipeline(int n_tiles, Load load) {
    return {load, n_tiles};
}

// Queries and output gradients of the block to shared memory and to copies in memory, rounded; o . dout to `delta` and
// to memory. Rows and columns that are not there: zeros.
template <int kC>
__device__ void load_queries(const TapeCall& a, const TapeGradients& grad, const QueryBlock& b, bf16* q, bf16* dout,
                             float* delta) {
    constexpr int kLanes = kC / 4 < kWarp ? kC / 4 : kWarp;        // of a row
    constexpr int kPieces = kC / 4 / kLanes, kRows = 4 / kPieces;  // that a lane takes: columns, rows at a time
    constexpr int kStep = TapeTile<kC>::kThreads / kLanes;         // rows that the block takes at a time
    const int lane = threadIdx.x % kLanes;
    for (int row0 = threadIdx.x / kLanes; row0 < kTapeRows; row0 += kStep * kRows) {
        float4 x[kRows][kPieces], g[kRows][kPieces], o[kRows][kPieces];
#pragma unroll
        for (int r = 0; r < kRows; ++r)
#pragma unroll
            for (int p = 0; p < kPieces; ++p) {
                const int row = row0 + r * kStep, column = (lane + p * kLanes) * 4;
                const bool is_there = row < kTapeRows && b.begin + row < b.end && column < a.c;
                const int64_t at = static_cast<int64_t>(b.begin + row) * a.c + column;
                x[r][p] = is_there ? *reinterpret_cast<const float4*>(a.q + at) : float4{};
                g[r][p] = is_there ? *reinterpret_cast<const float4*>(grad.dout + at) : float4{};
                o[r][p] = is_there ? *reinterpret_cast<const float4*>(a.o + at) : float4{};
            }
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
            const int row = row0 + r * kStep;
            float sum = 0;
#pragma unroll
            for (int p = 0; p < kPieces; ++p) {
                const int column = (lane + p * kLanes) * 4;
                const float4 &u = x[r][p], &v = g[r][p], &w = o[r][p];
                sum += v.x * w.x + v.y * w.y + v.z * w.z + v.w * w.w;
                const uint2 x16{pack(u.x, u.y), pack(u.z, u.w)}, g16{pack(v.x, v.y), pack(v.z, v.w)};
                if (row >= kTapeRows) continue;
                *reinterpret_cast<uint2*>(q + row * TapeTile<kC>::kLd + column) = x16;
                *reinterpret_cast<uint2*>(dout + row * TapeTile<kC>::kLd + column) = g16;
                if (b.begin + row >= b.end || column >= a.c) continue;
                const int64_t at = static_cast<int64_t>(b.begin + row) * a.c + column;
                *reinterpret_cast<uint2*>(grad.q16 + at) = x16;
                *reinterpret_cast<uint2*>(grad.dout16 + at) = g16;
            }
#pragma unroll
            for (int i = kLanes / 2; i > 0; i /= 2) sum += __shfl_xor_sync(~0u, sum, i);
            if (lane != 0 || row >= kTapeRows) continue;
            delta[row] = sum;
            if (b.begin + row < b.end) grad.delta[b.begin + row] = sum;
        }
    }
}

// Products of queries and keys become scores in units of log 2 by `factor`, capped ones first.
struct Scores {
    float factor, softcap, slope;  // of a capped score s: 1 - (slope s)^2
    __device__ explicit Scores(const TapeCall& a)
        : factor(a.softcap == 0 ? a.scale * kLog2e : kLog2e),
          softcap(a.softcap),
          slope(a.softcap == 0 ? 0 : 1 / a.softcap) {}
    template <int kGroups>
    __device__ void cap(float (&s)[kGroups][2][4], float scale) const {
        if (softcap == 0) return;
#pragma unroll
        for (int g = 0; g < kGroups; ++g)
#pragma unroll
            for (int i = 0; i < 8; ++i) s[g][i / 4][i % 4] = cap_score(s[g][i / 4][i % 4] * scale, softcap).score;
    }
};
// Of one query and key: the probability, and the gradient of the score before cap and scale.
struct Softened {
    float p, ds;
};
__device__ inline Softened soften(const Scores& all, bool has, float score, float dp, float lse2, float delta) {
    const float p = has ? exp2f(score * all.factor - lse2) : 0.0f, t = score * all.slope;
    return {p, p * (dp - delta) * (1 - t * t)};
}

// Shared memory: queries, gradients of outputs, tiles of keys, [kTapeRows] delta; with kSplit > 1 gradients of scores.
template <int kC>
constexpr size_t query_bytes() {
    using Tile = TapeTile<kC>;
    return (2 + kStages<kC>)*Tile::kSize * sizeof(bf16) + kTapeRows * sizeof(float) +
           (Tile::kSplit > 1 ? kTapeRows * kLdWeights * sizeof(bf16) : 0);
}

template <int kC>
__global__ void __launch_bounds__(TapeTile<kC>::kThreads)
    query_gradients(const TapeCall a, const TapeGradients grad, const QueryBlock* blocks) {
    after_previous();
    using Tile = TapeTile<kC>;
    constexpr int kLd = Tile::kLd, kSplit = Tile::kSplit, kGroups = Tile::kGroups, kTiles = Tile::kColumns / 8;
    extern __shared__ __align__(16) std::byte shared[];
    bf16* const q = reinterpret_cast<bf16*>(shared);
    bf16* const dout = q + Tile::kSize;
    bf16* const keys = dout + Tile::kSize;
    float* const deltas = reinterpret_cast<float*>(keys + kStages<kC> * Tile::kSize);
    bf16* const weights = reinterpret_cast<bf16*>(deltas + kTapeRows);
    const QueryBlock b = blocks[blockIdx.x];
    const TapeColumns columns(a, b);
    const Scores scores(a);
    const int lane = threadIdx.x % kWarp, row0 = threadIdx.x / kWarp % 4 * 16, part = threadIdx.x / kWarp / 4;
    const auto tiles = pipeline<kC>(columns.n_tiles, [&](int tile, int stage) {
        load_rows<kC>(keys + stage * Tile::kSize, a.c, a.keys16,
                      [&](int row) { return columns.key(a, tile * kTapeKeys + row); });
    });
    tiles.start();
    load_queries<kC>(a, grad, b, q, dout, deltas);
    __syncthreads();

    const int row = b.begin + row0 + lane / 4;  // and row + 8
    const RowSees sees[2] = {RowSees(a, b, row), RowSees(a, b, row + 8)};
    float lse2[2], delta[2], sum[kTiles][4] = {};
#pragma unroll
    for (int r = 0; r < 2; ++r) {
        lse2[r] = sees[r].t < 0 ? 0.0f : a.lse[row + 8 * r] * kLog2e;
        delta[r] = deltas[row0 + lane / 4 + 8 * r];
    }
    for (int tile = 0; tile < columns.n_tiles; ++tile) {
        tiles.begin(tile);
        const bf16* const k = keys + tiles.stage(tile) * Tile::kSize;
        const int n_groups = columns.n_groups - tile * 4;  // that are left
        float s[kGroups][2][4] = {}, dp[kGroups][2][4] = {};
#pragma unroll 4
        for (int step = 0; step < kC / 16; ++step) {
            uint32_t x[4], g[4], y[4];
            load_tiles(x, left_rows<kLd>(q + row0 * kLd, lane) + step * 16);
            load_tiles(g, left_rows<kLd>(dout + row0 * kLd, lane) + step * 16);
#pragma unroll
            for (int i = 0; i < kGroups; ++i) {
                if (part + i * kSplit >= n_groups) continue;
                load_tiles(y, right_rows<kLd>(k + (part + i * kSplit) * kGroup * kLd, lane) + step * 16);
                add_scores(s[i], x, y);
                add_scores(dp[i], g, y);
            }
        }
        scores.cap(s, a.scale);
#pragma unroll
        for (int g = 0; g < kGroups; ++g) {
#pragma unroll
            for (int r = 0; r < 2; ++r) {
                const uint32_t bits = sees[r].group(a, columns, tile * 4 + part + g * kSplit) >> lane % 4 * 2;
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    float& x = s[g][i / 2][2 * r + i % 2];
                    x = soften(scores, bits >> (i / 2 * 8 + i % 2) & 1, x, dp[g][i / 2][2 * r + i % 2], lse2[r],
                               delta[r])
                            .ds;
                }
            }
            if constexpr (kSplit > 1) store_weights(weights, row0, (part + g * kSplit) * kGroup, lane, s[g]);
        }
        if constexpr (kSplit > 1) __syncthreads();
        const bf16* values = right_columns<kLd>(k, lane) + part * Tile::kColumns;
#pragma unroll
        for (int g = 0; g < 4; ++g) {
            if (g >= n_groups) continue;
            uint32_t ds[4];
            if constexpr (kSplit > 1)
                load_tiles(ds, left_rows<kLdWeights>(weights + row0 * kLdWeights, lane) + g * kGroup);
            else
                to_left(ds, s[g]);
            add_values<kLd>(sum, ds, values + g * kGroup * kLd);
        }
        tiles.end(tile);
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) {
        if (sees[r].t < 0) continue;
        float* out = grad.dq + static_cast<int64_t>(row + 8 * r) * a.c;
#pragma unroll
        for (int i = 0; i < kTiles; ++i) {
            const int column = part * Tile::kColumns + i * 8 + lane % 4 * 2;
            if (column >= a.c) continue;
            float2* to = reinterpret_cast<float2*>(out + column);
            const float2 before = grad.adds_dq ? *to : float2{0, 0};
            *to = {before.x + a.scale * sum[i][2 * r], before.y + a.scale * sum[i][2 * r + 1]};
        }
    }
}

// ---- keys. Rows (query, head) come in tiles of 64; products are transposed: keys are rows, queries columns.

// What is known of a tile's rows besides their values.
struct RowFacts {
    float lse2[kTapeRows], delta[kTapeRows];
    uint16_t seen[kTapeRows][4];  // a bit for each of the block's keys
};
__device__ inline void load_facts(const TapeCall& a, const float* delta, const KeyBlock& b, int row0, RowFacts& to) {
    for (int i = threadIdx.x; i < kTapeRows; i += blockDim.x) {
        const int row = row0 + i;
        const bool is_there = row < b.end * a.n_heads;
        const int t = is_there ? row / a.n_heads : -1;
        to.lse2[i] = is_there ? a.lse[row] * kLog2e : 0.0f;
        to.delta[i] = is_there ? delta[row] : 0.0f;
#pragma unroll
        for (int g = 0; g < 4; ++g) {
            const int first = g * kGroup;  // of the group's keys
            uint32_t bits = 0;
            if (is_there && b.place < 0) {
                bits = range_bits(t - a.window + 1 - b.key - first, min(t + 1 - b.key, b.n_keys) - first);
            } else if (is_there) {
                bits = range_bits(0, min((t - b.first + 1) / a.ratio - b.place, b.n_keys) - first);
                if (bits && a.chosen)
                    bits &= reinterpret_cast<const uint16_t*>(a.chosen + static_cast<int64_t>(t) *
                                                                             a.n_words)[b.place / kGroup + g];
            }
            to.seen[i][g] = static_cast<uint16_t>(bits);
        }
    }
}

// Shared memory: keys, tiles of queries and of gradients of outputs, their facts; with kSplit > 1 probabilities and
// gradients of scores [keys, rows].
template <int kC>
constexpr size_t key_bytes() {
    using Tile = TapeTile<kC>;
    return (1 + 2 * kStages<kC>)*Tile::kSize * sizeof(bf16) + kStages<kC> * sizeof(RowFacts) +
           (Tile::kSplit > 1 ? 2 * kTapeKeys * kLdWeights * sizeof(bf16) : 0);
}

template <int kC>
__global__ void __launch_bounds__(TapeTile<kC>::kThreads)
    key_gradients(const TapeCall a, const TapeGradients grad, const KeyBlock* blocks) {
    after_previous();
    using Tile = TapeTile<kC>;
    constexpr int kLd = Tile::kLd, kSplit = Tile::kSplit, kGroups = Tile::kGroups, kTiles = Tile::kColumns / 8;
    extern __shared__ __align__(16) std::byte shared[];
    bf16* const keys = reinterpret_cast<bf16*>(shared);
    bf16* const queries = keys + Tile::kSize;
    bf16* const douts = queries + kStages<kC> * Tile::kSize;
    RowFacts* const facts = reinterpret_cast<RowFacts*>(douts + kStages<kC> * Tile::kSize);
    bf16* const probabilities = reinterpret_cast<bf16*>(facts + kStages<kC>);
    bf16* const dscores = probabilities + kTapeKeys * kLdWeights;
    const KeyBlock b = blocks[blockIdx.x];
    const Scores scores(a);
    const int lane = threadIdx.x % kWarp, keys_of = threadIdx.x / kWarp % 4, key0 = keys_of * 16,
              part = threadIdx.x / kWarp / 4;
    const int first_row = b.begin * a.n_heads, n_rows = (b.end - b.begin) * a.n_heads;
    load_rows<kC>(keys, a.c, a.keys16, [&](int i) {
        return i < b.n_keys ? (b.place < 0 ? a.keys16 : a.entries16) + static_cast<int64_t>(b.key + i) * a.c : nullptr;
    });
    const auto tiles = pipeline<kC>((n_rows + kTapeRows - 1) / kTapeRows, [&](int tile, int stage) {
        const int at = tile * kTapeRows;
        const auto row_of = [&](const bf16* x) {
            return [&a, x, at, first_row, n_rows](int i) {
                return at + i < n_rows ? x + static_cast<int64_t>(first_row + at + i) * a.c : nullptr;
            };
        };
        load_rows<kC>(queries + stage * Tile::kSize, a.c, grad.q16, row_of(grad.q16));
        load_rows<kC>(douts + stage * Tile::kSize, a.c, grad.dout16, row_of(grad.dout16));
        load_facts(a, grad.delta, b, first_row + at, facts[stage]);
    });
    tiles.start();
    float sum[kTiles][4] = {};
    for (int tile = 0; tile < tiles.n_tiles; ++tile) {
        tiles.begin(tile);
        const bf16 *const q = queries + tiles.stage(tile) * Tile::kSize, *const dout =
                                                                             douts + tiles.stage(tile) * Tile::kSize;
        const RowFacts& fact = facts[tiles.stage(tile)];
        // Groups of 16 rows of which some row sees some of this warp's 16 keys.
        const uint32_t low = __ballot_sync(~0u, fact.seen[lane][keys_of] != 0);
        const uint32_t high = __ballot_sync(~0u, fact.seen[lane + kWarp][keys_of] != 0);
        const uint32_t seen =
            ((low & 0xffffu) != 0) | (low >> 16 != 0) << 1 | ((high & 0xffffu) != 0) << 2 | (high >> 16 != 0) << 3;

        float s[kGroups][2][4] = {}, dp[kGroups][2][4] = {};
#pragma unroll 4
        for (int step = 0; step < kC / 16; ++step) {
            uint32_t k[4], x[4], y[4];
            load_tiles(k, left_rows<kLd>(keys + key0 * kLd, lane) + step * 16);
#pragma unroll
            for (int g = 0; g < kGroups; ++g) {
                if (!(seen >> (part + g * kSplit) & 1)) continue;
                const int first = (part + g * kSplit) * kGroup * kLd + step * 16;
                load_tiles(x, right_rows<kLd>(q, lane) + first);
                load_tiles(y, right_rows<kLd>(dout, lane) + first);
                add_scores(s[g], k, x);
                add_scores(dp[g], k, y);
            }
        }
        scores.cap(s, a.scale);
#pragma unroll
        for (int g = 0; g < kGroups; ++g) {
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const int column = (part + g * kSplit) * kGroup + i / 2 * 8 + lane % 4 * 2 + i % 2;
                const float lse2 = fact.lse2[column], delta = fact.delta[column];
                const uint32_t bits = static_cast<uint32_t>(fact.seen[column][keys_of]) >> lane / 4;
#pragma unroll
                for (int r = 0; r < 2; ++r) {
                    float &x = s[g][i / 2][2 * r + i % 2], &y = dp[g][i / 2][2 * r + i % 2];
                    const Softened both = soften(scores, bits >> 8 * r & 1, x, y, lse2, delta);
                    x = both.p, y = both.ds * a.scale;
                }
            }
            if constexpr (kSplit > 1) {
                store_weights(probabilities, key0, (part + g * kSplit) * kGroup, lane, s[g]);
                store_weights(dscores, key0, (part + g * kSplit) * kGroup, lane, dp[g]);
            }
        }
        if constexpr (kSplit > 1) __syncthreads();
#pragma unroll
        for (int g = 0; g < 4; ++g) {
            if (!(seen >> g & 1)) continue;
            uint32_t p[4], ds[4];
            if constexpr (kSplit > 1) {
                load_tiles(p, left_rows<kLdWeights>(probabilities + key0 * kLdWeights, lane) + g * kGroup);
                load_tiles(ds, left_rows<kLdWeights>(dscores + key0 * kLdWeights, lane) + g * kGroup);
            } else {
                to_left(p, s[g]), to_left(ds, dp[g]);
            }
            const int first = g * kGroup * kLd + part * Tile::kColumns;
            add_values<kLd>(sum, p, right_columns<kLd>(dout, lane) + first);
            add_values<kLd>(sum, ds, right_columns<kLd>(q, lane) + first);
        }
        tiles.end(tile);
    }
    float* out = grad.partials + static_cast<int64_t>(blockIdx.x) * kTapeKeys * a.c;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
        const int key = key0 + lane / 4 + 8 * r;
        if (key >= b.n_keys) continue;
#pragma unroll
        for (int i = 0; i < kTiles; ++i) {
            const int column = part * Tile::kColumns + i * 8 + lane % 4 * 2;
            if (column < a.c) *reinterpret_cast<float2*>(out + key * a.c + column) = {sum[i][2 * r], sum[i][2 * r + 1]};
        }
    }
}

}  // namespace

void attend_tensor_queries(Ctx& ctx, const TapeCall& a, const TapeGradients& g, const QueryBlock* blocks,
                           int64_t n_blocks) {
    with_tile(a.c, [&](auto tile) {
        constexpr int kC = decltype(tile)::value;
        const auto kernel = query_gradients<kC>;
        allow_shared(ctx, kernel, query_bytes<kC>());
        kernel<<<static_cast<unsigned>(n_blocks), TapeTile<kC>::kThreads, query_bytes<kC>(), ctx.cuda->stream()>>>(
            a, g, blocks);
    });
    check_launch(ctx, "attention's gradients of queries on tensor cores");
}

void attend_tensor_keys(Ctx& ctx, const TapeCall& a, const TapeGradients& g, const KeyBlock* blocks, int64_t n_blocks) {
    if (n_blocks == 0) return;
    with_tile(a.c, [&](auto tile) {
        constexpr int kC = decltype(tile)::value;
        const auto kernel = key_gradients<kC>;
        allow_shared(ctx, kernel, key_bytes<kC>());
        kernel<<<static_cast<unsigned>(n_blocks), TapeTile<kC>::kThreads, key_bytes<kC>(), ctx.cuda->stream()>>>(
            a, g, blocks);
    });
    check_launch(ctx, "attention's gradients of keys on tensor cores");
}

}  // namespace vitrine::cuda
