// What the tensor-core kernels of attention on the tape share: tiles in shared memory, what a row sees, rows of scores.
//
// A block of threads has four warps of 16 rows each, times kSplit for wide heads: those of one row share the score
// columns and the columns of the sums. Keys come in tiles of 64, in groups of 16: first groups of rows, then groups of
// entries.
#pragma once
#include "engine/device/cuda/mma.cuh"
#include "engine/ops/attend/attend_tape.cuh"

namespace vitrine::cuda {

constexpr float kLog2e = 1.4426950408889634f;
constexpr int kGroup = 16;  // keys (or, for the keys' pass, rows) of one step of a product

// kC: columns of a tile, at least those of a head; the others are zeros.
template <int kC>
struct TapeTile {
    static constexpr int kSplit = kC <= 128 ? 1 : kC / 128;
    static constexpr int kThreads = 4 * kWarp * kSplit;
    static constexpr int kLd = kC + 8;  // eight rows' 16-byte pieces lie in different banks
    static constexpr int kSize = kTapeRows * kLd;
    static constexpr int kGroups =
        4 / kSplit;  // of a tile of keys, whose scores a warp makes: its part, part + kSplit, ..
    static constexpr int kColumns = kC / kSplit;  // of the sums that a warp holds
};
constexpr int kLdWeights = kTapeKeys + 8;  // of a tile of probabilities

// 16 bytes to shared memory, in the background; zeros where there is nothing.
__device__ inline void copy_async(void* to, const void* from, bool is_there) {
    const auto at = static_cast<uint32_t>(__cvta_generic_to_shared(to));
    const int bytes = is_there ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(from), "r"(bytes) : "memory");
}
__device__ inline void commit_copies() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}
// All but the last kPending groups have arrived.
template <int kPending>
__device__ inline void wait_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// 64 rows of c values; from(row): where row lies, or null for zeros.
template <int kC, class From>
__device__ inline void load_rows(bf16* to, int c, const bf16* anywhere, From&& from) {
    constexpr int kPieces = kC / 8;
    for (int i = threadIdx.x; i < kTapeRows * kPieces; i += TapeTile<kC>::kThreads) {
        const int row = i / kPieces, column = i % kPieces * 8;
        const bf16* x = column < c ? from(row) : nullptr;
        copy_async(to + row * TapeTile<kC>::kLd + column, x ? x + column : anywhere, x != nullptr);
    }
}

// Bits [from, to) of the 16 of a group.
__device__ inline uint32_t range_bits(int from, int to) {
    from = max(from, 0), to = min(to, kGroup);
    return from < to ? 0xffffu >> (kGroup - to) & 0xffffu << from : 0;
}

// The keys that some row of a block of queries sees.
struct TapeColumns {
    int first_row, n_rows, row_groups, n_entries, n_groups, n_tiles;
    int64_t entry;
    __device__ TapeColumns(const TapeCall& a, const QueryBlock& b) {
        const int begin = b.begin / a.n_heads, last = (b.end - 1) / a.n_heads;
        first_row = max(b.first, begin - a.window + 1), n_rows = last - first_row + 1;
        n_entries = a.n_complete(b, last), entry = b.entry;
        row_groups = (n_rows + kGroup - 1) / kGroup;
        n_groups = row_groups + (n_entries + kGroup - 1) / kGroup;
        n_tiles = (n_groups + 3) / 4;
    }
    __device__ const bf16* key(const TapeCall& a, int j) const {
        if (j < n_rows) return a.keys16 + static_cast<int64_t>(first_row + j) * a.c;
        const int e = j - row_groups * kGroup;
        return e >= 0 && e < n_entries ? a.entries16 + (entry + e) * a.c : nullptr;
    }
};

// What one row (query, head) sees: 16 bits for each group of keys.
struct RowSees {
    int t, n_complete;  // t -1: the row is none
    const uint16_t* chosen;
    __device__ RowSees(const TapeCall& a, const QueryBlock& b, int row) {
        t = row < b.end ? row / a.n_heads : -1;
        n_complete = t < 0 ? 0 : a.n_complete(b, t);
        chosen = a.chosen && t >= 0 ? reinterpret_cast<const uint16_t*>(a.chosen + static_cast<int64_t>(t) * a.n_words)
                                    : nullptr;
    }
    __device__ uint32_t entries(int group) const {
        const uint32_t bits = range_bits(0, n_complete - group * kGroup);
        return chosen && bits ? bits & chosen[group] : bits;
    }
    __device__ uint32_t group(const TapeCall& a, const TapeColumns& columns, int group) const {
        if (group >= columns.row_groups) return entries(group - columns.row_groups);
        const int first = columns.first_row + group * kGroup;
        return t < 0 ? 0 : range_bits(t - a.window + 1 - first, t + 1 - first);
    }
};

// sum [16, 16] (two tiles of 8 columns) += 16 rows of x times 16 rows of y, kC columns each: fragments of `step` are
// given.
__device__ inline void add_scores(float (&sum)[2][4], const uint32_t (&x)[4], const uint32_t (&y)[4]) {
    mma(sum[0], x, y[0], y[1]);
    mma(sum[1], x, y[2], y[3]);
}
// Where a lane reads 16 rows as the left operand of a product; 16 rows as the right operand, transposed; and as they
// lie.
template <int kLd>
__device__ inline const bf16* left_rows(const bf16* x, int lane) {
    return x + lane % 16 * kLd + lane / 16 * 8;
}
template <int kLd>
__device__ inline const bf16* right_rows(const bf16* x, int lane) {
    return x + (lane / 16 * 8 + lane % 8) * kLd + lane / 8 % 2 * 8;
}
template <int kLd>
__device__ inline const bf16* right_columns(const bf16* x, int lane) {
    return x + (lane / 8 % 2 * 8 + lane % 8) * kLd + lane / 16 * 8;
}

__device__ inline uint32_t pack(float x, float y) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(x, y);
    return *reinterpret_cast<const uint32_t*>(&pair);
}
// A product's sum [16, 16] as the left operand of the next one.
__device__ inline void to_left(uint32_t (&a)[4], const float (&s)[2][4]) {
    a[0] = pack(s[0][0], s[0][1]), a[1] = pack(s[0][2], s[0][3]);
    a[2] = pack(s[1][0], s[1][1]), a[3] = pack(s[1][2], s[1][3]);
}
// The same to a tile of weights in shared memory, where 16 rows begin at `row` and 16 columns at `column`.
__device__ inline void store_weights(bf16* to, int row, int column, int lane, const float (&s)[2][4]) {
    bf16* at = to + (row + lane / 4) * kLdWeights + column + lane % 4 * 2;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
        *reinterpret_cast<uint32_t*>(at + 8 * i) = pack(s[i][0], s[i][1]);
        *reinterpret_cast<uint32_t*>(at + 8 * i + 8 * kLdWeights) = pack(s[i][2], s[i][3]);
    }
}

// sums [16, kTiles * 8] += weights [16, 16] times 16 rows of values; `values` as right_columns gives it.
template <int kLd, int kTiles>
__device__ inline void add_values(float (&sum)[kTiles][4], const uint32_t (&weights)[4], const bf16* values) {
#pragma unroll
    for (int i = 0; i < kTiles; i += 2) {
        uint32_t b[4];
        load_tiles_transposed(b, values + i * 8);
        mma(sum[i], weights, b[0], b[1]);
        mma(sum[i + 1], weights, b[2], b[3]);
    }
}

__device__ inline float quad_sum(float x) {
    x += __shfl_xor_sync(~0u, x, 1);
    return x + __shfl_xor_sync(~0u, x, 2);
}
__device__ inline float quad_max(float x) {
    x = fmaxf(x, __shfl_xor_sync(~0u, x, 1));
    return fmaxf(x, __shfl_xor_sync(~0u, x, 2));
}

// Calls f(std::integral_constant<int, kC>) with the smallest tile that holds c columns.
template <class F>
void with_tile(int c, F&& f) {
    if (c <= 32)
        f(std::integral_constant<int, 32>{});
    else if (c <= 64)
        f(std::integral_constant<int, 64>{});
    else if (c <= 128)
        f(std::integral_constant<int, 128>{});
    else if (c <= 256)
        f(std::integral_constant<int, 256>{});
    else
        f(std::integral_constant<int, 512>{});
}

}  // namespace vitrine::cuda
