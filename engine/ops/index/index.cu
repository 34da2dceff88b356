// The lightning indexer on the GPU: queries, head weights, and the way through scores to the choice.
#include <algorithm>
#include <cmath>

#include "engine/ops/kernel.cuh"
#include "engine/ops/index/index.cuh"
#include "engine/ops/index/index.h"
#include "engine/ops/linear/linear.h"
#include "engine/ops/rope/rotate.cuh"

namespace vitrine::cuda {
namespace {

constexpr int64_t kScratchFloats = int64_t{64} << 20;  // of scores at a time

// A warp per token and head, blockDim.y of them a block: q [T, H, d] is rotated, v [T, H] becomes weights. words not null
// (`reference`): q goes on to Hadamard and FP4; else back to where it was. Shared memory: blockDim.y rows of d floats.
template <class T>
__global__ void prepare_heads(T* q, const T* v, const float* cosines, const float* sines, int half, int64_t n,
                              int n_heads, int d, float factor, bool is_rounded, uint32_t* words, QueryBlock* blocks,
                              float* weights) {
    after_previous();
    extern __shared__ float shared[];
    const int64_t head = static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
    if (head >= n) return;
    const int lane = threadIdx.x;
    if (lane == 0) {
        const float w = widen(v[head]) * factor;
        weights[head] = is_rounded ? round_bf16(w) : w;
    }
    float* x = shared + threadIdx.y * d;
    for (int i = lane; i < d; i += kWarp) x[i] = widen(q[head * d + i]);
    __syncwarp();
    const int64_t angle = head / n_heads * half;
    rotate_row(x, d, cosines + angle, sines + angle, half, 1, is_rounded, lane, kWarp);
    __syncwarp();
    if (!words) {
        for (int i = lane; i < d; i += kWarp) q[head * d + i] = narrow<T>(x[i]);
        return;
    }
    hadamard(x, d, lane, kWarp, [] { __syncwarp(); });
    const int n_blocks = (d + kWarp - 1) / kWarp;
    for (int b = 0; b < n_blocks; ++b) {
        const int i = b * kWarp + lane;
        uint8_t scale;
        const uint8_t code = fp4_block(i < d ? x[i] : 0.0f, scale);
        const int twice = static_cast<int>(2 * cpu::fp4_decode(code));
        unsigned word = twice & 255;
        word |= __shfl_down_sync(~0u, word, 1) << 8;
        word |= __shfl_down_sync(~0u, word, 2) << 16;
        const int sum = __reduce_add_sync(~0u, twice);
        if (lane % 4 == 0) words[(head * n_blocks + b) * 8 + lane / 4] = word;
        if (lane == 0) blocks[head * n_blocks + b] = {0.5f * cpu::e8m0_to_f32(scale), -12 * sum};
    }
}

// Everything that is visible, where that is no more than k.
__global__ void choose_all(const TokenAt* tokens, int64_t n, int k, int32_t* chosen) {
    after_previous();
    const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= n) return;
    const int64_t entry = i % k;
    chosen[i] = entry < (tokens[i / k].position + 1) / 4 ? static_cast<int32_t>(entry) : -1;
}

// One block per token: those picks of k that are not -1, ascending.
__global__ void sort_forced(const int32_t* forced, int k, int32_t* chosen) {
    after_previous();
    forced += static_cast<int64_t>(blockIdx.x) * k;
    chosen += static_cast<int64_t>(blockIdx.x) * k;
    __shared__ int n;
    if (threadIdx.x == 0) n = 0;
    __syncthreads();
    for (int i = threadIdx.x; i < k; i += blockDim.x) {
        const int pick = forced[i];
        if (pick < 0) continue;
        int place = 0;
        for (int j = 0; j < k; ++j) place += forced[j] >= 0 && (forced[j] < pick || (forced[j] == pick && j < i));
        chosen[place] = pick;
        atomicAdd(&n, 1);
    }
    __syncthreads();
    for (int i = n + threadIdx.x; i < k; i += blockDim.x) chosen[i] = -1;
}

// Rotated queries and head weights of all tokens.
void prepare(Ctx& ctx, const Tensor& qr_TQ, const Tensor& x_TD, const IndexerWeights& w, const ModelConfig& c,
             const RopeAngles& angles, IndexScores& s) {
    const int64_t n_tokens = qr_TQ.dim(0), n_heads = c.index_n_heads, d = c.index_head_dim, n = n_tokens * n_heads;
    const Tensor q = cuda::linear(ctx, qr_TQ, w.wq_b).reshaped({n_tokens, n_heads, d});
    const Tensor v = cuda::linear(ctx, x_TD, w.weights_proj, {.quantise_input = false});
    VITRINE_ASSERT(q.dtype == v.dtype);
    const Tensor weights = ctx.arena.make(DType::f32, {n_tokens, n_heads});
    const auto factor = static_cast<float>(1.0 / std::sqrt(static_cast<double>(d * n_heads)));
    uint32_t* words = nullptr;
    QueryBlock* blocks = nullptr;
    if (ctx.is_reference()) {
        const int64_t n_blocks = (d + kWarp - 1) / kWarp;
        words = static_cast<uint32_t*>(ctx.arena.bytes(n * n_blocks * 8 * sizeof *words));
        blocks = static_cast<QueryBlock*>(ctx.arena.bytes(n * n_blocks * sizeof *blocks));
    }
    const dim3 block(kWarp, 4);
    with_activation(q.dtype, [&](auto t) {
        using T = decltype(t);
        prepare_heads<<<ceil_div(n, block.y), block, block.y * d * sizeof(float), ctx.cuda->stream()>>>(
            static_cast<T*>(q.data), static_cast<const T*>(v.data), angles.cos.f32(), angles.sin.f32(),
            static_cast<int>(angles.cos.dim(1)), n, c.index_n_heads, static_cast<int>(d), factor, ctx.is_reference(),
            words, blocks, weights.f32());
    });
    check_launch(ctx, "index queries");
    s.words = words, s.blocks = blocks, s.weights = weights.f32();
    s.q = ctx.is_reference() ? nullptr : q.f32();
}

void publish_scores(Ctx& ctx, const Tensor& scores) {
    ctx.cuda->deliver(scores, [l = ctx.layer, width = scores.dim(1)](const Arrived& a, ProbeSink& sink) {
        for (int t = 0; t < a.n_tokens; ++t)
            sink.put(t, kIndexScores, l, a.f32() + t * width, 1, static_cast<int>((a.tokens[t].position + 1) / 4));
    });
}

bool is_choice_watched(const Ctx& ctx) {
    return ctx.wants(kIndexTopk) || ctx.wants(kIndexTopkScores) || ctx.wants(kIndexCut) || ctx.wants(kIndexScores);
}

}  // namespace

bool scores_entries(const Ctx& ctx, const ModelConfig& c, const Tensor& forced_TK) {
    return forced_TK.empty() && (is_choice_watched(ctx) || ctx.cuda->step.longest / 4 > c.index_topk);
}

Tensor select_entries(Ctx& ctx, const Tensor& qr_TQ, const Tensor& x_TD, const IndexerWeights& w, const ModelConfig& c,
                      const RopeAngles& angles, const Tensor& forced_TK, Tensor* places_Tk) {
    const OpTimer timer(ctx, OpKind::index);
    const Step& step = ctx.cuda->step;
    const int64_t n_tokens = step.n_tokens, k = c.index_topk;
    VITRINE_ASSERT(qr_TQ.dim(0) == n_tokens && x_TD.dim(0) == n_tokens);
    if (!forced_TK.empty()) {
        const Tensor chosen = ctx.arena.make(DType::i32, forced_TK.shape);
        sort_forced<<<step.n_tokens, 256, 0, ctx.cuda->stream()>>>(
            forced_TK.as<int32_t>(), static_cast<int>(forced_TK.dim(1)), chosen.as<int32_t>());
        check_launch(ctx, "forced entries");
        return chosen;
    }
    const Tensor chosen = ctx.arena.make(DType::i32, {n_tokens, k});
    const bool is_watched = is_choice_watched(ctx);
    if (!scores_entries(ctx, c, forced_TK)) {
        choose_all<<<ceil_div(n_tokens * k, 256), 256, 0, ctx.cuda->stream()>>>(
            step.tokens, n_tokens * k, static_cast<int>(k), chosen.as<int32_t>());
        check_launch(ctx, "choice of all entries");
        return chosen;
    }
    // What is watched outlives the scratch below.
    Tensor ranked, places, ranked_scores, cut, all_scores;
    const int64_t n_columns = std::max<int64_t>(1, step.longest / 4);
    if (is_watched) {
        ranked = ctx.arena.make(DType::i32, {n_tokens, k}), places = ctx.arena.make(DType::i32, {n_tokens, k});
        ranked_scores = ctx.arena.make(DType::f32, {n_tokens, k}), cut = ctx.arena.make(DType::f32, {n_tokens, 2});
        if (ctx.wants(kIndexScores)) all_scores = ctx.arena.make(DType::f32, {n_tokens, n_columns});
        if (places_Tk) *places_Tk = places;
    }
    const IndexChoice to = is_watched ? IndexChoice{chosen.as<int32_t>(), ranked.as<int32_t>(), places.as<int32_t>(),
                                                    ranked_scores.f32(), cut.f32()}
                                      : IndexChoice{chosen.as<int32_t>(), nullptr, nullptr, nullptr, nullptr};
    const Arena::Scope scratch(ctx.arena);
    IndexScores s{};
    s.tokens = step.tokens, s.views = step.layer(ctx.layer), s.format = index_rows(ctx, c.index_head_dim);
    s.n_heads = c.index_n_heads, s.k = static_cast<int>(k), s.is_watched = is_watched, s.n_columns = n_columns;
    prepare(ctx, qr_TQ, x_TD, w, c, angles, s);
    const int64_t group = all_scores.empty() ? std::clamp<int64_t>(kScratchFloats / n_columns, 1, n_tokens) : n_tokens;
    s.scores = all_scores.empty() ? ctx.arena.make(DType::f32, {group, n_columns}).f32() : all_scores.f32();
    for (s.t0 = 0; s.t0 < n_tokens; s.t0 += group) {
        const int64_t n = std::min(group, n_tokens - s.t0);
        index_scores(ctx, s, n);
        index_choose(ctx, s, to, n);
    }
    if (ctx.wants(kIndexTopk)) ctx.publish(kIndexTopk, ranked, 1, static_cast<int>(k));
    if (ctx.wants(kIndexTopkScores)) ctx.publish(kIndexTopkScores, ranked_scores, 1, static_cast<int>(k));
    if (ctx.wants(kIndexCut)) ctx.publish(kIndexCut, cut, 1, 2);
    if (!all_scores.empty()) publish_scores(ctx, all_scores);
    return chosen;
}

}  // namespace vitrine::cuda
