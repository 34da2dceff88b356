// The mixture of experts on the GPU: up (w1, w3, SwiGLU), down (w2), and each token's ordered sum.
#include <algorithm>

#include "engine/ops/deliveries.h"
#include "engine/ops/linear/convert.h"
#include "engine/ops/linear/linear.h"
#include "engine/ops/moe/expert_ranks.h"
#include "engine/ops/moe/experts.cuh"
#include "engine/ops/moe/moe.h"

namespace vitrine::cuda {
namespace {

constexpr int kThreads = 256;

// Where the rows of a token's sum lie.
struct Slots {
    const int32_t *chosen, *slot_of;  // [T, K]; slot_of null: choice i is slot i
    int k;
    int64_t shared0;                  // token t's row of the shared expert is shared0 + t; negative: there is none
};

// One call's sums: rows y of every slot to out [T, d] (null: only measured) and norms [T, 2] (null: nobody asks).
template <class Y, class Out>
struct SumJob {
    Slots slots;
    const Y* y;
    int64_t n_tokens, d;
    bool is_reference;
    Out* out;
    float* norms;
};

// grid: (tokens, calls). A token's rows in ascending order of experts, the shared one last.
template <class Y, class Out>
__global__ void sum_slots(const __grid_constant__ Jobs<SumJob<Y, Out>> jobs) {
    after_previous();
    __shared__ int32_t slots[kMaxChosen + 1];
    __shared__ int n_routed;
    __shared__ float scratch[kWarp];
    const SumJob<Y, Out>& job = jobs.at[blockIdx.y];
    const Slots& a = job.slots;
    const Y* y = job.y;
    const int64_t t = blockIdx.x, d = job.d;
    if (t >= job.n_tokens) return;
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
    const bool is_whole = d % 4 == 0;
    for (int64_t i = 4 * threadIdx.x; i < d; i += 4 * blockDim.x) {
        float sum[4] = {0, 0, 0, 0};
        for (int j = 0; j < n; ++j) {
            const float4 row = load_four(y + slots[j] * d + i, d - i, is_whole);
            const float four[4] = {row.x, row.y, row.z, row.w};
#pragma unroll
            for (int c = 0; c < 4; ++c) {
                const float v = job.is_reference ? round_bf16(four[c]) : four[c];
                if (j == n_routed) routed_squares += sum[c] * sum[c], shared_squares += v * v;
                sum[c] = j == 0 ? v : sum[c] + v;
            }
        }
        if (n == n_routed) routed_squares += sum[0] * sum[0] + sum[1] * sum[1] + sum[2] * sum[2] + sum[3] * sum[3];
        if (job.out) store_four(job.out + t * d + i, {sum[0], sum[1], sum[2], sum[3]}, d - i, is_whole);
    }
    if (!job.norms) return;
    routed_squares = block_sum(routed_squares, scratch);
    shared_squares = block_sum(shared_squares, scratch);
    if (threadIdx.x == 0) job.norms[2 * t] = sqrtf(routed_squares), job.norms[2 * t + 1] = sqrtf(shared_squares);
}

template <class Y, class Out>
void launch(Device& device, const Jobs<SumJob<Y, Out>>& jobs) {
    int64_t n_tokens = 0;
    for (int i = 0; i < jobs.n; ++i) n_tokens = std::max(n_tokens, jobs.at[i].n_tokens);
    sum_slots<<<dim3(static_cast<unsigned>(n_tokens), static_cast<unsigned>(jobs.n)), kThreads, 0, device.stream()>>>(jobs);
    device.check(cudaGetLastError(), "summing experts");
}

// h = swiglu(g, u), a thread per value; slots of the shared expert and of none carry what nobody reads.
__global__ void swiglu_rows(const float* g, const float* u, const float* weight_of, int64_t n, int64_t width, float limit,
                            float* h) {
    after_previous();
    const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i < n * width) h[i] = swiglu(g[i], u[i], limit, weight_of[i / width]);
}
__global__ void rounded_swiglu_rows(const float* g, const float* u, const float* weight_of, int64_t n, int64_t width, float limit,
                                    bf16* h) {
    after_previous();
    const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i < n * width) h[i] = narrow<bf16>(swiglu(round_bf16(g[i]), round_bf16(u[i]), limit, weight_of[i / width]));
}

Grouped grouped(const Kind& kind, const Experts& w, const Plan& plan, const int32_t* row_of, int64_t ldx, int64_t ldy) {
    const bool is_routed = kind.chosen != nullptr;
    return {w, is_routed ? plan.tiles : nullptr, plan.n_tiles, row_of, kind.slot0, kind.n_slots, ldx, ldy, plan.max_tiles};
}

void many_rows(const Job& job, const Plan& plan, const Tensor& y) {
    Ctx& ctx = job.ctx;
    const int64_t d = job.x.dim(1);
    const Shape hidden{job.n_slots, job.width};
    const Tensor g = ctx.arena.make(DType::f32, hidden), u = ctx.arena.make(DType::f32, hidden),
                 h = ctx.arena.make(job.x.dtype, hidden);
    for (const Kind& kind : job.kinds) {
        multiply_grouped(ctx, grouped(kind, kind.w1, plan, plan.token_of, d, job.width), job.x, g);
        multiply_grouped(ctx, grouped(kind, kind.w3, plan, plan.token_of, d, job.width), job.x, u);
    }
    const unsigned n_blocks = ceil_div(hidden.count(), kThreads);
    if (ctx.is_reference())
        rounded_swiglu_rows<<<n_blocks, kThreads, 0, ctx.cuda->stream()>>>(g.f32(), u.f32(), plan.weight_of, job.n_slots,
                                                                           job.width, job.limit, static_cast<bf16*>(h.data));
    else
        swiglu_rows<<<n_blocks, kThreads, 0, ctx.cuda->stream()>>>(g.f32(), u.f32(), plan.weight_of, job.n_slots, job.width,
                                                                   job.limit, h.f32());
    check_launch(ctx, "SwiGLU");
    quantise_hidden(job, h);
    for (const Kind& kind : job.kinds) multiply_grouped(ctx, grouped(kind, kind.w2, plan, nullptr, job.width, d), h, y);
}

void many_rows_on_tensor_cores(const Job& job, const Plan& plan, int tile_rows, const Tensor& y) {
    const int64_t d = job.x.dim(1);
    const Tensor h = job.ctx.arena.make(DType::bf16, {job.n_slots, job.width});
    for (const Kind& kind : job.kinds)
        multiply_up(job.ctx, grouped(kind, kind.w1, plan, plan.token_of, d, job.width), kind.w3, plan.weight_of, job.limit,
                    tile_rows, job.x, h);
    quantise_hidden(job, h);
    for (const Kind& kind : job.kinds) multiply_down(job.ctx, grouped(kind, kind.w2, plan, nullptr, job.width, d), tile_rows, h, y);
}

std::vector<Kind> kinds_of(const Routing& r, const MoeWeights& w) {
    const int64_t n_tokens = r.indices_TK.dim(0), k = r.indices_TK.dim(1);
    std::vector<Kind> kinds{{all_experts(w.experts, &ExpertWeights::w1), all_experts(w.experts, &ExpertWeights::w2),
                             all_experts(w.experts, &ExpertWeights::w3), r.indices_TK.as<int32_t>(), r.weights_TK.f32(), k, 0,
                             n_tokens * k}};
    if (!w.shared.w1.empty())
        kinds.push_back({one_expert(w.shared.w1), one_expert(w.shared.w2), one_expert(w.shared.w3), nullptr, nullptr, 1,
                         n_tokens * k, n_tokens});
    return kinds;
}

void add_slots(const Ctx& ctx, const Slots& slots, const Tensor& rows, const Tensor& y, float* norms) {
    with_activation(rows.dtype, [&](auto from) {
        with_activation(y.dtype, [&](auto type) {
            using Y = decltype(from);
            using Out = decltype(type);
            launch<Y, Out>(*ctx.cuda, {{{slots, static_cast<const Y*>(rows.data), y.dim(0), y.dim(1), ctx.is_reference(),
                                         static_cast<Out*>(y.data), norms}},
                                       1});
        });
    });
}

// The norms alone, with those of other layers.
void measure_slots_later(const Ctx& ctx, const Slots& slots, const Tensor& rows, const Tensor& norms_T2) {
    const SumJob<float, float> job{slots, rows.f32(), norms_T2.dim(0), rows.dim(1), ctx.is_reference(), nullptr, norms_T2.f32()};
    ctx.cuda->deliveries().measure_later(job, launch<float, float>);
}

}  // namespace

// In `reference`, what FP8 and FP4 experts multiply goes through FP8.
void quantise_hidden(const Job& job, const Tensor& h) {
    if (!job.ctx.is_reference()) return;
    for (const Kind& kind : job.kinds) {
        const cpu::PackedMatrix& w2 = kind.w2.first;
        const int64_t offset = kind.slot0 * job.width * static_cast<int64_t>(dtype_bits(h.dtype)) / 8;
        if (is_packed(w2))
            simulate_fp8(job.ctx, {static_cast<std::byte*>(h.data) + offset, h.dtype, {kind.n_slots, job.width}}, kind.n_slots,
                         w2.in, job.width);
    }
}

namespace {

// Routed rows of experts that are elsewhere are zero until those ranks' come in their place.
void clear_routed(const Ctx& ctx, const Tensor& rows_SD, int64_t n_routed) {
    ctx.cuda->clear(rows_SD.data, static_cast<size_t>(n_routed * rows_SD.dim(1)) * dtype_bits(rows_SD.dtype) / 8);
}
Tensor routed_part(const Tensor& rows_SD, int64_t n_routed) {
    return {rows_SD.data, rows_SD.dtype, {n_routed, rows_SD.dim(1)}};
}

}  // namespace

Tensor moe(Ctx& ctx, const Tensor& x_TD, const Routing& routing, const MoeWeights& w, const ModelConfig& c) {
    const OpTimer timer(ctx, OpKind::moe);
    const int64_t n_tokens = x_TD.dim(0), d = x_TD.dim(1), k = routing.indices_TK.dim(1);
    const bool has_shared = !w.shared.w1.empty(), is_few = n_tokens <= kFewRows, wants_norms = ctx.wants(kMlpNorms);
    VITRINE_ASSERT(x_TD.dtype == ctx.activation() && k <= kMaxChosen);
    const Tensor y_TD = ctx.arena.make(ctx.activation(), {n_tokens, d}), norms_T2 = ctx.arena.make(DType::f32, {n_tokens, 2});
    if (n_tokens == 0) return y_TD;
    ExpertRanks* const ranks = ctx.expert_ranks;
    const ExpertShare here = ranks ? ranks->share() : ExpertShare{0, static_cast<int>(w.experts.size())};
    if (ranks) ranks->spread_on_gpu(x_TD, routing);
    const bool is_quantised = ctx.is_reference() && is_packed(w.experts[0].w1.view);
    Job job{ctx, x_TD, is_quantised, std::max(c.expert_width, c.shared_width()), static_cast<float>(c.swiglu_limit), {}, 0};
    job.kinds = kinds_of(ranks ? choices_here(ctx, routing, here.first, here.count()) : routing, w);
    for (const Kind& kind : job.kinds) {
        job.n_slots += kind.n_slots;
        ctx.count(OpKind::moe, 3.0 * static_cast<double>(kind.n_slots * d) * static_cast<double>(kind.w1.first.out));
    }
    Slots slots{routing.indices_TK.as<int32_t>(), nullptr, static_cast<int>(k), has_shared ? n_tokens * k : -1};
    const bool is_fused = is_few && takes_few_rows(job);
    if (is_fused && !ranks) {
        // Rows of the slots stay until the norms are made.
        const Tensor rows_SD = wants_norms ? ctx.arena.make(DType::f32, {job.n_slots, d}) : Tensor{};
        const Arena::Scope scratch(ctx.arena);
        few_rows_on_tensor_cores(job, wants_norms ? rows_SD.f32() : nullptr, y_TD);
        if (!wants_norms) return y_TD;
        measure_slots_later(ctx, slots, rows_SD, norms_T2);
        ctx.publish(kMlpNorms, norms_T2, 1, 2);
        return y_TD;
    }
    const Arena::Scope scratch(ctx.arena);
    const bool is_tiled_on_tensor_cores = !is_few && takes_tensor_cores(job);
    const Tensor rows_SD = ctx.arena.make(is_tiled_on_tensor_cores ? DType::bf16 : DType::f32, {job.n_slots, d});
    if (ranks) clear_routed(ctx, rows_SD, n_tokens * k);
    if (job.is_quantised && !is_fused) job.x = fp8_rows(ctx, x_TD, d), job.is_quantised = false;
    if (is_fused) {
        few_rows_on_tensor_cores(job, rows_SD.f32(), y_TD);
    } else if (is_few) {
        few_rows(job, rows_SD);
    } else {
        // Tiles of 128 rows, unless most of one would be empty.
        const int64_t n_experts = ranks ? c.n_experts : here.count();
        const int tile_rows = is_tiled_on_tensor_cores && n_tokens * k > 64 * n_experts ? 128 : kTileRows;
        const Plan plan = make_plan(ctx, routing, n_experts, here.first, here.count(), has_shared, tile_rows);
        slots.slot_of = plan.slot_of;
        if (is_tiled_on_tensor_cores) many_rows_on_tensor_cores(job, plan, tile_rows, rows_SD);
        else many_rows(job, plan, rows_SD);
    }
    if (ranks) {
        ranks->gather_on_gpu(routed_part(rows_SD, n_tokens * k));
        if (!ranks->leads()) return y_TD;
    }
    add_slots(ctx, slots, rows_SD, y_TD, wants_norms ? norms_T2.f32() : nullptr);
    if (wants_norms) ctx.publish(kMlpNorms, norms_T2, 1, 2);
    return y_TD;
}

}  // namespace vitrine::cuda
