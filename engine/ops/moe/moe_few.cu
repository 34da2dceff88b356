// Few rows of the mixture of experts on FP32 lanes: `exact` numerics, and formats that tensor cores don't take.
#include <algorithm>

#include "engine/ops/moe/experts.cuh"

namespace vitrine::cuda {
namespace {

// Kinds of expert whose matrices have one format: the routed slots first.
struct Kinds {
    Kind kind[2];
    int n;
    bool is_whole;  // all rows are of whole chunks
};
struct Slot {
    const Kind* kind;
    int64_t at;     // among the kind's
};
__device__ Slot slot_of(const Kinds& a, int64_t y) {
    const int64_t n_first = a.kind[0].n_slots;
    return y < n_first ? Slot{&a.kind[0], y} : Slot{&a.kind[1], y - n_first};
}

// A block per pair of hidden columns and slot, whose threads share the inner dimension.
template <DType D, class X>
__global__ void few_up(const __grid_constant__ Kinds a, const X* x, X* h, int64_t width, float limit, bool is_reference) {
    after_previous();
    constexpr int kRows = 2;
    __shared__ float scratch[kWarp * 2 * kRows], total[2 * kRows];
    const auto [which, s] = slot_of(a, blockIdx.y);
    const Kind& kind = *which;
    const int64_t o0 = static_cast<int64_t>(blockIdx.x) * kRows;
    const int expert = kind.chosen ? kind.chosen[s] : 0;
    if (expert < 0 || o0 >= kind.w1.first.out) return;
    const cpu::PackedMatrix w1 = kind.w1.at(expert), w3 = kind.w3.at(expert);
    const int64_t rows[kRows] = {o0, min(o0 + 1, w1.out - 1)};
    const X* const xs[1] = {x + s / kind.per_token * w1.in};
    float gate[kRows][1] = {}, up[kRows][1] = {};
    add_products<D>(w1, rows, xs, threadIdx.x, blockDim.x, a.is_whole, gate);
    add_products<D>(w3, rows, xs, threadIdx.x, blockDim.x, a.is_whole, up);
    const float flat[2 * kRows] = {gate[0][0], gate[1][0], up[0][0], up[1][0]};
    block_totals(flat, blockDim.x / kWarp, scratch, total);
    __syncthreads();
    const int i = threadIdx.x;
    if (i >= kRows || o0 + i >= w1.out) return;
    float g = total[i], u = total[kRows + i];
    if (is_reference) g = round_bf16(g), u = round_bf16(u);
    h[(kind.slot0 + s) * width + o0 + i] = narrow<X>(swiglu(g, u, limit, kind.weights ? kind.weights[s] : 1));
}

template <DType D, class X>
__global__ void few_down(const __grid_constant__ Kinds a, const X* h, int64_t width, float* y) {
    after_previous();
    constexpr int kRows = 4;
    __shared__ float scratch[kWarp * kRows], total[kRows];
    const auto [which, s] = slot_of(a, blockIdx.y);
    const Kind& kind = *which;
    const int64_t o0 = static_cast<int64_t>(blockIdx.x) * kRows;
    const int expert = kind.chosen ? kind.chosen[s] : 0;
    if (expert < 0) return;
    const cpu::PackedMatrix w2 = kind.w2.at(expert);
    int64_t rows[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r) rows[r] = min(o0 + r, w2.out - 1);
    const X* const xs[1] = {h + (kind.slot0 + s) * width};
    float sum[kRows][1] = {};
    add_products<D>(w2, rows, xs, threadIdx.x, blockDim.x, a.is_whole, sum);
    const float flat[kRows] = {sum[0][0], sum[1][0], sum[2][0], sum[3][0]};
    block_totals(flat, blockDim.x / kWarp, scratch, total);
    const int i = threadIdx.x;
    if (i < kRows && o0 + i < w2.out) y[(kind.slot0 + s) * w2.out + o0 + i] = total[i];
}

// Threads of a block: a chunk each of the widest row.
int threads_for(int64_t in, DType dtype) {
    const int64_t n_chunks = (in + chunk_of(dtype) - 1) / chunk_of(dtype);
    return kWarp * static_cast<int>(std::clamp<int64_t>((n_chunks + kWarp - 1) / kWarp, 1, 8));
}

// Calls launch(format, kinds, blocks along the outputs, slots, threads) once for each format of `matrix`.
template <class F>
void for_formats(const Job& job, Experts Kind::*matrix, int rows_per_block, F&& launch) {
    const bool is_one = job.kinds.size() == 1 || (job.kinds[0].*matrix).first.dtype == (job.kinds[1].*matrix).first.dtype;
    for (size_t i = 0; i < job.kinds.size(); i += is_one ? job.kinds.size() : 1) {
        Kinds a{{job.kinds[i], job.kinds.back()}, is_one ? static_cast<int>(job.kinds.size()) : 1, true};
        int64_t n_slots = 0, out = 0, in = 0;
        for (int k = 0; k < a.n; ++k) {
            const cpu::PackedMatrix& w = (a.kind[k].*matrix).first;
            a.is_whole &= has_whole_chunks(w);
            n_slots += a.kind[k].n_slots, out = std::max(out, w.out), in = std::max(in, w.in);
        }
        const cpu::PackedMatrix& first = (a.kind[0].*matrix).first;
        const dim3 grid(ceil_div(out, rows_per_block), static_cast<unsigned>(n_slots));
        with_format(first, [&](auto format) { launch(format, a, grid, threads_for(in, first.dtype)); });
    }
}

}  // namespace

void few_rows(const Job& job, const Tensor& y) {
    Ctx& ctx = job.ctx;
    for (const Kind& kind : job.kinds) VITRINE_ASSERT(kind.w1.first.dtype == kind.w3.first.dtype);
    const Tensor h = ctx.arena.make(job.x.dtype, {job.n_slots, job.width});
    const auto stream = ctx.cuda->stream();
    with_activation(h.dtype, [&](auto type) {
        using X = decltype(type);
        for_formats(job, &Kind::w1, 2, [&](auto format, const Kinds& a, dim3 grid, int n_threads) {
            few_up<decltype(format)::value><<<grid, n_threads, 0, stream>>>(
                a, static_cast<const X*>(job.x.data), static_cast<X*>(h.data), job.width, job.limit, ctx.is_reference());
        });
        check_launch(ctx, "experts of few rows, up");
        quantise_hidden(job, h);
        for_formats(job, &Kind::w2, 4, [&](auto format, const Kinds& a, dim3 grid, int n_threads) {
            few_down<decltype(format)::value><<<grid, n_threads, 0, stream>>>(a, static_cast<const X*>(h.data), job.width, y.f32());
        });
    });
    check_launch(ctx, "experts of few rows, down");
}

}  // namespace vitrine::cuda
