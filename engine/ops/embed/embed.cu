// Embedding rows on a GPU.
#include "engine/ops/kernel.cuh"
#include "engine/ops/embed/embed.h"

namespace vitrine::cuda {
namespace {

// x [T, n, D]: every stream of token t starts as its row of the table.
template <class A>
__global__ void embed(cpu::PackedMatrix table, const TokenAt* tokens, int n, A* x) {
    after_previous();
    const int64_t t = blockIdx.y, d = table.in;
    const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
    if (i >= d) return;
    const A v = narrow<A>(element(table, tokens[t].id, i));
    for (int j = 0; j < n; ++j) x[(t * n + j) * d + i] = v;
}

template <class A>
__global__ void pick(const A* x, const int32_t* rows, int64_t width, A* y) {
    after_previous();
    const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i < width) y[blockIdx.y * width + i] = x[rows[blockIdx.y] * width + i];
}

}  // namespace

Tensor embed_streams(Ctx& ctx, const Param& table_VD, int n_streams) {
    const int64_t d = table_VD.shape[1], n_tokens = ctx.cuda->step.n_tokens;
    const Tensor x_TND = ctx.arena.make(ctx.activation(), {n_tokens, n_streams, d});
    with_activation(x_TND.dtype, [&](auto a) {
        const dim3 grid(ceil_div(d, 128), static_cast<unsigned>(n_tokens));
        embed<<<grid, 128, 0, ctx.cuda->stream()>>>(table_VD.view, ctx.cuda->step.tokens, n_streams,
                                                    static_cast<decltype(a)*>(x_TND.data));
    });
    check_launch(ctx, "embed_streams");
    return x_TND;
}

Tensor last_rows(Ctx& ctx, const Tensor& x_TND) {
    Shape shape = x_TND.shape;
    shape.n[0] = ctx.cuda->step.n_sequences;
    if (shape.n[0] == x_TND.dim(0)) return x_TND;  // one row each
    const int64_t width = x_TND.count() / x_TND.dim(0);
    const Tensor y = ctx.arena.make(x_TND.dtype, shape);
    with_activation(x_TND.dtype, [&](auto a) {
        using A = decltype(a);
        const dim3 grid(ceil_div(width, 256), static_cast<unsigned>(shape[0]));
        pick<<<grid, 256, 0, ctx.cuda->stream()>>>(static_cast<const A*>(x_TND.data), ctx.cuda->step.last_rows, width,
                                                   static_cast<A*>(y.data));
    });
    check_launch(ctx, "last_rows");
    return y;
}

}  // namespace vitrine::cuda
