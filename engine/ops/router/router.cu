// The router on the GPU: one warp per token turns logits into affinities, a choice and weights.
#include "engine/ops/router/router.h"

#include <algorithm>

#include "engine/ops/linear/linear.h"
#include "engine/ops/router/choose.cuh"

namespace vitrine::cuda {
namespace {

constexpr int kTokensPerBlock = 4;

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

// Shared memory: per warp [E] scores, then [E] marks.
__global__ void choose_experts(RouteArgs a) {
    after_previous();
    extern __shared__ float shared[];
    const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
    const int64_t t = static_cast<int64_t>(blockIdx.x) * kTokensPerBlock + warp, n = a.n_experts;
    if (t >= a.n_tokens) return;
    float* score = shared + warp * n;
    uint8_t* is_taken = reinterpret_cast<uint8_t*>(shared + kTokensPerBlock * n) + warp * n;
    float* affinity = a.affinity + t * n;
    for (int64_t e = lane; e < n; e += kWarp) {
        const float s = affinity_of(a.logits[t * n + e]);
        affinity[e] = s;
        score[e] = a.bias.data ? s + element(a.bias, 0, e) : s;
        is_taken[e] = 0;
    }
    __syncwarp();
    int32_t* chosen = a.indices + t * a.k;
    if (a.table.data) {
        const int64_t at = static_cast<int64_t>(a.tokens[t].id) * a.table.in;
        for (int j = lane; j < a.k; j += kWarp)
            chosen[j] = a.table.dtype == DType::i64 ? static_cast<int32_t>(static_cast<const int64_t*>(a.table.data)[at + j])
                                                    : static_cast<const int32_t*>(a.table.data)[at + j];
    } else {
        const float margin = choose_best(score, n, a.k, is_taken, chosen);
        if (lane == 0) a.margin[t] = margin;
    }
    if (a.forced)
        for (int j = lane; j < a.k; j += kWarp) chosen[j] = a.forced[t * a.forced_width + j];
    __syncwarp();
    float sum = 0;
    for (int j = 0; j < a.k; ++j)
        if (chosen[j] >= 0) sum += affinity[chosen[j]];
    for (int j = lane; j < a.k; j += kWarp) {
        const float s = chosen[j] < 0 ? 0 : affinity[chosen[j]];
        a.weights[t * a.k + j] = chosen[j] < 0 ? 0 : (a.is_normalised ? s / sum : s) * a.factor;
    }
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
    const Tensor logits_TE = cuda::linear(ctx, x_TD, w.gate, {.quantise_input = false, .round_output = false});
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
    const size_t shared = kTokensPerBlock * static_cast<size_t>(n_experts) * (sizeof(float) + 1);
    choose_experts<<<ceil_div(n_tokens, kTokensPerBlock), kTokensPerBlock * kWarp, shared, ctx.cuda->stream()>>>(a);
    check_launch(ctx, "routing");
    publish(ctx, logits_TE, affinity_TE, r, margin_T);
    return r;
}

}  // namespace vitrine::cuda
