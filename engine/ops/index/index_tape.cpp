// The indexer on the tape.
#include "engine/ops/index/index_tape.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <memory>
#include <numeric>
#include <set>

#include "engine/ops/linear/linear.h"
#include "engine/ops/linear/matmul.h"
#include "engine/ops/order.h"
#include "engine/ops/quantize/quantize_tape.h"
#include "engine/ops/training.h"

namespace vitrine {
namespace {

// Queries [begin, end) of one segment against the entries that the last of them sees.
struct Piece {
    int64_t segment, begin, end, n_keys;
};

// I[t,s] = f sum_j w[t,j] relu(Z[t,j,s]), Z = Q K^T. With D = dL/dI: dZ = f D w where Z > 0, dw = f sum_s D relu(Z).
template <class T>
struct Scores {
    Tensor q, w, keys, scores;  // [T, J, U], [T, J], [S, U], [T, most]
    Offsets rows, entries;
    int64_t ratio, n_heads, d;
    T factor;
    std::vector<Piece> pieces;
    std::vector<int64_t> first_piece;  // [segments + 1]

    void cut() {
        const int64_t step = std::clamp<int64_t>(512 / n_heads / 8 * 8, 8, 64);
        for (int64_t s = 0; s < n_segments(rows); ++s) {
            first_piece.push_back(static_cast<int64_t>(pieces.size()));
            for (int64_t t = rows[s]; t < rows[s + 1]; t += step) {
                const int64_t end = std::min(t + step, rows[s + 1]);
                pieces.push_back({s, t, end, (end - rows[s]) / ratio});
            }
        }
        first_piece.push_back(static_cast<int64_t>(pieces.size()));
    }
    Matrix<T> queries(const Piece& p) const { return {q.row<T>(p.begin), (p.end - p.begin) * n_heads, d, d}; }
    Matrix<T> keys_of(const Piece& p) const { return {keys.as<T>() + entries[p.segment] * d, p.n_keys, d, d}; }
    int64_t visible(const Piece& p, int64_t t) const { return (t - rows[p.segment] + 1) / ratio; }

    void forward(Ctx& ctx) const {
        ctx.pool.parallel_for(static_cast<int64_t>(pieces.size()), 1, [&](int64_t p0, int64_t p1) {
            std::vector<T> z;
            for (int64_t i = p0; i < p1; ++i) {
                const Piece& p = pieces[i];
                std::fill(scores.row<T>(p.begin), scores.row<T>(p.begin) + (p.end - p.begin) * scores.dim(1), T{0});
                if (p.n_keys == 0) continue;
                z.resize(static_cast<size_t>((p.end - p.begin) * n_heads * p.n_keys));
                matmul_nt_serial(queries(p), keys_of(p), z.data(), p.n_keys, false);
                for (int64_t t = p.begin; t < p.end; ++t)
                    for (int64_t j = 0; j < n_heads; ++j) {
                        const T weight = factor * w.row<T>(t)[j], *row = z.data() + ((t - p.begin) * n_heads + j) * p.n_keys;
                        T* out = scores.row<T>(t);
                        for (int64_t s = 0; s < visible(p, t); ++s) out[s] += weight * std::max(row[s], T{0});
                    }
            }
        });
    }

    // Keys collect by piece, then pieces are added in order.
    void backward(Ctx& ctx, const Tensor& dscores, const Tensor& dq, const Tensor& dw, const Tensor& dkeys) const {
        std::vector<T*> parts;
        for (const Piece& p : pieces)
            parts.push_back(p.n_keys > 0 ? ctx.arena.make(ctx.dtype, {p.n_keys, d}).template as<T>() : nullptr);
        ctx.pool.parallel_for(static_cast<int64_t>(pieces.size()), 1, [&](int64_t p0, int64_t p1) {
            std::vector<T> z;
            for (int64_t i = p0; i < p1; ++i) {
                const Piece& p = pieces[i];
                if (p.n_keys == 0) continue;
                z.resize(static_cast<size_t>((p.end - p.begin) * n_heads * p.n_keys));
                matmul_nt_serial(queries(p), keys_of(p), z.data(), p.n_keys, false);
                for (int64_t t = p.begin; t < p.end; ++t)
                    for (int64_t j = 0; j < n_heads; ++j) {
                        const T weight = factor * w.row<T>(t)[j], *g = dscores.row<T>(t);
                        T *row = z.data() + ((t - p.begin) * n_heads + j) * p.n_keys, sum = 0;
                        for (int64_t s = 0; s < p.n_keys; ++s) {
                            const T gradient = s < visible(p, t) && row[s] > 0 ? g[s] : T{0};
                            sum += gradient * row[s];
                            row[s] = gradient * weight;
                        }
                        dw.row<T>(t)[j] += factor * sum;
                    }
                const Matrix<T> dz{z.data(), (p.end - p.begin) * n_heads, p.n_keys, p.n_keys};
                matmul_nn_serial(dz, keys_of(p), dq.row<T>(p.begin), d, true);
                matmul_tn_serial(dz, queries(p), parts[i], d, false);
            }
        });
        ctx.pool.parallel_for(n_segments(rows), 1, [&](int64_t s0, int64_t s1) {
            for (int64_t s = s0; s < s1; ++s)
                for (int64_t i = first_piece[s]; i < first_piece[s + 1]; ++i)
                    for (int64_t j = 0; j < pieces[i].n_keys * d; ++j) dkeys.as<T>()[entries[s] * d + j] += parts[i][j];
        });
    }
};

constexpr int64_t kQueriesPerPiece = 64;

// [T] entries that each query sees.
std::vector<int64_t> visible_entries(const Offsets& rows, int64_t ratio) {
    std::vector<int64_t> n;
    for (int64_t s = 0; s < n_segments(rows); ++s)
        for (int64_t t = rows[s]; t < rows[s + 1]; ++t) n.push_back((t - rows[s] + 1) / ratio);
    return n;
}

uint64_t wide_order_key(double x) {  // as order_key
    const auto bits = std::bit_cast<uint64_t>(x + 0.0);
    return bits >> 63 ? ~bits : bits | uint64_t{1} << 63;
}

// The k best of n, ascending.
template <class T>
void top_entries(const T* scores, int64_t n, int64_t k, std::vector<int32_t>& out) {
    const auto key = [&](int32_t i) {
        if constexpr (sizeof(T) == 8) return wide_order_key(scores[i]);
        else return order_key(scores[i]);
    };
    out.resize(static_cast<size_t>(n));
    std::iota(out.begin(), out.end(), 0);
    if (k >= n) return;
    std::nth_element(out.begin(), out.begin() + k, out.end(), [&](int32_t a, int32_t b) {
        const auto ka = key(a), kb = key(b);
        return ka != kb ? ka > kb : a < b;
    });
    out.resize(static_cast<size_t>(k));
    std::sort(out.begin(), out.end());
}

// KL(p || softmax(I)) of one query over its entries; with `d`, d[s] += factor * (softmax(I)[s] - p[s]).
template <class T>
double divergence(const T* scores, const T* mass, const std::vector<int32_t>& set, T factor, T* d) {
    T total = 0, top = -std::numeric_limits<T>::infinity(), z = 0;
    for (int32_t s : set) total += mass[s], top = std::max(top, scores[s]);
    if (!(total > 0)) return 0;
    for (int32_t s : set) z += std::exp(scores[s] - top);
    const T log_z = top + std::log(z);
    double sum = 0;
    for (int32_t s : set) {
        const T p = mass[s] / total, log_q = scores[s] - log_z;
        if (p > 0) sum += static_cast<double>(p * (std::log(p) - log_q));
        if (d) d[s] += factor * (std::exp(log_q) - p);
    }
    return sum;
}

// Every query's entries: the chosen ones, or all that it sees.
struct EntrySets {
    Tensor chosen;
    std::vector<int64_t> visible;
    void of(int64_t t, std::vector<int32_t>& set) const {
        set.clear();
        if (chosen.empty()) {
            set.resize(static_cast<size_t>(visible[t]));
            std::iota(set.begin(), set.end(), 0);
        } else {
            const int32_t* list = chosen.row<int32_t>(t);
            std::copy_if(list, list + chosen.dim(1), std::back_inserter(set), [&](int32_t i) { return i >= 0 && i < visible[t]; });
        }
    }
};

int64_t n_common(const std::vector<int32_t>& a, const std::vector<int32_t>& b) {  // both ascending
    std::vector<int32_t> common;
    std::set_intersection(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(common));
    return static_cast<int64_t>(common.size());
}

// Ranks from 0 of n values; equal ones share the mean of theirs.
template <class T>
std::vector<double> ranks_of(const T* x, int64_t n) {
    std::vector<int64_t> order(static_cast<size_t>(n));
    std::iota(order.begin(), order.end(), 0);
    std::sort(order.begin(), order.end(), [x](int64_t a, int64_t b) { return x[a] != x[b] ? x[a] < x[b] : a < b; });
    std::vector<double> ranks(order.size());
    for (size_t i = 0; i < order.size();) {
        size_t end = i + 1;
        while (end < order.size() && x[order[end]] == x[order[i]]) ++end;
        for (size_t j = i; j < end; ++j) ranks[static_cast<size_t>(order[j])] = 0.5 * static_cast<double>(i + end - 1);
        i = end;
    }
    return ranks;
}

// Spearman's correlation; 0 where one of the two does not vary.
template <class T>
double rank_correlation(const T* a, const T* b, int64_t n) {
    const std::vector<double> x = ranks_of(a, n), y = ranks_of(b, n);
    const double mean = 0.5 * static_cast<double>(n - 1);
    double xx = 0, yy = 0, xy = 0;
    for (size_t i = 0; i < x.size(); ++i)
        xx += (x[i] - mean) * (x[i] - mean), yy += (y[i] - mean) * (y[i] - mean), xy += (x[i] - mean) * (y[i] - mean);
    return xx > 0 && yy > 0 ? xy / std::sqrt(xx * yy) : 0;
}

// Mass of the entries in `set`, best by `order` first, each over log2 (place + 1).
template <class T>
double discounted_gain(std::vector<int32_t> set, const T* order, const T* mass) {
    std::sort(set.begin(), set.end(),
              [order](int32_t a, int32_t b) { return order[a] != order[b] ? order[a] > order[b] : a < b; });
    double sum = 0;
    for (size_t i = 0; i < set.size(); ++i)
        sum += static_cast<double>(mass[set[i]]) / std::log2(static_cast<double>(i) + 2);
    return sum;
}

// The choice by scores against that by mass, of queries that see more than k entries.
template <class T>
IndexerStats measure_choice(const Tensor& scores_TS, const Tensor& mass_TS, const Tensor& mass_THS, const Offsets& rows,
                            int64_t ratio, int64_t k) {
    const std::vector<int64_t> visible = visible_entries(rows, ratio);
    std::vector<int32_t> ours, best, before;
    std::set<int32_t> used;
    std::vector<double> heads(mass_THS.empty() ? 0 : static_cast<size_t>(mass_THS.dim(1)));
    double n = 0, n_same = 0, mass = 0, n_mass = 0, overlap = 0, n_pairs = 0, n_used = 0, n_entries = 0, rank = 0,
           ndcg = 0;
    for (int64_t s = 0; s < n_segments(rows); ++s) {
        before.clear(), used.clear();
        for (int64_t t = rows[s]; t < rows[s + 1]; ++t) {
            if (visible[t] <= k) continue;
            const T* m = mass_TS.row<T>(t);
            top_entries(scores_TS.row<T>(t), visible[t], k, ours);
            top_entries(m, visible[t], k, best);
            n += static_cast<double>(k), n_same += static_cast<double>(n_common(ours, best));
            rank += rank_correlation(scores_TS.row<T>(t), m, visible[t]);
            if (const double most = discounted_gain(best, m, m); most > 0)
                ndcg += discounted_gain(ours, scores_TS.row<T>(t), m) / most;
            for (size_t h = 0; h < heads.size(); ++h) {
                top_entries(mass_THS.row<T>(t) + static_cast<int64_t>(h) * mass_THS.dim(2), visible[t], k, best);
                heads[h] += static_cast<double>(n_common(ours, best));
            }
            double chosen = 0, all = 0;
            for (const int32_t e : ours) chosen += static_cast<double>(m[e]);
            for (int64_t e = 0; e < visible[t]; ++e) all += static_cast<double>(m[e]);
            if (all > 0) mass += chosen / all, ++n_mass;
            if (!before.empty()) {
                const auto both = static_cast<double>(n_common(ours, before));
                overlap += both / (2 * static_cast<double>(k) - both), ++n_pairs;
            }
            used.insert(ours.begin(), ours.end()), before = ours;
        }
        if (!used.empty())
            n_used += static_cast<double>(used.size()), n_entries += static_cast<double>(visible[rows[s + 1] - 1]);
    }
    const auto share = [](double part, double whole) { return whole > 0 ? part / whole : 0; };
    for (double& h : heads) h = share(h, n);
    const double n_queries = n / static_cast<double>(k);
    return {0,
            n > 0 ? n_same / n : std::numeric_limits<double>::quiet_NaN(),
            share(mass, n_mass),
            share(overlap, n_pairs),
            share(n_used, n_entries),
            share(rank, n_queries),
            share(ndcg, n_queries),
            heads};
}

// What the warm-up's loss is over all entries that a query sees, mean over queries that see any; NaN without any.
template <class T>
double mean_divergence(const Tensor& scores_TS, const Tensor& mass_TS, const Offsets& rows, int64_t ratio) {
    const EntrySets sets{{}, visible_entries(rows, ratio)};
    std::vector<int32_t> set;
    double sum = 0, n = 0;
    for (int64_t t = 0; t < scores_TS.dim(0); ++t) {
        sets.of(t, set);
        if (set.empty()) continue;
        sum += divergence<T>(scores_TS.row<T>(t), mass_TS.row<T>(t), set, 0, nullptr), ++n;
    }
    return n > 0 ? sum / n : std::numeric_limits<double>::quiet_NaN();
}

}  // namespace

Tensor index_scores_on_tape(Ctx& ctx, const Tensor& qr_TQ, const Tensor& x_TD, const Tensor& keys_SU, const Offsets& rows,
                            const Offsets& entries, int64_t ratio, const IndexerWeights& w, const ModelConfig& c,
                            const RopeAngles& angles) {
    const int64_t n_tokens = qr_TQ.dim(0), n_heads = c.index_n_heads, d = c.index_head_dim;
    const Tensor plain_TJU = linear(ctx, qr_TQ, w.wq_b, {.is_input_detached = true}).reshaped({n_tokens, n_heads, d});
    const Tensor q_TJU = index_rows(ctx, apply_rope(ctx, plain_TJU, angles));
    const Tensor w_TJ = linear(ctx, x_TD, w.weights_proj, {.quantise_input = false, .is_input_detached = true});
    const OpTimer timer(ctx, OpKind::index);
    if constexpr (kHasCuda)
        if (ctx.cuda) return cuda::index_scores_on_tape(ctx, q_TJU, w_TJ, keys_SU, rows, entries, ratio);
    const Tensor scores = ctx.arena.make(ctx.dtype, {n_tokens, std::max<int64_t>(1, longest_segment(entries))});
    with_real(ctx.dtype, [&](auto real) {
        using T = decltype(real);
        const auto factor = static_cast<T>(1 / std::sqrt(static_cast<double>(d) * static_cast<double>(n_heads)));
        const auto op = std::make_shared<Scores<T>>(
            Scores<T>{q_TJU, w_TJ, keys_SU, scores, rows, entries, ratio, n_heads, d, factor, {}, {}});
        op->cut();
        op->forward(ctx);
        ctx.tape->record([op](Ctx& back) {
            Tape& tape = *back.tape;
            if (!tape.has_grad(op->scores)) return;
            op->backward(back, tape.grad(op->scores), tape.grad(op->q), tape.grad(op->w), tape.grad(op->keys));
        });
    });
    return scores;
}

Tensor choose_entries(Ctx& ctx, const Tensor& scores_TS, const Offsets& rows, int64_t ratio, int64_t k) {
    const OpTimer timer(ctx, OpKind::index);
    if constexpr (kHasCuda)
        if (ctx.cuda) return cuda::choose_on_tape(ctx, scores_TS, rows, ratio, k);
    const Tensor chosen = ctx.arena.make(DType::i32, {scores_TS.dim(0), k});
    with_real(ctx.dtype, [&](auto real) {
        using T = decltype(real);
        const std::vector<int64_t> visible = visible_entries(rows, ratio);
        ctx.pool.parallel_for(scores_TS.dim(0), kQueriesPerPiece, [&](int64_t t0, int64_t t1) {
            std::vector<int32_t> best;
            for (int64_t t = t0; t < t1; ++t) {
                top_entries(scores_TS.row<T>(t), visible[t], k, best);
                int32_t* out = chosen.row<int32_t>(t);
                std::fill_n(std::copy(best.begin(), best.end(), out), k - static_cast<int64_t>(best.size()), -1);
            }
        });
    });
    return chosen;
}

int64_t queries_with_entries(const WholeBatch& batch, int64_t ratio) {
    int64_t n = 0;
    for (const int64_t length : batch.lengths) n += std::max<int64_t>(0, length - ratio + 1);
    return n;
}

void indexer_loss_on_tape(Ctx& ctx, const Tensor& scores_TS, const Tensor& mass_TS, const Tensor& chosen_TK,
                          const Offsets& rows, int64_t ratio) {
    if constexpr (kHasCuda)
        if (ctx.cuda) return cuda::indexer_loss_on_tape(ctx, scores_TS, mass_TS, chosen_TK, rows, ratio);
    TrainingStep& step = *ctx.training;
    const auto sets = std::make_shared<EntrySets>(EntrySets{chosen_TK, visible_entries(rows, ratio)});
    const int64_t n_tokens = scores_TS.dim(0), n_pieces = (n_tokens + kQueriesPerPiece - 1) / kQueriesPerPiece;
    const double weight = step.indexer_weight;
    with_real(ctx.dtype, [&](auto real) {
        using T = decltype(real);
        std::vector<double> sums(static_cast<size_t>(n_pieces));
        std::vector<int64_t> counts(static_cast<size_t>(n_pieces));
        ctx.pool.parallel_for(n_tokens, kQueriesPerPiece, [&](int64_t t0, int64_t t1) {
            std::vector<int32_t> set;
            for (int64_t t = t0; t < t1; ++t) {
                sets->of(t, set);
                if (set.empty()) continue;
                ++counts[t0 / kQueriesPerPiece];
                sums[t0 / kQueriesPerPiece] += divergence<T>(scores_TS.row<T>(t), mass_TS.row<T>(t), set, 0, nullptr);
            }
        });
        const int64_t here = std::accumulate(counts.begin(), counts.end(), int64_t{0});
        const int64_t n = step.whole ? queries_with_entries(*step.whole, ratio) : here;
        if (n == 0) return;
        if (!step.is_recomputation)
            step.losses.push_back(
                {"indexer", ctx.layer, std::accumulate(sums.begin(), sums.end(), 0.0) / static_cast<double>(n), weight});
        ctx.tape->record([=](Ctx& c) {
            const auto factor = static_cast<T>(weight / static_cast<double>(n));
            const Tensor d = c.tape->grad(scores_TS);
            c.pool.parallel_for(n_tokens, kQueriesPerPiece, [&](int64_t t0, int64_t t1) {
                std::vector<int32_t> set;
                for (int64_t t = t0; t < t1; ++t) {
                    sets->of(t, set);
                    divergence<T>(scores_TS.row<T>(t), mass_TS.row<T>(t), set, factor, d.row<T>(t));
                }
            });
        });
    });
}

void measure_indexer(Ctx& ctx, const Tensor& scores_TS, const Tensor& dense_mass_TS, const Offsets& rows, int64_t ratio,
                     int64_t k, const Tensor& dense_mass_THS) {
    if constexpr (kHasCuda)
        if (ctx.cuda) return cuda::measure_indexer(ctx, scores_TS, dense_mass_TS, rows, ratio, k);
    if (ctx.training->is_recomputation) return;
    double kl = 0;
    ctx.training->indexers.push_back(with_real(ctx.dtype, [&](auto real) {
        using T = decltype(real);
        kl = mean_divergence<T>(scores_TS, dense_mass_TS, rows, ratio);
        return measure_choice<T>(scores_TS, dense_mass_TS, dense_mass_THS, rows, ratio, k);
    }));
    ctx.training->indexers.back().layer = ctx.layer;
    if (!std::isnan(kl)) ctx.training->losses.push_back({"indexer.kl", ctx.layer, kl, 0});  // measured: it trains nothing
}

}  // namespace vitrine
