// The model, read top to bottom: embedding, blocks of attention and experts between hyper-connections, head (v4-spec 17).
#include "engine/model/v4.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>

#include "engine/model/interventions.h"
#include "engine/model/residual/residual.h"
#include "engine/ops/embed/embed.h"
#include "engine/ops/hyper/hyper.h"
#include "engine/ops/linear/copies.h"
#include "engine/ops/linear/linear.h"
#include "engine/ops/moe/moe.h"
#include "engine/ops/rmsnorm/rmsnorm.h"
#include "engine/ops/training.h"

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
    const int ni = static_cast<int>(n);
    if constexpr (kHasCuda)
        if (ctx.infers_on_gpu()) {
            const cuda::StreamMeasures s = cuda::measure_streams(ctx, x_TND);
            if (ctx.wants(kStreamNorms)) ctx.publish(kStreamNorms, s.norms_TN, 1, ni);
            if (ctx.wants(kStreamSimilarity)) ctx.publish(kStreamSimilarity, s.cosines_TNN, ni, ni);
            return;
        }
    Tensor norms = ctx.arena.make(DType::f32, {n_tokens, n}), cosines = ctx.arena.make(DType::f32, {n_tokens, n, n});
    for (int64_t t = 0; t < n_tokens; ++t) {
        const float* x = x_TND.row<float>(t);
        float *norm = norms.row<float>(t), *cosine = cosines.row<float>(t);
        for (int64_t j = 0; j < n; ++j) {
            for (int64_t k = 0; k <= j; ++k) cosine[j * n + k] = cpu::kernels().dot(x + j * d, x + k * d, d);
            norm[j] = std::sqrt(cosine[j * n + j]);
        }
        for (int64_t j = 0; j < n; ++j)
            for (int64_t k = 0; k <= j; ++k) {
                const float both = norm[j] * norm[k];
                cosine[j * n + k] = cosine[k * n + j] = both > 0 ? cosine[j * n + k] / both : 0.0f;
            }
    }
    if (ctx.wants(kStreamNorms)) ctx.publish(kStreamNorms, norms, 1, ni);
    if (ctx.wants(kStreamSimilarity)) ctx.publish(kStreamSimilarity, cosines, ni, ni);
}

// Leaves streams X with the caches, where the drafter finds them: `all` rows of the batch at their positions, or each segment's
// `last` one (x holds no others) at the position after it.
void keep_streams(Ctx& ctx, const ModelConfig& c, const Tensor& x_TND, const Batch& batch, LogitRows rows) {
    const int64_t shift = rows == LogitRows::last ? 1 : 0;
    if constexpr (kHasCuda)
        if (ctx.infers_on_gpu()) return cuda::keep_streams(ctx, x_TND, c.n_layers(), rows == LogitRows::last, shift);
    int64_t row = 0;
    for (const Segment& s : batch.segments) {
        const int64_t first = rows == LogitRows::last ? s.end - s.begin - 1 : 0;
        for (int64_t i = first; i < s.end - s.begin; ++i, ++row) {
            if (!s.cache->has_drafter()) continue;
            RowRing& kept = s.cache->layers.back().streams;
            std::memcpy(kept.row(s.position + i + shift), x_TND.row<float>(row), static_cast<size_t>(kept.row_bytes()));
        }
    }
}

Tensor kept_streams(Ctx& ctx, const ModelConfig& c, const Batch& batch) {
    const Shape shape{static_cast<int64_t>(batch.tokens.size()), c.hc_mult, c.hidden_size};
    if constexpr (kHasCuda)
        if (ctx.infers_on_gpu()) return cuda::kept_streams(ctx, shape, c.n_layers());
    const Tensor x_TND = ctx.arena.make(DType::f32, shape);
    for (const Segment& s : batch.segments)
        for (int64_t t = s.begin; t < s.end; ++t) {
            const RowRing& kept = s.cache->layers.back().streams;
            std::memcpy(x_TND.row<float>(t), kept.row(s.position + t - s.begin), static_cast<size_t>(kept.row_bytes()));
        }
    return x_TND;
}

// On a GPU the last mix of a block may still wait for a site to make it.
void finish_streams(Ctx& ctx) {
    if constexpr (kHasCuda)
        if (ctx.infers_on_gpu()) cuda::finish_mix(ctx);
}

// The rows whose logits are wanted.
Tensor pick_rows(Ctx& ctx, const Tensor& x_TND, const Batch& batch, LogitRows rows) {
    if (rows == LogitRows::all) return x_TND;
    if constexpr (kHasCuda)
        if (ctx.infers_on_gpu())
            return batch.tokens.size() == batch.segments.size() ? x_TND : cuda::last_rows(ctx, x_TND);
    Shape shape = x_TND.shape;
    shape.n[0] = static_cast<int64_t>(batch.segments.size());
    Tensor y = ctx.arena.make(DType::f32, shape);
    const size_t row_bytes = static_cast<size_t>(shape[1] * shape[2]) * sizeof(float);
    for (size_t i = 0; i < batch.segments.size(); ++i)
        std::memcpy(y.row<float>(static_cast<int64_t>(i)), x_TND.row<float>(batch.segments[i].end - 1), row_bytes);
    return y;
}

const LayerIntervention* intervention_at(const Batch& batch, int l) {
    const auto layer = static_cast<size_t>(l);
    return batch.edits && layer < batch.edits->layers.size() ? &batch.edits->layers[layer] : nullptr;
}

}  // namespace

BatchAngles batch_angles(Ctx& ctx, const ModelConfig& c, const Batch& batch) {
    std::vector<int64_t> positions(batch.tokens.size());
    for (const Segment& s : batch.segments)
        for (int64_t i = s.begin; i < s.end; ++i) positions[i] = s.position + i - s.begin;
    BatchAngles a{rope_frequencies(c, false), rope_frequencies(c, true), {}, {}};
    if constexpr (kHasCuda)
        if (ctx.infers_on_gpu()) {
            a.window = cuda::rope_angles(ctx, a.window_f);
            a.compressed = cuda::rope_angles(ctx, a.compressed_f);
            return a;
        }
    a.window = rope_angles(ctx, positions, a.window_f);
    a.compressed = rope_angles(ctx, positions, a.compressed_f);
    return a;
}

Tensor block(Ctx& ctx, const ModelConfig& given, const BlockWeights& w, int l, const Tensor& x_TND, const Batch& batch,
             const BatchAngles& angles, const Tensor& out_TND) {
    const LayerIntervention* edit = intervention_at(batch, l);
    const std::optional<ModelConfig> edited = edit ? std::optional(edited_config(given, *edit)) : std::nullopt;
    const ModelConfig& c = edited ? *edited : given;
    const LayerConfig layer = l < c.n_layers() ? c.layers[l] : LayerConfig{};  // beyond: the MTP module's
    const bool is_compressed = layer.ratio > 0;
    const Tensor forced_experts = batch.forced ? batch.forced->experts_TK[l] : Tensor{};
    const Tensor forced_entries = batch.forced ? batch.forced->entries_Tk[l] : Tensor{};
    const AttentionInput in{w.attn, c, l, batch.segments, is_compressed ? angles.compressed : angles.window,
                            is_compressed ? angles.compressed_f : angles.window_f, forced_entries,
                            edit ? edit->entries : EntryChoice::as_trained, batch.edits ? batch.edits->seed : 0};

    if constexpr (kHasCuda)
        if (ctx.cuda && ctx.tape) cuda::forget_values(ctx);
    will_use(ctx, w.attn.wq_a);
    const Residual& residual = residual_for(c);
    const HyperSite attn = residual.site(ctx, x_TND, w.hc_attn, w.attn_norm, c);
    publish_site(ctx, attn, kAttnSite);
    const Tensor attn_TD = attention_for(layer)(ctx, attn.normed_TD, in);
    if (ctx.wants(kAttnOut)) ctx.publish(kAttnOut, attn_TD, 1, c.hidden_size);
    will_use(ctx, w.hc_ffn.fn);
    const Tensor mid_TND = hyper_mix(ctx, x_TND, attn, attn_TD);

    will_use(ctx, w.ffn.gate);
    const HyperSite mlp = residual.site(ctx, mid_TND, w.hc_ffn, w.ffn_norm, c);
    publish_site(ctx, mlp, kMlpSite);
    std::vector<int64_t> ends;
    for (const Segment& s : batch.segments) ends.push_back(s.end);
    const Routing routing = route(ctx, mlp.normed_TD, batch.tokens, w.ffn, c, layer.is_hash_routed, forced_experts, ends);
    if (edit && !edit->removed_experts.empty()) remove_experts(routing, edit->removed_experts);
    const Tensor mlp_TD = moe(ctx, mlp.normed_TD, routing, w.ffn, c);
    if (ctx.wants(kMlpOut)) ctx.publish(kMlpOut, mlp_TD, 1, c.hidden_size);
    const Tensor next_TND = hyper_mix(ctx, mid_TND, mlp, mlp_TD, out_TND);
    publish_streams(ctx, next_TND);
    return next_TND;
}

namespace {

void copy_values(Ctx& ctx, const Tensor& to, const Tensor& from) {
    const size_t bytes = static_cast<size_t>(from.count()) * dtype_bits(from.dtype) / 8;
    if constexpr (kHasCuda)
        if (ctx.cuda) return ctx.cuda->copy(to.data, from.data, bytes);
    std::memcpy(to.data, from.data, bytes);
}

// The block's input is kept and its values are made again when the gradient arrives, on a tape of their own.
Tensor recomputed_block(Ctx& ctx, const ModelConfig& c, const BlockWeights& w, int l, const Tensor& x_TND, const Batch& batch,
                        const std::shared_ptr<BatchAngles>& angles) {
    const Tensor y_TND = ctx.arena.make(ctx.dtype, x_TND.shape);
    {
        const Arena::Scope scratch(ctx.arena);
        Tape none(false, ctx.cuda);
        Ctx forward_only = ctx;
        forward_only.tape = &none;
        const Tensor y = block(forward_only, c, w, l, x_TND, batch, *angles);
        copy_values(ctx, y_TND, y);
    }
    if constexpr (kHasCuda)
        if (ctx.cuda) cuda::forget_values(ctx);  // their memory is used again
    ctx.tape->record([=, &c, &w](Ctx& outer) {
        if (!outer.tape->has_grad(y_TND)) return;
        Tape& inner = outer.tape->inner();
        inner.bind(x_TND, outer.tape->grad(x_TND));
        Ctx again = outer;
        again.tape = &inner, again.watch = nullptr, again.probes = nullptr, again.layer = l;
        if (again.training) again.training->is_recomputation = true;
        const Tensor y = block(again, c, w, l, x_TND, batch, *angles);
        inner.bind(y, outer.tape->grad(y_TND));
        inner.backward(again);
        if (again.training) again.training->is_recomputation = false;
    });
    return y_TND;
}

}  // namespace

Tensor trunk(Ctx& ctx, const ModelConfig& c, const ModelWeights& w, const Batch& batch) {
    for (const Segment& s : batch.segments) {
        VITRINE_ASSERT(ctx.tape ? !s.cache && s.position == 0 : s.position == s.cache->length);
        if (s.cache) s.cache->will_write_to(s.position + s.end - s.begin);
    }
    // What a short step on a GPU publishes stays where it is until one copy takes it all to the host.
    const bool is_short = ctx.infers_on_gpu() && static_cast<int64_t>(batch.tokens.size()) <= cuda::kFewRows;
    const bool keeps_values = is_short && ctx.watch && ctx.watch->get() != kNoProbes;
    const int blocks_together = is_short ? 4 : 1;  // in one scope: the first site of a block makes the last mix of the one before
    const auto angles = std::make_shared<BatchAngles>(batch_angles(ctx, c, batch));
    Tensor x_TND = embed_streams(ctx, w.embed, batch.tokens, c.hc_mult, c.pad_id);
    Tensor other_TND = ctx.tape ? Tensor{} : ctx.arena.make(x_TND.dtype, x_TND.shape);

    std::optional<Arena::Scope> scratch;  // nothing of a block outlives it but its streams
    for (int l = 0; l < c.n_layers(); ++l) {
        ctx.check_stop();
        ctx.layer = l;
        if (ctx.tape) {  // nothing is overwritten: backward needs it
            const bool recomputes = ctx.training && ctx.training->recomputes && ctx.tape->is_recording();
            x_TND = recomputes ? recomputed_block(ctx, c, w.blocks[l], l, x_TND, batch, angles)
                               : block(ctx, c, w.blocks[l], l, x_TND, batch, *angles);
            continue;
        }
        if (keeps_values) {
            x_TND = block(ctx, c, w.blocks[l], l, x_TND, batch, *angles);
            continue;
        }
        if (!scratch) scratch.emplace(ctx.arena);
        block(ctx, c, w.blocks[l], l, x_TND, batch, *angles, other_TND);
        std::swap(x_TND, other_TND);
        if ((l + 1) % blocks_together != 0 && l + 1 < c.n_layers()) continue;
        finish_streams(ctx);
        scratch.reset();
        if (ctx.cuda && ctx.cuda->after_block) ctx.cuda->after_block();
    }
    finish_streams(ctx);
    ctx.layer = -1;
    return x_TND;
}

Tensor head(Ctx& ctx, const ModelConfig& c, const HyperWeights& collapse, const Param& norm, const Param& head_VD,
            const Tensor& x_TND) {
    const Tensor y_TD = residual_for(c).head(ctx, x_TND, collapse, c);
    const Tensor normed_TD = rmsnorm(ctx, y_TD, norm, c.rms_norm_eps);
    const OpTimer timer(ctx, OpKind::head);
    return linear(ctx, normed_TD, head_VD, {.quantise_input = false, .round_output = false});
}

Tensor forward(Ctx& ctx, const ModelConfig& c, const ModelWeights& w, const Batch& batch, LogitRows rows) {
    const Tensor x_TND = trunk(ctx, c, w, batch);
    const auto has_drafter = [](const Segment& s) { return s.cache && s.cache->has_drafter(); };
    if (std::any_of(batch.segments.begin(), batch.segments.end(), has_drafter))
        keep_streams(ctx, c, x_TND, batch, LogitRows::all);
    return head(ctx, c, w.hc_head, w.norm, w.head, pick_rows(ctx, x_TND, batch, rows));
}

namespace {

// Z of the MTP module: streams X [T, N, D] and the embedding of each position's next token, each normed and projected.
Tensor mtp_input(Ctx& ctx, const ModelConfig& c, const ModelWeights& w, const MtpWeights& mtp, const Tensor& x_TND,
                 std::span<const int32_t> next) {
    const int64_t n_tokens = x_TND.dim(0), n = x_TND.dim(1), d = x_TND.dim(2);
    const Tensor e_TD = embed_streams(ctx, w.embed, next, 1, c.pad_id).reshaped({n_tokens, d});
    const Tensor from_token_TD = linear(ctx, rmsnorm(ctx, e_TD, mtp.enorm, c.rms_norm_eps), mtp.e_proj);
    const Tensor h_RD = rmsnorm(ctx, x_TND.reshaped({n_tokens * n, d}), mtp.hnorm, c.rms_norm_eps);  // each stream by itself
    return add_to_streams(ctx, linear(ctx, h_RD, mtp.h_proj).reshaped({n_tokens, n, d}), from_token_TD);
}

}  // namespace

Tensor draft(Ctx& ctx, const ModelConfig& c, const ModelWeights& w, const Batch& batch, bool goes_on) {
    for (const Segment& s : batch.segments) {
        VITRINE_ASSERT(s.cache->has_drafter() && (!goes_on || s.position + s.end - s.begin >= s.cache->length));
        s.cache->will_write_to(s.position + s.end - s.begin + 1);
    }
    const MtpWeights& mtp = w.mtp.at(0);
    const BatchAngles angles = batch_angles(ctx, c, batch);
    ctx.layer = c.n_layers();  // the layer after the trunk's: window only, routed by score
    const Tensor z_TND = mtp_input(ctx, c, w, mtp, kept_streams(ctx, c, batch), batch.tokens);
    const Tensor y_TND = block(ctx, c, mtp.block, c.n_layers(), z_TND, batch, angles);
    finish_streams(ctx);
    const Tensor last_TND = pick_rows(ctx, y_TND, batch, LogitRows::last);
    if (goes_on) keep_streams(ctx, c, last_TND, batch, LogitRows::last);
    ctx.layer = -1;
    return head(ctx, c, mtp.hc_head, mtp.norm, w.head, last_TND);
}

void draft_keys(Ctx& ctx, const ModelConfig& c, const ModelWeights& w, const Batch& batch) {
    for (const Segment& s : batch.segments)
        VITRINE_ASSERT(s.cache->has_drafter() && s.position + s.end - s.begin <= s.cache->length);
    const MtpWeights& mtp = w.mtp.at(0);
    const BatchAngles angles = batch_angles(ctx, c, batch);
    ctx.layer = c.n_layers();
    const Tensor z_TND = mtp_input(ctx, c, w, mtp, kept_streams(ctx, c, batch), batch.tokens);
    const HyperSite site = residual_for(c).site(ctx, z_TND, mtp.block.hc_attn, mtp.block.attn_norm, c);
    key_path(ctx, site.normed_TD, {mtp.block.attn, c, c.n_layers(), batch.segments, angles.window, angles.window_f, {}});
    ctx.layer = -1;
}

Tensor mtp_logits(Ctx& ctx, const ModelConfig& c, const ModelWeights& w, const MtpWeights& mtp, const Tensor& x_TND,
                  std::span<const int32_t> next, const Batch& batch) {
    VITRINE_ASSERT(ctx.tape && next.size() == batch.tokens.size());
    const Tensor z_TND = mtp_input(ctx, c, w, mtp, x_TND, next);
    const BatchAngles angles = batch_angles(ctx, c, batch);
    ctx.layer = c.n_layers();  // the layer after the trunk's: window only, routed by score
    const bool has_forced = batch.forced && batch.forced->experts_TK.size() > c.layers.size();
    const Batch shifted{next, batch.segments, has_forced ? batch.forced : nullptr};
    const Tensor y_TND = block(ctx, c, mtp.block, c.n_layers(), z_TND, shifted, angles);
    ctx.layer = -1;
    return head(ctx, c, mtp.hc_head, mtp.norm, w.head, y_TND);
}

}  // namespace vitrine
