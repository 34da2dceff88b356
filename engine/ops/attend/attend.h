// Core attention: each query token against its window rows and its compressed entries in one softmax with a sink
// (v4-spec 3.6).
#pragma once
#include <vector>

#include "engine/model/kv_cache.h"
#include "engine/model/param.h"
#include "engine/ops/ctx.h"
#include "engine/ops/rope/rope.h"

namespace vitrine {

// The keys of one query token: pointers to cache rows, window rows first (oldest to newest), then entries ascending.
struct KeyList {
    std::vector<const void*> rows;
    int64_t n_window = 0;
    std::vector<int32_t> column;  // for probes: entry i of the list goes to this column; empty: i itself
};

// q [T, H, c] rotated queries of one segment, keys[t] for token t, sinks [H]. Returns o [T, H, c], still rotated.
// The sink only enlarges the denominator. `row0`: batch row of the first token, for probes.
Tensor attend(Ctx& ctx, const Tensor& q_THC, const std::vector<KeyList>& keys, const cpu::EntryFormat& format,
              const Tensor& sinks_H, int64_t row0);

// The GPU's twins, for all tokens of the step and the cache of layer ctx.layer.
namespace cuda {
// ratio 0: the window alone. chosen [T, k] i32 (select_entries): those entries; empty: every entry that is complete.
// places [T, k]: columns of the chosen entries for probes (from select_entries); empty: ascending. `back` not null: o
// comes rotated back (sign -1). is_raw: q comes neither normed per head nor rotated (by `back`'s angles): attend_norms_queries.
Tensor attend(Ctx& ctx, const Tensor& q_THC, const Param& sinks_H, const ModelConfig& c, int ratio,
              const Tensor& chosen_Tk = {}, const Tensor& places_Tk = {}, const RopeAngles* back = nullptr,
              bool is_raw = false);
// Whether `attend` can do with such queries norm_and_rotate's work itself, with the same bits.
bool attend_norms_queries(const Ctx& ctx, const Tensor& q_THC, const ModelConfig& c);
}  // namespace cuda

}  // namespace vitrine
