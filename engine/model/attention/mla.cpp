// Multi-head latent attention in V3's manner: keys and values of all heads come up from one normed latent of kv_lora_rank;
// a key's rotary part is a vector of its own that all heads share; no sink. Queries come by V4's low-rank path, whose per-head
// norm V3 does not have (the switch q_norm). What a cache would hold is the latent and the rotary part: these are rounded with
// fp8_cache. On the tape only.
#include <algorithm>

#include "engine/model/attention/attention.h"
#include "engine/ops/columns/columns.h"
#include "engine/ops/linear/linear.h"
#include "engine/ops/quantize/quantize_tape.h"
#include "engine/ops/rmsnorm/rmsnorm.h"

namespace vitrine {

Tensor mla_attention(Ctx& ctx, const Tensor& x_TD, const AttentionInput& in) {
    VITRINE_ASSERT(ctx.tape);
    const ModelConfig& c = in.c;
    const int64_t n_tokens = x_TD.dim(0);
    const Queries q = query_path(ctx, x_TD, in);
    Tensor latent = linear(ctx, x_TD, in.w.wkv_a);
    if (c.variants.kv_norm) latent = rmsnorm(ctx, latent, in.w.kv_norm, c.rms_norm_eps);
    latent = cache_rows(ctx, latent, 0);
    Tensor rope_T1R = apply_rope(ctx, linear(ctx, x_TD, in.w.wk_rope).reshaped({n_tokens, 1, c.rope_dim}), in.angles);
    rope_T1R = cache_rows(ctx, rope_T1R, c.rope_dim);
    const Tensor plain_THC = linear(ctx, latent, in.w.wk_b).reshaped({n_tokens, c.n_heads, c.head_dim - c.rope_dim});
    const Tensor k_THC = append_columns(ctx, plain_THC, rope_T1R.reshaped({n_tokens, c.rope_dim}));
    const Tensor v_THC = linear(ctx, latent, in.w.wv_b).reshaped({n_tokens, c.n_heads, c.head_dim});

    const Offsets rows = segment_offsets(in);
    const TapeKeys keys{k_THC, v_THC, std::max<int64_t>(1, longest_segment(rows)), rows, {}, {}, 0, {},
                        c.variants.attention_softcap};
    return output_projection(ctx, attend_on_tape(ctx, q.q_THC, keys, {}).o_THV, in);
}

}  // namespace vitrine
