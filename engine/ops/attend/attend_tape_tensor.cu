// Attention on the tape by tensor cores: forward, and the mass of entries.
#include <type_traits>

#include "engine/ops/attend/attend_tape_tensor.cuh"

namespace vitrine::cuda {
namespace {

constexpr int kStages = 2;         // tiles of keys: one is worked on while the next one comes
constexpr float kLowest = -1e30f;  // below every score, and finite: the difference of two such is a number

// The block's queries in shared memory, rounded; rows and columns that are not there: zeros.
template <int kC>
__device__ void load_queries(const TapeCall& a, const QueryBlock& b, bf16* to) {
    constexpr int kPieces = kC / 4;
#pragma unroll 4
    for (int i = threadIdx.x; i < kTapeRows * kPieces; i += TapeTile<kC>::kThreads) {
        const int row = i / kPieces, column = i % kPieces * 4;
        float4 x{};
        if (b.begin + row < b.end && column < a.c)
            x = *reinterpret_cast<const float4*>(a.q + static_cast<int64_t>(b.begin + row) * a.c + column);
        *reinterpret_cast<uint2*>(to + row * TapeTile<kC>::kLd + column) = uint2{pack(x.x, x.y), pack(x.z, x.w)};
    }
}

// Shared memory: queries, kStages tiles of keys; with kSplit > 1 probabilities and the parts' largest scores.
template <int kC>
constexpr size_t forward_bytes() {
    using Tile = TapeTile<kC>;
    return (1 + kStages) * Tile::kSize * sizeof(bf16) +
           (Tile::kSplit > 1 ? kTapeRows * kLdWeights * sizeof(bf16) + Tile::kSplit * kTapeRows * sizeof(float) : 0);
}

template <int kC>
__global__ void __launch_bounds__(TapeTile<kC>::kThreads) forward(const TapeCall a, const QueryBlock* blocks) {
    after_previous();
    using Tile = TapeTile<kC>;
    constexpr int kLd = Tile::kLd, kSplit = Tile::kSplit, kGroups = Tile::kGroups, kTiles = Tile::kColumns / 8;
    extern __shared__ __align__(16) std::byte shared[];
    bf16* const q = reinterpret_cast<bf16*>(shared);
    bf16* const keys = q + Tile::kSize;
    bf16* const weights = keys + kStages * Tile::kSize;
    float* const parts = reinterpret_cast<float*>(weights + kTapeRows * kLdWeights);  // [kSplit, kTapeRows]
    const QueryBlock b = blocks[blockIdx.x];
    const TapeColumns columns(a, b);
    const int lane = threadIdx.x % kWarp, row0 = threadIdx.x / kWarp % 4 * 16, part = threadIdx.x / kWarp / 4;
    const auto load_keys = [&](int tile) {
        load_rows<kC>(keys + tile % kStages * Tile::kSize, a.c, a.keys16,
                      [&](int row) { return columns.key(a, tile * kTapeKeys + row); });
        commit_copies();
    };
    load_keys(0);
    load_queries<kC>(a, b, q);

    const int row = b.begin + row0 + lane / 4;  // and row + 8
    const RowSees sees[2] = {RowSees(a, b, row), RowSees(a, b, row + 8)};
    const float in_log2 = a.softcap == 0 ? a.scale * kLog2e : kLog2e;
    float top[2], z[2], sum[kTiles][4] = {};
#pragma unroll
    for (int r = 0; r < 2; ++r) {
        const bool has_sink = a.sinks && sees[r].t >= 0;
        top[r] = has_sink ? a.sinks[(row + 8 * r) % a.n_heads] * kLog2e : kLowest;
        z[r] = has_sink && part == 0 && lane % 4 == 0 ? 1.0f : 0.0f;
    }
    for (int tile = 0; tile < columns.n_tiles; ++tile) {
        if (tile + 1 < columns.n_tiles) {
            load_keys(tile + 1);
            wait_copies<1>();
        } else {
            wait_copies<0>();
        }
        __syncthreads();
        const bf16* const k = keys + tile % kStages * Tile::kSize;
        const int n_groups = columns.n_groups - tile * 4;  // that are left
        float s[kGroups][2][4] = {};
#pragma unroll 4
        for (int step = 0; step < kC / 16; ++step) {
            uint32_t x[4], y[4];
            load_tiles(x, left_rows<kLd>(q + row0 * kLd, lane) + step * 16);
#pragma unroll
            for (int g = 0; g < kGroups; ++g) {
                if (part + g * kSplit >= n_groups) continue;
                load_tiles(y, right_rows<kLd>(k + (part + g * kSplit) * kGroup * kLd, lane) + step * 16);
                add_scores(s[g], x, y);
            }
        }
        // Scores in units of log 2, what is not seen below everything.
        if (a.softcap != 0)
#pragma unroll
            for (int g = 0; g < kGroups; ++g)
#pragma unroll
                for (int i = 0; i < 8; ++i)
                    s[g][i / 4][i % 4] = cap_score(s[g][i / 4][i % 4] * a.scale, a.softcap).score;
        float highest[2] = {kLowest, kLowest};
#pragma unroll
        for (int g = 0; g < kGroups; ++g) {
#pragma unroll
            for (int r = 0; r < 2; ++r) {
                const uint32_t bits = sees[r].group(a, columns, tile * 4 + part + g * kSplit) >> lane % 4 * 2;
#pragma unroll
                for (int i = 0; i < 4; ++i) {  // tiles of 8 columns, two columns of each
                    float& x = s[g][i / 2][2 * r + i % 2];
                    x = bits >> (i / 2 * 8 + i % 2) & 1 ? x * in_log2 : -INFINITY;
                    highest[r] = fmaxf(highest[r], x);
                }
            }
        }
        float factor[2];
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            highest[r] = quad_max(highest[r]);
            if constexpr (kSplit > 1) parts[part * kTapeRows + row0 + lane / 4 + 8 * r] = highest[r];
        }
        if constexpr (kSplit > 1) __syncthreads();
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            if constexpr (kSplit > 1)
                for (int i = 0; i < kSplit; ++i)
                    highest[r] = fmaxf(highest[r], parts[i * kTapeRows + row0 + lane / 4 + 8 * r]);
            const float higher = fmaxf(top[r], highest[r]);
            factor[r] = exp2f(top[r] - higher), z[r] *= factor[r], top[r] = higher;
        }
#pragma unroll
        for (int g = 0; g < kGroups; ++g)
#pragma unroll
            for (int i = 0; i < 8; ++i) {
                float& x = s[g][i / 4][i % 4];
                x = exp2f(x - top[i % 4 / 2]);
                z[i % 4 / 2] += x;
            }
#pragma unroll
        for (int i = 0; i < kTiles; ++i)
            sum[i][0] *= factor[0], sum[i][1] *= factor[0], sum[i][2] *= factor[1], sum[i][3] *= factor[1];
        const bf16* values = right_columns<kLd>(k, lane) + part * Tile::kColumns;
        if constexpr (kSplit > 1) {
#pragma unroll
            for (int g = 0; g < kGroups; ++g) store_weights(weights, row0, (part + g * kSplit) * kGroup, lane, s[g]);
            __syncthreads();
        }
#pragma unroll
        for (int g = 0; g < 4; ++g) {
            if (g >= n_groups) continue;
            uint32_t p[4];
            if constexpr (kSplit > 1)
                load_tiles(p, left_rows<kLdWeights>(weights + row0 * kLdWeights, lane) + g * kGroup);
            else
                to_left(p, s[g]);
            add_values<kLd>(sum, p, values + g * kGroup * kLd);
        }
        __syncthreads();
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) {
        z[r] = quad_sum(z[r]);
        if constexpr (kSplit > 1) {
            parts[part * kTapeRows + row0 + lane / 4 + 8 * r] = z[r];
            __syncthreads();
            z[r] = 0;
            for (int i = 0; i < kSplit; ++i) z[r] += parts[i * kTapeRows + row0 + lane / 4 + 8 * r];
        }
        if (sees[r].t < 0) continue;
        if (part == 0 && lane % 4 == 0) a.lse[row + 8 * r] = (top[r] + log2f(z[r])) / kLog2e;
        float* out = a.o + static_cast<int64_t>(row + 8 * r) * a.c;
        const float share = 1 / z[r];
#pragma unroll
        for (int i = 0; i < kTiles; ++i) {
            const int column = part * Tile::kColumns + i * 8 + lane % 4 * 2;
            if (column < a.c)
                *reinterpret_cast<float2*>(out + column) = {sum[i][2 * r] * share, sum[i][2 * r + 1] * share};
        }
    }
}

// ---- mass: probabilities once more, from lse. Shared memory: queries, a tile of entries, probabilities [rows,
// kLdMass].
constexpr int kLdMass = kTapeKeys + 1;
template <int kC>
constexpr size_t mass_bytes() {
    return 2 * TapeTile<kC>::kSize * sizeof(bf16) + kTapeRows * kLdMass * sizeof(float);
}

template <int kC>
__global__ void __launch_bounds__(TapeTile<kC>::kThreads)
    entry_mass(const TapeCall a, const QueryBlock* blocks, float* mass, int n_columns) {
    after_previous();
    using Tile = TapeTile<kC>;
    constexpr int kLd = Tile::kLd, kSplit = Tile::kSplit, kGroups = Tile::kGroups;
    extern __shared__ __align__(16) std::byte shared[];
    bf16* const q = reinterpret_cast<bf16*>(shared);
    bf16* const keys = q + Tile::kSize;
    float* const shares = reinterpret_cast<float*>(keys + Tile::kSize);
    const QueryBlock b = blocks[blockIdx.x];
    const int t0 = b.begin / a.n_heads, n_tokens = (b.end - b.begin) / a.n_heads,
              n_entries = a.n_complete(b, t0 + n_tokens - 1);
    const int lane = threadIdx.x % kWarp, row0 = threadIdx.x / kWarp % 4 * 16, part = threadIdx.x / kWarp / 4;
    const int row = b.begin + row0 + lane / 4;
    const RowSees sees[2] = {RowSees(a, b, row), RowSees(a, b, row + 8)};
    const float lse[2] = {sees[0].t < 0 ? 0 : a.lse[row], sees[1].t < 0 ? 0 : a.lse[row + 8]};
    load_queries<kC>(a, b, q);
    for (int e0 = 0; e0 < n_entries; e0 += kTapeKeys) {
        load_rows<kC>(keys, a.c, a.entries16, [&](int e) {
            return e0 + e < n_entries ? a.entries16 + (static_cast<int64_t>(b.entry) + e0 + e) * a.c : nullptr;
        });
        commit_copies();
        wait_copies<0>();
        __syncthreads();
        float s[kGroups][2][4] = {};
#pragma unroll 4
        for (int step = 0; step < kC / 16; ++step) {
            uint32_t x[4], y[4];
            load_tiles(x, left_rows<kLd>(q + row0 * kLd, lane) + step * 16);
#pragma unroll
            for (int g = 0; g < kGroups; ++g) {
                load_tiles(y, right_rows<kLd>(keys + (part + g * kSplit) * kGroup * kLd, lane) + step * 16);
                add_scores(s[g], x, y);
            }
        }
#pragma unroll
        for (int g = 0; g < kGroups; ++g)
#pragma unroll
            for (int i = 0; i < 8; ++i) {
                const int r = i % 4 / 2, column = i / 4 * 8 + lane % 4 * 2 + i % 2, group = part + g * kSplit;
                const bool has = sees[r].entries(e0 / kGroup + group) >> column & 1;
                const float score = cap_score(s[g][i / 4][i % 4] * a.scale, a.softcap).score;
                shares[(row0 + lane / 4 + 8 * r) * kLdMass + group * kGroup + column] =
                    has ? expf(score - lse[r]) : 0.0f;
            }
        __syncthreads();
        const int n = min(kTapeKeys, n_columns - e0);
        for (int i = threadIdx.x; i < n_tokens * kTapeKeys; i += Tile::kThreads) {
            const int t = i / kTapeKeys, e = i % kTapeKeys;
            float sum = 0;
            for (int h = 0; h < a.n_heads; ++h) sum += shares[(t * a.n_heads + h) * kLdMass + e];
            if (e < n) mass[static_cast<int64_t>(t0 + t) * n_columns + e0 + e] = sum;
        }
        __syncthreads();
    }
    const int done = min((n_entries + kTapeKeys - 1) / kTapeKeys * kTapeKeys, n_columns), rest = n_columns - done;
    for (int i = threadIdx.x; i < n_tokens * rest; i += Tile::kThreads)
        mass[static_cast<int64_t>(t0 + i / rest) * n_columns + done + i % rest] = 0;
}

}  // namespace

bool has_tape_tensor_kernels(const TapeCall& a) {
    return a.n_groups == 1 && a.keys == a.values && a.c % 16 == 0 && a.c <= 512 &&
           reinterpret_cast<uintptr_t>(a.q) % 16 == 0;
}

void attend_tensor(Ctx& ctx, const TapeCall& a, const QueryBlock* blocks, int64_t n_blocks) {
    with_tile(a.c, [&](auto tile) {
        constexpr int kC = decltype(tile)::value;
        const auto kernel = forward<kC>;
        allow_shared(ctx, kernel, forward_bytes<kC>());
        kernel<<<static_cast<unsigned>(n_blocks), TapeTile<kC>::kThreads, forward_bytes<kC>(), ctx.cuda->stream()>>>(
            a, blocks);
    });
    check_launch(ctx, "attention on tensor cores");
}

void attend_tensor_mass(Ctx& ctx, const TapeCall& a, const QueryBlock* blocks, int64_t n_blocks,
                        const Tensor& mass_TS) {
    with_tile(a.c, [&](auto tile) {
        constexpr int kC = decltype(tile)::value;
        const auto kernel = entry_mass<kC>;
        const auto n_columns = static_cast<int>(mass_TS.dim(1));
        allow_shared(ctx, kernel, mass_bytes<kC>());
        kernel<<<static_cast<unsigned>(n_blocks), TapeTile<kC>::kThreads, mass_bytes<kC>(), ctx.cuda->stream()>>>(
            a, blocks, mass_TS.f32(), n_columns);
    });
    check_launch(ctx, "attention's mass on tensor cores");
}

}  // namespace vitrine::cuda
