// Compressed sparse attention: the window, the sink, and the entries that the indexer chooses (v4-spec 3.5, 4.3, 4.6).
#include <utility>

#include "engine/model/attention/attention.h"
#include "engine/model/attention/on_gpu.h"
#include "engine/model/interventions.h"
#include "engine/ops/compress/compress.h"
#include "engine/ops/index/index.h"
#include "engine/ops/index/index_tape.h"
#include "engine/ops/quantize/quantize.h"
#include "engine/ops/quantize/quantize_tape.h"
#include "engine/ops/training.h"

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

// Keeps the attention mass of each token's entries.
class EntryMass : public ProbeSink {
  public:
    explicit EntryMass(int64_t n_tokens) : by_token(static_cast<size_t>(n_tokens)) {}
    void put(int token, Probe, int, const float* mass, int, int n) override {
        by_token[static_cast<size_t>(token)].assign(mass, mass + n);
    }
    void put(int, Probe, int, const int32_t*, int, int) override {}
    std::vector<std::vector<float>> by_token;
};

// An intervention's choice in place of the indexer's.
Selection replaced_choice(Ctx& ctx, const Queries& q, const Segment& s, const AttentionInput& in) {
    const int64_t n_tokens = s.end - s.begin, k = in.c.index_topk;
    const auto visible = [&](int64_t t) { return (s.position + t + 1) / 4; };
    Selection selection;
    selection.chosen.resize(static_cast<size_t>(n_tokens));
    EntryMass mass(n_tokens);
    if (in.entries == EntryChoice::attention && visible(n_tokens - 1) > 0) {
        std::vector<KeyList> keys = window_keys(s, in);
        for (int64_t t = 0; t < n_tokens; ++t)
            for (int64_t i = 0; i < visible(t); ++i) keys[t].rows.push_back(s.cache->layers[in.layer].entries.row(i));
        Watch watched;
        watched.set(probe_bit(kEntryMass));
        Ctx aside = ctx;
        aside.watch = &watched, aside.probes = &mass;
        const Arena::Scope scratch(ctx.arena);
        Tensor sinks = ctx.arena.make(DType::f32, {in.c.n_heads});
        in.w.sink.widen_row(0, sinks.f32());
        attend(aside, segment_rows(q.q_THC, s), keys, s.cache->entry_format, sinks, 0);
    }
    for (int64_t t = 0; t < n_tokens; ++t) {
        std::vector<int32_t>& chosen = selection.chosen[t];
        const int64_t n = visible(t), k_here = std::min(k, n);
        if (in.entries == EntryChoice::random) {
            chosen = random_entries(n, k, in.seed, in.layer, s.position + t);
        } else if (in.entries == EntryChoice::recent) {
            for (int64_t i = n - k_here; i < n; ++i) chosen.push_back(static_cast<int32_t>(i));
        } else if (in.entries == EntryChoice::attention && n > 0) {
            choose_top(mass.by_token[t].data(), n, k_here, chosen, nullptr, nullptr);
        }
    }
    return selection;
}

// I [T, S] of whole sequences; inputs are detached, so that nothing but the indexer learns from it.
Tensor index_scores(Ctx& ctx, const Tensor& x_TD, const Queries& q, const Offsets& rows, const AttentionInput& in) {
    const TapeEntries keys = compress_on_tape(ctx, x_TD, rows, in.w.indexer.compressor, 4, in.c.index_head_dim, in.frequencies,
                                              in.c.rms_norm_eps, {.is_input_detached = true});
    return index_scores_on_tape(ctx, q.qr_TQ, x_TD, index_rows(ctx, keys.entries_SD), rows, keys.offsets, 4, in.w.indexer, in.c,
                                in.angles);
}

// Attention probabilities of entries, with every visible entry attended to.
TapeAttention dense_attention(Ctx& ctx, const Queries& q, TapeKeys keys, const AttentionInput& in) {
    keys.chosen_TK = {}, keys.splits_mass = true;
    Tape none(false, ctx.cuda);
    Ctx forward_only = ctx;
    forward_only.tape = &none, forward_only.training = nullptr;
    return attend_on_tape(forward_only, q.q_THC, keys, in.w.sink, true);
}

// The phases of training: dense and warm_up attend to every visible entry, sparse to the chosen ones (v4-spec 10.3).
Tensor csa_on_tape(Ctx& ctx, const Tensor& x_TD, const Queries& q, const Tensor& kv_TC, const AttentionInput& in) {
    const TrainingStep evaluation;
    const TrainingStep& step = ctx.training ? *ctx.training : evaluation;
    TapeKeys keys = whole_sequences(in, kv_TC, whole_entries(ctx, x_TD, in));
    const int64_t most = longest_segment(keys.entries), k = in.c.index_topk;
    const bool learns = step.indexer != IndexerPhase::dense && step.indexer_weight != 0;
    if (most == 0) {  // other ranks may hold longer sequences: every rank names the batch's losses
        if (ctx.training && learns && step.whole && !step.is_recomputation && queries_with_entries(*step.whole, 4) > 0)
            ctx.training->losses.push_back({"indexer", ctx.layer, 0, step.indexer_weight});
        return output_path(ctx, attend_on_tape(ctx, q.q_THC, keys, in.w.sink).o_THV, in);
    }
    const bool is_forced = !in.forced_entries_Tk.empty(), chooses = step.indexer == IndexerPhase::sparse && most > k && !is_forced;
    const bool is_measured = step.wants_indexer_recall && !step.is_recomputation;
    Tensor scores_TS;
    if (learns || chooses || is_measured) scores_TS = index_scores(ctx, x_TD, q, keys.rows, in);
    if (is_forced) keys.chosen_TK = in.forced_entries_Tk;
    else if (chooses) keys.chosen_TK = choose_entries(ctx, scores_TS, keys.rows, 4, k);

    const TapeAttention a = attend_on_tape(ctx, q.q_THC, keys, in.w.sink, learns);
    if (learns) indexer_loss_on_tape(ctx, scores_TS, a.mass_TS, keys.chosen_TK, keys.rows, 4);
    if (is_measured) {
        const TapeAttention dense = dense_attention(ctx, q, keys, in);
        measure_indexer(ctx, scores_TS, dense.mass_TS, keys.rows, 4, k, dense.mass_THS);
    }
    return output_path(ctx, a.o_THV, in);
}

Tensor csa_on_gpu(Ctx& ctx, const Tensor& x_TD, const AttentionInput& in) {
    const Queries q = append_and_query(ctx, x_TD, in);
    Tensor places_Tk;
    const Tensor chosen_Tk =
        cuda::select_entries(ctx, q.qr_TQ, x_TD, in.w.indexer, in.c, in.angles, in.forced_entries_Tk, &places_Tk);
    return output_projection(ctx, cuda::attend(ctx, q.q_THC, in.w.sink, in.c, 4, chosen_Tk, places_Tk, &in.angles, q.is_raw), in);
}

}  // namespace

Tensor csa_attention(Ctx& ctx, const Tensor& x_TD, const AttentionInput& in) {
    if constexpr (kHasCuda)
        if (ctx.infers_on_gpu()) return csa_on_gpu(ctx, x_TD, in);
    const Queries q = query_path(ctx, x_TD, in);
    const Tensor kv_TC = key_path(ctx, x_TD, in);
    if (ctx.tape) return csa_on_tape(ctx, x_TD, q, kv_TC, in);
    std::vector<std::vector<KeyList>> keys;
    for (const Segment& s : in.segments) {
        append_entries(ctx, x_TD, s, in);
        append_index_keys(ctx, x_TD, s, in);
        const LayerCache& cache = s.cache->layers[in.layer];
        Selection selection =
            in.entries != EntryChoice::as_trained
                ? replaced_choice(ctx, q, s, in)
                : select_entries(ctx, segment_rows(q.qr_TQ, s), segment_rows(x_TD, s), s.position, s.begin,
                                 in.w.indexer, in.c, segment_angles(in.angles, s), cache.index_keys,
                                 s.cache->index_format,
                                 in.forced_entries_Tk.empty() ? Tensor{} : segment_rows(in.forced_entries_Tk, s));
        keys.push_back(window_keys(s, in));
        for (size_t t = 0; t < selection.chosen.size(); ++t) {
            KeyList& list = keys.back()[t];
            for (int32_t i : selection.chosen[t]) list.rows.push_back(cache.entries.row(i));
            if (!selection.places.empty()) list.column = std::move(selection.places[t]);  // columns of hook_topk
        }
    }
    return output_path(ctx, attend_segments(ctx, q.q_THC, in, keys), in);
}

}  // namespace vitrine
