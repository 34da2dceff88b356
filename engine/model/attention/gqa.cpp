// Grouped-query attention: G heads of separate keys and values for H query heads, every earlier position, no sink. Queries come
// by V4's low-rank path, keys are normed per head (the switch kv_norm) and rotated; values are neither. On the tape only.
#include <algorithm>

#include "engine/model/attention/attention.h"
#include "engine/ops/linear/linear.h"
#include "engine/ops/quantize/quantize_tape.h"
#include "engine/ops/rmsnorm/rmsnorm.h"

namespace vitrine {

Tensor gqa_attention(Ctx& ctx, const Tensor& x_TD, const AttentionInput& in) {
    VITRINE_ASSERT(ctx.tape);
    const ModelConfig& c = in.c;
    const Shape shape{x_TD.dim(0), c.variants.n_kv_heads, c.head_dim};
    const Queries q = query_path(ctx, x_TD, in);
    Tensor k_TGC = linear(ctx, x_TD, in.w.wk).reshaped(shape);
    if (c.variants.kv_norm) k_TGC = rmsnorm(ctx, k_TGC, in.w.kv_norm, c.rms_norm_eps);
    k_TGC = cache_rows(ctx, apply_rope(ctx, k_TGC, in.angles), c.rope_dim);
    const Tensor v_TGC = cache_rows(ctx, linear(ctx, x_TD, in.w.wv).reshaped(shape), 0);

    const Offsets rows = segment_offsets(in);
    const TapeKeys keys{k_TGC, v_TGC, std::max<int64_t>(1, longest_segment(rows)), rows, {}, {}, 0, {},
                        c.variants.attention_softcap};
    return output_projection(ctx, attend_on_tape(ctx, q.q_THC, keys, {}).o_THV, in);
}

}  // namespace vitrine
