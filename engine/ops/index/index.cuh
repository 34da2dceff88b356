// The indexer's kernels: what they are given.
#pragma once
#include "engine/ops/quantize/rows.cuh"

namespace vitrine::cuda {

// A block of 32 dims of one head's query, in `reference`: value = unit * integer; `offset` undoes that keys are read as
// unsigned.
struct QueryBlock {
    float unit;
    int offset;
};

// Scores of tokens [t0, t0 + blocks): token t sees (position + 1) / 4 keys.
struct IndexScores {
    const TokenAt* tokens;
    const LayerView* views;  // of the layer
    RowFormat format;        // of a key, c = d dims
    int n_heads, k;
    const uint32_t* words;     // `reference`: [T, H, blocks * 8], four dims as signed bytes in each
    const QueryBlock* blocks;  // [T, H, blocks]
    const float* q;            // `exact`: [T, H, d]
    const float* weights;      // [T, H]
    bool is_watched;           // scores also where every entry is chosen
    int64_t t0, n_columns;
    float* scores;  // [tokens, n_columns]
    __device__ int visible(int64_t t) const { return static_cast<int>((tokens[t].position + 1) / 4); }
};
void index_scores(Ctx& ctx, const IndexScores& s, int64_t n_tokens);

// The k best of each of those tokens.
struct IndexChoice {
    int32_t* chosen;             // [T, k] ascending, -1 after the last
    int32_t *ranked, *places;    // [T, k] best first; where chosen[i] stands among them: or null, as all below
    float *ranked_scores, *cut;  // [T, k]; [T, 2] the worst chosen score, the best left out
};
void index_choose(Ctx& ctx, const IndexScores& s, const IndexChoice& to, int64_t n_tokens);

}  // namespace vitrine::cuda
