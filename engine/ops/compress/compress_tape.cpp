// Compression on the tape: pooling by per-channel softmax, forward and backward.
#include "engine/ops/compress/compress_tape.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <numeric>

#include "engine/ops/exp_row.h"
#include "engine/ops/linear/linear.h"
#include "engine/ops/rmsnorm/rmsnorm.h"
#include "engine/ops/rope/rope.h"
#include "engine/ops/trained.h"
#include "engine/ops/training.h"

namespace vitrine {
namespace {

// e = sum_j a_j K_j per channel, a = softmax_j(S_j + ape_j); with G = dL/de: dK_j = a_j G, dS_j = dape_j = a_j G (K_j - e).
// Every (token, half) belongs to one entry, so entries are independent; only ape is shared between them.
template <class T>
struct Pooling {
    Tensor k, s, ape, e, lse;  // [T, o*D] twice, [r, o*D], [S, D] twice; lse: log of each softmax's denominator
    Offsets rows, entries;
    std::vector<int32_t> segment;  // [S]
    int64_t ratio, d;
    bool overlaps;

    int64_t width() const { return overlaps ? 2 * d : d; }
    int64_t n_slots() const { return overlaps ? 2 * ratio : ratio; }
    // f(slot, row of the batch, first channel in the row, row of ape): CSA takes first halves of the previous block's tokens,
    // then second halves of its own; the first entry of a segment has no previous block.
    template <class F>
    void for_slots(int64_t entry, F&& f) const {
        const int64_t i = entry - entries[segment[entry]], first = rows[segment[entry]] + i * ratio;
        for (int64_t slot = 0; slot < ratio && overlaps && i > 0; ++slot) f(slot, first - ratio + slot, int64_t{0}, slot);
        const int64_t own = overlaps ? ratio : 0, half = overlaps ? d : 0;
        for (int64_t slot = 0; slot < ratio; ++slot) f(own + slot, first + slot, half, slot);
    }

    // a[ch] = e^(S + ape - shift[ch]) of one slot
    void slot_weights(int64_t t, int64_t half, int64_t r, const T* shift, T* a) const {
        const T *score = s.row<T>(t) + half, *bias = ape.row<T>(r) + half;
        for (int64_t ch = 0; ch < d; ++ch) a[ch] = score[ch] + bias[ch] - shift[ch];
        exp_row(a, d, T{0});
    }

    void forward(Ctx& ctx, const Tensor& weights) const {
        ctx.pool.parallel_for(e.dim(0), 8, [&](int64_t e0, int64_t e1) {
            std::vector<T> top(d), sum(d), a(d);
            for (int64_t i = e0; i < e1; ++i) pool(i, top.data(), sum.data(), a.data(), weights);
        });
    }
    void pool(int64_t i, T* top, T* sum, T* a, const Tensor& weights) const {
        T *out = e.row<T>(i), *log_z = lse.row<T>(i);
        std::fill_n(top, d, -std::numeric_limits<T>::infinity());
        std::fill_n(sum, d, T{0}), std::fill_n(out, d, T{0});
        for_slots(i, [&](int64_t, int64_t t, int64_t half, int64_t r) {
            const T *score = s.row<T>(t) + half, *bias = ape.row<T>(r) + half;
            for (int64_t ch = 0; ch < d; ++ch) top[ch] = std::max(top[ch], score[ch] + bias[ch]);
        });
        for_slots(i, [&](int64_t, int64_t t, int64_t half, int64_t r) {
            const T* value = k.row<T>(t) + half;
            slot_weights(t, half, r, top, a);
            for (int64_t ch = 0; ch < d; ++ch) sum[ch] += a[ch], out[ch] += a[ch] * value[ch];
        });
        for (int64_t ch = 0; ch < d; ++ch) out[ch] /= sum[ch], log_z[ch] = top[ch] + std::log(sum[ch]);
        if (weights.empty()) return;
        std::fill_n(weights.row<T>(i), n_slots(), T{0});
        for_slots(i, [&](int64_t slot, int64_t t, int64_t half, int64_t r) {
            slot_weights(t, half, r, log_z, a);
            weights.row<T>(i)[slot] = std::accumulate(a, a + d, T{0}) / static_cast<T>(d);
        });
    }

    // Entropy of each channel's weights over the slots that the entry has, as a share of the largest; mean over both.
    double entropy(Ctx& ctx) const {
        std::vector<double> by_entry(static_cast<size_t>(e.dim(0)));
        ctx.pool.parallel_for(e.dim(0), 8, [&](int64_t e0, int64_t e1) {
            std::vector<T> a(d);
            for (int64_t i = e0; i < e1; ++i) {
                int64_t n = 0;
                double sum = 0;
                for_slots(i, [&](int64_t, int64_t t, int64_t half, int64_t r) {
                    slot_weights(t, half, r, lse.row<T>(i), a.data());
                    for (int64_t ch = 0; ch < d; ++ch)
                        if (a[ch] > 0) sum -= static_cast<double>(a[ch]) * std::log(static_cast<double>(a[ch]));
                    ++n;
                });
                by_entry[static_cast<size_t>(i)] = n > 1 ? sum / (static_cast<double>(d) * std::log(static_cast<double>(n))) : 0;
            }
        });
        return std::accumulate(by_entry.begin(), by_entry.end(), 0.0) / static_cast<double>(by_entry.size());
    }

    // Variance of position biases over an entry's slots against that of the tokens' scores; both summed over channels
    // and entries.
    double position_share(Ctx& ctx) const {
        std::vector<double> by_bias(static_cast<size_t>(e.dim(0))), by_score(by_bias.size());
        ctx.pool.parallel_for(e.dim(0), 8, [&](int64_t e0, int64_t e1) {
            std::vector<double> sums(static_cast<size_t>(4 * d));  // of biases and scores, of their squares
            for (int64_t i = e0; i < e1; ++i) {
                std::fill(sums.begin(), sums.end(), 0.0);
                double n = 0;
                for_slots(i, [&](int64_t, int64_t t, int64_t half, int64_t r) {
                    ++n;
                    for (int64_t ch = 0; ch < d; ++ch) {
                        const double b = ape.row<T>(r)[half + ch], x = s.row<T>(t)[half + ch];
                        double* at = sums.data() + 4 * ch;
                        at[0] += b, at[1] += b * b, at[2] += x, at[3] += x * x;
                    }
                });
                for (const double* at = sums.data(); at < sums.data() + 4 * d; at += 4) {
                    by_bias[static_cast<size_t>(i)] += at[1] / n - at[0] * at[0] / (n * n);
                    by_score[static_cast<size_t>(i)] += at[3] / n - at[2] * at[2] / (n * n);
                }
            }
        });
        const double bias = std::accumulate(by_bias.begin(), by_bias.end(), 0.0),
                     both = bias + std::accumulate(by_score.begin(), by_score.end(), 0.0);
        return both > 0 ? bias / both : 0;
    }

    // Entries, and of each its own block's rows k in order.
    void keep_reconstruction(CompressorStats& into) const {
        into.n_entries = e.dim(0);
        into.entries.assign(e.as<T>(), e.as<T>() + e.count());
        const int64_t half = overlaps ? d : 0;
        for (int64_t i = 0; i < e.dim(0); ++i) {
            const int64_t at = segment[static_cast<size_t>(i)], first = rows[at] + (i - entries[at]) * ratio;
            for (int64_t t = first; t < first + ratio; ++t)
                into.tokens.insert(into.tokens.end(), k.row<T>(t) + half, k.row<T>(t) + half + d);
        }
    }

    // dape may be empty. Its sums run over pieces of entries, then over pieces.
    void backward(Ctx& ctx, const Tensor& de, const Tensor& dk, const Tensor& ds, const Tensor& dape) const {
        const int64_t n = e.dim(0), per_piece = std::max<int64_t>(8, (n + 15) / 16), n_pieces = (n + per_piece - 1) / per_piece;
        const Tensor parts = ctx.arena.make(ctx.dtype, {n_pieces, ratio * width()});
        std::fill_n(parts.as<T>(), parts.count(), T{0});
        ctx.pool.parallel_for(n, per_piece, [&](int64_t e0, int64_t e1) {
            T* part = parts.row<T>(e0 / per_piece);
            std::vector<T> a(d);
            for (int64_t i = e0; i < e1; ++i)
                for_slots(i, [&](int64_t, int64_t t, int64_t half, int64_t r) {
                    const T *value = k.row<T>(t) + half, *mean = e.row<T>(i), *g = de.row<T>(i);
                    slot_weights(t, half, r, lse.row<T>(i), a.data());
                    T *to_k = dk.row<T>(t) + half, *to_s = ds.row<T>(t) + half, *to_ape = part + r * width() + half;
                    for (int64_t ch = 0; ch < d; ++ch) {
                        const T ag = a[ch] * g[ch], by_score = ag * (value[ch] - mean[ch]);
                        to_k[ch] += ag, to_s[ch] += by_score, to_ape[ch] += by_score;
                    }
                });
        });
        for (int64_t p = 0; p < n_pieces && !dape.empty(); ++p)
            for (int64_t j = 0; j < ratio * width(); ++j) dape.as<T>()[j] += parts.row<T>(p)[j];
    }
};

Tensor pool_on_tape(Ctx& ctx, const Tensor& k, const Tensor& s, const Param& ape, const Offsets& rows, TapeEntries& out,
                    int ratio, int d, bool wants_entropy) {
    const OpTimer timer(ctx, OpKind::compress);
    const int64_t n = out.offsets.back();
    const Tensor e = ctx.arena.make(ctx.dtype, {n, d});
    with_real(ctx.dtype, [&](auto real) {
        using T = decltype(real);
        const Tensor lse = ctx.arena.make(ctx.dtype, {n, d});
        const auto op = std::make_shared<Pooling<T>>(
            Pooling<T>{k, s, trained_value(ctx, ape), e, lse, rows, out.offsets, {}, ratio, d, ratio == 4});
        for (int64_t i = 0; i < n_segments(rows); ++i) {
            const auto n_own = static_cast<size_t>(out.offsets[i + 1] - out.offsets[i]);
            op->segment.insert(op->segment.end(), n_own, static_cast<int32_t>(i));
        }
        op->forward(ctx, out.weights_SW);
        if (wants_entropy) {
            ctx.training->compressors.push_back({ctx.layer, op->entropy(ctx), op->position_share(ctx)});
            if (ctx.training->wants_reconstruction) op->keep_reconstruction(ctx.training->compressors.back());
        }
        const Tensor master = is_trained(ctx, ape) ? ape.master : Tensor{};
        ctx.tape->record([op, master](Ctx& c) {
            if (!c.tape->has_grad(op->e)) return;
            op->backward(c, c.tape->grad(op->e), c.tape->grad(op->k), c.tape->grad(op->s),
                         master.empty() ? Tensor{} : c.tape->grad(master));
        });
    });
    return e;
}

}  // namespace

TapeEntries compress_on_tape(Ctx& ctx, const Tensor& x_TD, const Offsets& rows, const CompressorWeights& w, int ratio,
                             int entry_size, const std::vector<double>& frequencies, double eps, CompressOptions options) {
    TapeEntries out;
    std::vector<int64_t> starts;  // an entry stands at the first token of its block
    out.offsets.push_back(0);
    for (int64_t i = 0; i < n_segments(rows); ++i) {
        for (int64_t j = 0; j < (rows[i + 1] - rows[i]) / ratio; ++j) starts.push_back(j * ratio);
        out.offsets.push_back(static_cast<int64_t>(starts.size()));
    }
    const int64_t n = out.offsets.back();
    if (n == 0) return out;
    const LinearOptions wide{.quantise_input = false, .round_output = false, .is_input_detached = options.is_input_detached};
    const Tensor k = linear(ctx, x_TD, w.wkv, wide), s = linear(ctx, x_TD, w.wgate, wide);
    if constexpr (kHasCuda)
        if (ctx.cuda) {
            out.entries_SD = cuda::entries_on_tape(ctx, k, s, rows, out.offsets, w, ratio, entry_size, frequencies, eps,
                                                   options.is_normed);
            return out;
        }
    if (options.wants_weights) out.weights_SW = ctx.arena.make(ctx.dtype, {n, ratio == 4 ? 2 * ratio : ratio});
    const Tensor pooled = pool_on_tape(ctx, k, s, w.ape, rows, out, ratio, entry_size, options.wants_entropy);
    const Tensor normed = options.is_normed ? rmsnorm(ctx, pooled, w.norm, eps) : pooled;
    out.entries_SD = apply_rope(ctx, normed.reshaped({n, 1, entry_size}), rope_angles(ctx, starts, frequencies))
                         .reshaped({n, entry_size});
    return out;
}

}  // namespace vitrine
