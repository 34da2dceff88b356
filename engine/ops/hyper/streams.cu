// Streams on their way to and from the caches on a GPU, for the MTP module that drafts (v4-spec 6).
#include "engine/ops/hyper/hyper.h"
#include "engine/ops/kernel.cuh"

namespace vitrine::cuda {
namespace {

constexpr int kThreads = 256;

// x [R, width]: row r is token r of the step, or token rows[r].
template <class A>
__global__ void keep(const A* x, const TokenAt* tokens, const LayerView* views, const int32_t* rows, int64_t width,
                     int64_t shift) {
    after_previous();
    const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x, r = blockIdx.y;
    const TokenAt at = tokens[rows ? rows[r] : r];
    const LayerView& view = views[at.sequence];
    if (i >= width || !view.streams) return;
    reinterpret_cast<A*>(view.streams)[(at.position + shift) % view.streams_capacity * width + i] = x[r * width + i];
}

template <class A>
__global__ void take(const TokenAt* tokens, const LayerView* views, int64_t width, A* x) {
    after_previous();
    const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x, r = blockIdx.y;
    const TokenAt at = tokens[r];
    const LayerView& view = views[at.sequence];
    if (i >= width) return;
    x[r * width + i] = view.streams
                           ? reinterpret_cast<const A*>(view.streams)[at.position % view.streams_capacity * width + i]
                           : narrow<A>(0.0f);
}

template <class A>
__global__ void add_token(const A* x, const A* e, int n_streams, int64_t d, int64_t count, bool is_rounded, A* z) {
    after_previous();
    const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= count) return;
    const float sum = widen(x[i]) + widen(e[i / (n_streams * d) * d + i % d]);
    z[i] = narrow<A>(is_rounded ? round_bf16(sum) : sum);
}

dim3 grid_of(int64_t width, int64_t n_rows) {
    return {ceil_div(width, kThreads), static_cast<unsigned>(n_rows)};
}

}  // namespace

void keep_streams(Ctx& ctx, const Tensor& x_TND, int l, bool is_last_only, int64_t shift) {
    const Step& step = ctx.cuda->step;
    const int64_t n_rows = x_TND.dim(0), width = x_TND.count() / n_rows;
    VITRINE_ASSERT(n_rows == (is_last_only ? step.n_sequences : step.n_tokens) && x_TND.dtype == ctx.activation());
    finish_mix(ctx);
    with_activation(x_TND.dtype, [&](auto a) {
        keep<<<grid_of(width, n_rows), kThreads, 0, ctx.cuda->stream()>>>(
            static_cast<const decltype(a)*>(x_TND.data), step.tokens, step.layer(l),
            is_last_only ? step.last_rows : nullptr, width, shift);
    });
    check_launch(ctx, "keep_streams");
}

Tensor kept_streams(Ctx& ctx, Shape shape_TND, int l) {
    const Step& step = ctx.cuda->step;
    const Tensor x_TND = ctx.arena.make(ctx.activation(), shape_TND);
    VITRINE_ASSERT(x_TND.dim(0) == step.n_tokens);
    const int64_t width = x_TND.count() / x_TND.dim(0);
    with_activation(x_TND.dtype, [&](auto a) {
        take<<<grid_of(width, x_TND.dim(0)), kThreads, 0, ctx.cuda->stream()>>>(step.tokens, step.layer(l), width,
                                                                                static_cast<decltype(a)*>(x_TND.data));
    });
    check_launch(ctx, "kept_streams");
    return x_TND;
}

Tensor sum_with_streams(Ctx& ctx, const Tensor& x_TND, const Tensor& e_TD) {
    VITRINE_ASSERT(x_TND.dtype == ctx.activation() && e_TD.dtype == x_TND.dtype && e_TD.dim(0) == x_TND.dim(0));
    const Tensor z_TND = ctx.arena.make(x_TND.dtype, x_TND.shape);
    const int64_t count = x_TND.count();
    with_activation(x_TND.dtype, [&](auto a) {
        using A = decltype(a);
        add_token<<<ceil_div(count, kThreads), kThreads, 0, ctx.cuda->stream()>>>(
            static_cast<const A*>(x_TND.data), static_cast<const A*>(e_TD.data), static_cast<int>(x_TND.dim(1)),
            x_TND.dim(2), count, ctx.is_reference(), static_cast<A*>(z_TND.data));
    });
    check_launch(ctx, "sum_with_streams");
    return z_TND;
}

}  // namespace vitrine::cuda
