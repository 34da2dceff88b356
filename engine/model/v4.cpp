// The model, read top to bottom: embedding, blocks of attention and experts between hyper-connections, head (v4-spec 17).
#include "engine/model/v4.h"

#include <cmath>
#include <cstring>
#include <utility>

#include "engine/ops/embed/embed.h"
#include "engine/ops/hyper/hyper.h"
#include "engine/ops/linear/linear.h"
#include "engine/ops/moe/moe.h"
#include "engine/ops/rmsnorm/rmsnorm.h"

namespace vitrine {
namespace {

// The two sites of a block publish the same things under two names.
struct SiteProbes {
    Probe out, pre, post, comb;
};
constexpr SiteProbes kAttnSite{kAttnHcOut, kAttnHcPre, kAttnHcPost, kAttnHcComb};
constexpr SiteProbes kMlpSite{kMlpHcOut, kMlpHcPre, kMlpHcPost, kMlpHcComb};

void publish_site(const Ctx& ctx, const HyperSite& s, const SiteProbes& p) {
    const auto n = static_cast<int>(s.pre_TN.dim(1)), d = static_cast<int>(s.u_TD.dim(1));
    if (ctx.wants(p.out)) ctx.publish(p.out, s.u_TD, 1, d);
    if (ctx.wants(p.pre)) ctx.publish(p.pre, s.pre_TN, 1, n);
    if (ctx.wants(p.post)) ctx.publish(p.post, s.post_TN, 1, n);
    if (ctx.wants(p.comb)) ctx.publish(p.comb, s.comb_TNN, n, n);
}

void publish_streams(Ctx& ctx, const Tensor& x_TND) {
    const int64_t n_tokens = x_TND.dim(0), n = x_TND.dim(1), d = x_TND.dim(2);
    if (ctx.wants(kStreams)) ctx.publish(kStreams, x_TND, static_cast<int>(n), static_cast<int>(d));
    if (!ctx.wants(kStreamNorms) && !ctx.wants(kStreamSimilarity)) return;
    Tensor norms = ctx.arena.make(DType::f32, {n_tokens, n}), cosines = ctx.arena.make(DType::f32, {n_tokens, n, n});
    for (int64_t t = 0; t < n_tokens; ++t) {
        const float* x = x_TND.row<float>(t);
        float *norm = norms.row<float>(t), *cosine = cosines.row<float>(t);
        for (int64_t j = 0; j < n; ++j) norm[j] = std::sqrt(cpu::kernels().dot(x + j * d, x + j * d, d));
        for (int64_t j = 0; j < n; ++j)
            for (int64_t k = 0; k < n; ++k) {
                const float both = norm[j] * norm[k];
                cosine[j * n + k] = both > 0 ? cpu::kernels().dot(x + j * d, x + k * d, d) / both : 0.0f;
            }
    }
    const int ni = static_cast<int>(n);
    if (ctx.wants(kStreamNorms)) ctx.publish(kStreamNorms, norms, 1, ni);
    if (ctx.wants(kStreamSimilarity)) ctx.publish(kStreamSimilarity, cosines, ni, ni);
}

// The rows whose logits are wanted.
Tensor pick_rows(Ctx& ctx, const Tensor& x_TND, const Batch& batch, LogitRows rows) {
    if (rows == LogitRows::all) return x_TND;
    Shape shape = x_TND.shape;
    shape.n[0] = static_cast<int64_t>(batch.segments.size());
    Tensor y = ctx.arena.make(DType::f32, shape);
    const size_t row_bytes = static_cast<size_t>(shape[1] * shape[2]) * sizeof(float);
    for (size_t i = 0; i < batch.segments.size(); ++i)
        std::memcpy(y.row<float>(static_cast<int64_t>(i)), x_TND.row<float>(batch.segments[i].end - 1), row_bytes);
    return y;
}

}  // namespace

BatchAngles batch_angles(Ctx& ctx, const ModelConfig& c, const Batch& batch) {
    std::vector<int64_t> positions(batch.tokens.size());
    for (const Segment& s : batch.segments)
        for (int64_t i = s.begin; i < s.end; ++i) positions[i] = s.position + i - s.begin;
    BatchAngles a{rope_frequencies(c, false), rope_frequencies(c, true), {}, {}};
    a.window = rope_angles(ctx, positions, a.window_f);
    a.compressed = rope_angles(ctx, positions, a.compressed_f);
    return a;
}

Tensor block(Ctx& ctx, const ModelConfig& c, const BlockWeights& w, int l, const Tensor& x_TND, const Batch& batch,
             const BatchAngles& angles, const Tensor& out_TND) {
    const LayerConfig& layer = c.layers[l];
    const bool is_compressed = layer.ratio > 0;
    const Tensor forced_experts = batch.forced ? batch.forced->experts_TK[l] : Tensor{};
    const Tensor forced_entries = batch.forced ? batch.forced->entries_Tk[l] : Tensor{};
    const AttentionInput in{w.attn, c, l, batch.segments, is_compressed ? angles.compressed : angles.window,
                            is_compressed ? angles.compressed_f : angles.window_f, forced_entries};

    const HyperSite attn = hyper_site(ctx, x_TND, w.hc_attn, c);
    publish_site(ctx, attn, kAttnSite);
    const Tensor normed_TD = rmsnorm(ctx, attn.u_TD, w.attn_norm, c.rms_norm_eps);
    const Tensor attn_TD = attention_for(layer.kind())(ctx, normed_TD, in);
    if (ctx.wants(kAttnOut)) ctx.publish(kAttnOut, attn_TD, 1, c.hidden_size);
    const Tensor mid_TND = hyper_mix(ctx, x_TND, attn, attn_TD);

    const HyperSite mlp = hyper_site(ctx, mid_TND, w.hc_ffn, c);
    publish_site(ctx, mlp, kMlpSite);
    const Tensor h_TD = rmsnorm(ctx, mlp.u_TD, w.ffn_norm, c.rms_norm_eps);
    const Routing routing = route(ctx, h_TD, batch.tokens, w.ffn, c, layer.is_hash_routed, forced_experts);
    const Tensor mlp_TD = moe(ctx, h_TD, routing, w.ffn, c);
    if (ctx.wants(kMlpOut)) ctx.publish(kMlpOut, mlp_TD, 1, c.hidden_size);
    const Tensor next_TND = hyper_mix(ctx, mid_TND, mlp, mlp_TD, out_TND);
    publish_streams(ctx, next_TND);
    return next_TND;
}

Tensor forward(Ctx& ctx, const ModelConfig& c, const ModelWeights& w, const Batch& batch, LogitRows rows) {
    for (const Segment& s : batch.segments) {
        VITRINE_ASSERT(s.position == s.cache->length);
        s.cache->will_write_to(s.position + s.end - s.begin);
    }
    const BatchAngles angles = batch_angles(ctx, c, batch);
    Tensor x_TND = embed_streams(ctx, w.embed, batch.tokens, c.hc_mult);
    Tensor other_TND = ctx.arena.make(DType::f32, x_TND.shape);

    for (int l = 0; l < c.n_layers(); ++l) {
        ctx.check_stop();
        ctx.layer = l;
        const Arena::Scope scratch(ctx.arena);  // nothing of a block outlives it but its streams
        block(ctx, c, w.blocks[l], l, x_TND, batch, angles, other_TND);
        std::swap(x_TND, other_TND);
    }
    ctx.layer = -1;

    const Tensor y_TD = hyper_head(ctx, pick_rows(ctx, x_TND, batch, rows), w.hc_head, c);
    const Tensor normed_TD = rmsnorm(ctx, y_TD, w.norm, c.rms_norm_eps);
    const OpTimer timer(ctx, OpKind::head);
    return linear(ctx, normed_TD, w.head, {.quantise_input = false, .round_output = false});
}

}  // namespace vitrine
