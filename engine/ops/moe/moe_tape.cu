// The mixture of experts on the tape of a GPU (docs/math/moe.md): products on BF16 by tensor cores, or plain in FP32; each token's
// rows are summed in ascending order of experts, forward and backward.
#include "engine/ops/moe/moe_tape.h"

#include <algorithm>

#include "engine/ops/linear/convert.h"
#include "engine/ops/linear/copies.h"
#include "engine/ops/moe/train.cuh"
#include "engine/ops/trained.h"
#include "engine/ops/training.h"

namespace vitrine::cuda {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / kWarp;

// A warp per token: out [T, D] = or += its slots' rows, in ascending order of experts, the shared one last.
__global__ void sum_rows(TapePlan plan, const float* rows, int64_t d, bool is_whole, bool accumulates, float* out) {
    after_previous();
    __shared__ int32_t slots_of[kWarps][kWarp + 1];
    const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
    const int64_t t = static_cast<int64_t>(blockIdx.x) * kWarps + warp, n_choices = plan.n_tokens * plan.k;
    if (t >= plan.n_tokens) return;
    int32_t* slots = slots_of[warp];
    const int32_t mine = lane < plan.k ? plan.slot_of[t * plan.k + lane] : -1;
    int rank = 0;
    for (int i = 0; i < plan.k; ++i) {
        const int32_t other = __shfl_sync(~0u, mine, i);
        rank += other >= 0 && other < mine;
    }
    int n = __popc(__ballot_sync(~0u, mine >= 0));
    if (mine >= 0) slots[rank] = mine;
    if (plan.n_slots > n_choices) {
        if (lane == 0) slots[n] = static_cast<int32_t>(n_choices + t);
        ++n;
    }
    __syncwarp();
    for (int64_t i = 4 * lane; i < d; i += 4 * kWarp) {
        float4 sum = accumulates ? load_four(out + t * d + i, d - i, is_whole) : float4{0, 0, 0, 0};
#pragma unroll 4
        for (int j = 0; j < n; ++j) {
            const float4 v = load_four(rows + slots[j] * d + i, d - i, is_whole);
            sum.x += v.x, sum.y += v.y, sum.z += v.z, sum.w += v.w;
        }
        store_four(out + t * d + i, sum, d - i, is_whole);
    }
}

// dweights [T, K] = or += the sums of n_parts parts [slots].
__global__ void sum_weight_gradients(TapePlan plan, const float* parts, int n_parts, bool accumulates, float* dweights) {
    after_previous();
    const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= plan.n_tokens * plan.k) return;
    const int32_t slot = plan.slot_of[i];
    float sum = 0;
    for (int p = 0; p < n_parts && slot >= 0; ++p) sum += parts[p * plan.n_slots + slot];
    dweights[i] = accumulates ? dweights[i] + sum : sum;
}

// ---- plain FP32: gate, up, h [slots, width]; slots that nobody uses carry what nobody reads
__global__ void swiglu_plain(const float* g, const float* u, const float* weight_of, int64_t count, int64_t width,
                             float limit, float* h) {
    after_previous();
    const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i < count) h[i] = swiglu(g[i], u[i], limit, weight_of[i / width]);
}
// A warp per slot; q becomes the gradient of up.
__global__ void swiglu_backward_plain(TapePlan plan, const float* g, const float* u, Extent width, int64_t ld,
                                      float limit, float* q, float* h, float* dg, float* dweights) {
    after_previous();
    const int64_t slot = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarp;
    if (slot >= plan.n_slots) return;
    const int n = width.of(slot < plan.n_tokens * plan.k ? 0 : plan.n_routed);
    float dweight = 0;
    for (int64_t i = slot * ld + threadIdx.x % kWarp; i < slot * ld + n; i += kWarp) {
        float dup;
        dweight += swiglu_backward(g[i], u[i], q[i], limit, plan.weight_of[slot], h[i], dg[i], dup);
        q[i] = dup;
    }
    dweight = warp_sum(dweight);
    if (threadIdx.x % kWarp == 0) dweights[slot] = dweight;
}

// ---- weights
using Matrix = Param ExpertWeights::*;

std::vector<const Param*> params_of(const MoeWeights& w, Matrix m) {
    std::vector<const Param*> routed;
    for (const ExpertWeights& e : w.experts) routed.push_back(&(e.*m));
    return routed;
}

// Tensors of a layer's experts lie at equal distances: masters, copies and gradients do.
template <class T>
Stack<T> stack_of(std::span<const Tensor> routed, const Tensor& shared) {
    const auto data = [](const Tensor& t) { return static_cast<T*>(t.data); };
    Stack<T> s{data(routed[0]), shared.empty() ? nullptr : data(shared), 0, static_cast<int>(routed.size())};
    for (size_t i = 1; i < routed.size(); ++i) {
        if (i == 1) s.stride = data(routed[1]) - data(routed[0]);
        VITRINE_ASSERT(data(routed[i]) - data(routed[0]) == static_cast<int64_t>(i) * s.stride &&
                       routed[i].shape == routed[0].shape);
    }
    return s;
}

Stack<const bf16> bf16_stack(Ctx& ctx, const MoeWeights& w, Matrix m) {
    const Param& shared = w.shared.*m;
    const Tensor shared_copy = shared.empty() ? Tensor{} : bf16_weight(ctx, shared, WeightUse::dense);
    std::vector<Tensor> routed;
    for (const Param* p : params_of(w, m)) routed.push_back(kept_copy(ctx, *p, WeightUse::routed));
    if (!routed[0].empty()) return stack_of<const bf16>(routed, shared_copy);
    const Tensor copies = bf16_weights(ctx, params_of(w, m), WeightUse::routed);
    return {static_cast<const bf16*>(copies.data), static_cast<const bf16*>(shared_copy.data), copies.dim(1) * copies.dim(2),
            static_cast<int>(copies.dim(0))};
}

Stack<const float> f32_stack(Ctx& ctx, const MoeWeights& w, Matrix m) {
    const Param& shared = w.shared.*m;
    const Tensor shared_value = shared.empty() ? Tensor{} : f32_weight(ctx, shared, WeightUse::dense);
    if (ctx.training && ctx.training->quant.fp4_experts) {
        const Tensor copies = f32_weights(ctx, params_of(w, m), WeightUse::routed);
        return {copies.f32(), shared_value.empty() ? nullptr : shared_value.f32(), copies.dim(1) * copies.dim(2),
                static_cast<int>(copies.dim(0))};
    }
    std::vector<Tensor> routed;
    for (const Param* p : params_of(w, m)) routed.push_back(trained_value(ctx, *p));
    return stack_of<const float>(routed, shared_value);
}

// Masters whose gradient is wanted: of all routed experts or of none, and of the shared one.
struct Leaves {
    std::vector<Tensor> routed;
    Tensor shared;
};
Leaves leaves_of(const Ctx& ctx, const MoeWeights& w, Matrix m) {
    Leaves leaves;
    for (const ExpertWeights& e : w.experts)
        if (is_trained(ctx, e.*m)) leaves.routed.push_back((e.*m).master);
    VITRINE_ASSERT(leaves.routed.empty() || leaves.routed.size() == w.experts.size());
    if (!(w.shared.*m).empty() && is_trained(ctx, w.shared.*m)) leaves.shared = (w.shared.*m).master;
    VITRINE_ASSERT((w.shared.*m).empty() || leaves.shared.empty() == leaves.routed.empty());
    return leaves;
}
GradientStack gradients_of(Ctx& ctx, const Leaves& leaves) {
    if (leaves.routed.empty()) return {};
    std::vector<Tape::Flow> flows;
    for (const Tensor& t : leaves.routed) flows.push_back(ctx.tape->flow(t));
    if (!leaves.shared.empty()) flows.push_back(ctx.tape->flow(leaves.shared));
    std::vector<Tensor> gradients;
    for (const Tape::Flow& f : flows) {
        VITRINE_ASSERT(f.accumulates == flows[0].accumulates);  // they are bound and reached together
        gradients.push_back(f.gradient);
    }
    const std::span<const Tensor> all(gradients);
    return {stack_of<float>(all.first(leaves.routed.size()), leaves.shared.empty() ? Tensor{} : all.back()), flows[0].accumulates};
}

// ---- one layer
struct Layer {
    TapePlan plan;
    Extent width;
    int64_t d, ld;                  // ld: the wider of the two widths
    float limit;
    bool rounds_hidden;             // h to FP8 before w2
    Tensor x, y, weights;
    Leaves w1, w2, w3;
};

void sum_slots(Ctx& ctx, const Layer& l, const float* rows, const Tensor& out, bool accumulates) {
    sum_rows<<<ceil_div(l.plan.n_tokens, kWarps), kThreads, 0, ctx.cuda->stream()>>>(l.plan, rows, l.d, l.d % 4 == 0, accumulates,
                                                                                    out.f32());
    check_launch(ctx, "summing experts");
}

void leave_weight_gradients(Ctx& ctx, const Layer& l, const float* parts, int n_parts) {
    const Tape::Flow to = ctx.tape->flow(l.weights);
    sum_weight_gradients<<<ceil_div(l.plan.n_tokens * l.plan.k, kThreads), kThreads, 0, ctx.cuda->stream()>>>(
        l.plan, parts, n_parts, to.accumulates, to.gradient.f32());
    check_launch(ctx, "gradients of routing weights");
}

void round_hidden(Ctx& ctx, const Layer& l, const Tensor& h) {
    if (!l.rounds_hidden) return;
    const int64_t n_routed = l.plan.n_tokens * l.plan.k, n_shared = l.plan.n_slots - n_routed;
    simulate_fp8(ctx, h, n_routed, l.width.routed, l.ld);
    const auto bytes = static_cast<int64_t>(dtype_bits(h.dtype)) / 8;
    if (n_shared > 0)
        simulate_fp8(ctx, {static_cast<std::byte*>(h.data) + n_routed * l.ld * bytes, h.dtype, {n_shared, l.ld}}, n_shared,
                     l.width.shared, l.ld);
}

Tensor rows_of(Ctx& ctx, const Layer& l, DType t, int64_t cols) { return ctx.arena.make(t, {l.plan.n_slots, cols}); }
bf16* bf16_data(const Tensor& t) {
    VITRINE_ASSERT(t.dtype == DType::bf16);
    return static_cast<bf16*>(t.data);
}

void backward_on_tensor_cores(Ctx& ctx, const Layer& l, const TensorJob& job, const Tensor& gu) {
    const Tensor dy = bf16_copy(ctx, ctx.tape->grad(l.y)), dgu = rows_of(ctx, l, DType::bf16, 2 * l.ld),
                 h = rows_of(ctx, l, DType::bf16, l.ld);
    const auto n_parts = static_cast<int>(ceil_div(l.width.largest(), kColumnsOfPart));
    const Tensor parts = ctx.arena.make(DType::f32, {n_parts, l.plan.n_slots});
    down_backward_on_tensor_cores(ctx, job, bf16_data(dy), bf16_data(gu), bf16_data(dgu), bf16_data(h), parts.f32());
    leave_weight_gradients(ctx, l, parts.f32(), static_cast<int>(ceil_div(l.width.routed, kColumnsOfPart)));
    round_hidden(ctx, l, h);
    gradients_on_tensor_cores(ctx, job, bf16_data(dy), bf16_data(dgu), bf16_data(h),
                              {gradients_of(ctx, l.w1), gradients_of(ctx, l.w2), gradients_of(ctx, l.w3)});
    const Tensor dx_SD = rows_of(ctx, l, DType::f32, l.d);
    up_backward_on_tensor_cores(ctx, job, bf16_data(dgu), dx_SD.f32());
    const Tape::Flow dx = ctx.tape->flow(l.x);
    sum_slots(ctx, l, dx_SD.f32(), dx.gradient, dx.accumulates);
}

void on_tensor_cores(Ctx& ctx, const Layer& l, const MoeWeights& w) {
    TensorJob job{l.plan, static_cast<int>(l.d), l.width, static_cast<int>(l.ld), l.limit, {}, {}, {}, nullptr};
    job.x = bf16_data(bf16_value(ctx, l.x, true));
    job.w1 = bf16_stack(ctx, w, &ExpertWeights::w1), job.w2 = bf16_stack(ctx, w, &ExpertWeights::w2);
    job.w3 = bf16_stack(ctx, w, &ExpertWeights::w3);
    const Tensor gu = rows_of(ctx, l, DType::bf16, 2 * l.ld);
    {
        const Arena::Scope scratch(ctx.arena);
        const Tensor h = rows_of(ctx, l, DType::bf16, l.ld), y_SD = rows_of(ctx, l, DType::f32, l.d);
        up_on_tensor_cores(ctx, job, bf16_data(gu), bf16_data(h));
        round_hidden(ctx, l, h);
        down_on_tensor_cores(ctx, job, bf16_data(h), y_SD.f32());
        sum_slots(ctx, l, y_SD.f32(), l.y, false);
    }
    ctx.tape->record([=](Ctx& c) {
        if (c.tape->has_grad(l.y)) backward_on_tensor_cores(c, l, job, gu);
        c.tape->done(l.y);
    });
}

struct PlainJob {
    Stack<const float> w1, w2, w3;
    Tensor x, g, u;                 // x as the experts see it
};

// To h's width or from it, rows by token or by slot.
PlainRows to_width(const Layer& l, const Tensor& x, const int32_t* row_of, const Tensor& y) {
    const auto d = static_cast<int>(l.d);
    return {l.width, {d, d, l.plan.n_routed}, x.f32(), row_of, y.f32(), l.d, l.ld, false};
}
PlainRows from_width(const Layer& l, const Tensor& x, const Tensor& y, bool accumulates) {
    const auto d = static_cast<int>(l.d);
    return {{d, d, l.plan.n_routed}, l.width, x.f32(), nullptr, y.f32(), l.ld, l.d, accumulates};
}

void forward_plain(Ctx& ctx, const Layer& l, const PlainJob& job) {
    const Arena::Scope scratch(ctx.arena);
    const Tensor h = rows_of(ctx, l, DType::f32, l.ld), y_SD = rows_of(ctx, l, DType::f32, l.d);
    multiply_plain(ctx, l.plan, to_width(l, job.x, l.plan.token_of, job.g), job.w1, false);
    multiply_plain(ctx, l.plan, to_width(l, job.x, l.plan.token_of, job.u), job.w3, false);
    swiglu_plain<<<ceil_div(h.count(), kThreads), kThreads, 0, ctx.cuda->stream()>>>(job.g.f32(), job.u.f32(), l.plan.weight_of,
                                                                                    h.count(), l.ld, l.limit, h.f32());
    check_launch(ctx, "SwiGLU");
    round_hidden(ctx, l, h);
    multiply_plain(ctx, l.plan, from_width(l, h, y_SD, false), job.w2, false);
    sum_slots(ctx, l, y_SD.f32(), l.y, false);
}

void backward_plain(Ctx& ctx, const Layer& l, const PlainJob& job) {
    const Tensor dy = ctx.tape->grad(l.y), du = rows_of(ctx, l, DType::f32, l.ld), dg = rows_of(ctx, l, DType::f32, l.ld),
                 h = rows_of(ctx, l, DType::f32, l.ld), parts = ctx.arena.make(DType::f32, {l.plan.n_slots});
    const int32_t* token_of = l.plan.token_of;
    multiply_plain(ctx, l.plan, to_width(l, dy, token_of, du), job.w2, true);  // of h, for now
    swiglu_backward_plain<<<ceil_div(l.plan.n_slots, kWarps), kThreads, 0, ctx.cuda->stream()>>>(
        l.plan, job.g.f32(), job.u.f32(), l.width, l.ld, l.limit, du.f32(), h.f32(), dg.f32(), parts.f32());
    check_launch(ctx, "SwiGLU's gradient");
    leave_weight_gradients(ctx, l, parts.f32(), 1);
    round_hidden(ctx, l, h);
    const Tensor dx_SD = rows_of(ctx, l, DType::f32, l.d);
    multiply_plain(ctx, l.plan, from_width(l, dg, dx_SD, false), job.w1, true);
    multiply_plain(ctx, l.plan, from_width(l, du, dx_SD, true), job.w3, true);
    const Tape::Flow dx = ctx.tape->flow(l.x);
    sum_slots(ctx, l, dx_SD.f32(), dx.gradient, dx.accumulates);
    const auto d = static_cast<int>(l.d);
    const Extent all{d, d, l.plan.n_routed};
    const GradientStack dw1 = gradients_of(ctx, l.w1), dw2 = gradients_of(ctx, l.w2), dw3 = gradients_of(ctx, l.w3);
    if (dw1.to.routed) gradient_plain(ctx, l.plan, {l.width, all, dg.f32(), job.x.f32(), nullptr, token_of, l.ld, l.d}, dw1);
    if (dw3.to.routed) gradient_plain(ctx, l.plan, {l.width, all, du.f32(), job.x.f32(), nullptr, token_of, l.ld, l.d}, dw3);
    if (dw2.to.routed) gradient_plain(ctx, l.plan, {all, l.width, dy.f32(), h.f32(), token_of, nullptr, l.d, l.ld}, dw2);
}

void in_plain_fp32(Ctx& ctx, const Layer& l, const MoeWeights& w) {
    PlainJob job{f32_stack(ctx, w, &ExpertWeights::w1),
                 f32_stack(ctx, w, &ExpertWeights::w2),
                 f32_stack(ctx, w, &ExpertWeights::w3),
                 l.rounds_hidden ? fp8_values(ctx, l.x, l.d) : l.x,
                 {},
                 {}};
    job.g = rows_of(ctx, l, DType::f32, l.ld), job.u = rows_of(ctx, l, DType::f32, l.ld);
    forward_plain(ctx, l, job);
    ctx.tape->record([=](Ctx& c) {
        if (c.tape->has_grad(l.y)) backward_plain(c, l, job);
        c.tape->done(l.y);
    });
}

}  // namespace

Tensor moe_on_tape(Ctx& ctx, const Tensor& x_TD, const Routing& routing, const MoeWeights& w, const ModelConfig& c) {
    VITRINE_ASSERT(x_TD.dtype == DType::f32 && routing.weights_TK.dtype == DType::f32 && x_TD.dim(0) > 0);
    const FakeQuant quant = ctx.training ? ctx.training->quant : FakeQuant{};
    if (quant.fp8_activations && quant.fp8_per_tensor)
        throw Error(ErrorKind::bad_input, "fp8_activation_scale: expected row on a GPU; --device cpu trains with it");
    Layer l{};
    const bool has_shared = !w.shared.w1.empty();
    const auto n_routed = static_cast<int>(w.experts.size());
    const auto routed = static_cast<int>(w.experts[0].w1.shape[0]);
    l.plan = make_tape_plan(ctx, routing, n_routed, has_shared);
    l.width = {routed, has_shared ? static_cast<int>(w.shared.w1.shape[0]) : routed, n_routed};
    l.d = x_TD.dim(1), l.ld = l.width.largest(), l.limit = static_cast<float>(c.swiglu_limit);
    l.rounds_hidden = quant.fp8_activations;
    l.x = x_TD, l.y = ctx.arena.make(DType::f32, x_TD.shape), l.weights = routing.weights_TK;
    l.w1 = leaves_of(ctx, w, &ExpertWeights::w1), l.w2 = leaves_of(ctx, w, &ExpertWeights::w2);
    l.w3 = leaves_of(ctx, w, &ExpertWeights::w3);
    const bool is_whole = l.d % 8 == 0 && l.width.routed % 8 == 0 && l.width.shared % 8 == 0;  // copies of 16 bytes
    if (ctx.has_bf16_products && is_whole) on_tensor_cores(ctx, l, w);
    else in_plain_fp32(ctx, l, w);
    return l.y;
}

}  // namespace vitrine::cuda
