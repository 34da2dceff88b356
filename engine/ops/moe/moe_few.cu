// Few rows of the mixture of experts on FP32 lanes: `exact` numerics, and formats that tensor cores don't take.
#include <algorithm>

#include "engine/ops/moe/experts.cuh"

namespace vitrine::cuda {
namespace {

// Few rows. A block per slot and pair of hidden columns, whose threads share the inner dimension.
template <DType D, class X>
__global__ void few_up(Kind kind, const X* x, X* h, int64_t width, float limit, bool is_reference, bool is_whole) {
    after_previous();
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
    block_totals(flat, blockDim.x / kWarp, scratch, total);
    __syncthreads();
    const int i = threadIdx.x;
    if (i >= kRows || o0 + i >= w1.out) return;
    float g = total[i], u = total[kRows + i];
    if (is_reference) g = round_bf16(g), u = round_bf16(u);
    h[(kind.slot0 + s) * width + o0 + i] = narrow<X>(swiglu(g, u, limit, kind.weights ? kind.weights[s] : 1));
}

template <DType D, class X>
__global__ void few_down(Kind kind, const X* h, int64_t width, float* y, bool is_whole) {
    after_previous();
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
    block_totals(flat, blockDim.x / kWarp, scratch, total);
    const int i = threadIdx.x;
    if (i < kRows && o0 + i < w2.out) y[(kind.slot0 + s) * w2.out + o0 + i] = total[i];
}

int threads_for(const cpu::PackedMatrix& w) {
    const int64_t n_chunks = (w.in + chunk_of(w.dtype) - 1) / chunk_of(w.dtype);
    return kWarp * static_cast<int>(std::clamp<int64_t>((n_chunks + kWarp - 1) / kWarp, 1, 8));
}

}  // namespace

void few_rows(const Job& job, const Tensor& y) {
    Ctx& ctx = job.ctx;
    const Tensor h = ctx.arena.make(job.x.dtype, {job.n_slots, job.width});
    const auto stream = ctx.cuda->stream();
    for (const Kind& kind : job.kinds)
        with_format(kind.w1.first, [&](auto format) {
            with_activation(h.dtype, [&](auto type) {
                using X = decltype(type);
                const cpu::PackedMatrix& w = kind.w1.first;
                const dim3 grid(ceil_div(w.out, 2), static_cast<unsigned>(kind.n_slots));
                few_up<decltype(format)::value>
                    <<<grid, threads_for(w), 0, stream>>>(kind, static_cast<const X*>(job.x.data), static_cast<X*>(h.data),
                                                          job.width, job.limit, ctx.is_reference(), has_whole_chunks(w));
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
                few_down<decltype(format)::value>
                    <<<grid, threads_for(w), 0, stream>>>(kind, static_cast<const X*>(h.data), job.width, y.f32(),
                                                          has_whole_chunks(w) && (job.width * dtype_bits(h.dtype)) % 128 == 0);
            });
        });
    check_launch(ctx, "experts of few rows, down");
}

}  // namespace vitrine::cuda
