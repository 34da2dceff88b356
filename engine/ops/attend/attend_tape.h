// Core attention of whole packed sequences, on the tape (docs/math/attention.md).
#pragma once
#include "engine/model/param.h"
#include "engine/ops/ctx.h"
#include "engine/ops/segments.h"

namespace vitrine {

// What the queries see. A query at position p of its segment (its row counted from the segment's first) sees the rows of the
// positions (p - window, p], and with entries those that are complete, i < (p + 1) / ratio, all of them or the chosen ones.
struct TapeKeys {
    Tensor keys_TGC, values_TGV;  // G key heads, each for H/G query heads in order; the same tensor where a row is both
    int64_t window = 0;           // rows per query, itself included; whole sequences: their length
    Offsets rows;                 // of the segments in [0, T)
    // ---- entries, key and value at once; G is 1 and values are keys then
    Tensor entries_SC;            // of all segments, one after the other; empty: none
    Offsets entries;              // of the segments in [0, S)
    int64_t ratio = 0;
    Tensor chosen_TK;             // i32: entries of the segment in any order, each once, or -1; empty: all that are complete
    double softcap = 0;           // logits become softcap tanh(logit / softcap); 0: none
    bool splits_mass = false;     // with the mass of entries, each head's too; not on a GPU
};

struct TapeAttention {
    Tensor o_THV;                 // still rotated
    Tensor mass_TS;               // asked for: probabilities of entries summed over heads, S = most entries of a segment; a value
                                  // without gradient
    Tensor mass_THS;              // with splits_mass
};

// o = softmax with sink of q.k / sqrt(C), times values (v4-spec 3.6). dtype ctx.dtype. Gradients to q, keys, values, entries
// and `sinks` [H] (empty: no sink); none through the choice. Leaves AttentionStats and HeadLogits in ctx.training
// where they are asked for.
TapeAttention attend_on_tape(Ctx& ctx, const Tensor& q_THC, const TapeKeys& keys, const Param& sinks, bool wants_mass = false);

namespace cuda {
// The same on a GPU, f32. With ctx.has_bf16_products on tensor cores, where keys are values and C is a multiple of 16 up to 512.
// Leaves no statistics.
TapeAttention attend_on_tape(Ctx& ctx, const Tensor& q_THC, const TapeKeys& keys, const Param& sinks, bool wants_mass);
}  // namespace cuda

}  // namespace vitrine
