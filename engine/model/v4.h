// The model: one forward pass from token ids to logits, for decode, chunked prefill and several sequences at once.
#pragma once
#include <span>

#include "engine/base/config/interventions.h"
#include "engine/model/attention/attention.h"
#include "engine/model/weights.h"

namespace vitrine {

// Choices put in the place of the router's and the indexer's, by layer: replay, interventions, comparisons. Empty: free.
struct Forced {
    std::vector<Tensor> experts_TK;       // [L] of i32 [T, K], or empty tensors
    std::vector<Tensor> entries_Tk;       // [L] of i32 [T, k], -1 = no pick, or empty tensors
};

struct Batch {
    std::span<const int32_t> tokens;      // [T], each in [0, V)
    std::span<const Segment> segments;    // tile [0, T), each at most kMaxChunk long and, but for draft, from its cache's length on
    const Forced* forced = nullptr;
    const Interventions* edits = nullptr;  // on the CPU, without a tape
};

// Positions and angles of a batch, made once for all layers.
struct BatchAngles {
    std::vector<double> window_f, compressed_f;
    RopeAngles window, compressed;
};
BatchAngles batch_angles(Ctx& ctx, const ModelConfig& c, const Batch& batch);

// One block: streams X [T, N, D] to the streams after it, in `out_TND` (not X) when it is given. Writes layer `l` of the caches.
Tensor block(Ctx& ctx, const ModelConfig& c, const BlockWeights& w, int l, const Tensor& x_TND, const Batch& batch,
             const BatchAngles& angles, const Tensor& out_TND = {});

enum class LogitRows { last, all };       // of each segment

// Runs the batch, leaves its rows and entries in the caches (their `length` is the caller's to advance), and returns logits:
// [segments, V] or [T, V], FP32. Throws Error(cancelled) when ctx.stop is requested; the caches' committed part is untouched.
// Caches with a drafter keep the trunk's streams of every row too.
Tensor forward(Ctx& ctx, const ModelConfig& c, const ModelWeights& w, const Batch& batch, LogitRows rows);

// A guess by the first MTP module (v4-spec 6): `batch` gives positions t whose streams the caches keep, each with token t + 1;
// returns logits [segments, V] of token t + 2 for the last position of each segment. Writes the drafter's layer of the caches.
// goes_on: the module's own streams take the place of those one position further, which the trunk must not have made yet: from
// there it can guess one more token.
Tensor draft(Ctx& ctx, const ModelConfig& c, const ModelWeights& w, const Batch& batch, bool goes_on);
// Of the same positions only what later ones read, the module's window rows: nothing before a row of one layer's window counts.
void draft_keys(Ctx& ctx, const ModelConfig& c, const ModelWeights& w, const Batch& batch);

// ---- its parts, for training
// Streams [T, N, D] after the last block. With a tape, segments are whole sequences without caches, and every block's values
// stay until backward (or its input alone, when the step recomputes).
Tensor trunk(Ctx& ctx, const ModelConfig& c, const ModelWeights& w, const Batch& batch);
// Streams to logits [T, V].
Tensor head(Ctx& ctx, const ModelConfig& c, const HyperWeights& collapse, const Param& norm, const Param& head_VD,
            const Tensor& x_TND);
// Multi-token prediction (v4-spec 6): the trunk's streams and each position's next token give logits [T, V] of the token after
// that. With a tape only. next[t] is in [0, V): a segment's last position needs one too, whatever it is.
Tensor mtp_logits(Ctx& ctx, const ModelConfig& c, const ModelWeights& w, const MtpWeights& mtp, const Tensor& x_TND,
                  std::span<const int32_t> next, const Batch& batch);

}  // namespace vitrine
