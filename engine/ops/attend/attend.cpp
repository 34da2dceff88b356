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

// In double, eight sums at a time: one sum would wait for itself.
double sum_of(const double* p, int64_t n) {
    double lanes[8] = {}, sum = 0;
    int64_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int l = 0; l < 8; ++l) lanes[l] += p[i + l];
    for (; i < n; ++i) sum += p[i];
    for (double lane : lanes) sum += lane;
    return sum;
}

// probs [H, n], sink [H] of one token -> shares and masses, in double so that shares sum to 1.
void publish_mean_mass(Ctx& ctx, int token, const KeyList& keys, const float* probs, const float* sink, int64_t n_heads) {
    const auto n = static_cast<int64_t>(keys.rows.size()), w = keys.n_window;
    const auto& k = cpu::kernels();
    double* sum = ctx.arena.make(DType::f64, {n}).as<double>();
    float* mass = ctx.arena.make(DType::f32, {n}).f32();
    k.sum_rows(probs, n_heads, n, sum);
    const double each = 1.0 / static_cast<double>(n_heads);
    const float shares[3] = {static_cast<float>(sum_of(sum, w) * each), static_cast<float>(sum_of(sum + w, n - w) * each),
                             static_cast<float>(k.sum(sink, n_heads) * each)};
    for (int64_t j = 0; j < (keys.column.empty() ? n : w); ++j) mass[j] = static_cast<float>(sum[j] * each);
    for (size_t i = 0; i < keys.column.size(); ++i) mass[w + keys.column[i]] = static_cast<float>(sum[w + i] * each);
    if (ctx.wants(kShares)) ctx.probes->put(token, kShares, ctx.layer, shares, 1, 3);
    if (ctx.wants(kWindowMass)) ctx.probes->put(token, kWindowMass, ctx.layer, mass, 1, static_cast<int>(w));
    if (ctx.wants(kEntryMass)) ctx.probes->put(token, kEntryMass, ctx.layer, mass + w, 1, static_cast<int>(n - w));
}

// The same of each head.
void publish_head_mass(Ctx& ctx, int token, const KeyList& keys, const float* probs, const float* sink, int64_t n_heads) {
    const auto n = static_cast<int64_t>(keys.rows.size()), w = keys.n_window, n_entries = n - w;
    const auto& k = cpu::kernels();
    if (ctx.wants(kSharesHead)) {
        float* shares = ctx.arena.make(DType::f32, {n_heads, 3}).f32();
        for (int64_t h = 0; h < n_heads; ++h) {
            const float* p = probs + h * n;
            shares[h * 3] = static_cast<float>(k.sum(p, w));
            shares[h * 3 + 1] = static_cast<float>(k.sum(p + w, n_entries));
            shares[h * 3 + 2] = sink[h];
        }
        ctx.probes->put(token, kSharesHead, ctx.layer, shares, static_cast<int>(n_heads), 3);
    }
    if (ctx.wants(kEntryMassHead)) {
        float* mass = ctx.arena.make(DType::f32, {n_heads, n_entries}).f32();
        for (int64_t h = 0; h < n_heads; ++h) {
            const float* p = probs + h * n + w;
            float* to = mass + h * n_entries;
            if (keys.column.empty()) std::copy_n(p, n_entries, to);
            for (size_t i = 0; i < keys.column.size(); ++i) to[keys.column[i]] = p[i];
        }
        ctx.probes->put(token, kEntryMassHead, ctx.layer, mass, static_cast<int>(n_heads), static_cast<int>(n_entries));
    }
}

void publish_mass(Ctx& ctx, int token, const KeyList& keys, const float* probs, const float* sink, int64_t n_heads) {
    const Arena::Scope scratch(ctx.arena);
    if (ctx.wants(kShares) || ctx.wants(kEntryMass) || ctx.wants(kWindowMass))
        publish_mean_mass(ctx, token, keys, probs, sink, n_heads);
    if (ctx.wants(kSharesHead) || ctx.wants(kEntryMassHead)) publish_head_mass(ctx, token, keys, probs, sink, n_heads);
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
