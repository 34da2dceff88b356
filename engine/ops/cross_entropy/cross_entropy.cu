// Cross-entropy on a GPU: one pass over the logits forward, one backward; nothing is kept but the log-sum-exp.
#include "engine/ops/cross_entropy/cross_entropy.h"

#include "engine/ops/kernel.cuh"

namespace vitrine::cuda {
namespace {

constexpr int kThreads = 256, kSumThreads = 1024;

// sum of e^(z - top), as it grows.
struct ExpSum {
    float top, sum;
    __device__ void add(float z) {
        if (z > top) sum = sum * expf(top - z) + 1, top = z;
        else sum += expf(z - top);
    }
    __device__ void add(const ExpSum& o) {
        const float higher = fmaxf(top, o.top);
        if (higher == -INFINITY) return;
        sum = sum * expf(top - higher) + o.sum * expf(o.top - higher), top = higher;
    }
};

// A block per token. lse [T], losses [T]; both 0 where nothing is counted. kWide: logits are read so many at a time.
template <int kWide>
__global__ void forward(const float* logits, const int32_t* targets, int64_t vocab, float* lse, float* losses) {
    after_previous();
    __shared__ ExpSum warps[kThreads / kWarp];
    const int64_t t = blockIdx.x;
    const int32_t target = targets[t];
    if (target < 0) {  // the whole block
        if (threadIdx.x == 0) lse[t] = losses[t] = 0;
        return;
    }
    const float* z = logits + t * vocab;
    ExpSum mine{-INFINITY, 0};
    for (int64_t v = threadIdx.x * kWide; v < vocab; v += kThreads * kWide) {
        if constexpr (kWide == 4) {
            const float4 four = *reinterpret_cast<const float4*>(z + v);
            const float top = fmaxf(fmaxf(four.x, four.y), fmaxf(four.z, four.w));
            if (top == -INFINITY) continue;
            if (top > mine.top) mine.sum *= expf(mine.top - top), mine.top = top;
            mine.sum += expf(four.x - mine.top) + expf(four.y - mine.top) + (expf(four.z - mine.top) + expf(four.w - mine.top));
        } else {
            mine.add(z[v]);
        }
    }
    for (int i = kWarp / 2; i > 0; i /= 2) {
        mine.add({__shfl_xor_sync(~0u, mine.top, i), __shfl_xor_sync(~0u, mine.sum, i)});
    }
    if (threadIdx.x % kWarp == 0) warps[threadIdx.x / kWarp] = mine;
    __syncthreads();
    if (threadIdx.x != 0) return;
    for (int w = 1; w < kThreads / kWarp; ++w) mine.add(warps[w]);
    const float total = mine.top + logf(mine.sum);
    lse[t] = total, losses[t] = total - z[target];
}

// One block: sums[0] = the sum of n losses.
__global__ void sum_losses(const float* losses, int64_t n, double* sums) {
    after_previous();
    __shared__ double parts[kSumThreads];
    double sum = 0;
    for (int64_t t = threadIdx.x; t < n; t += kSumThreads) sum += losses[t];
    parts[threadIdx.x] = sum;
    for (int half = kSumThreads / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) parts[threadIdx.x] += parts[threadIdx.x + half];
    }
    if (threadIdx.x == 0) sums[0] = parts[0];
}

// dz (+)= scale (softmax(z) - [v is the target]); a block per token.
template <int kWide>
__global__ void backward(const float* logits, const int32_t* targets, const float* lse, int64_t vocab, float scale,
                         bool accumulates, float* dlogits) {
    after_previous();
    const int64_t t = blockIdx.x;
    const int32_t target = targets[t];
    if (target < 0 && accumulates) return;
    const float *z = logits + t * vocab, log_sum = lse[t];
    float* dz = dlogits + t * vocab;
    const auto slope = [&](float value, int64_t v) {
        return target < 0 ? 0.0f : scale * (expf(value - log_sum) - (v == target ? 1.0f : 0.0f));
    };
    for (int64_t v = threadIdx.x * kWide; v < vocab; v += kThreads * kWide) {
        if constexpr (kWide == 4) {
            const float4 from = *reinterpret_cast<const float4*>(z + v);
            float4* to = reinterpret_cast<float4*>(dz + v);
            const float4 was = accumulates ? *to : float4{0, 0, 0, 0};
            *to = {was.x + slope(from.x, v), was.y + slope(from.y, v + 1), was.z + slope(from.z, v + 2),
                   was.w + slope(from.w, v + 3)};
        } else {
            const float g = slope(z[v], v);
            dz[v] = accumulates ? dz[v] + g : g;
        }
    }
}

}  // namespace

CrossEntropy cross_entropy(Ctx& ctx, const Tensor& logits_TV, std::span<const int32_t> targets, double weight) {
    const int64_t n_tokens = logits_TV.dim(0), vocab = logits_TV.dim(1);
    VITRINE_ASSERT(static_cast<int64_t>(targets.size()) == n_tokens && logits_TV.dtype == DType::f32);
    CrossEntropy r{0, 0, ctx.arena.make(DType::f32, {n_tokens})};
    for (const int32_t target : targets) {
        VITRINE_ASSERT(target >= -1 && target < vocab);
        r.n_counted += target >= 0;
    }
    if (n_tokens == 0) return r;
    const Tensor lse_T = ctx.arena.make(DType::f32, {n_tokens}), sum = ctx.arena.make(DType::f64, {1});
    const int32_t* list = ctx.cuda->ints(targets);
    const auto grid = static_cast<unsigned>(n_tokens);
    const bool is_wide = vocab % 4 == 0 && reinterpret_cast<uintptr_t>(logits_TV.data) % 16 == 0;
    const auto kernel = is_wide ? forward<4> : forward<1>;
    kernel<<<grid, kThreads, 0, ctx.cuda->stream()>>>(logits_TV.f32(), list, vocab, lse_T.f32(), r.losses_T.f32());
    sum_losses<<<1, kSumThreads, 0, ctx.cuda->stream()>>>(r.losses_T.f32(), n_tokens, sum.as<double>());
    check_launch(ctx, "cross_entropy");
    if (r.n_counted == 0) return r;
    double total = 0;
    ctx.cuda->read_later(sum, [&total](const void* value) { total = *static_cast<const double*>(value); });
    ctx.cuda->collect();
    r.value = total / static_cast<double>(r.n_counted);
    const auto scale = static_cast<float>(weight / static_cast<double>(r.n_counted));
    ctx.tape->record([=](Ctx& c) {
        const Tape::Flow dlogits = c.tape->flow(logits_TV);
        const auto back = is_wide ? backward<4> : backward<1>;
        back<<<grid, kThreads, 0, c.cuda->stream()>>>(logits_TV.f32(), list, lse_T.f32(), vocab, scale, dlogits.accumulates,
                                                      dlogits.gradient.f32());
        check_launch(c, "cross_entropy, backward");
    });
    return r;
}

}  // namespace vitrine::cuda
