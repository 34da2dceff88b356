// The router on the GPU: one warp per token turns logits into affinities, a choice and weights. For few tokens a cluster of blocks
// per token makes the logits too.
#include <cooperative_groups.h>

#include "engine/ops/router/router.h"

#include <algorithm>

#include "engine/ops/linear/linear.h"
#include "engine/ops/linear/packed.cuh"
#include "engine/ops/router/choose.cuh"

namespace vitrine::cuda {
namespace {

constexpr int kTokensPerBlock = 4, kRouteBlocks = 8, kRouteThreads = 256, kMostRouted = 1024;

// Results are [T, E] or [T, K] or [T]; bias, table and forced may be null.
struct RouteArgs {
    const float* logits;
    cpu::PackedMatrix bias, table;  // table: [V, table.in] of i64 or i32
    const int32_t* forced;
    const TokenAt* tokens;
    float *affinity, *weights, *margin;
    int32_t* indices;
    int64_t n_tokens, n_experts, forced_width;
    int k;
    bool is_normalised;
    float factor;
};

// A warp's shared memory: affinities and scores [E], the chosen [k], marks [E].
__host__ __device__ inline size_t scratch_bytes(int64_t n_experts, int k) {
    return (static_cast<size_t>(2 * n_experts + k) * 4 + static_cast<size_t>(n_experts) + 3) / 4 * 4;
}

// Token t by one warp, from its logits [E].
__device__ void choose_of(const RouteArgs& a, int64_t t, const float* logits, std::byte* scratch) {
    const int lane = threadIdx.x % kWarp;
    const int64_t n = a.n_experts;
    float *affinity = reinterpret_cast<float*>(scratch), *score = affinity + n;
    auto* chosen = reinterpret_cast<int32_t*>(score + n);
    auto* is_taken = reinterpret_cast<uint8_t*>(chosen + a.k);
    for (int64_t e = lane; e < n; e += kWarp) {
        const float s = affinity_of(logits[e]);
        a.affinity[t * n + e] = affinity[e] = s;
        score[e] = a.bias.data ? s + element(a.bias, 0, e) : s;
        is_taken[e] = 0;
    }
    __syncwarp();
    if (a.table.data) {
        const int64_t at = static_cast<int64_t>(a.tokens[t].id) * a.table.in;
        for (int j = lane; j < a.k; j += kWarp)
            chosen[j] = a.table.dtype == DType::i64 ? static_cast<int32_t>(static_cast<const int64_t*>(a.table.data)[at + j])
                                                    : static_cast<const int32_t*>(a.table.data)[at + j];
    } else {
        const float margin = choose_best(score, n, a.k, is_taken, chosen);
        if (lane == 0) a.margin[t] = margin;
    }
    __syncwarp();
    if (a.forced)
        for (int j = lane; j < a.k; j += kWarp) chosen[j] = a.forced[t * a.forced_width + j];
    __syncwarp();
    float sum = 0;
    for (int j = 0; j < a.k; ++j)
        if (chosen[j] >= 0) sum += affinity[chosen[j]];
    if (sum == 0) sum = 1;  // all vanish: weights of 0, not NaN
    for (int j = lane; j < a.k; j += kWarp) {
        const float s = chosen[j] < 0 ? 0 : affinity[chosen[j]];
        a.indices[t * a.k + j] = chosen[j];
        a.weights[t * a.k + j] = chosen[j] < 0 ? 0 : (a.is_normalised ? s / sum : s) * a.factor;
    }
}

__global__ void choose_experts(RouteArgs a) {
    after_previous();
    extern __shared__ __align__(16) std::byte shared[];
    const int warp = threadIdx.x / kWarp;
    const int64_t t = static_cast<int64_t>(blockIdx.x) * kTokensPerBlock + warp, n = a.n_experts;
    if (t >= a.n_tokens) return;
    choose_of(a, t, a.logits + t * n, shared + warp * scratch_bytes(n, a.k));
}

// A cluster per token (y): a warp makes logits of experts, its first weights fetched before the kernel before it is done; block 0
// chooses. A logit's sum: pieces of eight in a lane's order, then over the lanes. Shared memory: logits [E], then what
// choose_of takes.
__global__ void __cluster_dims__(kRouteBlocks, 1, 1) __launch_bounds__(kRouteThreads)
    route_few(const __grid_constant__ RouteArgs a, const bf16* x, const bf16* gate, int d, float* logits_TE) {
    extern __shared__ __align__(16) std::byte shared[];
    constexpr int kPieces = 8, kStep = kWarp * 8;
    auto* logits = reinterpret_cast<float*>(shared);
    auto cluster = cooperative_groups::this_cluster();
    cluster.barrier_arrive();  // nobody writes to block 0 before it runs
    const int n = static_cast<int>(a.n_experts), per_block = (n + kRouteBlocks - 1) / kRouteBlocks, lane = threadIdx.x % kWarp;
    const int end = min(n, static_cast<int>(blockIdx.x + 1) * per_block), first = blockIdx.x * per_block + threadIdx.x / kWarp;
    const int64_t t = blockIdx.y;
    const auto piece_of = [&](int e, int i) {
        return __ldg(reinterpret_cast<const uint4*>(gate + static_cast<int64_t>(e) * d + i));
    };
    uint4 ahead[kPieces];
#pragma unroll
    for (int p = 0; p < kPieces; ++p)
        if (const int i = p * kStep + lane * 8; first < end && i < d) ahead[p] = piece_of(first, i);
    if (blockIdx.x == 0 && a.bias.data) prefetch_row(a.bias, 0);
    if (blockIdx.x == 0 && a.table.data) prefetch_row(a.table, a.tokens[t].id);
    after_previous();
    cluster.barrier_wait();
    const bf16* row = x + t * d;
    for (int e = first; e < end; e += kRouteThreads / kWarp) {
        float sum = 0;
        const auto add = [&](uint4 w, int i) {
            const uint4 v = *reinterpret_cast<const uint4*>(row + i);
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                const float2 b = bf16_pair(word_of(v, j)), c = bf16_pair(word_of(w, j));
                sum = fmaf(c.x, b.x, sum), sum = fmaf(c.y, b.y, sum);
            }
        };
#pragma unroll
        for (int p = 0; p < kPieces; ++p)
            if (const int i = p * kStep + lane * 8; i < d) add(e == first ? ahead[p] : piece_of(e, i), i);
        for (int i = kPieces * kStep + lane * 8; i < d; i += kStep) add(piece_of(e, i), i);
        sum = warp_sum(sum);
        if (lane == 0) *cluster.map_shared_rank(logits + e, 0) = sum, logits_TE[t * n + e] = sum;
    }
    cluster.sync();
    if (blockIdx.x == 0 && threadIdx.x < kWarp) choose_of(a, t, logits, shared + n * sizeof(float));
}

bool makes_logits(const Ctx& ctx, const Tensor& x_TD, const cpu::PackedMatrix& gate) {
    return ctx.is_reference() && x_TD.dtype == DType::bf16 && x_TD.dim(0) <= kFewRows && gate.dtype == DType::bf16 &&
           gate.in % 8 == 0 && gate.out <= kMostRouted;
}

void publish(const Ctx& ctx, const Tensor& logits, const Tensor& affinity, const Routing& r, const Tensor& margin) {
    const int ne = static_cast<int>(logits.dim(1)), nk = static_cast<int>(r.indices_TK.dim(1));
    if (ctx.wants(kRouterLogits)) ctx.publish(kRouterLogits, logits, 1, ne);
    if (ctx.wants(kRouterScores)) ctx.publish(kRouterScores, affinity, 1, ne);
    if (ctx.wants(kRouterIndices)) ctx.publish(kRouterIndices, r.indices_TK, 1, nk);
    if (ctx.wants(kRouterWeights)) ctx.publish(kRouterWeights, r.weights_TK, 1, nk);
    if (!margin.empty() && ctx.wants(kRouterMargin)) ctx.publish(kRouterMargin, margin, 1, 1);
}

}  // namespace

Routing route(Ctx& ctx, const Tensor& x_TD, const MoeWeights& w, const ModelConfig& c, bool is_hash_routed,
              const Tensor& forced_TK) {
    if (c.variants.router == RouterKind::top_p)
        throw Error(ErrorKind::bad_input, "router top_p: expected topk_bias or topk on a GPU; --device cpu runs this model");
    const int64_t n_tokens = x_TD.dim(0), n_experts = c.n_experts;
    const int64_t k = ctx.active_experts > 0 ? std::min(ctx.active_experts, c.n_experts_per_tok) : c.n_experts_per_tok;
    const bool is_together = makes_logits(ctx, x_TD, w.gate.view);
    const Tensor logits_TE = is_together ? ctx.arena.make(DType::f32, {n_tokens, n_experts})
                                         : cuda::linear(ctx, x_TD, w.gate, {.quantise_input = false, .round_output = false});
    const OpTimer timer(ctx, OpKind::route);
    const Tensor affinity_TE = ctx.arena.make(DType::f32, {n_tokens, n_experts});
    const Routing r{ctx.arena.make(DType::i32, {n_tokens, k}), ctx.arena.make(DType::f32, {n_tokens, k})};
    const Tensor margin_T = is_hash_routed ? Tensor{} : ctx.arena.make(DType::f32, {n_tokens, 1});
    if (n_tokens == 0) return r;
    RouteArgs a{};
    a.logits = logits_TE.f32(), a.affinity = affinity_TE.f32(), a.weights = r.weights_TK.f32();
    a.indices = r.indices_TK.as<int32_t>(), a.tokens = ctx.cuda->step.tokens;
    a.n_tokens = n_tokens, a.n_experts = n_experts, a.k = static_cast<int>(k);
    a.is_normalised = c.norm_topk_prob, a.factor = static_cast<float>(c.routed_scaling_factor);
    if (is_hash_routed) {
        a.table = w.tid2eid.view;
        VITRINE_ASSERT(a.table.data && a.table.in == c.n_experts_per_tok);
    } else {
        a.margin = margin_T.f32();
        if (c.variants.router == RouterKind::topk_bias) a.bias = w.bias.view;
    }
    if (!forced_TK.empty()) {
        VITRINE_ASSERT(forced_TK.dtype == DType::i32 && forced_TK.dim(0) == n_tokens && forced_TK.dim(1) >= k);
        a.forced = forced_TK.as<int32_t>(), a.forced_width = forced_TK.dim(1);
    }
    const size_t per_token = scratch_bytes(n_experts, a.k);
    if (is_together) {
        ctx.count(OpKind::linear, static_cast<double>(x_TD.count()) * static_cast<double>(n_experts));
        route_few<<<dim3(kRouteBlocks, static_cast<unsigned>(n_tokens)), kRouteThreads,
                    per_token + static_cast<size_t>(n_experts) * sizeof(float), ctx.cuda->stream()>>>(
            a, static_cast<const bf16*>(x_TD.data), static_cast<const bf16*>(w.gate.view.data), static_cast<int>(x_TD.dim(1)),
            logits_TE.f32());
    } else {
        choose_experts<<<ceil_div(n_tokens, kTokensPerBlock), kTokensPerBlock * kWarp, kTokensPerBlock * per_token,
                         ctx.cuda->stream()>>>(a);
    }
    check_launch(ctx, "routing");
    publish(ctx, logits_TE, affinity_TE, r, margin_T);
    return r;
}

}  // namespace vitrine::cuda
