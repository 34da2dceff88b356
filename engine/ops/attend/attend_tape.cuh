// Attention on the tape on a GPU: what its kernels read, and the two families of kernels, plain FP32 and tensor cores.
#pragma once
#include "engine/ops/attend/attend_tape.h"
#include "engine/ops/kernel.cuh"

namespace vitrine::cuda {

// Rows (query, head) are counted through the batch: query * n_heads + head. A tile has that many rows and that many
// keys.
constexpr int kTapeRows = 64, kTapeKeys = 64;

// Work lists, made on the host: all that a block of threads must know of its segment.
struct QueryBlock {            // at most kTapeRows rows of one segment
    int32_t begin, end;        // rows
    int32_t first;             // the segment's first query
    int32_t entry, n_entries;  // its entries: the first of all, how many
};
struct KeyBlock {  // at most kTapeKeys keys of one segment against the queries [begin, end), some of which see them
    int32_t key, n_keys;  // rows or entries of the batch
    int32_t place;        // of the first in its segment's entries; -1: these are rows
    int32_t begin, end;
    int32_t first;  // the segment's first query
};
struct KeySum {  // the key blocks [block, block + n_blocks) have the same keys
    int32_t key, n_keys, is_entry;
    int32_t block, n_blocks;
};

struct TapeCall {
    const float *q, *keys, *values, *entries;  // [T, H, c], [T, G, c], [T, G, v], [S, c]
    const float* sinks;                        // [H], or null
    const bf16 *keys16, *entries16;            // copies for the tensor cores
    const uint32_t* chosen;  // [T, n_words]: a bit for each entry that a query sees; null: all that are complete
    float *o, *lse;          // [T, H, v], [T, H] log of the softmax's denominator
    int n_heads, n_groups, c, v, window, ratio, n_words;  // ratio 0: no entries
    float scale, softcap;                                 // softcap 0: none

    // Entries that are complete for query t.
    __device__ int n_complete(const QueryBlock& b, int t) const {
        return ratio ? min((t - b.first + 1) / ratio, b.n_entries) : 0;
    }
};
struct TapeGradients {
    const float* dout;   // [T, H, v]
    float* delta;        // [T, H] o . dout, left by the pass for dq
    bf16 *q16, *dout16;  // copies that it leaves for the keys' pass, on tensor cores
    float* dq;
    bool adds_dq;     // += instead of =
    float* partials;  // [key blocks, G, kTapeKeys, c (+ v where values are not keys)]: gradients of a key block's keys
};

// Forward; the entries' probabilities summed over heads, mass [T, n_columns] (from lse); dq and delta; the keys'
// partial sums.
void attend_plain(Ctx& ctx, const TapeCall& a, const QueryBlock* blocks, int64_t n_blocks);
void attend_plain_mass(Ctx& ctx, const TapeCall& a, const QueryBlock* blocks, int64_t n_blocks, const Tensor& mass_TS);
void attend_plain_queries(Ctx& ctx, const TapeCall& a, const TapeGradients& g, const QueryBlock* blocks,
                          int64_t n_blocks);
void attend_plain_keys(Ctx& ctx, const TapeCall& a, const TapeGradients& g, const KeyBlock* blocks, int64_t n_blocks);

// The same on tensor cores, for keys that are values: inputs, probabilities and gradients of scores rounded to BF16.
bool has_tape_tensor_kernels(const TapeCall& a);
void attend_tensor(Ctx& ctx, const TapeCall& a, const QueryBlock* blocks, int64_t n_blocks);
void attend_tensor_mass(Ctx& ctx, const TapeCall& a, const QueryBlock* blocks, int64_t n_blocks, const Tensor& mass_TS);
void attend_tensor_queries(Ctx& ctx, const TapeCall& a, const TapeGradients& g, const QueryBlock* blocks,
                           int64_t n_blocks);
void attend_tensor_keys(Ctx& ctx, const TapeCall& a, const TapeGradients& g, const KeyBlock* blocks, int64_t n_blocks);

// A score after the soft cap, and its derivative to the score before.
struct Capped {
    float score, slope;
};
__device__ inline Capped cap_score(float score, float softcap) {
    if (softcap == 0) return {score, 1};
    const float t = tanhf(score / softcap);
    return {softcap * t, 1 - t * t};
}

}  // namespace vitrine::cuda
