// Linear layers on a GPU's tape: three products by cuBLAS, on BF16 copies or in FP32 (docs/math/linear.md).
#include "engine/device/cuda/blas.h"
#include "engine/ops/linear/copies.h"
#include "engine/ops/linear/linear_tape.h"
#include "engine/ops/trained.h"

namespace vitrine::cuda {
namespace {

// Group g: columns [g in, (g+1) in) of x meet rows [g out, (g+1) out) of W; groups are a batch of products.
struct Grouped {
    int64_t m, groups, in, out;

    // y = x W^T
    void forward(Device& d, const Tensor& x, const Tensor& w, const Tensor& y) const {
        const Gemm g{m, out, in, groups * in, in, groups * out, x.dtype, DType::f32, groups, in, out * in, out};
        gemm(d, g, x.data, w.data, y.data);
    }
    // dx (+)= dy W
    void to_input(Device& d, const Tensor& dy, const Tensor& w, const Tape::Flow& dx) const {
        Gemm g{m, in, out, groups * out, in, groups * in, dy.dtype, DType::f32, groups, out, out * in, in};
        g.b_is_kn = true, g.accumulates = dx.accumulates;
        gemm(d, g, dy.data, w.data, dx.gradient.data);
    }
    // dW (+)= dy^T x
    void to_weight(Device& d, const Tensor& dy, const Tensor& x, const Tape::Flow& dw) const {
        Gemm g{out, in, m, groups * out, groups * in, in, dy.dtype, DType::f32, groups, out, in, out * in};
        g.a_is_km = g.b_is_kn = true, g.accumulates = dw.accumulates;
        gemm(d, g, dy.data, x.data, dw.gradient.data);
    }
};

}  // namespace

Tensor grouped_linear_on_tape(Ctx& ctx, const Tensor& x, const Param& w, int groups, TapeLinear options) {
    const int64_t in = w.shape[1], out = w.shape[0] / groups, m = x.count() / (in * groups);
    VITRINE_ASSERT(out * groups == w.shape[0] && m * in * groups == x.count() && x.dtype == DType::f32);
    const Tensor y = ctx.arena.make(DType::f32, {m, w.shape[0]});
    if (m == 0) return y;
    const Tensor seen = product_value(ctx, x, options.is_input_rounded);
    const Tensor value = product_weight(ctx, w, options.is_weight_rounded ? WeightUse::dense : WeightUse::plain);
    const Grouped op{m, groups, in, out};
    op.forward(*ctx.cuda, seen, value, y);
    const Tensor master = is_trained(ctx, w) ? w.master : Tensor{};
    ctx.tape->record([=](Ctx& c) {
        if (!c.tape->has_grad(y)) return;
        const Tensor gradient = c.tape->grad(y), dy = value.dtype == DType::bf16 ? bf16_copy(c, gradient) : gradient;
        if (!options.is_input_detached) op.to_input(*c.cuda, dy, value, c.tape->flow(x));
        if (!master.empty()) op.to_weight(*c.cuda, dy, seen, c.tape->flow(master));
        c.tape->done(y);
    });
    return y;
}

}  // namespace vitrine::cuda
