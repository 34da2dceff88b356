// Linear layers on packed weights: the split over threads and the numerics around the kernels.
#include "engine/ops/linear/linear.h"

#include <algorithm>
#include <cstring>

#include "engine/ops/linear/linear_tape.h"
#include "engine/ops/quantize/quantize.h"

namespace vitrine {

void linear_rows(const Ctx& ctx, const cpu::PackedMatrix& w, const float* x, int64_t ldx, int64_t m, float* y, int64_t ldy,
                 int64_t o0, int64_t o1) {
    const auto& k = cpu::kernels();
    // In `reference` every activation is representable in BF16, so BF16 products are exact.
    (ctx.is_reference() ? k.gemm_bf16 : k.gemm)(w, x, ldx, m, y, ldy, o0, o1);
}

namespace {

// The same, rounded in `reference` while the piece is still in the cache.
void rounded_rows(const Ctx& ctx, const cpu::PackedMatrix& w, const float* x, int64_t ldx, int64_t m, float* y, int64_t ldy,
                  int64_t o0, int64_t o1) {
    linear_rows(ctx, w, x, ldx, m, y, ldy, o0, o1);
    if (!ctx.is_reference()) return;
    for (int64_t i = 0; i < m; ++i) cpu::kernels().round_row(y + i * ldy + o0, o1 - o0);
}

}  // namespace

int64_t linear_grain(const cpu::PackedMatrix& w, int64_t m) {
    // One row of x: a quarter of the matrix a piece, between 16 and 256 KiB, in multiples of 8 rows (two streams of a kernel's
    // tile). More rows: about 2 M multiply-adds, in multiples of 16 rows.
    const int64_t row_bytes = std::max<int64_t>(1, w.in * static_cast<int64_t>(dtype_bits(w.dtype)) / 8);
    const int64_t by_bytes = std::clamp<int64_t>(row_bytes * w.out / 4, 16 << 10, 256 << 10) / row_bytes;
    const int64_t by_work = (int64_t{2} << 20) / std::max<int64_t>(1, w.in * m);
    const int64_t unit = m > 1 ? 16 : 8;
    return std::max<int64_t>(unit, (m > 1 ? std::max<int64_t>(by_work, 64) : by_bytes) / unit * unit);
}

void will_use(const Ctx& ctx, const Param& w) {
    if (ctx.cuda) return;
    const cpu::PackedMatrix& v = w.view;
    ctx.pool.will_read(v.data, static_cast<uint64_t>(v.out * v.in) * dtype_bits(v.dtype) / 8);
}

Tensor quantised_input(Ctx& ctx, const Tensor& x_TI, const cpu::PackedMatrix& w) {
    const bool is_quantised = w.dtype == DType::f8_e4m3 || w.dtype == DType::fp4_e2m1;
    if (!ctx.is_reference() || !is_quantised) return x_TI;
    Tensor q = ctx.arena.make(DType::f32, x_TI.shape);
    std::memcpy(q.data, x_TI.data, static_cast<size_t>(x_TI.count()) * sizeof(float));
    simulate_fp8_rows(ctx, q, 128);
    return q;
}

Tensor linear(Ctx& ctx, const Tensor& x_TI, const Param& w_OI, LinearOptions options) {
    if constexpr (kHasCuda)
        if (ctx.infers_on_gpu()) return cuda::linear(ctx, x_TI, w_OI, options);
    if (ctx.tape)
        return grouped_linear_on_tape(ctx, x_TI, w_OI, 1,
                                      {options.is_input_detached, options.quantise_input, options.quantise_input});
    const cpu::PackedMatrix& w = w_OI.view;
    const int64_t m = x_TI.count() / w.in;
    VITRINE_ASSERT(m * w.in == x_TI.count());
    const Tensor x = options.quantise_input ? quantised_input(ctx, x_TI, w) : x_TI;
    ctx.count(OpKind::linear, static_cast<double>(m * w.in) * static_cast<double>(w.out));
    Tensor y = ctx.arena.make(DType::f32, {m, w.out});
    const float* xp = x.f32();
    float* yp = y.f32();
    const int64_t grain = linear_grain(w, m);
    ctx.pool.parallel_for(w.out, grain, [&](int64_t o0, int64_t o1) {
        if (!ctx.stop.stop_requested())
            (options.round_output ? rounded_rows : linear_rows)(ctx, w, xp, w.in, m, yp, w.out, o0, o1);
    });
    ctx.check_stop();
    return y;
}

Tensor grouped_linear(Ctx& ctx, const Tensor& x_TGI, const Param& w_GOI, int groups) {
    if constexpr (kHasCuda)
        if (ctx.infers_on_gpu()) return cuda::grouped_linear(ctx, x_TGI, w_GOI, groups);
    if (ctx.tape) return grouped_linear_on_tape(ctx, x_TGI, w_GOI, groups, {.is_weight_rounded = true});
    const cpu::PackedMatrix& w = w_GOI.view;
    const int64_t m = x_TGI.count() / (w.in * groups), group_out = w.out / groups, ldx = w.in * groups;
    VITRINE_ASSERT(group_out * groups == w.out && m * ldx == x_TGI.count());
    ctx.count(OpKind::linear, static_cast<double>(m * w.in) * static_cast<double>(w.out));
    Tensor y = ctx.arena.make(DType::f32, {m, w.out});
    const float* xp = x_TGI.f32();
    float* yp = y.f32();
    const int64_t grain = std::min(linear_grain(w, m), group_out), pieces = (group_out + grain - 1) / grain;
    ctx.pool.parallel_for(groups * pieces, 1, [&](int64_t p0, int64_t p1) {
        for (int64_t p = p0; p < p1 && !ctx.stop.stop_requested(); ++p) {
            const int64_t g = p / pieces, o0 = g * group_out + p % pieces * grain;
            const int64_t o1 = std::min(o0 + grain, (g + 1) * group_out);
            rounded_rows(ctx, w, xp + g * w.in, ldx, m, yp, w.out, o0, o1);
        }
    });
    ctx.check_stop();
    return y;
}

}  // namespace vitrine
