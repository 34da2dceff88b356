// The lightning indexer: which compressed entries a query token attends to (v4-spec 4.6).
#pragma once
#include <vector>

#include "engine/model/kv_cache.h"
#include "engine/model/weights.h"
#include "engine/ops/ctx.h"
#include "engine/ops/rope/rope.h"

namespace vitrine {

// The entries chosen for each of T query tokens, ascending by index.
struct Selection {
    std::vector<std::vector<int32_t>> chosen;
    std::vector<std::vector<int32_t>>
        places;  // where each stands in the ranking, best first; empty unless a probe asked
};

// qr [T, q_lora] is the normed low-rank query, x [T, D] the sub-layer's input; token t of the segment stands at position + t
// and sees entries s < (position + t + 1) / 4. I[s] = sum_h w_h relu(Q_h . key_s); the top min(index_topk, visible) are chosen,
// ties to the lowest index (-0 equals +0). Scores are computed only where something is left out, or where a probe asks.
// `row0`: batch row of the segment's first token, for probes. forced [T, k] i32 (empty: none; -1: no pick) replaces the choice.
Selection select_entries(Ctx& ctx, const Tensor& qr_TQ, const Tensor& x_TD, int64_t position, int64_t row0,
                         const IndexerWeights& w, const ModelConfig& c, const RopeAngles& angles, const EntryStore& keys,
                         const cpu::IndexKeyFormat& format, const Tensor& forced_TK = {});

// The k best of n scores: ascending indices. `ranked` (may be null) gets them best first, `places` (only with it) where
// each of `chosen` stands in it; `left_out` the best score left out.
void choose_top(const float* scores, int64_t n, int64_t k, std::vector<int32_t>& chosen, std::vector<int32_t>* ranked,
                float* left_out, std::vector<int32_t>* places = nullptr);

// The GPU's twin, for all tokens of the step and the index keys of layer ctx.layer: i32 [T, index_topk], ascending, -1 after the
// last. Publishes what the CPU's does. `places` (may be null) gets i32 [T, index_topk], where a chosen entry stands in the ranking,
// for attend's probes; it stays empty unless a probe asked.
namespace cuda {
// Whether it will score entries, not just take all or the forced ones.
bool scores_entries(const Ctx& ctx, const ModelConfig& c, const Tensor& forced_TK);
Tensor select_entries(Ctx& ctx, const Tensor& qr_TQ, const Tensor& x_TD, const IndexerWeights& w, const ModelConfig& c,
                      const RopeAngles& angles, const Tensor& forced_TK = {}, Tensor* places_Tk = nullptr);
}  // namespace cuda

}  // namespace vitrine
