// What attention's kernels share: where a token's keys lie, how they are cut into splits, their rows as numbers, and
// the probes.
#pragma once
#include "engine/ops/quantize/rows.cuh"

namespace vitrine::cuda {

constexpr int kMaxSplits = 64;  // of one token's keys over blocks
constexpr int kFewTokens = 16;  // up to here keys are split, and a token's bits don't depend on the others

// The keys of every token: its window, oldest first, then its entries ascending. chosen [T, k] (-1 after the last), or
// null: all that are complete (ratio 0: none).
struct Keys {
    const TokenAt* tokens;
    const LayerView* views;  // of the layer
    const int32_t* chosen;
    int k, window, ratio;
    RowFormat format;
};

// Those of one token.
struct TokenKeys {
    const std::byte *ring, *entries;
    const int32_t* chosen;
    int64_t capacity, first;  // position of the first window row
    int n_window, n;          // n counts places of `chosen` that may be -1

    __device__ TokenKeys(const Keys& keys, int64_t t) {
        const TokenAt at = keys.tokens[t];
        const LayerView& view = keys.views[at.sequence];
        ring = view.window, entries = view.entries, capacity = view.window_capacity;
        first = max(int64_t{0}, at.position - keys.window + 1);
        n_window = static_cast<int>(at.position + 1 - first);
        chosen = keys.chosen ? keys.chosen + t * keys.k : nullptr;
        n = n_window + (chosen ? keys.k : keys.ratio ? static_cast<int>((at.position + 1) / keys.ratio) : 0);
    }
    // Row j, or null: none.
    __device__ const std::byte* row(int j, int64_t bytes) const {
        if (j < n_window) return ring + (first + j) % capacity * bytes;
        if (j >= n) return nullptr;
        const int64_t entry = chosen ? chosen[j - n_window] : j - n_window;
        return entry < 0 ? nullptr : entries + entry * bytes;
    }
    // Nothing from j on.
    __device__ bool ends_at(int j) const { return j >= n || (chosen && j >= n_window && chosen[j - n_window] < 0); }
    // Keys per split, whole chunks: a function of the token's own keys.
    __device__ int split_size(int chunk) const { return (n + chunk * kMaxSplits - 1) / (chunk * kMaxSplits) * chunk; }
};

// Column i of a cache row.
__device__ inline float row_value(const RowFormat& f, const std::byte* row, int i) {
    if (!f.is_packed) return reinterpret_cast<const float*>(row)[i];
    const auto* p = reinterpret_cast<const uint8_t*>(row);
    const int n = f.c - f.rope;
    if (i < n) return cpu::fp8_decode(p[i]) * cpu::e8m0_to_f32(p[n + 2 * f.rope + i / cpu::kEntryBlock]);
    const int at = n + 2 * (i - n);
    return cpu::bf16_to_f32(static_cast<uint16_t>(p[at] | p[at + 1] << 8));
}

// One call of attention: tokens [t0, t0 + blocks).
struct Attention {
    Keys keys;
    cpu::PackedMatrix sinks;  // data null: none
    int n_heads, n_splits;    // n_splits 1: the output, else `partials` for `combine`
    int chunk;                // keys that a block holds at a time
    float scale;
    bool is_rounded;  // p to BF16 before the sum of values
    int64_t t0;
    int64_t n_columns;             // at least as many as any token has keys
    float* partials;               // [tokens, n_splits, H, c] sums of values
    float2* partial_stats;         // [tokens, n_splits, H] largest score, sum of e^(score - largest)
    const float *cosines, *sines;  // [T, half] to rotate the output back by, or null
    int half;
    float q_eps;                   // above 0: q is to be normed per head, then rotated by those angles
    float* scores;  // [tokens, H, n_columns], or null: nobody asks
    float2* stats;  // [T, H] the same over all keys, the sink in the sum; or null
};

// The kernel of `reference` numerics: products on tensor cores. For packed rows of up to 512 columns.
bool has_tensor_kernel(const Attention& a);
constexpr int kTensorChunk = 64,
              kFewTensorChunk = 32;  // keys that a block holds at a time; of few tokens more blocks work
void attend_by_tensor_cores(Ctx& ctx, const Attention& a, int64_t n_tokens, const bf16* q, bf16* out);

// What is watched of one call; tensors outlive the call. Rows of entries begin with their count.
struct MassProbes {
    Tensor shares, shares_head;    // [T, 3], [T, H, 3]
    Tensor window;                 // [T, window]
    Tensor entries, entries_head;  // [T, 1 + n_entries], [T, 1 + H * n_entries]
    int64_t n_entries;
    int n_heads;
};
bool watches_mass(const Ctx& ctx);
MassProbes make_mass_probes(Ctx& ctx, int64_t n_tokens, int64_t n_heads, int window, int64_t n_entries);
// From a.scores (used up) and a.stats. places [T, k] (empty: ascending): an entry's column. is_later: with those of other layers,
// when what is watched is gathered; everything that `a` points to is still there then.
void measure_mass(Ctx& ctx, const Attention& a, int64_t n_tokens, const Tensor& places_Tk, const MassProbes& m, bool is_later);
void publish_mass(Ctx& ctx, const MassProbes& m, int window);

}  // namespace vitrine::cuda
