// Products of few rows on FP32 lanes: `exact` numerics, and weights that tensor cores don't take.
#include <algorithm>

#include "engine/ops/linear/few_rows.h"
#include "engine/ops/linear/packed.cuh"

namespace vitrine::cuda {
namespace {

struct Product {
    cpu::PackedMatrix w;
    void* y;
    int64_t group_out;
    unsigned first_block, blocks_per_group;
    int n_threads;
    bool is_bf16, is_whole;
};
struct Products {
    Product product[kMaxFewRows];
    int n;
    int64_t n_rows, ldx;
};

// R rows of one W times M rows of x per block, whose threads share the columns. grid: (blocks of all matrices, rows of x / M).
template <DType D, class X, int R, int M>
__global__ void __launch_bounds__(512) multiply(const __grid_constant__ Products a, const X* x) {
    after_previous();
    __shared__ float scratch[kWarp * R * M], total[R * M];
    int which = 0;
    while (which + 1 < a.n && blockIdx.x >= a.product[which + 1].first_block) ++which;
    const Product& p = a.product[which];
    const unsigned block = blockIdx.x - p.first_block;
    const int64_t group = block / p.blocks_per_group, o0 = static_cast<int64_t>(block % p.blocks_per_group) * R;
    const int64_t m0 = static_cast<int64_t>(blockIdx.y) * M;
    int64_t rows[R];
    const X* xs[M];
#pragma unroll
    for (int r = 0; r < R; ++r) rows[r] = group * p.group_out + min(o0 + r, p.group_out - 1);
#pragma unroll
    for (int m = 0; m < M; ++m) xs[m] = x + min(m0 + m, a.n_rows - 1) * a.ldx + group * p.w.in;
    float sum[R][M] = {};
    if (static_cast<int>(threadIdx.x) < p.n_threads) add_products<D>(p.w, rows, xs, threadIdx.x, p.n_threads, p.is_whole, sum);
    float flat[R * M];
#pragma unroll
    for (int i = 0; i < R * M; ++i) flat[i] = sum[i / M][i % M];
    block_totals(flat, p.n_threads / kWarp, scratch, total);
    const int i = threadIdx.x;
    if (i >= R * M || o0 + i / M >= p.group_out || m0 + i % M >= a.n_rows) return;
    const int64_t at = (m0 + i % M) * p.w.out + rows[0] + i / M;
    if (p.is_bf16) static_cast<bf16*>(p.y)[at] = narrow<bf16>(total[i]);
    else static_cast<float*>(p.y)[at] = total[i];
}

// Two chunks each, a function of the matrix alone, so that a row's sum is too.
int threads_for(const cpu::PackedMatrix& w) {
    const int64_t n_chunks = (w.in + chunk_of(w.dtype) - 1) / chunk_of(w.dtype);
    const int64_t most = w.out <= 64 ? 16 : 8;  // a block has registers for 512 threads
    return kWarp * static_cast<int>(std::clamp<int64_t>((n_chunks + 2 * kWarp - 1) / (2 * kWarp), 1, most));
}

template <DType D, class X, int R, int M>
void launch(Ctx& ctx, Products& a, std::span<const FewRows> products, const Tensor& x) {
    unsigned n_blocks = 0;
    int n_threads = kWarp;
    for (size_t i = 0; i < products.size(); ++i) {
        const FewRows& f = products[i];
        Product& p = a.product[i];
        const int64_t group_out = f.w.out / f.groups;
        p = {f.w,
             f.y,
             group_out,
             n_blocks,
             ceil_div(group_out, R),
             threads_for(f.w),
             f.dtype == DType::bf16,
             has_whole_chunks(f.w)};
        n_blocks += p.blocks_per_group * static_cast<unsigned>(f.groups);
        n_threads = std::max(n_threads, p.n_threads);
    }
    multiply<D, X, R, M>
        <<<dim3(n_blocks, ceil_div(a.n_rows, M)), n_threads, 0, ctx.cuda->stream()>>>(a, static_cast<const X*>(x.data));
    check_launch(ctx, "linear layers of few rows");
}

}  // namespace

void multiply_on_lanes(Ctx& ctx, const Tensor& x, std::span<const FewRows> products) {
    const FewRows& first = products[0];
    Products a{};
    a.n = static_cast<int>(products.size()), a.ldx = first.w.in * first.groups, a.n_rows = x.count() / a.ldx;
    int64_t n_out = 0;
    for (const FewRows& f : products) {
        VITRINE_ASSERT(a.n <= kMaxFewRows && f.w.dtype == first.w.dtype && f.w.in * f.groups == a.ldx && f.w.out % f.groups == 0);
        n_out += f.w.out;
    }
    with_format(first.w, [&](auto format) {
        with_activation(x.dtype, [&](auto type) {
            constexpr DType D = decltype(format)::value;
            using X = decltype(type);
            if (a.n_rows > 1) launch<D, X, 2, 4>(ctx, a, products, x);
            else if (n_out <= 512) launch<D, X, 1, 1>(ctx, a, products, x);  // more blocks
            else launch<D, X, 2, 1>(ctx, a, products, x);
        });
    });
}

}  // namespace vitrine::cuda
