// Attention sub-layers: one variant per layer kind, listed in table.cpp, sharing the query, key and output paths.
#pragma once
#include <span>
#include <vector>

#include "engine/base/config/interventions.h"
#include "engine/model/kv_cache.h"
#include "engine/model/weights.h"
#include "engine/ops/attend/attend.h"
#include "engine/ops/attend/attend_tape.h"
#include "engine/ops/compress/compress_tape.h"
#include "engine/ops/ctx.h"
#include "engine/ops/rope/rope.h"

namespace vitrine {

// Consecutive positions of one sequence: rows [begin, end) of the batch.
struct Segment {
    SequenceCache* cache;  // null on the tape: a whole sequence from position 0, whose keys are tensors
    int64_t begin, end, position;
};

// What every attention variant is given besides x [T, D].
struct AttentionInput {
    const AttentionWeights& w;
    const ModelConfig& c;
    int layer;
    std::span<const Segment> segments;
    const RopeAngles& angles;                     // of this layer's kind, for the batch's positions
    const std::vector<double>& frequencies;       // the same, for entries
    const Tensor& forced_entries_Tk;              // i32 [T, k], -1 = none; empty: the indexer chooses
    EntryChoice entries = EntryChoice::as_trained;
    uint64_t seed = 0;                            // of random entries
};

using AttentionFn = Tensor (*)(Ctx&, const Tensor& x_TD, const AttentionInput&);
Tensor sliding_attention(Ctx& ctx, const Tensor& x_TD, const AttentionInput& in);
Tensor csa_attention(Ctx& ctx, const Tensor& x_TD, const AttentionInput& in);
Tensor hca_attention(Ctx& ctx, const Tensor& x_TD, const AttentionInput& in);
// Variants: on the tape only.
Tensor full_attention(Ctx& ctx, const Tensor& x_TD, const AttentionInput& in);
Tensor gqa_attention(Ctx& ctx, const Tensor& x_TD, const AttentionInput& in);
Tensor mla_attention(Ctx& ctx, const Tensor& x_TD, const AttentionInput& in);
AttentionFn attention_for(const LayerConfig& layer);

// ---- the shared paths (v4-spec 3.2, 3.3, 3.7)
struct Queries {
    Tensor qr_TQ;   // normed low-rank query, shared with the indexer; on a GPU it may be raw, and its products made ahead
    Tensor q_THC;   // per-head normed and rotated
    bool is_raw = false;  // on a GPU: q neither normed nor rotated yet, which attention does
};
Queries query_path(Ctx& ctx, const Tensor& x_TD, const AttentionInput& in);
// The window rows of the batch [T, C], written to the rings where there are caches. On a GPU the layer's new entries and index keys
// are written too.
Tensor key_path(Ctx& ctx, const Tensor& x_TD, const AttentionInput& in);
// De-rotation (values carry the rotation of their keys), grouped output projection: o [T, H, c] -> [T, D].
Tensor output_path(Ctx& ctx, const Tensor& o_THC, const AttentionInput& in);
// The projection alone, for values that are not rotated.
Tensor output_projection(Ctx& ctx, const Tensor& o_THC, const AttentionInput& in);
// The window part of each token's key list.
std::vector<KeyList> window_keys(const Segment& s, const AttentionInput& in);
// Rows [begin, end) of x as a tensor.
Tensor segment_rows(const Tensor& x, const Segment& s);
// Rows of angles for a segment.
RopeAngles segment_angles(const RopeAngles& a, const Segment& s);
// New main entries of a segment: compressed, published, written to the cache.
void append_entries(Ctx& ctx, const Tensor& x_TD, const Segment& s, const AttentionInput& in);
// Core attention of every segment into one o [T, H, c].
Tensor attend_segments(Ctx& ctx, const Tensor& q_THC, const AttentionInput& in,
                       const std::vector<std::vector<KeyList>>& keys_by_segment);

// ---- on the tape
Offsets segment_offsets(const AttentionInput& in);
// The window rows [T, C] and, if there are any, entries as keys of whole sequences.
TapeKeys whole_sequences(const AttentionInput& in, const Tensor& kv_TC, const TapeEntries& entries = {});
// Main entries of all segments.
TapeEntries whole_entries(Ctx& ctx, const Tensor& x_TD, const AttentionInput& in);

}  // namespace vitrine
