// Sliding-window attention: the last `sliding_window` positions and the sink (v4-spec 3).
#include "engine/model/attention/attention.h"
#include "engine/model/attention/on_gpu.h"

namespace vitrine {

Tensor sliding_attention(Ctx& ctx, const Tensor& x_TD, const AttentionInput& in) {
    if constexpr (kHasCuda)
        if (ctx.infers_on_gpu()) {
            const Queries q = append_and_query(ctx, x_TD, in);
            return output_projection(ctx, cuda::attend(ctx, q.q_THC, in.w.sink, in.c, 0, {}, {}, &in.angles, q.is_raw), in);
        }
    const Queries q = query_path(ctx, x_TD, in);
    const Tensor kv_TC = key_path(ctx, x_TD, in);
    if (ctx.tape)
        return output_path(ctx, attend_on_tape(ctx, q.q_THC, whole_sequences(in, kv_TC), in.w.sink).o_THV, in);
    std::vector<std::vector<KeyList>> keys;
    for (const Segment& s : in.segments) keys.push_back(window_keys(s, in));
    return output_path(ctx, attend_segments(ctx, q.q_THC, in, keys), in);
}

}  // namespace vitrine
