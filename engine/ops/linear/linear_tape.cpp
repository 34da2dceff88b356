// Linear layers on master weights, with their backward: y = W x; dx = W^T dy; dW = dy x^T (docs/math/linear.md).
#include "engine/ops/linear/linear_tape.h"

#include "engine/ops/linear/matmul.h"
#include "engine/ops/quantize/quantize_tape.h"
#include "engine/ops/trained.h"

namespace vitrine {
namespace {

template <class T>
Matrix<T> columns(const Tensor& x, int64_t rows, int64_t ld, int64_t first, int64_t n) {
    return {x.as<T>() + first, rows, n, ld};
}

// Group g: columns [g in, (g+1) in) of x meet rows [g out, (g+1) out) of W.
template <class T>
struct Grouped {
    Tensor x, w, y;  // x and w as they are multiplied
    int64_t m, groups, in, out;
    Matrix<T> x_of(const Tensor& t, int64_t g) const { return columns<T>(t, m, groups * in, g * in, in); }
    Matrix<T> y_of(const Tensor& t, int64_t g) const { return columns<T>(t, m, groups * out, g * out, out); }
    Matrix<T> w_of(int64_t g) const { return {w.as<T>() + g * out * in, out, in, in}; }

    void forward(Ctx& ctx) const {
        for (int64_t g = 0; g < groups; ++g)
            matmul_nt(ctx, x_of(x, g), w_of(g), y.as<T>() + g * out, groups * out, false);
    }
    void backward(Ctx& ctx, const Tensor& dy, const Tape::Flow& dx, const Tape::Flow& dw) const {
        for (int64_t g = 0; g < groups; ++g) {
            if (const Tensor& to = dx.gradient; !to.empty())
                matmul_nn(ctx, y_of(dy, g), w_of(g), to.as<T>() + g * in, groups * in, dx.accumulates);
            if (const Tensor& to = dw.gradient; !to.empty())
                matmul_tn(ctx, y_of(dy, g), x_of(x, g), to.as<T>() + g * out * in, in, dw.accumulates);
        }
    }
};

}  // namespace

Tensor grouped_linear_on_tape(Ctx& ctx, const Tensor& x, const Param& w, int groups, TapeLinear options) {
    if constexpr (kHasCuda)
        if (ctx.cuda) return cuda::grouped_linear_on_tape(ctx, x, w, groups, options);
    const int64_t in = w.shape[1], out = w.shape[0] / groups, m = x.count() / (in * groups);
    VITRINE_ASSERT(out * groups == w.shape[0] && m * in * groups == x.count() && x.dtype == ctx.dtype);
    const Tensor y = ctx.arena.make(ctx.dtype, {m, w.shape[0]});
    const Tensor value = options.is_weight_rounded ? dense_weight(ctx, w) : trained_value(ctx, w);
    const Tensor seen = options.is_input_rounded ? linear_input(ctx, x, w.master.data) : x;
    with_real(ctx.dtype, [&](auto real) {
        using T = decltype(real);
        const Grouped<T> op{seen, value, y, m, groups, in, out};
        op.forward(ctx);
        const Tensor master = is_trained(ctx, w) ? w.master : Tensor{};
        ctx.tape->record([=](Ctx& c) {
            if (!c.tape->has_grad(op.y)) return;
            op.backward(c, c.tape->grad(op.y), options.is_input_detached ? Tape::Flow{} : c.tape->flow(x),
                        master.empty() ? Tape::Flow{} : c.tape->flow(master));
            c.tape->done(op.y);
        });
    });
    return y;
}

}  // namespace vitrine
