// The paths that every attention variant shares: queries, window keys, entries, output.
#include <algorithm>
#include <cstring>

#include "engine/model/attention/attention.h"
#include "engine/model/attention/on_gpu.h"
#include "engine/ops/compress/compress.h"
#include "engine/ops/index/index.h"
#include "engine/ops/linear/linear.h"
#include "engine/ops/quantize/quantize_tape.h"
#include "engine/ops/rmsnorm/rmsnorm.h"
#include "engine/ops/training.h"

namespace vitrine {

Tensor segment_rows(const Tensor& x, const Segment& s) {
    Shape shape = x.shape;
    shape.n[0] = s.end - s.begin;
    const int64_t row_bytes = x.count() / x.dim(0) * static_cast<int64_t>(dtype_bits(x.dtype)) / 8;
    return {static_cast<std::byte*>(x.data) + s.begin * row_bytes, x.dtype, shape};
}

RopeAngles segment_angles(const RopeAngles& a, const Segment& s) {
    return {segment_rows(a.cos, s), segment_rows(a.sin, s)};
}

namespace {

bool scores_entries(const Ctx& ctx, const AttentionInput& in) {
    if constexpr (kHasCuda) return !in.w.indexer.wq_b.empty() && cuda::scores_entries(ctx, in.c, in.forced_entries_Tk);
    return false;
}

// A GPU makes all products of few rows that read x in one launch, then those that read the low-rank query.
void input_products_ahead(Ctx& ctx, const Tensor& x_TD, const AttentionInput& in) {
    if constexpr (kHasCuda) {
        const LinearOptions wide{.quantise_input = false, .round_output = false};
        std::vector<cuda::LinearItem> items{{&in.w.wq_a, {}}, {&in.w.wkv, {}}};
        for (const CompressorWeights* c : {&in.w.compressor, &in.w.indexer.compressor})
            if (!c->wkv.empty()) items.insert(items.end(), {{&c->wkv, wide}, {&c->wgate, wide}});
        if (scores_entries(ctx, in)) items.push_back({&in.w.indexer.weights_proj, {.quantise_input = false}});
        ctx.cuda->ahead.clear();
        cuda::linear_ahead(ctx, x_TD, items);
    }
}

// ... with its norm. Returns false when the low-rank query is to be normed by itself.
bool query_products_ahead(Ctx& ctx, const Tensor& qr_TQ, const AttentionInput& in) {
    if constexpr (kHasCuda) {
        std::vector<cuda::LinearItem> items{{&in.w.wq_b, {}}};
        if (scores_entries(ctx, in)) items.push_back({&in.w.indexer.wq_b, {}});
        return cuda::normed_linear_ahead(ctx, qr_TQ, in.w.q_norm, in.c.rms_norm_eps, items);
    }
    return false;
}

// Window rows and, of a compressed layer, entries and index keys that its tokens complete.
void append_on_gpu(Ctx& ctx, const Tensor& x_TD, const Tensor& kv_TC, const AttentionInput& in) {
    if constexpr (kHasCuda) {
        const ModelConfig& c = in.c;
        const LayerConfig layer = in.layer < c.n_layers() ? c.layers[in.layer] : LayerConfig{};  // beyond: the MTP module's
        std::vector<cuda::CompressorInput> compressors;
        if (layer.ratio > 0)
            compressors.push_back({in.w.compressor, layer.ratio, c.head_dim, c.rope_dim, in.frequencies, c.rms_norm_eps,
                                   cuda::EntryKind::main, c.variants.kv_norm});
        if (layer.kind() == LayerKind::csa)
            compressors.push_back({in.w.indexer.compressor, 4, c.index_head_dim, c.rope_dim, in.frequencies, c.rms_norm_eps,
                                   cuda::EntryKind::index_key});
        const cuda::WindowInput window{kv_TC, c.rope_dim, c.variants.kv_norm ? &in.w.kv_norm : nullptr, c.rms_norm_eps,
                                       &in.angles};
        cuda::append_keys(ctx, x_TD, compressors, &window);
    }
}

}  // namespace

Queries query_path(Ctx& ctx, const Tensor& x_TD, const AttentionInput& in) {
    const ModelConfig& c = in.c;
    Queries q;
    {
        const OpTimer timer(ctx, OpKind::linear);
        will_use(ctx, in.w.wq_b);
        q.qr_TQ = linear(ctx, x_TD, in.w.wq_a);
    }
    q.qr_TQ = rmsnorm(ctx, q.qr_TQ, in.w.q_norm, c.rms_norm_eps);
    {
        const OpTimer timer(ctx, OpKind::linear);
        will_use(ctx, in.w.wkv);
        q.q_THC = linear(ctx, q.qr_TQ, in.w.wq_b).reshaped({x_TD.dim(0), c.n_heads, c.head_dim});
    }
    q.q_THC = c.variants.q_norm ? norm_and_rope(ctx, q.q_THC, c.rms_norm_eps, in.angles) : apply_rope(ctx, q.q_THC, in.angles);
    return q;
}

Queries append_and_query(Ctx& ctx, const Tensor& x_TD, const AttentionInput& in) {
    const ModelConfig& c = in.c;
    Queries q;
    if constexpr (kHasCuda) {
        input_products_ahead(ctx, x_TD, in);
        q.qr_TQ = linear(ctx, x_TD, in.w.wq_a);
        key_path(ctx, x_TD, in);
        // From here on the low-rank query is older than the kernel before.
        if (!query_products_ahead(ctx, q.qr_TQ, in)) q.qr_TQ = rmsnorm(ctx, q.qr_TQ, in.w.q_norm, c.rms_norm_eps);
        q.q_THC = linear(ctx, q.qr_TQ, in.w.wq_b).reshaped({x_TD.dim(0), c.n_heads, c.head_dim});
        q.is_raw = c.variants.q_norm && cuda::attend_norms_queries(ctx, q.q_THC, c);
        if (!q.is_raw && c.variants.q_norm) norm_and_rope(ctx, q.q_THC, c.rms_norm_eps, in.angles);
        if (!c.variants.q_norm) apply_rope(ctx, q.q_THC, in.angles);
    }
    return q;
}

Tensor key_path(Ctx& ctx, const Tensor& x_TD, const AttentionInput& in) {
    const ModelConfig& c = in.c;
    Tensor kv_TC;
    {
        const OpTimer timer(ctx, OpKind::linear);
        will_use(ctx, in.w.compressor.wkv.empty() ? in.w.wo_a : in.w.compressor.wkv);
        kv_TC = linear(ctx, x_TD, in.w.wkv);
    }
    if constexpr (kHasCuda)
        if (ctx.infers_on_gpu()) {
            append_on_gpu(ctx, x_TD, kv_TC, in);
            return kv_TC;
        }
    if (c.variants.kv_norm) kv_TC = rmsnorm(ctx, kv_TC, in.w.kv_norm, c.rms_norm_eps);
    kv_TC = apply_rope(ctx, kv_TC.reshaped({x_TD.dim(0), 1, c.head_dim}), in.angles).reshaped({x_TD.dim(0), c.head_dim});
    if (ctx.tape) return cache_rows(ctx, kv_TC, c.rope_dim);
    for (const Segment& s : in.segments)
        for (int64_t t = s.begin; t < s.end; ++t)
            s.cache->store_entry(kv_TC.row<float>(t), s.cache->layers[in.layer].window.row(s.position + t - s.begin));
    return kv_TC;
}

std::vector<KeyList> window_keys(const Segment& s, const AttentionInput& in) {
    std::vector<KeyList> keys(s.end - s.begin);
    const RowRing& ring = s.cache->layers[in.layer].window;
    for (int64_t i = 0; i < s.end - s.begin; ++i) {
        const int64_t t = s.position + i;
        for (int64_t p = std::max<int64_t>(0, t - in.c.sliding_window + 1); p <= t; ++p) keys[i].rows.push_back(ring.row(p));
        keys[i].n_window = static_cast<int64_t>(keys[i].rows.size());
    }
    return keys;
}

void append_entries(Ctx& ctx, const Tensor& x_TD, const Segment& s, const AttentionInput& in) {
    const int ratio = in.c.layers[in.layer].ratio;
    LayerCache& cache = s.cache->layers[in.layer];
    const NewEntries e = compress(ctx, segment_rows(x_TD, s), s.position, in.w.compressor, ratio, in.c.head_dim,
                                  in.frequencies, in.c.rms_norm_eps, cache.compressor, in.c.variants.kv_norm);
    for (int64_t i = 0; i < e.n; ++i) {
        s.cache->store_entry(e.entries_ND.row<float>(i), cache.entries.writable_row(e.first + i));
        // The token that completed the entry carries its record.
        const auto token = static_cast<int>(s.begin + (e.first + i + 1) * ratio - 1 - s.position);
        const auto n_slots = static_cast<int>(e.weights_NS.dim(1));
        if (ctx.wants(kEntry)) ctx.probes->put(token, kEntry, in.layer, e.entries_ND.row<float>(i), 1, in.c.head_dim);
        if (ctx.wants(kEntryWeights)) ctx.probes->put(token, kEntryWeights, in.layer, e.weights_NS.row<float>(i), 1, n_slots);
    }
}

Tensor attend_segments(Ctx& ctx, const Tensor& q_THC, const AttentionInput& in,
                       const std::vector<std::vector<KeyList>>& keys_by_segment) {
    will_use(ctx, in.w.wo_a);
    Tensor sinks = ctx.arena.make(DType::f32, {in.c.n_heads});
    in.w.sink.widen_row(0, sinks.f32());
    if (in.segments.size() == 1)
        return attend(ctx, q_THC, keys_by_segment[0], in.segments[0].cache->entry_format, sinks, 0);
    Tensor o_THC = ctx.arena.make(DType::f32, q_THC.shape);
    for (size_t i = 0; i < in.segments.size(); ++i) {
        const Segment& s = in.segments[i];
        const Tensor o = attend(ctx, segment_rows(q_THC, s), keys_by_segment[i], s.cache->entry_format, sinks, s.begin);
        std::memcpy(o_THC.row<float>(s.begin), o.data, static_cast<size_t>(o.count()) * sizeof(float));
    }
    return o_THC;
}

Offsets segment_offsets(const AttentionInput& in) {
    Offsets rows{0};
    for (const Segment& s : in.segments) rows.push_back(s.end);
    return rows;
}

TapeKeys whole_sequences(const AttentionInput& in, const Tensor& kv_TC, const TapeEntries& entries) {
    const Tensor kv_T1C = kv_TC.reshaped({kv_TC.dim(0), 1, kv_TC.dim(1)});
    return {kv_T1C, kv_T1C, in.c.sliding_window, segment_offsets(in), entries.entries_SD, entries.offsets,
            in.layer < in.c.n_layers() ? in.c.layers[in.layer].ratio : 0, {}, in.c.variants.attention_softcap};
}

TapeEntries whole_entries(Ctx& ctx, const Tensor& x_TD, const AttentionInput& in) {
    const int ratio = in.c.layers[in.layer].ratio;
    const Offsets rows = segment_offsets(in);
    const bool wants_entropy = ctx.training && ctx.training->wants_compressor_stats && !ctx.training->is_recomputation;
    TapeEntries e =
        compress_on_tape(ctx, x_TD, rows, in.w.compressor, ratio, in.c.head_dim, in.frequencies, in.c.rms_norm_eps,
                         {.is_normed = in.c.variants.kv_norm,
                          .wants_weights = ctx.wants(kEntryWeights),
                          .wants_entropy = wants_entropy});
    e.entries_SD = cache_rows(ctx, e.entries_SD, in.c.rope_dim);
    if (e.weights_SW.empty()) return e;
    std::vector<float> slots(static_cast<size_t>(e.weights_SW.dim(1)));
    for (int64_t s = 0; s < n_segments(rows); ++s)
        for (int64_t i = e.offsets[s]; i < e.offsets[s + 1]; ++i) {
            const auto token = static_cast<int>(rows[s] + (i - e.offsets[s] + 1) * ratio - 1);  // the one that completed it
            with_real(ctx.dtype, [&](auto real) { std::copy_n(e.weights_SW.row<decltype(real)>(i), slots.size(), slots.data()); });
            ctx.probes->put(token, kEntryWeights, in.layer, slots.data(), 1, static_cast<int>(slots.size()));
        }
    return e;
}

Tensor output_path(Ctx& ctx, const Tensor& rotated_THC, const AttentionInput& in) {
    return output_projection(ctx, apply_rope(ctx, rotated_THC, in.angles, -1), in);
}

Tensor output_projection(Ctx& ctx, const Tensor& o_THC, const AttentionInput& in) {
    const OpTimer timer(ctx, OpKind::linear);
    will_use(ctx, in.w.wo_b);
    const Tensor y = grouped_linear(ctx, o_THC.reshaped({o_THC.dim(0), o_THC.dim(1) * o_THC.dim(2)}), in.w.wo_a, in.c.o_groups);
    return linear(ctx, y, in.w.wo_b);
}

}  // namespace vitrine
