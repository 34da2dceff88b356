// Compressed sparse attention: the window, the sink, and the entries that the indexer chooses (v4-spec 3.5, 4.3, 4.6).
#include <unordered_map>

#include "engine/model/attention/attention.h"
#include "engine/ops/compress/compress.h"
#include "engine/ops/index/index.h"
#include "engine/ops/quantize/quantize.h"

namespace vitrine {
namespace {

void append_index_keys(Ctx& ctx, const Tensor& x_TD, const Segment& s, const AttentionInput& in) {
    LayerCache& cache = s.cache->layers[in.layer];
    const int d = in.c.index_head_dim;
    const NewEntries e = compress(ctx, segment_rows(x_TD, s), s.position, in.w.indexer.compressor, 4, d, in.frequencies,
                                  in.c.rms_norm_eps, cache.index_compressor);
    for (int64_t i = 0; i < e.n; ++i) {
        float* key = e.entries_ND.row<float>(i);
        if (ctx.is_reference()) hadamard(key, d);
        s.cache->store_index_key(key, cache.index_keys.writable_row(e.first + i));
    }
}

// Columns of hook_topk for the ascending list that attention uses.
std::vector<int32_t> columns(const std::vector<int32_t>& chosen, const std::vector<int32_t>& ranked) {
    std::unordered_map<int32_t, int32_t> place;
    for (size_t i = 0; i < ranked.size(); ++i) place[ranked[i]] = static_cast<int32_t>(i);
    std::vector<int32_t> c(chosen.size());
    for (size_t i = 0; i < chosen.size(); ++i) c[i] = place[chosen[i]];
    return c;
}

}  // namespace

Tensor csa_attention(Ctx& ctx, const Tensor& x_TD, const AttentionInput& in) {
    const Queries q = query_path(ctx, x_TD, in);
    key_path(ctx, x_TD, in);
    std::vector<std::vector<KeyList>> keys;
    for (const Segment& s : in.segments) {
        append_entries(ctx, x_TD, s, in);
        append_index_keys(ctx, x_TD, s, in);
        const LayerCache& cache = s.cache->layers[in.layer];
        const Selection selection =
            select_entries(ctx, segment_rows(q.qr_TQ, s), segment_rows(x_TD, s), s.position, s.begin, in.w.indexer, in.c,
                           segment_angles(in.angles, s), cache.index_keys, s.cache->index_format,
                           in.forced_entries_Tk.empty() ? Tensor{} : segment_rows(in.forced_entries_Tk, s));
        keys.push_back(window_keys(s, in));
        for (size_t t = 0; t < selection.chosen.size(); ++t) {
            KeyList& list = keys.back()[t];
            for (int32_t i : selection.chosen[t]) list.rows.push_back(cache.entries.row(i));
            if (!selection.ranked.empty()) list.column = columns(selection.chosen[t], selection.ranked[t]);
        }
    }
    return output_path(ctx, attend_segments(ctx, q.q_THC, in, keys), in);
}

}  // namespace vitrine
