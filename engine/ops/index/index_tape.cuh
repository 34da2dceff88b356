// The indexer's scores on the tape of a GPU: what the kernels are given, in FP32 and on tensor cores.
#pragma once
#include "engine/ops/kernel.cuh"

namespace vitrine::cuda {

// A query sees keys [first_key, first_key + visible) of the batch, columns [0, visible) of its row of scores.
struct Query {
    int visible, first_key;
};
// Up to 16 queries of one segment; their last one sees n_keys.
struct QueryTile {
    int t0, n, first_key, n_keys;
};
// Tokens [t0, t1) against n_keys (up to 16) keys of their segment; the first of these stands in column `column`.
struct KeyPiece {
    int first_key, column, n_keys, t0, t1;
};
// Pieces [first, first + n) are all that key tile gets its gradient from.
struct KeyTile {
    int first, n, first_key, n_keys;
};
constexpr int kTileRows = 16;  // of queries, and of keys

// I[t,s] = f sum_j w[t,j] relu(q[t,j] . k[s]) over what query t sees, 0 elsewhere.
struct IndexTape {
    const float *q, *w, *keys;  // [T, J, d], [T, J], [S, d]
    const Query* queries;       // [T]
    const QueryTile* tiles;
    const KeyPiece* pieces;
    const KeyTile* key_tiles;
    int n_tokens, n_tiles, n_pieces, n_key_tiles;
    int n_heads, d, n_columns;
    float factor;
};
// dI, and where its gradients go: of q and w at once; those of keys by piece, [n_pieces, 16, d].
struct IndexGradients {
    const float* scores;  // [T, n_columns]
    float *q, *w, *parts;
    bool q_accumulates, w_accumulates;
};

__device__ inline void put(float* to, float x, bool accumulates) { *to = accumulates ? *to + x : x; }

// Tensor cores: q and keys are rounded to BF16, and so is what multiplies them in backward.
bool has_tensor_index(const IndexTape& x);
void tensor_index_forward(Ctx& ctx, const IndexTape& x, float* scores);
void tensor_index_backward(Ctx& ctx, const IndexTape& x, const IndexGradients& to);

}  // namespace vitrine::cuda
