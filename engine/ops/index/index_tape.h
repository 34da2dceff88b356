// The lightning indexer on the tape: scores, choice, and the loss that trains it (v4-spec 4.6, 10.3; docs/math/attention.md).
#pragma once
#include "engine/model/weights.h"
#include "engine/ops/ctx.h"
#include "engine/ops/rope/rope.h"
#include "engine/ops/segments.h"
#include "engine/ops/training.h"

namespace vitrine {

// I [T, S] of every query and entry of its segment, S = most entries of a segment; columns that a query does not see are 0.
// qr [T, Q] and x [T, D] are detached: gradients go to wq_b, weights_proj and the keys [S, U] (index compressor entries of all
// segments, `entries` their offsets) alone.
Tensor index_scores_on_tape(Ctx& ctx, const Tensor& qr_TQ, const Tensor& x_TD, const Tensor& keys_SU, const Offsets& rows,
                            const Offsets& entries, int64_t ratio, const IndexerWeights& w, const ModelConfig& c,
                            const RopeAngles& angles);

// i32 [T, k]: the k best visible entries of each query's segment, ties to the lowest index, ascending; -1 behind fewer.
Tensor choose_entries(Ctx& ctx, const Tensor& scores_TS, const Offsets& rows, int64_t ratio, int64_t k);

// Leaves the loss "indexer" with ctx.training->indexer_weight: KL(p || softmax(I)), p = mass [T, S] normalised, over the chosen
// entries (empty: all visible ones), mean over queries that have any. No gradient to mass. A query whose mass is 0 adds nothing.
void indexer_loss_on_tape(Ctx& ctx, const Tensor& scores_TS, const Tensor& mass_TS, const Tensor& chosen_TK,
                          const Offsets& rows, int64_t ratio);

// Queries of all ranks' sequences that see an entry: from position ratio - 1 on.
int64_t queries_with_entries(const WholeBatch& batch, int64_t ratio);

// Leaves IndexerStats: the choice by `scores` against that by dense attention mass, summed over heads and (mass_THS,
// may be empty) of each head; and, on the CPU, KL(mass || softmax(scores)) over all visible entries as a loss "indexer.kl" of
// weight 0.
void measure_indexer(Ctx& ctx, const Tensor& scores_TS, const Tensor& dense_mass_TS, const Offsets& rows, int64_t ratio,
                     int64_t k, const Tensor& dense_mass_THS = {});

// The GPU's twins; index_scores_on_tape from queries q [T, J, U], normed and rotated, and weights w [T, J]. Losses and recall get
// their values by Device::collect.
namespace cuda {
Tensor index_scores_on_tape(Ctx& ctx, const Tensor& q_TJU, const Tensor& w_TJ, const Tensor& keys_SU, const Offsets& rows,
                            const Offsets& entries, int64_t ratio);
Tensor choose_on_tape(Ctx& ctx, const Tensor& scores_TS, const Offsets& rows, int64_t ratio, int64_t k);
void indexer_loss_on_tape(Ctx& ctx, const Tensor& scores_TS, const Tensor& mass_TS, const Tensor& chosen_TK,
                          const Offsets& rows, int64_t ratio);
void measure_indexer(Ctx& ctx, const Tensor& scores_TS, const Tensor& dense_mass_TS, const Offsets& rows, int64_t ratio, int64_t k);
}  // namespace cuda

}  // namespace vitrine
