// The lightning indexer: queries, scores, selection.
#include "engine/ops/index/index.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <iterator>
#include <numeric>

#include "engine/device/cpu/formats.h"
#include "engine/ops/linear/linear.h"
#include "engine/ops/order.h"
#include "engine/ops/quantize/quantize.h"

namespace vitrine {
namespace {

// Rotated queries [T, H, D]; `reference`: Hadamard, then FP4.
Tensor index_queries(Ctx& ctx, const Tensor& qr_TQ, const IndexerWeights& w, const ModelConfig& c, const RopeAngles& angles) {
    const int64_t n_tokens = qr_TQ.dim(0), n_heads = c.index_n_heads, d = c.index_head_dim;
    const Tensor q = linear(ctx, qr_TQ, w.wq_b).reshaped({n_tokens, n_heads, d});
    apply_rope(ctx, q, angles);
    if (ctx.is_reference())
        ctx.pool.parallel_for(n_tokens * n_heads, 16, [&](int64_t h0, int64_t h1) {
            for (int64_t h = h0; h < h1; ++h) {
                hadamard(q.f32() + h * d, static_cast<int>(d));
                simulate_fp4(q.f32() + h * d, static_cast<int>(d));
            }
        });
    return q;
}

// Signed head weights [T, H]; both scales are folded in.
Tensor head_weights(Ctx& ctx, const Tensor& x_TD, const IndexerWeights& w, const ModelConfig& c) {
    const Tensor v = linear(ctx, x_TD, w.weights_proj, {.quantise_input = false});
    const auto f = static_cast<float>(1.0 / std::sqrt(static_cast<double>(c.index_head_dim) * c.index_n_heads));
    for (float& x : v.span<float>()) x *= f;
    round_output(ctx, v);
    return v;
}

void publish_choice(Ctx& ctx, int token, const float* scores, const std::vector<int32_t>& ranked, float left_out, int64_t n,
                    int64_t k) {
    const Arena::Scope scratch(ctx.arena);
    const Tensor ids = ctx.arena.make(DType::i32, {k}), values = ctx.arena.make(DType::f32, {k});
    const auto n_ranked = static_cast<int64_t>(ranked.size());
    for (int64_t i = 0; i < k; ++i) {
        ids.as<int32_t>()[i] = i < n_ranked ? ranked[i] : -1;
        values.f32()[i] = i < n_ranked ? scores[ranked[i]] : -INFINITY;
    }
    const float cut[2] = {n_ranked == 0 ? -INFINITY : values.f32()[n_ranked - 1], left_out};
    const int nk = static_cast<int>(k);
    if (ctx.wants(kIndexTopk)) ctx.probes->put(token, kIndexTopk, ctx.layer, ids.as<int32_t>(), 1, nk);
    if (ctx.wants(kIndexTopkScores)) ctx.probes->put(token, kIndexTopkScores, ctx.layer, values.f32(), 1, nk);
    if (ctx.wants(kIndexCut)) ctx.probes->put(token, kIndexCut, ctx.layer, cut, 1, 2);
    if (ctx.wants(kIndexScores)) ctx.probes->put(token, kIndexScores, ctx.layer, scores, 1, static_cast<int>(n));
}

// order_key as a signed integer, which every instruction set compares many of at a time.
int32_t signed_key(float score) {
    return static_cast<int32_t>(order_key(score) ^ 0x80000000u);
}

// A bound from below on the key of the k + 1 best: the lowest of the best k + 1 among the maxima of 3/2 (k + 1) groups
// of scores.
int32_t key_of_more_than(const float* scores, int64_t n, int64_t k) {
    const int64_t n_groups = (k + 1) * 3 / 2;
    if (n < 2 * n_groups) return INT32_MIN;
    std::vector<int32_t> best(static_cast<size_t>(n_groups), INT32_MIN);
    for (int64_t i = 0; i + n_groups <= n; i += n_groups)
        for (int64_t g = 0; g < n_groups; ++g) best[g] = std::max(best[g], signed_key(scores[i + g]));
    std::nth_element(best.begin(), best.begin() + k, best.end(), std::greater<>());
    return best[k];
}

}  // namespace

void choose_top(const float* scores, int64_t n, int64_t k, std::vector<int32_t>& chosen, std::vector<int32_t>* ranked,
                float* left_out, std::vector<int32_t>* places) {
    chosen.clear();
    if (left_out) *left_out = -INFINITY;
    if (k >= n) {
        chosen.resize(static_cast<size_t>(n));
        std::iota(chosen.begin(), chosen.end(), 0);
    } else {
        // Those that reach the bound, hardly more than k, without a branch that nobody could foresee.
        constexpr int64_t kChunk = 1024;
        const int32_t bound = key_of_more_than(scores, n, k);
        std::vector<int32_t> candidates;
        size_t n_candidates = 0;
        for (int64_t from = 0; from < n; from += kChunk) {
            const int64_t to = std::min(n, from + kChunk);
            candidates.resize(n_candidates + kChunk);
            for (int64_t i = from; i < to; ++i) {
                candidates[n_candidates] = static_cast<int32_t>(i);
                n_candidates += signed_key(scores[i]) >= bound;
            }
        }
        // One word each: the score's key, below it the index turned round so that ties go to the lowest.
        const auto word = [scores](int32_t i) {
            return uint64_t{order_key(scores[i])} << 32 | (UINT32_MAX - static_cast<uint32_t>(i));
        };
        std::vector<uint64_t> words(n_candidates);
        for (size_t j = 0; j < n_candidates; ++j) words[j] = word(candidates[j]);
        std::nth_element(words.begin(), words.begin() + k, words.end(), std::greater<>());
        const uint64_t best_left_out = words[static_cast<size_t>(k)];
        if (left_out) *left_out = scores[UINT32_MAX - static_cast<uint32_t>(best_left_out)];
        chosen.reserve(static_cast<size_t>(k));
        for (size_t j = 0; j < n_candidates; ++j)
            if (word(candidates[j]) > best_left_out) chosen.push_back(candidates[j]);
    }
    if (!ranked) return;
    // The same with the place in `chosen` instead of the index.
    std::vector<uint64_t> words(chosen.size());
    for (size_t i = 0; i < words.size(); ++i)
        words[i] = uint64_t{order_key(scores[chosen[i]])} << 32 | (UINT32_MAX - i);
    std::sort(words.begin(), words.end(), std::greater<>());
    ranked->resize(words.size());
    if (places) places->resize(words.size());
    for (size_t r = 0; r < words.size(); ++r) {
        const size_t i = UINT32_MAX - static_cast<uint32_t>(words[r]);
        (*ranked)[r] = chosen[i];
        if (places) (*places)[i] = static_cast<int32_t>(r);
    }
}

Selection select_entries(Ctx& ctx, const Tensor& qr_TQ, const Tensor& x_TD, int64_t position, int64_t row0,
                         const IndexerWeights& w, const ModelConfig& c, const RopeAngles& angles, const EntryStore& keys,
                         const cpu::IndexKeyFormat& format, const Tensor& forced_TK) {
    const int64_t n_tokens = qr_TQ.dim(0), k = c.index_topk, n_heads = c.index_n_heads, d = c.index_head_dim;
    Selection s;
    s.chosen.resize(n_tokens);
    if (!forced_TK.empty()) {
        for (int64_t t = 0; t < n_tokens; ++t) {
            const int32_t* f = forced_TK.row<int32_t>(t);
            std::copy_if(f, f + forced_TK.dim(1), std::back_inserter(s.chosen[t]), [](int32_t i) { return i >= 0; });
            std::sort(s.chosen[t].begin(), s.chosen[t].end());
        }
        return s;
    }
    const auto visible = [&](int64_t t) { return (position + t + 1) / 4; };
    const bool watched = ctx.wants(kIndexTopk) || ctx.wants(kIndexTopkScores) || ctx.wants(kIndexCut) || ctx.wants(kIndexScores);
    if (!watched && visible(n_tokens - 1) <= k) {
        for (int64_t t = 0; t < n_tokens; ++t) {
            s.chosen[t].resize(visible(t));
            std::iota(s.chosen[t].begin(), s.chosen[t].end(), 0);
        }
        return s;
    }
    const Tensor q = index_queries(ctx, qr_TQ, w, c, angles), hw = head_weights(ctx, x_TD, w, c);
    const OpTimer timer(ctx, OpKind::index);
    const int64_t n_max = visible(n_tokens - 1);
    if (n_max == 0) {
        for (int64_t t = 0; t < n_tokens && watched; ++t)
            publish_choice(ctx, static_cast<int>(row0 + t), nullptr, {}, -INFINITY, 0, k);
        return s;
    }
    std::vector<std::vector<int32_t>> ranked(watched ? n_tokens : 0);
    if (watched) s.places.resize(n_tokens);
    for (int64_t t = 0; t < n_tokens; ++t) ctx.count(OpKind::index, static_cast<double>(visible(t) * n_heads * d));
    // Tokens in groups, so that the scores take at most 32 MiB whatever the depth.
    const int64_t group = std::clamp<int64_t>((int64_t{8} << 20) / n_max, 1, n_tokens);
    const int64_t n_blocks = (n_max + kEntriesPerBlock - 1) / kEntriesPerBlock;
    std::vector<float> left_out(n_tokens);
    for (int64_t g0 = 0; g0 < n_tokens; g0 += group) {
        const int64_t n_group = std::min(group, n_tokens - g0);
        const Arena::Scope scratch(ctx.arena);
        Tensor scores_GS = ctx.arena.make(DType::f32, {n_group, n_max});
        ctx.pool.parallel_for(n_group * n_blocks, n_tokens == 1 ? 4 : 8, [&](int64_t p0, int64_t p1) {
            for (int64_t p = p0; p < p1 && !ctx.stop.stop_requested(); ++p) {
                const int64_t t = g0 + p / n_blocks, s0 = p % n_blocks * kEntriesPerBlock;
                const int64_t n = std::min(kEntriesPerBlock, visible(t) - s0);
                if (n > 0)
                    cpu::kernels().index_scores(format, keys.row(s0), n, q.f32() + t * n_heads * d, hw.row<float>(t), n_heads,
                                                ctx.is_reference(), scores_GS.row<float>(t - g0) + s0);
            }
        });
        ctx.check_stop();
        ctx.pool.parallel_for(n_group, 1, [&](int64_t t0, int64_t t1) {
            for (int64_t t = g0 + t0; t < g0 + t1; ++t)
                choose_top(scores_GS.row<float>(t - g0), visible(t), std::min(k, visible(t)), s.chosen[t],
                           watched ? &ranked[t] : nullptr, &left_out[t], watched ? &s.places[t] : nullptr);
        });
        for (int64_t t = g0; t < g0 + n_group && watched; ++t)
            publish_choice(ctx, static_cast<int>(row0 + t), scores_GS.row<float>(t - g0), ranked[t], left_out[t],
                           visible(t), k);
    }
    return s;
}

}  // namespace vitrine
