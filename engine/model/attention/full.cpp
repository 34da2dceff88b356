// Full attention: every earlier position of the sequence and the sink, otherwise as sliding. On the tape only.
#include <algorithm>

#include "engine/model/attention/attention.h"

namespace vitrine {

Tensor full_attention(Ctx& ctx, const Tensor& x_TD, const AttentionInput& in) {
    VITRINE_ASSERT(ctx.tape);
    const Queries q = query_path(ctx, x_TD, in);
    TapeKeys keys = whole_sequences(in, key_path(ctx, x_TD, in));
    keys.window = std::max<int64_t>(1, longest_segment(keys.rows));
    return output_path(ctx, attend_on_tape(ctx, q.q_THC, keys, in.w.sink).o_THV, in);
}

}  // namespace vitrine
