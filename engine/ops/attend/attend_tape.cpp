// Core attention on the tape: blocks of queries against contiguous ranges of keys, forward and backward.
#include "engine/ops/attend/attend_tape.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>

#include "engine/ops/exp_row.h"
#include "engine/ops/linear/matmul.h"
#include "engine/ops/trained.h"
#include "engine/ops/training.h"

namespace vitrine {
namespace {

// A run of queries of one segment and one key head: the unit of the parallel split, worked off block by block. With several
// pieces per segment each collects the gradients of its keys in rows of its own, which are added in the order of the pieces.
struct Piece {
    int64_t segment, group, begin, end;  // rows of the batch
};

// One block of queries and the keys that some query of it sees: columns [0, n_rows) are rows from `first_row`, the next
// n_entries are the segment's first entries.
struct Block {
    int64_t segment, group, begin, end, first_row, n_rows, n_entries;
    int64_t n_keys() const { return n_rows + n_entries; }
};

// Consecutive columns that a query sees.
struct Run {
    int64_t begin, end;
};

template <class T>
struct Scratch {
    std::vector<T> q, keys, values, scores, left, right, dq, z, raw;
    std::vector<Run> runs;
    std::vector<int64_t> run_offsets;
    std::vector<int32_t> picks;
};
template <class T>
Scratch<T>& thread_scratch() {
    static thread_local Scratch<T> s;
    return s;
}
template <class V>
auto* sized(V& v, int64_t n) {
    if (v.size() < static_cast<size_t>(n)) v.resize(static_cast<size_t>(n));
    return v.data();
}

// Sums of one piece for AttentionStats.
struct PieceStats {
    double max_logit = -std::numeric_limits<double>::infinity(), entropy = 0, window = 0, entries = 0, sink = 0,
           reach = 0;
    std::vector<double> by_head;  // [H] largest logit; empty: not asked for
    bool is_full = true;          // false: by_head alone
};

template <class T>
struct Attend {
    Tensor q, sinks, o, lse;  // sinks may be empty; lse [T, H]: log of each softmax's denominator
    TapeKeys keys;
    int64_t n_heads, n_groups, heads, c, v;  // heads: per group
    T scale;
    bool is_shared;           // keys are values
    std::vector<Piece> pieces;
    std::vector<int64_t> first_piece;  // [segments * groups + 1]; pieces of one segment and group follow each other

    Attend(Ctx& ctx, const Tensor& queries, const TapeKeys& k, const Tensor& sink_values)
        : q(queries), sinks(sink_values), keys(k), n_heads(q.dim(1)), n_groups(k.keys_TGC.dim(1)), heads(n_heads / n_groups),
          c(q.dim(2)), v(k.values_TGV.dim(2)), is_shared(k.keys_TGC.data == k.values_TGV.data) {
        VITRINE_ASSERT(heads * n_groups == n_heads && keys.rows.back() == q.dim(0) && keys.window > 0);
        VITRINE_ASSERT(keys.entries_SC.empty() || (n_groups == 1 && is_shared && keys.ratio > 0));
        scale = static_cast<T>(1 / std::sqrt(static_cast<double>(c)));
        o = ctx.arena.make(ctx.dtype, {q.dim(0), n_heads, v});
        lse = ctx.arena.make(ctx.dtype, {q.dim(0), n_heads});
        // About 32 pieces, by shapes alone; whole blocks.
        const int64_t per_segment = std::max<int64_t>(1, 32 / (n_segments(keys.rows) * n_groups));
        for (int64_t s = 0; s < n_segments(keys.rows); ++s)
            for (int64_t g = 0; g < n_groups; ++g) {
                first_piece.push_back(static_cast<int64_t>(pieces.size()));
                const int64_t n = keys.rows[s + 1] - keys.rows[s], blocks = (n + block_queries() - 1) / block_queries();
                const int64_t step = (blocks + per_segment - 1) / per_segment * block_queries();
                for (int64_t t = keys.rows[s]; t < keys.rows[s + 1]; t += step)
                    pieces.push_back({s, g, t, std::min(t + step, keys.rows[s + 1])});
            }
        first_piece.push_back(static_cast<int64_t>(pieces.size()));
    }

    // Small blocks: few keys lie outside a query's window then. More gained nothing at 4 heads of 16 or 8 of 64.
    int64_t block_queries() const { return std::clamp<int64_t>(64 / heads / 8 * 8, 8, 16); }
    Block block(const Piece& p, int64_t t) const {
        const int64_t first = keys.rows[p.segment], end = std::min(t + block_queries(), p.end);
        const int64_t row = std::max(first, t - keys.window + 1);
        int64_t n_entries = 0;
        if (!keys.entries_SC.empty())
            n_entries = std::min((end - first) / keys.ratio, keys.entries[p.segment + 1] - keys.entries[p.segment]);
        return {p.segment, p.group, t, end, row, end - row, n_entries};
    }
    // The block's keys (values): rows of one key head, then entries, without gaps.
    Matrix<T> key_matrix(const Block& b, std::vector<T>& memory) const {
        return rows_and_entries(b, keys.keys_TGC.as<T>(), c, memory);
    }
    Matrix<T> value_matrix(const Block& b, const Matrix<T>& key_matrix, std::vector<T>& memory) const {
        return is_shared ? key_matrix : rows_and_entries(b, keys.values_TGV.as<T>(), v, memory);
    }
    Matrix<T> rows_and_entries(const Block& b, const T* rows, int64_t width, std::vector<T>& memory) const {
        if (n_groups == 1 && b.n_entries == 0) return {rows + b.first_row * width, b.n_rows, width, width};
        T* out = sized(memory, b.n_keys() * width);
        for (int64_t i = 0; i < b.n_rows; ++i)
            std::copy_n(rows + ((b.first_row + i) * n_groups + b.group) * width, width, out + i * width);
        if (b.n_entries > 0)
            std::copy_n(keys.entries_SC.as<T>() + keys.entries[b.segment] * c, b.n_entries * c, out + b.n_rows * c);
        return {out, b.n_keys(), width, width};
    }

    // Rows (query, head of the group) of x [T, H, width] times `factor`.
    void gather(const Block& b, const T* x, int64_t width, T factor, T* out) const {
        for (int64_t t = b.begin; t < b.end; ++t) {
            const T* from = x + (t * n_heads + b.group * heads) * width;
            for (int64_t i = 0; i < heads * width; ++i) *out++ = factor * from[i];
        }
    }

    // The columns that each query of the block sees: run_offsets[i] .. run_offsets[i + 1] of runs.
    void find_runs(const Block& b, Scratch<T>& s) const {
        s.runs.clear(), s.run_offsets.assign(1, 0);
        const int64_t first = keys.rows[b.segment];
        for (int64_t t = b.begin; t < b.end; ++t) {
            s.runs.push_back({std::max(t - keys.window + 1, b.first_row) - b.first_row, t - b.first_row + 1});
            const int64_t visible = keys.ratio > 0 ? std::min((t - first + 1) / keys.ratio, b.n_entries) : 0;
            if (keys.chosen_TK.empty()) {
                if (visible > 0) s.runs.push_back({b.n_rows, b.n_rows + visible});
            } else {
                const int32_t* chosen = keys.chosen_TK.row<int32_t>(t);
                s.picks.clear();
                for (int64_t i = 0; i < keys.chosen_TK.dim(1); ++i)
                    if (chosen[i] >= 0 && chosen[i] < visible) s.picks.push_back(chosen[i]);
                std::sort(s.picks.begin(), s.picks.end());
                for (const int64_t e : s.picks) {
                    if (s.runs.back().end == b.n_rows + e && s.runs.back().begin >= b.n_rows) ++s.runs.back().end;
                    else s.runs.push_back({b.n_rows + e, b.n_rows + e + 1});
                }
            }
            s.run_offsets.push_back(static_cast<int64_t>(s.runs.size()));
        }
    }

    // f(row of scores, batch row t, head, runs begin, runs end)
    template <class F>
    void for_rows(const Block& b, const Scratch<T>& s, F&& f) const {
        for (int64_t i = 0; i < b.end - b.begin; ++i)
            for (int64_t h = 0; h < heads; ++h)
                f(i * heads + h, b.begin + i, b.group * heads + h, s.runs.data() + s.run_offsets[i],
                  s.runs.data() + s.run_offsets[i + 1]);
    }

    // Visible scores become exp(score - shift), the others 0; returns the sum. The first run is the window's; the others are
    // entries, often single ones, so that all between the first and the last are raised at once.
    static T exponentials(T* row, int64_t n, const Run* run, const Run* end, T shift) {
        std::fill(row, row + run->begin, T{0});
        T sum = exp_row(row + run->begin, run->end - run->begin, shift);
        int64_t at = run->end;
        if (++run < end) {
            const int64_t first = run->begin, last = (end - 1)->end;
            const T all = exp_row(row + first, last - first, shift);
            const bool has_gaps = end - run > 1;
            for (; run < end; ++run) {
                std::fill(row + at, row + run->begin, T{0});
                for (int64_t j = run->begin; j < run->end && has_gaps; ++j) sum += row[j];
                at = run->end;
            }
            if (!has_gaps) sum += all;
        }
        std::fill(row + at, row + n, T{0});
        return sum;
    }

    void forward(Ctx& ctx, const TapeAttention& mass, std::vector<PieceStats>* stats) {
        ctx.pool.parallel_for(static_cast<int64_t>(pieces.size()), 1, [&](int64_t p0, int64_t p1) {
            for (int64_t p = p0; p < p1; ++p)
                for (int64_t t = pieces[p].begin; t < pieces[p].end; t += block_queries())
                    forward_block(block(pieces[p], t), mass, stats ? &(*stats)[p] : nullptr);
        });
    }
    void forward_block(const Block& b, const TapeAttention& mass, PieceStats* stats) const {
        Scratch<T>& s = thread_scratch<T>();
        const int64_t m = (b.end - b.begin) * heads, n = b.n_keys();
        T *q_rows = sized(s.q, m * c), *scores = sized(s.scores, m * n), *out = sized(s.left, m * v), *z = sized(s.z, m);
        const Matrix<T> k_rows = key_matrix(b, s.keys), v_rows = value_matrix(b, k_rows, s.values);
        gather(b, q.as<T>(), c, scale, q_rows);
        find_runs(b, s);
        matmul_nt_serial(Matrix<T>{q_rows, m, c, c}, k_rows, scores, n, false);
        for_rows(b, s, [&](int64_t r, int64_t t, int64_t h, const Run* run, const Run* end) {
            T* row = scores + r * n;
            cap(row, run, end);
            const T sink = sinks.empty() ? -std::numeric_limits<T>::infinity() : sinks.as<T>()[h];
            T largest = -std::numeric_limits<T>::infinity();
            for (const Run* k = run; k < end; ++k) largest = max_row(row + k->begin, k->end - k->begin, largest);
            const T top = std::max(sink, largest), p_sink = std::exp(sink - top);
            const bool is_measured = stats && stats->is_full;
            if (is_measured) std::copy_n(row, n, sized(s.raw, n));
            if (stats && !stats->by_head.empty()) stats->by_head[h] = std::max(stats->by_head[h], static_cast<double>(largest));
            z[r] = exponentials(row, n, run, end, top) + p_sink;
            lse.as<T>()[t * n_heads + h] = top + std::log(z[r]);
            if (!is_measured) return;
            add_stats(*stats, b, s.raw.data(), row, run, end, largest, sink, p_sink, z[r], top + std::log(z[r]));
            stats->reach += reach(b, t, row, run, end, z[r] - p_sink);
        });
        matmul_nn_serial(Matrix<T>{scores, m, n, n}, v_rows, out, v, false);
        for (int64_t r = 0; r < m; ++r) {
            const T factor = 1 / z[r];
            T* to = o.as<T>() + ((b.begin + r / heads) * n_heads + b.group * heads + r % heads) * v;
            for (int64_t i = 0; i < v; ++i) to[i] = factor * out[r * v + i];
            if (mass.mass_TS.empty()) continue;
            T* sum = mass.mass_TS.row<T>(b.begin + r / heads);
            for (int64_t j = 0; j < b.n_entries; ++j) sum[j] += factor * scores[r * n + b.n_rows + j];
            if (mass.mass_THS.empty()) continue;
            T* own = mass.mass_THS.row<T>(b.begin + r / heads) + (b.group * heads + r % heads) * mass.mass_THS.dim(2);
            for (int64_t j = 0; j < b.n_entries; ++j) own[j] = factor * scores[r * n + b.n_rows + j];
        }
    }
    // Soft cap of the visible scores, in place.
    void cap(T* row, const Run* run, const Run* end) const {
        if (keys.softcap == 0) return;
        const auto top = static_cast<T>(keys.softcap);
        for (; run < end; ++run)
            for (int64_t j = run->begin; j < run->end; ++j) row[j] = top * std::tanh(row[j] / top);
    }
    // Of one query and head: scores, e^(score - top) and z, the sum of these and the sink's.
    static void add_stats(PieceStats& stats, const Block& b, const T* score, const T* p, const Run* run, const Run* end, T largest,
                          T sink, T p_sink, T z, T log_z) {
        T parts[2] = {}, mean = p_sink > 0 ? p_sink * sink : T{0};
        for (; run < end; ++run)
            for (int64_t j = run->begin; j < run->end; ++j) parts[run->begin >= b.n_rows] += p[j], mean += p[j] * score[j];
        stats.max_logit = std::max(stats.max_logit, static_cast<double>(largest));
        stats.entropy += static_cast<double>(log_z - mean / z);  // log Z - sum p_j s_j over keys and sink
        stats.window += static_cast<double>(parts[0] / z), stats.entries += static_cast<double>(parts[1] / z);
        stats.sink += static_cast<double>(p_sink / z);
    }
    // From the query outwards, rows and entries in the order of their distance, until 0.9 of `total` is passed.
    double reach(const Block& b, int64_t t, const T* p, const Run* window, const Run* end, T total) const {
        const double wanted = 0.9 * static_cast<double>(total), middle = 0.5 * static_cast<double>(keys.ratio - 1);
        const int64_t position = t - keys.rows[b.segment];
        const Run* run = end - 1;
        int64_t row = window->end - 1, entry = run->end - 1;
        double sum = 0, at = 0;
        while (sum < wanted) {
            while (run > window && entry < run->begin)
                if (--run > window) entry = run->end - 1;
            const double to_row = row >= window->begin ? static_cast<double>(t - b.first_row - row) : HUGE_VAL;
            const double to_entry =
                run > window ? static_cast<double>(position - (entry - b.n_rows) * keys.ratio) - middle : HUGE_VAL;
            if (to_row == HUGE_VAL && to_entry == HUGE_VAL) break;  // rounding kept the sum below
            at = std::min(to_row, to_entry);
            sum += static_cast<double>(to_row <= to_entry ? p[row--] : p[entry--]);
        }
        return at;
    }

    void backward(Ctx& ctx, const Tensor& dout, const Tensor& dq, const Tensor& dk, const Tensor& dv, const Tensor& de,
                  const Tensor& dsinks) const;
    struct Gradients;  // where a piece adds what its keys receive
    void backward_block(const Block& b, const T* dout, T* dq, const Gradients& to, T* dsinks) const;
};

// Row `first_row` of the batch at rows, entry 0 of the segment at entries.
template <class T>
struct Attend<T>::Gradients {
    T *keys, *values, *entries;
    int64_t ld_keys, ld_values, first_row;
};

template <class T>
void Attend<T>::backward_block(const Block& b, const T* dout, T* dq, const Gradients& to, T* dsinks) const {
    Scratch<T>& s = thread_scratch<T>();
    const int64_t m = (b.end - b.begin) * heads, n = b.n_keys(), at = b.first_row - to.first_row;
    // One above the other: score gradients over probabilities, queries over output gradients. Where keys are values both
    // products into their rows are one.
    T* left = sized(s.left, 2 * m * n);
    T *ds = left, *p = left + m * n;
    T* right = sized(s.right, m * (c + v));
    T *q_rows = right, *g = right + m * c;
    gather(b, q.as<T>(), c, scale, q_rows);
    gather(b, dout, v, 1, g);
    find_runs(b, s);
    const Matrix<T> k_rows = key_matrix(b, s.keys), v_rows = value_matrix(b, k_rows, s.values);
    matmul_nt_serial(Matrix<T>{q_rows, m, c, c}, k_rows, p, n, false);
    matmul_nt_serial(Matrix<T>{g, m, v, v}, v_rows, ds, n, false);
    for_rows(b, s, [&](int64_t r, int64_t t, int64_t h, const Run* run, const Run* end) {
        const T *out = o.as<T>() + (t * n_heads + h) * v, *grad = g + r * v;
        const T log_z = lse.as<T>()[t * n_heads + h];
        T dot = 0;
        for (int64_t i = 0; i < v; ++i) dot += out[i] * grad[i];
        T* capped = keys.softcap != 0 ? sized(s.raw, n) : nullptr;
        if (capped) cap(p + r * n, run, end), std::copy_n(p + r * n, n, capped);
        exponentials(p + r * n, n, run, end, log_z);
        for (int64_t j = 0; j < n; ++j) ds[r * n + j] = p[r * n + j] * (ds[r * n + j] - dot);
        for (const Run* k = run; capped && k < end; ++k)  // d cap tanh(z / cap) / dz = 1 - tanh^2
            for (int64_t j = k->begin; j < k->end; ++j) {
                const T tanh = capped[j] / static_cast<T>(keys.softcap);
                ds[r * n + j] *= 1 - tanh * tanh;
            }
        if (dsinks) dsinks[h] -= std::exp(sinks.as<T>()[h] - log_z) * dot;
    });
    // dq = scale * dS K
    T* dq_rows = sized(s.dq, m * c);
    matmul_nn_serial(Matrix<T>{ds, m, n, n}, k_rows, dq_rows, c, false);
    for (int64_t i = 0; i < b.end - b.begin; ++i) {
        T* out = dq + ((b.begin + i) * n_heads + b.group * heads) * c;
        for (int64_t j = 0; j < heads * c; ++j) out[j] += scale * dq_rows[i * heads * c + j];
    }
    // dK = dS^T (scale Q), dV = P^T g
    T* dkeys = sized(s.dq, n * std::max(c, v));
    const auto add = [&](int64_t first, int64_t rows, int64_t width, T* out, int64_t ld) {
        for (int64_t i = 0; i < rows; ++i)
            for (int64_t j = 0; j < width; ++j) out[i * ld + j] += dkeys[(first + i) * width + j];
    };
    if (is_shared) {
        matmul_tn_serial(Matrix<T>{left, 2 * m, n, n}, Matrix<T>{right, 2 * m, c, c}, dkeys, c, false);
        add(0, b.n_rows, c, to.keys + at * to.ld_keys, to.ld_keys);
        add(b.n_rows, b.n_entries, c, to.entries, c);
    } else {
        matmul_tn_serial(Matrix<T>{ds, m, n, n}, Matrix<T>{q_rows, m, c, c}, dkeys, c, false);
        add(0, n, c, to.keys + at * to.ld_keys, to.ld_keys);
        matmul_tn_serial(Matrix<T>{p, m, n, n}, Matrix<T>{g, m, v, v}, dkeys, v, false);
        add(0, n, v, to.values + at * to.ld_values, to.ld_values);
    }
}

template <class T>
void Attend<T>::backward(Ctx& ctx, const Tensor& dout, const Tensor& dq, const Tensor& dk, const Tensor& dv, const Tensor& de,
                         const Tensor& dsinks) const {
    const auto n_pieces = static_cast<int64_t>(pieces.size());
    const Tensor sink_parts = ctx.arena.make(ctx.dtype, {n_pieces, n_heads});
    std::fill_n(sink_parts.as<T>(), sink_parts.count(), T{0});
    // A segment with one piece adds to the gradients themselves; otherwise each piece has rows of its own.
    std::vector<Gradients> to;
    std::vector<Block> span;  // what a piece covers in all
    for (int64_t p = 0; p < n_pieces; ++p) {
        const Piece& piece = pieces[p];
        Block b = block(piece, piece.begin);
        b.end = piece.end, b.n_rows = piece.end - b.first_row;
        b.n_entries = block(piece, piece.begin + (piece.end - 1 - piece.begin) / block_queries() * block_queries()).n_entries;
        span.push_back(b);
        const int64_t i = piece.segment * n_groups + piece.group;
        if (first_piece[i + 1] - first_piece[i] == 1) {
            to.push_back({dk.as<T>() + piece.group * c, is_shared ? nullptr : dv.as<T>() + piece.group * v,
                          de.empty() ? nullptr : de.as<T>() + keys.entries[piece.segment] * c, n_groups * c, n_groups * v, 0});
            continue;
        }
        const int64_t n = b.n_rows * (c + (is_shared ? 0 : v)) + b.n_entries * c;
        T* own = ctx.arena.make(ctx.dtype, {n}).template as<T>();
        T* after = own + b.n_rows * c;
        std::fill_n(own, n, T{0});
        to.push_back({own, is_shared ? nullptr : after, is_shared ? after : nullptr, c, v, b.first_row});
    }
    ctx.pool.parallel_for(n_pieces, 1, [&](int64_t p0, int64_t p1) {
        for (int64_t p = p0; p < p1; ++p)
            for (int64_t t = pieces[p].begin; t < pieces[p].end; t += block_queries())
                backward_block(block(pieces[p], t), dout.as<T>(), dq.as<T>(), to[p],
                               sinks.empty() ? nullptr : sink_parts.row<T>(p));
    });
    const auto add = [](const T* from, int64_t rows, int64_t width, T* out, int64_t ld) {
        for (int64_t i = 0; i < rows; ++i)
            for (int64_t j = 0; j < width; ++j) out[i * ld + j] += from[i * width + j];
    };
    ctx.pool.parallel_for(static_cast<int64_t>(first_piece.size()) - 1, 1, [&](int64_t i0, int64_t i1) {
        for (int64_t i = i0; i < i1; ++i)
            for (int64_t p = first_piece[i]; p < first_piece[i + 1] && first_piece[i + 1] - first_piece[i] > 1; ++p) {
                const Block& b = span[p];
                add(to[p].keys, b.n_rows, c, dk.as<T>() + (b.first_row * n_groups + b.group) * c, n_groups * c);
                if (!is_shared) add(to[p].values, b.n_rows, v, dv.as<T>() + (b.first_row * n_groups + b.group) * v, n_groups * v);
                if (b.n_entries > 0) add(to[p].entries, b.n_entries, c, de.as<T>() + keys.entries[b.segment] * c, c);
            }
    });
    for (int64_t p = 0; p < n_pieces && !dsinks.empty(); ++p)
        for (int64_t h = 0; h < n_heads; ++h) dsinks.as<T>()[h] += sink_parts.row<T>(p)[h];
}

void leave_stats(TrainingStep& step, int layer, const std::vector<PieceStats>& pieces, double n_rows) {
    AttentionStats all{layer, -std::numeric_limits<double>::infinity(), 0, 0, 0, 0, 0};
    for (const PieceStats& p : pieces) {
        all.max_logit = std::max(all.max_logit, p.max_logit);
        all.entropy += p.entropy / n_rows;
        all.window += p.window / n_rows, all.entries += p.entries / n_rows, all.sink += p.sink / n_rows;
        all.reach += p.reach / n_rows;
    }
    step.attention.push_back(all);
}

void leave_head_logits(TrainingStep& step, int layer, const std::vector<PieceStats>& pieces) {
    HeadLogits logits{layer, pieces[0].by_head};
    for (const PieceStats& p : pieces)
        for (size_t h = 0; h < p.by_head.size(); ++h) logits.largest[h] = std::max(logits.largest[h], p.by_head[h]);
    step.head_logits.push_back(std::move(logits));
}

}  // namespace

TapeAttention attend_on_tape(Ctx& ctx, const Tensor& q_THC, const TapeKeys& keys, const Param& sinks, bool wants_mass) {
    const OpTimer timer(ctx, OpKind::attend);
    if constexpr (kHasCuda)
        if (ctx.cuda) return cuda::attend_on_tape(ctx, q_THC, keys, sinks, wants_mass);
    TapeAttention out;
    with_real(ctx.dtype, [&](auto real) {
        using T = decltype(real);
        const auto op = std::make_shared<Attend<T>>(ctx, q_THC, keys, sinks.empty() ? Tensor{} : trained_value(ctx, sinks));
        if (wants_mass && !keys.entries_SC.empty()) {
            out.mass_TS = ctx.arena.make(ctx.dtype, {q_THC.dim(0), std::max<int64_t>(1, longest_segment(keys.entries))});
            std::fill_n(out.mass_TS.template as<T>(), out.mass_TS.count(), T{0});
            if (keys.splits_mass) {
                out.mass_THS = ctx.arena.make(ctx.dtype, {q_THC.dim(0), op->n_heads, out.mass_TS.dim(1)});
                std::fill_n(out.mass_THS.template as<T>(), out.mass_THS.count(), T{0});
            }
        }
        const bool is_first = ctx.training && !ctx.training->is_recomputation;
        const bool has_stats = is_first && ctx.training->wants_attention_stats;
        const bool has_heads = is_first && ctx.training->wants_head_logits;
        PieceStats none;
        none.is_full = has_stats;
        if (has_heads) none.by_head.assign(static_cast<size_t>(op->n_heads), none.max_logit);
        std::vector<PieceStats> stats(has_stats || has_heads ? op->pieces.size() : 0, none);
        op->forward(ctx, out, stats.empty() ? nullptr : &stats);
        if (has_heads) leave_head_logits(*ctx.training, ctx.layer, stats);
        if (has_stats)
            leave_stats(*ctx.training, ctx.layer, stats, static_cast<double>(q_THC.dim(0)) * static_cast<double>(q_THC.dim(1)));
        out.o_THV = op->o;
        const Tensor master = !sinks.empty() && is_trained(ctx, sinks) ? sinks.master : Tensor{};
        ctx.tape->record([op, master](Ctx& c) {
            if (!c.tape->has_grad(op->o)) return;
            const auto grad = [&](const Tensor& x) { return x.empty() ? Tensor{} : c.tape->grad(x); };
            op->backward(c, c.tape->grad(op->o), grad(op->q), grad(op->keys.keys_TGC),
                         op->is_shared ? Tensor{} : grad(op->keys.values_TGV), grad(op->keys.entries_SC), grad(master));
            c.tape->done(op->o);
        });
    });
    return out;
}

}  // namespace vitrine
