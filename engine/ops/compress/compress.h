// Token-level compression: pooling of K rows by per-channel softmax weights into entries (v4-spec 4.1 to 4.4).
#pragma once
#include <span>

#include "engine/model/kv_cache.h"
#include "engine/model/weights.h"
#include "engine/ops/ctx.h"
#include "engine/ops/rope/rope.h"

namespace vitrine {

// Entries that the tokens of one segment completed. Empty when there are none.
struct NewEntries {
    int64_t first = 0, n = 0;   // indices in the sequence
    Tensor entries_ND;          // pooled, normed, rotated at the first token of its block; not yet in the cache's format
    Tensor weights_NS;          // pooling weights, mean over channels; S = o*r slots, the previous block's first
};

// x [T, D] are the normed inputs of positions [position, position + T). Writes the K | S rows to the ring (S includes ape) and
// pools every block that became complete. `reference`: the entry is rounded to BF16 before its norm, after it and after RoPE.
// is_normed false (a variant): the pooled values are rotated as they are.
NewEntries compress(Ctx& ctx, const Tensor& x_TD, int64_t position, const CompressorWeights& w, int ratio, int entry_size,
                    const std::vector<double>& frequencies, double eps, RowRing& ring,
                    bool is_normed = true);

// The GPU's twin, for all tokens of the step: writes the K | S rows to the rings of layer ctx.layer, and every entry that a token
// completes to the cache, in its format: a main entry, or an index key (Hadamard-transformed first in `reference`).
// Publishes kEntry and kEntryWeights of main entries, on the tokens that completed them.
namespace cuda {
enum class EntryKind { main, index_key };
struct CompressorInput {
    const CompressorWeights& w;
    int ratio, entry_size, rope_dim;
    const std::vector<double>& frequencies;
    double eps;
    EntryKind kind;
    bool is_normed = true;
};
void compress(Ctx& ctx, const Tensor& x_TD, const CompressorInput& in);
// Window rows kv [T, C] for the rings. angles null: normed (unless a variant has no norm) and rotated already.
struct WindowInput {
    Tensor kv_TC;
    int rope_dim;
    const Param* norm_C = nullptr;  // null: nor will be
    double eps = 0;
    const RopeAngles* angles = nullptr;
};
// Everything that a layer's tokens leave in the caches, in one launch: up to two compressors, the main one first, and the window's
// rows (null: not here).
void append_keys(Ctx& ctx, const Tensor& x_TD, std::span<const CompressorInput> compressors, const WindowInput* window);
}  // namespace cuda

}  // namespace vitrine
