// The mixture of experts on the GPU: up (w1, w3, SwiGLU), down (w2), and each token's ordered sum.
#include "engine/ops/moe/moe.h"

#include <algorithm>

#include "engine/ops/linear/convert.h"
#include "engine/ops/linear/linear.h"
#include "engine/ops/moe/experts.cuh"

namespace vitrine::cuda {
namespace {

constexpr int kThreads = 256, kMaxChosen = 64;

// The slots of one kind of expert: the routed ones, or the shared one (chosen and weights null).
struct Kind {
    Experts w1, w2, w3;
    const int32_t* chosen;
    const float* weights;
    int64_t per_token, slot0, n_slots;
};

// Few rows. A block per slot and pair of hidden columns, whose threads share the inner dimension.
template <DType D, class X>
__global__ void few_up(Kind kind, const X* x, X* h, int64_t width, float limit, bool is_reference, bool is_whole) {
    constexpr int kRows = 2;
    __shared__ float scratch[kWarp * 2 * kRows], total[2 * kRows];
    const int64_t s = blockIdx.y, o0 = static_cast<int64_t>(blockIdx.x) * kRows;
    const int expert = kind.chosen ? kind.chosen[s] : 0;
    if (expert < 0) return;
    const cpu::PackedMatrix w1 = kind.w1.at(expert), w3 = kind.w3.at(expert);
    const int64_t rows[kRows] = {o0, min(o0 + 1, w1.out - 1)};
    const X* const xs[1] = {x + s / kind.per_token * w1.in};
    float gate[kRows][1] = {}, up[kRows][1] = {};
    add_products<D>(w1, rows, xs, threadIdx.x, blockDim.x, is_whole, gate);
    add_products<D>(w3, rows, xs, threadIdx.x, blockDim.x, is_whole, up);
    const float flat[2 * kRows] = {gate[0][0], gate[1][0], up[0][0], up[1][0]};
    block_totals(flat, scratch, total);
    __syncthreads();
    const int i = threadIdx.x;
    if (i >= kRows || o0 + i >= w1.out) return;
    float g = total[i], u = total[kRows + i];
    if (is_reference) g = round_bf16(g), u = round_bf16(u);
    h[(kind.slot0 + s) * width + o0 + i] = narrow<X>(swiglu(g, u, limit, kind.weights ? kind.weights[s] : 1));
}

template <DType D, class X>
__global__ void few_down(Kind kind, const X* h, int64_t width, float* y, bool is_whole) {
    constexpr int kRows = 4;
    __shared__ float scratch[kWarp * kRows], total[kRows];
    const int64_t s = blockIdx.y, o0 = static_cast<int64_t>(blockIdx.x) * kRows;
    const int expert = kind.chosen ? kind.chosen[s] : 0;
    if (expert < 0) return;
    const cpu::PackedMatrix w2 = kind.w2.at(expert);
    int64_t rows[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r) rows[r] = min(o0 + r, w2.out - 1);
    const X* const xs[1] = {h + (kind.slot0 + s) * width};
    float sum[kRows][1] = {};
    add_products<D>(w2, rows, xs, threadIdx.x, blockDim.x, is_whole, sum);
    const float flat[kRows] = {sum[0][0], sum[1][0], sum[2][0], sum[3][0]};
    block_totals(flat, scratch, total);
    const int i = threadIdx.x;
    if (i < kRows && o0 + i < w2.out) y[(kind.slot0 + s) * w2.out + o0 + i] = total[i];
}

// Where the rows of a token's sum lie.
struct Slots {
    const int32_t *chosen, *slot_of;  // [T, K]; slot_of null: choice i is slot i
    int k;
    int64_t shared0;                  // token t's row of the shared expert is shared0 + t; negative: there is none
};

// A block per token: its rows in ascending order of experts, the shared one last.
template <class Y, class Out>
__global__ void sum_slots(Slots a, const Y* y, int64_t d, bool is_reference, Out* out, float* norms) {
    __shared__ int32_t slots[kMaxChosen + 1];
    __shared__ int n_routed;
    __shared__ float scratch[kWarp];
    const int64_t t = blockIdx.x;
    if (threadIdx.x == 0) n_routed = 0;
    __syncthreads();
    if (static_cast<int>(threadIdx.x) < a.k) {
        const int32_t* keys = (a.slot_of ? a.slot_of : a.chosen) + t * a.k;
        const int j = threadIdx.x;
        int rank = 0;
        for (int i = 0; i < a.k; ++i) rank += keys[i] >= 0 && (keys[i] < keys[j] || (keys[i] == keys[j] && i < j));
        if (keys[j] >= 0) slots[rank] = a.slot_of ? keys[j] : static_cast<int32_t>(t * a.k + j), atomicAdd(&n_routed, 1);
    }
    __syncthreads();
    const int n = n_routed + (a.shared0 >= 0);
    if (threadIdx.x == 0 && a.shared0 >= 0) slots[n_routed] = static_cast<int32_t>(a.shared0 + t);
    __syncthreads();
    float routed_squares = 0, shared_squares = 0;
    for (int64_t i = threadIdx.x; i < d; i += blockDim.x) {
        float sum = 0;
        for (int j = 0; j < n; ++j) {
            float v = widen(y[slots[j] * d + i]);
            if (is_reference) v = round_bf16(v);
            if (j == n_routed) {
                routed_squares += sum * sum, shared_squares += v * v;
            }
            sum = j == 0 ? v : sum + v;
        }
        if (n == n_routed) routed_squares += sum * sum;
        out[t * d + i] = narrow<Out>(sum);
    }
    if (!norms) return;
    routed_squares = block_sum(routed_squares, scratch);
    shared_squares = block_sum(shared_squares, scratch);
    if (threadIdx.x == 0) norms[2 * t] = sqrtf(routed_squares), norms[2 * t + 1] = sqrtf(shared_squares);
}

// h = swiglu(g, u), a thread per value; slots of the shared expert and of none carry what nobody reads.
__global__ void swiglu_rows(const float* g, const float* u, const float* weight_of, int64_t n, int64_t width, float limit, float* h) {
    const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i < n * width) h[i] = swiglu(g[i], u[i], limit, weight_of[i / width]);
}
__global__ void rounded_swiglu_rows(const float* g, const float* u, const float* weight_of, int64_t n, int64_t width, float limit, bf16* h) {
    const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i < n * width) h[i] = narrow<bf16>(swiglu(round_bf16(g[i]), round_bf16(u[i]), limit, weight_of[i / width]));
}

int threads_for(const cpu::PackedMatrix& w) {
    const int64_t n_chunks = (w.in + chunk_of(w.dtype) - 1) / chunk_of(w.dtype);
    return kWarp * static_cast<int>(std::clamp<int64_t>((n_chunks + kWarp - 1) / kWarp, 1, 8));
}

// What every stage is given.
struct Job {
    Ctx& ctx;
    const Tensor x;             // [T, D]
    int64_t width;              // of h's rows
    float limit;
    std::vector<Kind> kinds;
    int64_t n_slots;
};

bool is_packed(const cpu::PackedMatrix& w) { return w.dtype == DType::f8_e4m3 || w.dtype == DType::fp4_e2m1; }

// In `reference`, what FP8 and FP4 experts multiply goes through FP8.
void quantise_hidden(const Job& job, const Tensor& h) {
    if (!job.ctx.is_reference()) return;
    for (const Kind& kind : job.kinds) {
        const cpu::PackedMatrix& w2 = kind.w2.first;
        const int64_t offset = kind.slot0 * job.width * static_cast<int64_t>(dtype_bits(h.dtype)) / 8;
        if (is_packed(w2)) simulate_fp8(job.ctx, {static_cast<std::byte*>(h.data) + offset, h.dtype, {kind.n_slots, job.width}}, kind.n_slots, w2.in, job.width);
    }
}

// Rows of the slots [n_slots, D], not yet rounded.
Tensor few_rows(const Job& job, const Tensor& y) {
    Ctx& ctx = job.ctx;
    const Tensor h = ctx.arena.make(job.x.dtype, {job.n_slots, job.width});
    const auto stream = ctx.cuda->stream();
    for (const Kind& kind : job.kinds)
        with_format(kind.w1.first, [&](auto format) {
            with_activation(h.dtype, [&](auto type) {
                using X = decltype(type);
                const cpu::PackedMatrix& w = kind.w1.first;
                const dim3 grid(ceil_div(w.out, 2), static_cast<unsigned>(kind.n_slots));
                few_up<decltype(format)::value><<<grid, threads_for(w), 0, stream>>>(
                    kind, static_cast<const X*>(job.x.data), static_cast<X*>(h.data), job.width, job.limit, ctx.is_reference(), has_whole_chunks(w));
            });
        });
    check_launch(ctx, "experts of few rows, up");
    quantise_hidden(job, h);
    for (const Kind& kind : job.kinds)
        with_format(kind.w2.first, [&](auto format) {
            with_activation(h.dtype, [&](auto type) {
                using X = decltype(type);
                const cpu::PackedMatrix& w = kind.w2.first;
                const dim3 grid(ceil_div(w.out, 4), static_cast<unsigned>(kind.n_slots));
                few_down<decltype(format)::value><<<grid, threads_for(w), 0, stream>>>(kind, static_cast<const X*>(h.data), job.width, y.f32(),
                                                                                     has_whole_chunks(w) && (job.width * dtype_bits(h.dtype)) % 128 == 0);
            });
        });
    check_launch(ctx, "experts of few rows, down");
    return y;
}

Grouped grouped(const Kind& kind, const Experts& w, const Plan& plan, const int32_t* row_of, int64_t ldx, int64_t ldy) {
    const bool is_routed = kind.chosen != nullptr;
    return {w, is_routed ? plan.tiles : nullptr, plan.n_tiles, row_of, kind.slot0, kind.n_slots, ldx, ldy, plan.max_tiles};
}

Tensor many_rows(const Job& job, const Plan& plan, const Tensor& y) {
    Ctx& ctx = job.ctx;
    const int64_t d = job.x.dim(1);
    const Shape hidden{job.n_slots, job.width};
    const Tensor g = ctx.arena.make(DType::f32, hidden), u = ctx.arena.make(DType::f32, hidden), h = ctx.arena.make(job.x.dtype, hidden);
    for (const Kind& kind : job.kinds) {
        multiply_grouped(ctx, grouped(kind, kind.w1, plan, plan.token_of, d, job.width), job.x, g);
        multiply_grouped(ctx, grouped(kind, kind.w3, plan, plan.token_of, d, job.width), job.x, u);
    }
    const unsigned n_blocks = ceil_div(hidden.count(), kThreads);
    if (ctx.is_reference())
        rounded_swiglu_rows<<<n_blocks, kThreads, 0, ctx.cuda->stream()>>>(g.f32(), u.f32(), plan.weight_of, job.n_slots, job.width, job.limit,
                                                                           static_cast<bf16*>(h.data));
    else
        swiglu_rows<<<n_blocks, kThreads, 0, ctx.cuda->stream()>>>(g.f32(), u.f32(), plan.weight_of, job.n_slots, job.width, job.limit, h.f32());
    check_launch(ctx, "SwiGLU");
    quantise_hidden(job, h);
    for (const Kind& kind : job.kinds) multiply_grouped(ctx, grouped(kind, kind.w2, plan, nullptr, job.width, d), h, y);
    return y;
}

}  // namespace

Tensor moe(Ctx& ctx, const Tensor& x_TD, const Routing& routing, const MoeWeights& w, const ModelConfig& c) {
    const OpTimer timer(ctx, OpKind::moe);
    const int64_t n_tokens = x_TD.dim(0), d = x_TD.dim(1), k = routing.indices_TK.dim(1);
    const bool has_shared = !w.shared.w1.empty(), is_few = n_tokens <= kFewRows, wants_norms = ctx.wants(kMlpNorms);
    VITRINE_ASSERT(x_TD.dtype == ctx.activation() && k <= kMaxChosen);
    const Tensor y_TD = ctx.arena.make(ctx.activation(), {n_tokens, d}), norms_T2 = ctx.arena.make(DType::f32, {n_tokens, 2});
    if (n_tokens == 0) return y_TD;
    const Arena::Scope scratch(ctx.arena);
    const bool is_quantised = ctx.is_reference() && is_packed(w.experts[0].w1.view);
    const int32_t* chosen = routing.indices_TK.as<int32_t>();
    Job job{ctx, is_quantised ? fp8_rows(ctx, x_TD, d) : x_TD, std::max(c.expert_width, c.shared_width()), static_cast<float>(c.swiglu_limit), {}, 0};
    job.kinds.push_back({all_experts(w.experts, &ExpertWeights::w1), all_experts(w.experts, &ExpertWeights::w2),
                         all_experts(w.experts, &ExpertWeights::w3), chosen, routing.weights_TK.f32(), k, 0, n_tokens * k});
    if (has_shared)
        job.kinds.push_back({one_expert(w.shared.w1), one_expert(w.shared.w2), one_expert(w.shared.w3), nullptr, nullptr, 1, n_tokens * k, n_tokens});
    for (const Kind& kind : job.kinds) {
        job.n_slots += kind.n_slots;
        ctx.count(OpKind::moe, 3.0 * static_cast<double>(kind.n_slots * d) * static_cast<double>(kind.w1.first.out));
    }
    const Tensor rows_SD = ctx.arena.make(DType::f32, {job.n_slots, d});
    Slots slots{chosen, nullptr, static_cast<int>(k), has_shared ? n_tokens * k : -1};
    if (is_few) {
        few_rows(job, rows_SD);
    } else {
        const Plan plan = make_plan(ctx, routing, static_cast<int64_t>(w.experts.size()), has_shared, kTileRows);
        slots.slot_of = plan.slot_of;
        many_rows(job, plan, rows_SD);
    }
    with_activation(y_TD.dtype, [&](auto type) {
        using Out = decltype(type);
        sum_slots<<<static_cast<unsigned>(n_tokens), kThreads, 0, ctx.cuda->stream()>>>(
            slots, static_cast<const float*>(rows_SD.data), d, ctx.is_reference(), static_cast<Out*>(y_TD.data), wants_norms ? norms_T2.f32() : nullptr);
    });
    check_launch(ctx, "summing experts");
    if (wants_norms) ctx.publish(kMlpNorms, norms_T2, 1, 2);
    return y_TD;
}

}  // namespace vitrine::cuda
