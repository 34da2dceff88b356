// The router on the tape of a GPU: logits in FP32, choices and weights, loads, and one backward kernel for the weights and all
// auxiliary losses (docs/math/moe.md). What is summed over tokens goes by chunks of a segment, in their order, in double.
#include <algorithm>
#include <vector>

#include "engine/device/cuda/blas.h"
#include "engine/ops/router/choose.cuh"
#include "engine/ops/router/router.h"
#include "engine/ops/trained.h"
#include "engine/ops/training.h"

namespace vitrine::cuda {
namespace {

constexpr int kWarps = 4, kThreads = kWarps * kWarp;
constexpr int64_t kChunk = 64;           // tokens of a segment that a block works on
constexpr int64_t kProductRows = 1024;   // of a partial sum of the gate's gradient
constexpr int kMaxExperts = 1024;        // for the shared memory of a token

// Tokens [begin, end) of one segment.
struct Chunk {
    int32_t begin, end, segment;
};

// One layer's routing: what forward fills and backward reads.
struct Taped {
    const float* logits;       // [T, E]
    int32_t* indices;          // [T, K]
    float* weights;            // [T, K]
    float *sum, *lse;          // [T] of all affinities; log sum exp of the logits
    const Chunk* chunks;
    const int32_t* first;      // [G + 1] a segment's first chunk
    double *segments, *total;  // [G, 2 E + 2] and [2 E + 2]: chosen, affinities, squares of lse, balance
    int64_t n_tokens, n_segments;
    int n_experts, k, n_chunks;
    float factor;
    bool is_normalised;
    constexpr int64_t width() const { return 2 * n_experts + 2; }
};

struct Choice {
    cpu::PackedMatrix bias, table;  // table: [V, table.in] of i64 or i32; may be null, as `forced`
    const int32_t *ids, *forced;
    int64_t forced_width;
};

__device__ float log_sum_exp(const float* z, int n) {
    const int lane = threadIdx.x % kWarp;
    float top = -INFINITY, sum = 0;
    for (int e = lane; e < n; e += kWarp) top = fmaxf(top, z[e]);
    top = warp_max(top);
    for (int e = lane; e < n; e += kWarp) sum += expf(z[e] - top);
    return top + logf(warp_sum(sum));
}

// A warp per token. Shared memory: per warp [E] affinities and [E] scores, then [E] marks.
__global__ void choose_taped(Taped a, Choice by) {
    after_previous();
    extern __shared__ float shared[];
    const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, n = a.n_experts;
    const int64_t t = static_cast<int64_t>(blockIdx.x) * kWarps + warp;
    if (t >= a.n_tokens) return;
    float *affinity = shared + warp * 2 * n, *score = affinity + n;
    uint8_t* is_taken = reinterpret_cast<uint8_t*>(shared + kWarps * 2 * n) + warp * n;
    const float* z = a.logits + t * n;
    float sum = 0;
    for (int e = lane; e < n; e += kWarp) {
        const float s = affinity_of(z[e]);
        affinity[e] = s, score[e] = by.bias.data ? s + element(by.bias, 0, e) : s, is_taken[e] = 0;
        sum += s;
    }
    sum = warp_sum(sum);
    const float lse = log_sum_exp(z, n);
    if (lane == 0) a.sum[t] = sum, a.lse[t] = lse;
    __syncwarp();
    int32_t* chosen = a.indices + t * a.k;
    if (by.forced) {
        for (int j = lane; j < a.k; j += kWarp) chosen[j] = by.forced[t * by.forced_width + j];
    } else if (by.table.data) {
        const int64_t at = by.ids[t] * by.table.in;
        for (int j = lane; j < a.k; j += kWarp)
            chosen[j] = by.table.dtype == DType::i64 ? static_cast<int32_t>(static_cast<const int64_t*>(by.table.data)[at + j])
                                                     : static_cast<const int32_t*>(by.table.data)[at + j];
    } else {
        choose_best(score, n, a.k, is_taken, chosen);
    }
    __syncwarp();
    float of_chosen = 0;
    for (int j = 0; j < a.k; ++j)
        if (chosen[j] >= 0) of_chosen += affinity[chosen[j]];
    for (int j = lane; j < a.k; j += kWarp) {
        const float s = chosen[j] < 0 ? 0 : affinity[chosen[j]];
        a.weights[t * a.k + j] = chosen[j] < 0 ? 0 : (a.is_normalised ? s / of_chosen : s) * a.factor;
    }
}

__device__ double block_sum_of(double x) {  // every thread gets it; one order
    __shared__ double in_warp[kWarps];
    for (int i = kWarp / 2; i > 0; i /= 2) x += __shfl_xor_sync(~0u, x, i);
    __syncthreads();
    if (threadIdx.x % kWarp == 0) in_warp[threadIdx.x / kWarp] = x;
    __syncthreads();
    double sum = 0;
    for (int w = 0; w < kWarps; ++w) sum += in_warp[w];
    return sum;
}

// A block per chunk: loads [chunks, 2 E + 2] of its tokens. A warp takes every kWarps-th token, a lane one of 32 experts.
__global__ void count_chunk(Taped a, double* loads) {
    after_previous();
    __shared__ double affinity[kWarps][kWarp], squares[kWarps];
    __shared__ int n_chosen[kWarps][kWarp];
    const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, n = a.n_experts;
    const Chunk c = a.chunks[blockIdx.x];
    double* out = loads + blockIdx.x * a.width();
    for (int e0 = 0; e0 < n; e0 += kWarp) {
        const int e = e0 + lane;
        double sum = 0, square = 0;
        int count = 0;
        for (int64_t t = c.begin + warp; t < c.end; t += kWarps) {
            if (e < n) sum += static_cast<double>(affinity_of(a.logits[t * n + e])) / static_cast<double>(a.sum[t]);
            for (int j = 0; j < a.k; ++j) count += a.indices[t * a.k + j] == e;
            square += static_cast<double>(a.lse[t]) * static_cast<double>(a.lse[t]);
        }
        __syncthreads();
        affinity[warp][lane] = sum, n_chosen[warp][lane] = count;
        if (lane == 0) squares[warp] = square;
        __syncthreads();
        if (warp > 0 || e >= n) continue;
        sum = 0, square = 0, count = 0;
        for (int w = 0; w < kWarps; ++w) sum += affinity[w][lane], count += n_chosen[w][lane], square += squares[w];
        out[e] = count, out[n + e] = sum;
        if (e == 0) out[2 * n] = square, out[2 * n + 1] = 0;
    }
}

// A block per segment: the sum of its chunks, and sum_e f_e P_e with f_e = E n_e / sum(n), P_e = (summed s'_e) / tokens.
__global__ void sum_segment(Taped a, const double* loads) {
    after_previous();
    const int g = blockIdx.x, n = a.n_experts, c0 = a.first[g], c1 = a.first[g + 1];
    double* out = a.segments + g * a.width();
    for (int i = threadIdx.x; i <= 2 * n; i += blockDim.x) {
        double sum = 0;
        for (int c = c0; c < c1; ++c) sum += loads[c * a.width() + i];
        out[i] = sum;
    }
    __syncthreads();
    double n_chosen = 0, value = 0;
    for (int e = threadIdx.x; e < n; e += blockDim.x) n_chosen += out[e];
    n_chosen = block_sum_of(n_chosen);
    const double n_tokens = c1 > c0 ? a.chunks[c1 - 1].end - a.chunks[c0].begin : 0;
    for (int e = threadIdx.x; e < n; e += blockDim.x) value += n * out[e] / n_chosen / n_tokens * out[n + e];
    value = block_sum_of(value);
    if (threadIdx.x == 0) out[2 * n + 1] = value;
}

// A block per number: its sum over the segments.
__global__ void sum_segments(Taped a) {
    after_previous();
    double sum = 0;
    for (int64_t g = threadIdx.x; g < a.n_segments; g += blockDim.x) sum += a.segments[g * a.width() + blockIdx.x];
    sum = block_sum_of(sum);
    if (threadIdx.x == 0) a.total[blockIdx.x] = sum;
}

// Weights of the auxiliary losses; 0: not asked.
struct Asked {
    double balance, sequence, z;
};

// dL/ds' of a balance loss: weight E n_e / sum(n) / tokens, added to coefficient [E]. By the whole block.
__device__ void add_coefficients(const double* chosen, int n, double n_tokens, double weight, float* coefficient) {
    double n_chosen = 0;
    for (int e = threadIdx.x; e < n; e += blockDim.x) n_chosen += chosen[e];
    n_chosen = block_sum_of(n_chosen);
    for (int e = threadIdx.x; e < n; e += blockDim.x)
        coefficient[e] += static_cast<float>(weight * (n * chosen[e] / n_chosen / n_tokens));
}

// A block per chunk: every element of dlogits [T, E], of the weights' gradients (may be null) and of the losses that are asked.
// Shared memory: [E] coefficients, then per warp [E] affinities and [E] gradients of them.
__global__ void route_backward(Taped a, Asked asked, const float* dweights, float* dlogits) {
    after_previous();
    extern __shared__ float shared[];
    const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, n = a.n_experts;
    const Chunk c = a.chunks[blockIdx.x];
    float *coefficient = shared, *s = shared + n + warp * 2 * n, *ds = s + n;
    for (int e = threadIdx.x; e < n; e += blockDim.x) coefficient[e] = 0;
    if (asked.balance != 0) add_coefficients(a.total, n, static_cast<double>(a.n_tokens), asked.balance, coefficient);
    if (asked.sequence != 0) {
        const double n_here = a.chunks[a.first[c.segment + 1] - 1].end - a.chunks[a.first[c.segment]].begin;
        add_coefficients(a.segments + c.segment * a.width(), n, n_here,
                         asked.sequence / static_cast<double>(a.n_segments), coefficient);
    }
    __syncthreads();
    const auto scale_z = static_cast<float>(2 * asked.z / static_cast<double>(a.n_tokens));
    for (int64_t t = c.begin + warp; t < c.end; t += kWarps) {
        const float *z = a.logits + t * n, sum = a.sum[t], lse = a.lse[t];
        float mixed = 0;
        for (int e = lane; e < n; e += kWarp) s[e] = affinity_of(z[e]), mixed += coefficient[e] * s[e];
        mixed = warp_sum(mixed) / sum;
        for (int e = lane; e < n; e += kWarp) ds[e] = (coefficient[e] - mixed) / sum;
        __syncwarp();
        if (dweights && lane == 0) {  // ds_j = (factor g_j - sum_i g_i w_i) / sum over the chosen
            const int32_t* chosen = a.indices + t * a.k;
            const float *g = dweights + t * a.k, *w = a.weights + t * a.k;
            float of_chosen = 0, by_weight = 0;
            for (int j = 0; j < a.k; ++j)
                if (chosen[j] >= 0) of_chosen += s[chosen[j]], by_weight += g[j] * w[j];
            for (int j = 0; j < a.k; ++j)
                if (chosen[j] >= 0)
                    ds[chosen[j]] += a.is_normalised ? (a.factor * g[j] - by_weight) / of_chosen : a.factor * g[j];
        }
        __syncwarp();
        for (int e = lane; e < n; e += kWarp) {
            float dz = ds[e] * affinity_slope(z[e], s[e]);
            if (scale_z != 0) dz += scale_z * lse * expf(z[e] - lse);
            dlogits[t * n + e] = dz;
        }
        __syncwarp();
    }
}

// to += the sum of n_parts arrays of n, in their order.
__global__ void add_parts(const float* parts, int64_t n, int n_parts, float* to) {
    after_previous();
    const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float sum = 0;
    for (int p = 0; p < n_parts; ++p) sum += parts[p * n + i];
    to[i] += sum;
}

// dW [E, D] += dlogits^T x: few outputs and many rows, so in pieces of kProductRows rows side by side.
void gate_gradient(Ctx& ctx, const Tensor& dlogits, const Tensor& x, const Tensor& dw) {
    const int64_t n_tokens = x.dim(0), d = x.dim(1), n = dw.dim(0), whole = n_tokens / kProductRows;
    const Arena::Scope scratch(ctx.arena);
    Gemm g{n, d, kProductRows, n, d, d, DType::f32, DType::f32};
    g.a_is_km = g.b_is_kn = true;
    if (whole > 0) {
        const Tensor parts = ctx.arena.make(DType::f32, {whole, n, d});
        g.batch = whole, g.stride_a = kProductRows * n, g.stride_b = kProductRows * d, g.stride_c = n * d;
        gemm(*ctx.cuda, g, dlogits.data, x.data, parts.data);
        add_parts<<<ceil_div(n * d, kThreads), kThreads, 0, ctx.cuda->stream()>>>(parts.f32(), n * d, static_cast<int>(whole),
                                                                                  dw.f32());
        check_launch(ctx, "the gate's gradient");
    }
    if (whole * kProductRows == n_tokens) return;
    g.k = n_tokens - whole * kProductRows, g.batch = 1, g.accumulates = true;
    gemm(*ctx.cuda, g, dlogits.row<float>(whole * kProductRows), x.row<float>(whole * kProductRows), dw.data);
}

// Segments in chunks, and where each segment's chunks begin: on the GPU.
void place_chunks(Ctx& ctx, std::span<const int64_t> ends, Taped& a) {
    std::vector<int32_t> list, first{0};
    int64_t begin = 0;
    for (size_t g = 0; g < ends.size(); ++g) {
        for (; begin < ends[g]; begin += kChunk) {
            const int64_t end = std::min(begin + kChunk, ends[g]);
            list.insert(list.end(), {static_cast<int32_t>(begin), static_cast<int32_t>(end), static_cast<int32_t>(g)});
        }
        begin = ends[g];
        first.push_back(static_cast<int32_t>(list.size() / 3));
    }
    a.n_chunks = first.back(), a.n_segments = static_cast<int64_t>(ends.size());
    list.insert(list.end(), first.begin(), first.end());
    const int32_t* there = ctx.cuda->ints(list);
    a.chunks = reinterpret_cast<const Chunk*>(there);
    a.first = there + 3 * a.n_chunks;
}

// Loads and the values of the losses, once they are there.
void leave(Ctx& ctx, const Taped& a, const Asked& asked) {
    TrainingStep& step = *ctx.training;
    const auto layer = static_cast<size_t>(ctx.layer), first_loss = step.losses.size();
    if (step.loads.size() <= layer) step.loads.resize(layer + 1);
    if (asked.balance != 0) step.losses.push_back({"balance", ctx.layer, 0, asked.balance});
    if (asked.sequence != 0) step.losses.push_back({"sequence_balance", ctx.layer, 0, step.sequence_weight});
    if (asked.z != 0) step.losses.push_back({"router_z", ctx.layer, 0, step.z_weight});
    const int n = a.n_experts;
    const auto n_tokens = static_cast<double>(step.whole ? step.whole->n_tokens : a.n_tokens);
    const auto n_segments = static_cast<double>(step.whole ? static_cast<int64_t>(step.whole->lengths.size()) : a.n_segments);
    const Tensor total{a.total, DType::f64, {a.width()}};
    ctx.cuda->read_later(total, [=, &step](const void* data) {
        const auto* sums = static_cast<const double*>(data);
        step.loads[layer] = {{sums, sums + n}, {sums + n, sums + 2 * n}};
        double n_chosen = 0, balance = 0;
        for (int e = 0; e < n; ++e) n_chosen += sums[e];
        for (int e = 0; e < n; ++e) balance += n * sums[e] / n_chosen / n_tokens * sums[n + e];
        size_t at = first_loss;
        if (asked.balance != 0) step.losses[at++].value = balance;
        if (asked.sequence != 0) step.losses[at++].value = sums[2 * n + 1] / n_segments;
        if (asked.z != 0) step.losses[at++].value = sums[2 * n] / n_tokens;
    });
}

// Weights of this rank's means: with several ranks its share of the tokens and segments is in them. Balance over the whole batch
// would need the others' loads in the middle of the forward pass; the trainer refuses it there.
Asked asked_of(const Ctx& ctx, bool is_hash_routed, int64_t n_tokens, int64_t n_segments) {
    if (!ctx.training) return {0, 0, 0};
    const TrainingStep& s = *ctx.training;
    VITRINE_ASSERT(!s.whole || s.balance_weight == 0);
    const auto share = [&](int64_t n, int64_t n_whole) { return static_cast<double>(n) / static_cast<double>(n_whole); };
    const double of_tokens = s.whole ? share(n_tokens, s.whole->n_tokens) : 1;
    const double of_segments = s.whole ? share(n_segments, static_cast<int64_t>(s.whole->lengths.size())) : 1;
    return {is_hash_routed ? 0 : s.balance_weight, is_hash_routed ? 0 : s.sequence_weight * of_segments, s.z_weight * of_tokens};
}

void count(Ctx& ctx, const Taped& a) {
    const Arena::Scope scratch(ctx.arena);
    double* loads = ctx.arena.make(DType::f64, {a.n_chunks, a.width()}).as<double>();
    const auto stream = ctx.cuda->stream();
    count_chunk<<<static_cast<unsigned>(a.n_chunks), kThreads, 0, stream>>>(a, loads);
    sum_segment<<<static_cast<unsigned>(a.n_segments), kThreads, 0, stream>>>(a, loads);
    sum_segments<<<static_cast<unsigned>(a.width()), kThreads, 0, stream>>>(a);
    check_launch(ctx, "counting an expert's tokens");
}

void record(Ctx& ctx, const Taped& a, const Asked& asked, const Tensor& x, const Param& gate, const Tensor& weights) {
    const Tensor master = is_trained(ctx, gate) ? gate.master : Tensor{}, value = trained_value(ctx, gate);
    ctx.tape->record([=](Ctx& c) {
        const bool has_losses = asked.balance != 0 || asked.sequence != 0 || asked.z != 0;
        const bool is_used = c.tape->has_grad(weights);
        if (!is_used && !has_losses) return;
        const int64_t n = a.n_experts, d = x.dim(1);
        const Tensor dlogits = c.arena.make(DType::f32, {a.n_tokens, n});
        const size_t shared = static_cast<size_t>((2 * kWarps + 1) * n) * sizeof(float);
        route_backward<<<static_cast<unsigned>(a.n_chunks), kThreads, shared, c.cuda->stream()>>>(
            a, asked, is_used ? c.tape->grad(weights).f32() : nullptr, dlogits.f32());
        check_launch(c, "gradients of routing");
        const Tape::Flow dx = c.tape->flow(x);
        Gemm g{a.n_tokens, d, n, n, d, d, DType::f32, DType::f32};
        g.b_is_kn = true, g.accumulates = dx.accumulates;
        gemm(*c.cuda, g, dlogits.data, value.data, dx.gradient.data);
        if (!master.empty()) gate_gradient(c, dlogits, x, c.tape->grad(master));
    });
}

}  // namespace

Routing route_on_tape(Ctx& ctx, const Tensor& x_TD, std::span<const int32_t> ids, const MoeWeights& w, const ModelConfig& c,
                      bool is_hash_routed, const Tensor& forced_TK, std::span<const int64_t> segment_ends) {
    if (c.variants.router == RouterKind::top_p)
        throw Error(ErrorKind::bad_input, "router top_p: expected topk_bias or topk on a GPU; --device cpu trains this model");
    const OpTimer timer(ctx, OpKind::route);
    const int64_t n_tokens = x_TD.dim(0), d = x_TD.dim(1), n_experts = c.n_experts;
    const int64_t k = ctx.active_experts > 0 ? std::min(ctx.active_experts, c.n_experts_per_tok) : c.n_experts_per_tok;
    VITRINE_ASSERT(x_TD.dtype == DType::f32 && n_tokens > 0 && n_experts <= kMaxExperts && ctx.layer >= 0);
    const Tensor logits_TE = ctx.arena.make(DType::f32, {n_tokens, n_experts}), gate = trained_value(ctx, w.gate);
    gemm(*ctx.cuda, {n_tokens, n_experts, d, d, d, n_experts, DType::f32, DType::f32}, x_TD.data, gate.data, logits_TE.data);
    const Routing r{ctx.arena.make(DType::i32, {n_tokens, k}), ctx.arena.make(DType::f32, {n_tokens, k})};

    const std::vector<int64_t> whole{n_tokens};
    if (segment_ends.empty()) segment_ends = whole;
    VITRINE_ASSERT(segment_ends.back() == n_tokens);
    Taped a{};
    a.logits = logits_TE.f32(), a.indices = r.indices_TK.as<int32_t>(), a.weights = r.weights_TK.f32();
    a.sum = ctx.arena.make(DType::f32, {n_tokens}).f32(), a.lse = ctx.arena.make(DType::f32, {n_tokens}).f32();
    a.n_tokens = n_tokens, a.n_experts = c.n_experts, a.k = static_cast<int>(k);
    a.factor = static_cast<float>(c.routed_scaling_factor), a.is_normalised = c.norm_topk_prob;
    place_chunks(ctx, segment_ends, a);
    a.segments = ctx.arena.make(DType::f64, {a.n_segments, a.width()}).as<double>();
    a.total = ctx.arena.make(DType::f64, {a.width()}).as<double>();

    Choice by{};
    if (is_hash_routed) {
        by.table = w.tid2eid.view, by.ids = ctx.cuda->ints(ids);
        VITRINE_ASSERT(by.table.data && by.table.in == c.n_experts_per_tok && static_cast<int64_t>(ids.size()) == n_tokens);
    } else if (c.variants.router == RouterKind::topk_bias) {
        by.bias = w.bias.view;
    }
    if (!forced_TK.empty()) {
        VITRINE_ASSERT(forced_TK.dtype == DType::i32 && forced_TK.dim(0) == n_tokens && forced_TK.dim(1) >= k);
        by.forced = forced_TK.as<int32_t>(), by.forced_width = forced_TK.dim(1);
    }
    const size_t shared = static_cast<size_t>(kWarps * n_experts) * (2 * sizeof(float) + 1);
    choose_taped<<<ceil_div(n_tokens, kWarps), kThreads, shared, ctx.cuda->stream()>>>(a, by);
    check_launch(ctx, "routing");
    const Asked asked = asked_of(ctx, is_hash_routed, a.n_tokens, a.n_segments);
    const bool leaves = ctx.training && !ctx.training->is_recomputation;
    if (leaves || asked.balance != 0 || asked.sequence != 0) count(ctx, a);
    if (leaves) leave(ctx, a, asked);
    record(ctx, a, asked, x_TD, w.gate, r.weights_TK);
    return r;
}

}  // namespace vitrine::cuda
