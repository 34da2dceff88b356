// Token-level compression of whole packed sequences, on the tape (v4-spec 4.1 to 4.4, docs/math/compressor.md).
#pragma once
#include "engine/model/weights.h"
#include "engine/ops/ctx.h"
#include "engine/ops/segments.h"

namespace vitrine {

struct TapeEntries {
    Offsets offsets;     // of the segments in [0, S): each has (its length) / ratio entries, tail tokens none
    Tensor entries_SD;   // pooled, normed, rotated; empty when there are none
    Tensor weights_SW;   // asked for: pooling weights, mean over channels; W = o*r slots, the previous block's first
};

struct CompressOptions {
    bool is_input_detached = false;  // no gradient to x (the indexer's compressor)
    bool is_normed = true;
    bool wants_weights = false;      // not on a GPU
    bool wants_entropy = false;      // left as CompressorStats in ctx.training; not on a GPU
};

// x [T, D] are the normed inputs of all segments; blocks start at each segment's first row. Gradients to x, wkv, wgate, ape, norm.
TapeEntries compress_on_tape(Ctx& ctx, const Tensor& x_TD, const Offsets& rows, const CompressorWeights& w, int ratio,
                             int entry_size, const std::vector<double>& frequencies, double eps, CompressOptions options = {});

// The GPU's twin behind the products k = wkv x and s = wgate x [T, o*D]: pooling, norm and rotation, with one node.
namespace cuda {
Tensor entries_on_tape(Ctx& ctx, const Tensor& k, const Tensor& s, const Offsets& rows, const Offsets& entries,
                       const CompressorWeights& w, int ratio, int entry_size, const std::vector<double>& frequencies, double eps,
                       bool is_normed);
}  // namespace cuda

}  // namespace vitrine
