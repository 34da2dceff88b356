// Heavily compressed attention: the window, the sink, and every entry that is complete (v4-spec 3.5, 4.2).
#include "engine/model/attention/attention.h"
#include "engine/model/attention/on_gpu.h"

namespace vitrine {

Tensor hca_attention(Ctx& ctx, const Tensor& x_TD, const AttentionInput& in) {
    const int ratio = in.c.layers[in.layer].ratio;
    if constexpr (kHasCuda)
        if (ctx.infers_on_gpu()) {
            const Queries q = append_and_query(ctx, x_TD, in);
            const Tensor o_THC = cuda::attend(ctx, q.q_THC, in.w.sink, in.c, ratio, {}, {}, &in.angles, q.is_raw);
            return output_projection(ctx, o_THC, in);
        }
    const Queries q = query_path(ctx, x_TD, in);
    const Tensor kv_TC = key_path(ctx, x_TD, in);
    if (ctx.tape) {
        const TapeKeys keys = whole_sequences(in, kv_TC, whole_entries(ctx, x_TD, in));
        return output_path(ctx, attend_on_tape(ctx, q.q_THC, keys, in.w.sink).o_THV, in);
    }
    std::vector<std::vector<KeyList>> keys;
    const auto n_read = [&](int64_t position) { return in.entries == EntryChoice::none ? 0 : (position + 1) / ratio; };
    for (const Segment& s : in.segments) {
        append_entries(ctx, x_TD, s, in);
        const EntryStore& entries = s.cache->layers[in.layer].entries;
        keys.push_back(window_keys(s, in));
        // An entry is visible to the very token that completes its block.
        for (int64_t t = 0; t < s.end - s.begin; ++t)
            for (int64_t i = 0; i < n_read(s.position + t); ++i) keys.back()[t].rows.push_back(entries.row(i));
    }
    return output_path(ctx, attend_segments(ctx, q.q_THC, in, keys), in);
}

}  // namespace vitrine
