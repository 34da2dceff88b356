// Core attention: the split over tokens and heads, and the attention-mass probes.
#include "engine/ops/attend/attend.h"

#include <algorithm>
#include <cmath>

#include "engine/ops/quantize/quantize.h"

namespace vitrine {
namespace {

bool watches_mass(const Ctx& ctx) {
    return ctx.wants(kShares) || ctx.wants(kSharesHead) || ctx.wants(kEntryMass) || ctx.wants(kWindowMass) ||
           ctx.wants(kEntryMassHead);
}

// probs [H, n], sink [H] of one token -> shares and masses, in double so that shares sum to 1.
void publish_mass(Ctx& ctx, int token, const KeyList& keys, const float* probs, const float* sink, int64_t n_heads) {
    const auto n = static_cast<int64_t>(keys.rows.size()), n_entries = n - keys.n_window;
    std::vector<float> shares_head(n_heads * 3), mass(n), shares(3);
    std::vector<double> sum(n, 0.0);
    double total[3] = {};
    for (int64_t h = 0; h < n_heads; ++h) {
        double part[3] = {0, 0, sink[h]};
        for (int64_t j = 0; j < n; ++j) {
            const double p = probs[h * n + j];
            sum[j] += p;
            part[j >= keys.n_window] += p;
        }
        for (int i = 0; i < 3; ++i) shares_head[h * 3 + i] = static_cast<float>(part[i]), total[i] += part[i];
    }
    for (int i = 0; i < 3; ++i) shares[i] = static_cast<float>(total[i] / static_cast<double>(n_heads));
    const int64_t w = keys.n_window;
    const auto column = [&](int64_t i) { return keys.column.empty() ? i : keys.column[i]; };
    for (int64_t j = 0; j < n; ++j)
        mass[j < w ? j : w + column(j - w)] = static_cast<float>(sum[j] / static_cast<double>(n_heads));
    const int nh = static_cast<int>(n_heads), nw = static_cast<int>(keys.n_window), ne = static_cast<int>(n_entries);
    if (ctx.wants(kShares)) ctx.probes->put(token, kShares, ctx.layer, shares.data(), 1, 3);
    if (ctx.wants(kSharesHead)) ctx.probes->put(token, kSharesHead, ctx.layer, shares_head.data(), nh, 3);
    if (ctx.wants(kWindowMass)) ctx.probes->put(token, kWindowMass, ctx.layer, mass.data(), 1, nw);
    if (ctx.wants(kEntryMass)) ctx.probes->put(token, kEntryMass, ctx.layer, mass.data() + nw, 1, ne);
    if (ctx.wants(kEntryMassHead)) {
        std::vector<float> by_head(n_heads * n_entries);
        for (int64_t h = 0; h < n_heads; ++h)
            for (int64_t i = 0; i < n_entries; ++i) by_head[h * n_entries + column(i)] = probs[h * n + w + i];
        ctx.probes->put(token, kEntryMassHead, ctx.layer, by_head.data(), nh, ne);
    }
}

}  // namespace

Tensor attend(Ctx& ctx, const Tensor& q_THC, const std::vector<KeyList>& keys, const cpu::EntryFormat& format,
              const Tensor& sinks_H, int64_t row0) {
    const OpTimer timer(ctx, OpKind::attend);
    const int64_t n_tokens = q_THC.dim(0), n_heads = q_THC.dim(1), c = q_THC.dim(2);
    const auto& k = cpu::kernels();
    Tensor o_THC = ctx.arena.make(DType::f32, q_THC.shape);
    const bool watched = watches_mass(ctx);
    std::vector<int64_t> offset(n_tokens + 1, 0);
    int64_t longest = 0;
    for (int64_t t = 0; t < n_tokens; ++t) {
        const auto n = static_cast<int64_t>(keys[t].rows.size());
        offset[t + 1] = offset[t] + (watched ? n * n_heads : 0);
        longest = std::max(longest, n);
        ctx.count(OpKind::attend, 2.0 * static_cast<double>(n * n_heads * c));
    }
    Tensor probs = ctx.arena.make(DType::f32, {std::max<int64_t>(1, offset[n_tokens])});
    Tensor sink_probs = ctx.arena.make(DType::f32, {n_tokens, n_heads});

    // Decode splits heads over threads, prefill splits tokens. A piece unpacks every row anew, so there are no more pieces than
    // threads; a head's bits don't depend on the cut. A piece's scratch lies in the arena: pieces never share it.
    const int64_t parts = n_tokens >= 8 ? 1 : std::clamp<int64_t>(ctx.pool.n_threads(), 1, n_heads);
    const int64_t heads_per_piece = (n_heads + parts - 1) / parts;
    const int64_t head_pieces = (n_heads + heads_per_piece - 1) / heads_per_piece;
    const int64_t tokens_per_piece = std::max<int64_t>(1, n_tokens / 64),
                  n_pieces = (n_tokens + tokens_per_piece - 1) / tokens_per_piece * head_pieces;
    const int64_t scratch_floats = k.attend_scratch_floats(longest, c, heads_per_piece);
    Tensor scratch = ctx.arena.make(DType::f32, {n_pieces, scratch_floats});
    const auto scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(c)));
    ctx.pool.parallel_for(n_pieces, 1, [&](int64_t p0, int64_t p1) {
        for (int64_t p = p0; p < p1; ++p) {
            const int64_t h0 = p % head_pieces * heads_per_piece, h1 = std::min(h0 + heads_per_piece, n_heads);
            const int64_t t0 = p / head_pieces * tokens_per_piece, t1 = std::min(t0 + tokens_per_piece, n_tokens);
            for (int64_t t = t0; t < t1 && !ctx.stop.stop_requested(); ++t)
                k.attend(format, keys[t].rows.data(), static_cast<int64_t>(keys[t].rows.size()), q_THC.row<float>(t), h0, h1,
                         scale, sinks_H.f32(), ctx.is_reference(), o_THC.row<float>(t),
                         watched ? probs.f32() + offset[t] : nullptr, watched ? sink_probs.row<float>(t) : nullptr,
                         scratch.row<float>(p));
        }
    });
    ctx.check_stop();
    for (int64_t t = 0; t < n_tokens && watched; ++t)
        publish_mass(ctx, static_cast<int>(row0 + t), keys[t], probs.f32() + offset[t], sink_probs.row<float>(t), n_heads);
    round_output(ctx, o_THC);
    return o_THC;
}

}  // namespace vitrine
