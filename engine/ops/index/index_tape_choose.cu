// What the indexer's scores are for, on the tape of a GPU: the choice of entries, the loss against attention's mass, recall. A
// warp per query; the CPU's twins are in index_tape.cpp.
#include <algorithm>
#include <limits>
#include <vector>

#include "engine/ops/index/index_tape.cuh"
#include "engine/ops/index/index_tape.h"
#include "engine/ops/order.h"
#include "engine/ops/training.h"

namespace vitrine::cuda {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / kWarp;

struct Choice {
    const float* scores;     // [T, n_columns]
    const int32_t* visible;  // [T]
    int32_t* chosen;         // [T, k]
    int n_tokens, n_columns, k;
};

// kPer: scores of a lane, held in registers; 0: any number, read again at every pass.
template <int kPer>
__global__ void __launch_bounds__(kThreads) choose_rows(const Choice c) {
    after_previous();
    const int64_t t = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarp;
    if (t >= c.n_tokens) return;
    const int lane = threadIdx.x % kWarp, n = c.visible[t];
    const float* scores = c.scores + t * c.n_columns;
    int32_t* chosen = c.chosen + t * c.k;
    if (n <= c.k) {
        for (int i = lane; i < c.k; i += kWarp) chosen[i] = i < n ? i : -1;
        return;
    }
    const int n_passes = kPer > 0 ? kPer : (n + kWarp - 1) / kWarp;
    const auto read = [&](int i) { return i < n ? order_key(scores[i]) : 0u; };
    unsigned held[kPer > 0 ? kPer : 1] = {};
    if constexpr (kPer > 0) {
#pragma unroll
        for (int m = 0; m < kPer; ++m) held[m] = read(m * kWarp + lane);
    }
    // f(i, key) of all of the lane's scores; key 0 beyond the end.
    const auto over_keys = [&](auto f) {
        if constexpr (kPer > 0) {
#pragma unroll
            for (int m = 0; m < kPer; ++m) f(m * kWarp + lane, held[m]);
        } else {
            for (int m = 0; m < n_passes; ++m) f(m * kWarp + lane, read(m * kWarp + lane));
        }
    };
    const auto count = [&](auto is_one) {
        int own = 0;
        over_keys([&](int i, unsigned key) { own += i < n && is_one(key); });
        return __reduce_add_sync(~0u, own);
    };
    // The largest key that k scores reach, bit by bit, or any lower one that exactly k reach.
    unsigned threshold = 0;
    for (int bit = 31, n_reach = n; bit >= 0 && n_reach != c.k; --bit) {
        const unsigned trial = threshold | 1u << bit;
        const int reach = count([&](unsigned key) { return key >= trial; });
        if (reach >= c.k) threshold = trial, n_reach = reach;
    }
    const int missing = c.k - count([&](unsigned key) { return key > threshold; });  // of those that equal it: the first
    const unsigned below = (1u << lane) - 1;
    int n_equal = 0, n_chosen = 0;
    over_keys([&](int i, unsigned key) {
        const bool is_equal = i < n && key == threshold;
        const unsigned equal = __ballot_sync(~0u, is_equal);
        const bool is_chosen = i < n && (key > threshold || (is_equal && n_equal + __popc(equal & below) < missing));
        const unsigned taken = __ballot_sync(~0u, is_chosen);
        if (is_chosen) chosen[n_chosen + __popc(taken & below)] = i;
        n_equal += __popc(equal), n_chosen += __popc(taken);
    });
}

// Every query's entries: the chosen ones, or (chosen null) all that it sees.
struct Divergence {
    const float *scores, *mass;  // [T, n_columns]
    const int32_t *chosen, *visible;
    int n_tokens, n_columns, k;
    float2* stats;               // [T] log sum exp of the scores, sum of the mass
    // f(entry) by lanes
    template <class F>
    __device__ void over(int64_t t, int n, F&& f) const {
        const int m = chosen ? k : n;
        for (int i = threadIdx.x % kWarp; i < m; i += kWarp) {
            const int s = chosen ? chosen[t * k + i] : i;
            if (s >= 0 && s < n) f(s);
        }
    }
};

// Queries in runs, one for each warp of the grid, so that sums are in order: parts [blocks, 2] are the sum over the queries of
// KL(mass || softmax(scores)), and the queries that have entries.
__global__ void __launch_bounds__(kThreads) divergence_rows(const Divergence d, int per_warp, double* parts) {
    after_previous();
    __shared__ double sums[kWarps];
    __shared__ int counts[kWarps];
    const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
    const int64_t begin = (static_cast<int64_t>(blockIdx.x) * kWarps + warp) * per_warp;
    const int64_t end = min(begin + per_warp, static_cast<int64_t>(d.n_tokens));
    double sum = 0;
    int count = 0;
    for (int64_t t = begin; t < end; ++t) {
        const int n = d.visible[t];
        const float *scores = d.scores + t * d.n_columns, *mass = d.mass + t * d.n_columns;
        float total = 0, top = -INFINITY, z = 0, divergence = 0;
        bool has_any = false;
        d.over(t, n, [&](int s) { total += mass[s], top = fmaxf(top, scores[s]), has_any = true; });
        count += __any_sync(~0u, has_any);
        total = warp_sum(total), top = warp_max(top);
        d.over(t, n, [&](int s) { z += expf(scores[s] - top); });
        const float log_z = top + logf(warp_sum(z));
        if (lane == 0) d.stats[t] = {log_z, total};
        if (!(total > 0)) continue;
        d.over(t, n, [&](int s) {
            const float p = mass[s] / total;
            if (p > 0) divergence += p * (logf(p) - (scores[s] - log_z));
        });
        sum += static_cast<double>(warp_sum(divergence));
    }
    if (lane == 0) sums[warp] = sum, counts[warp] = count;
    __syncthreads();
    if (threadIdx.x != 0) return;
    for (int w = 1; w < kWarps; ++w) sum += sums[w], count += counts[w];
    parts[2 * blockIdx.x] = sum, parts[2 * blockIdx.x + 1] = count;
}

// d (+)= factor / count * (softmax(scores) - p); without accumulation the columns outside the set become 0.
__global__ void __launch_bounds__(kThreads) divergence_gradients(const Divergence d, float factor, const float* count,
                                                                 float* gradient, bool accumulates) {
    after_previous();
    const int64_t t = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarp;
    if (t >= d.n_tokens) return;
    const float *scores = d.scores + t * d.n_columns, *mass = d.mass + t * d.n_columns;
    float* to = gradient + t * d.n_columns;
    for (int s = threadIdx.x % kWarp; s < d.n_columns && !accumulates; s += kWarp) to[s] = 0;
    __syncwarp();
    const float2 stats = d.stats[t];
    if (!(stats.y > 0)) return;
    const float by = factor / *count;
    d.over(t, d.visible[t], [&](int s) { to[s] += by * (expf(scores[s] - stats.x) - mass[s] / stats.y); });
}

// result [2] = sum / count (0 without any), count; one block.
__global__ void mean_of_parts(const double* parts, int n_parts, float* result) {
    after_previous();
    __shared__ double sums[2][kThreads];
    double sum = 0, count = 0;
    for (int i = threadIdx.x; i < n_parts; i += kThreads) sum += parts[2 * i], count += parts[2 * i + 1];
    sums[0][threadIdx.x] = sum, sums[1][threadIdx.x] = count;
    __syncthreads();
    for (int half = kThreads / 2; half > 0; half /= 2) {
        if (threadIdx.x < half)
            for (int i = 0; i < 2; ++i) sums[i][threadIdx.x] += sums[i][threadIdx.x + half];
        __syncthreads();
    }
    if (threadIdx.x != 0) return;
    result[0] = sums[1][0] > 0 ? static_cast<float>(sums[0][0] / sums[1][0]) : 0.0f;
    result[1] = static_cast<float>(sums[1][0]);
}

// Of queries that see more than k: entries that both lists hold. parts as divergence_rows'.
__global__ void __launch_bounds__(kThreads) common_entries(const int32_t* ours, const int32_t* best, const int32_t* visible,
                                                           int n_tokens, int k, double* parts) {
    after_previous();
    __shared__ float scratch[kWarp];
    const int64_t t = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarp;
    const bool counts = t < n_tokens && visible[t] > k;
    float common = 0;
    for (int i = threadIdx.x % kWarp; i < k && counts; i += kWarp) {
        const int entry = ours[t * k + i];
        int low = 0, high = k;
        while (low < high) {
            const int middle = (low + high) / 2;
            if (best[t * k + middle] < entry) low = middle + 1;
            else high = middle;
        }
        common += low < k && best[t * k + low] == entry;
    }
    const float n = block_sum(counts && threadIdx.x % kWarp == 0 ? static_cast<float>(k) : 0.0f, scratch);
    common = block_sum(common, scratch);
    if (threadIdx.x == 0) parts[2 * blockIdx.x] = common, parts[2 * blockIdx.x + 1] = n;
}

std::vector<int32_t> list_visible(const Offsets& rows, int64_t ratio) {
    std::vector<int32_t> n;
    n.reserve(static_cast<size_t>(rows.back()));
    for (int64_t s = 0; s < n_segments(rows); ++s)
        for (int64_t t = rows[s]; t < rows[s + 1]; ++t) n.push_back(static_cast<int32_t>((t - rows[s] + 1) / ratio));
    return n;
}

Tensor mean_of(Ctx& ctx, const Tensor& parts) {
    const Tensor result = ctx.arena.make(DType::f32, {2});
    mean_of_parts<<<1, kThreads, 0, ctx.cuda->stream()>>>(parts.as<double>(), static_cast<int>(parts.dim(0)), result.f32());
    check_launch(ctx, "mean");
    return result;
}

}  // namespace

Tensor choose_on_tape(Ctx& ctx, const Tensor& scores_TS, const Offsets& rows, int64_t ratio, int64_t k) {
    const int64_t n = scores_TS.dim(0), n_columns = scores_TS.dim(1);
    const Tensor chosen = ctx.arena.make(DType::i32, {n, k});
    const Choice c{scores_TS.f32(), ctx.cuda->ints(list_visible(rows, ratio)), chosen.as<int32_t>(),
                   static_cast<int>(n), static_cast<int>(n_columns), static_cast<int>(k)};
    const auto kernel = n_columns <= 4 * kWarp    ? choose_rows<4>
                        : n_columns <= 8 * kWarp  ? choose_rows<8>
                        : n_columns <= 32 * kWarp ? choose_rows<32>
                                                  : choose_rows<0>;
    kernel<<<ceil_div(n, kWarps), kThreads, 0, ctx.cuda->stream()>>>(c);
    check_launch(ctx, "choice of entries on the tape");
    return chosen;
}

void indexer_loss_on_tape(Ctx& ctx, const Tensor& scores_TS, const Tensor& mass_TS, const Tensor& chosen_TK, const Offsets& rows,
                          int64_t ratio) {
    TrainingStep* const step = ctx.training;
    int64_t here = 0;
    for (size_t i = 0; i + 1 < rows.size(); ++i) here += std::max<int64_t>(0, rows[i + 1] - rows[i] - ratio + 1);
    const int64_t whole = step->whole ? queries_with_entries(*step->whole, ratio) : here;
    if (whole == 0) return;  // no query has any
    if (here == 0) {         // those that have are other ranks'
        if (!step->is_recomputation) step->losses.push_back({"indexer", ctx.layer, 0, step->indexer_weight});
        return;
    }
    const double share = static_cast<double>(here) / static_cast<double>(whole);
    const int64_t n = scores_TS.dim(0);
    const Tensor stats = ctx.arena.make(DType::f32, {n, 2});
    const Divergence d{scores_TS.f32(), mass_TS.f32(), chosen_TK.empty() ? nullptr : chosen_TK.as<int32_t>(),
                       ctx.cuda->ints(list_visible(rows, ratio)), static_cast<int>(n), static_cast<int>(scores_TS.dim(1)),
                       chosen_TK.empty() ? 0 : static_cast<int>(chosen_TK.dim(1)), reinterpret_cast<float2*>(stats.f32())};
    constexpr int64_t kMostBlocks = 1024;
    const auto per_warp = static_cast<int>(std::max<int64_t>(1, (n + kMostBlocks * kWarps - 1) / (kMostBlocks * kWarps)));
    const Tensor parts = ctx.arena.make(DType::f64, {ceil_div(n, int64_t{kWarps} * per_warp), 2});
    divergence_rows<<<static_cast<unsigned>(parts.dim(0)), kThreads, 0, ctx.cuda->stream()>>>(d, per_warp, parts.as<double>());
    check_launch(ctx, "indexer loss");
    const Tensor result = mean_of(ctx, parts);
    const double weight = step->indexer_weight;
    if (!step->is_recomputation) {
        const size_t at = step->losses.size();
        step->losses.push_back({"indexer", ctx.layer, 0, weight});
        ctx.cuda->read_later(result, [=](const void* value) {
            step->losses[at].value = share * *static_cast<const float*>(value);
        });
    }
    ctx.tape->record([=](Ctx& c) {
        const Tape::Flow to = c.tape->flow(scores_TS);
        divergence_gradients<<<ceil_div(n, kWarps), kThreads, 0, c.cuda->stream()>>>(
            d, static_cast<float>(weight * share), result.f32() + 1, to.gradient.f32(), to.accumulates);
        check_launch(c, "indexer loss, backward");
    });
}

void measure_indexer(Ctx& ctx, const Tensor& scores_TS, const Tensor& dense_mass_TS, const Offsets& rows, int64_t ratio,
                     int64_t k) {
    TrainingStep* const step = ctx.training;
    if (step->is_recomputation) return;
    const int64_t n = scores_TS.dim(0);
    const Tensor ours = choose_on_tape(ctx, scores_TS, rows, ratio, k), best = choose_on_tape(ctx, dense_mass_TS, rows, ratio, k);
    const Tensor parts = ctx.arena.make(DType::f64, {ceil_div(n, kWarps), 2});
    common_entries<<<ceil_div(n, kWarps), kThreads, 0, ctx.cuda->stream()>>>(
        ours.as<int32_t>(), best.as<int32_t>(), ctx.cuda->ints(list_visible(rows, ratio)), static_cast<int>(n),
        static_cast<int>(k), parts.as<double>());
    check_launch(ctx, "indexer's recall");
    const size_t at = step->indexers.size();
    step->indexers.push_back({ctx.layer, std::numeric_limits<double>::quiet_NaN()});
    ctx.cuda->read_later(mean_of(ctx, parts), [=](const void* values) {
        const auto* v = static_cast<const float*>(values);
        if (v[1] > 0) step->indexers[at].recall = v[0];
    });
}

}  // namespace vitrine::cuda
