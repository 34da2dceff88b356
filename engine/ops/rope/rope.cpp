// Rotary position embedding: frequencies, angles, rotation.
#include "engine/ops/rope/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "engine/device/cpu/kernels.h"
#include "engine/ops/rmsnorm/rmsnorm.h"

namespace vitrine {

std::vector<double> rope_frequencies(const ModelConfig& c, bool is_compressed_layer) {
    const int half = c.rope_dim / 2;
    const double theta = is_compressed_layer ? c.compress_rope_theta : c.rope_theta;
    std::vector<double> f(half);
    for (int i = 0; i < half; ++i) f[i] = std::pow(theta, -2.0 * i / c.rope_dim);
    if (!is_compressed_layer || !c.has_yarn) return f;
    const auto correction = [&](double beta) {
        return c.rope_dim * std::log(c.yarn.original_max_position / (2 * std::numbers::pi * beta)) / (2 * std::log(theta));
    };
    const double lo = std::max(std::floor(correction(c.yarn.beta_fast)), 0.0);
    double hi = std::min(std::ceil(correction(c.yarn.beta_slow)), c.rope_dim - 1.0);
    if (lo == hi) hi += 0.001;
    for (int i = 0; i < half; ++i) {
        const double ramp = std::clamp((i - lo) / (hi - lo), 0.0, 1.0);
        f[i] *= ramp / c.yarn.factor + (1 - ramp);
    }
    return f;
}

RopeAngles rope_angles(Ctx& ctx, std::span<const int64_t> positions, const std::vector<double>& frequencies) {
    const OpTimer timer(ctx, OpKind::rope);
    if constexpr (kHasCuda)
        if (ctx.cuda) return cuda::rope_angles(ctx, positions, frequencies);
    const auto n = static_cast<int64_t>(positions.size()), half = static_cast<int64_t>(frequencies.size());
    RopeAngles a{ctx.arena.make(ctx.dtype, {n, half}), ctx.arena.make(ctx.dtype, {n, half})};
    with_real(ctx.dtype, [&](auto real) {
        using T = decltype(real);
        ctx.pool.parallel_for(n, 16, [&](int64_t r0, int64_t r1) {
            for (int64_t r = r0; r < r1; ++r)
                for (int64_t i = 0; i < half; ++i) {
                    const double angle = static_cast<float>(positions[r]) * static_cast<float>(frequencies[i]);
                    a.cos.row<T>(r)[i] = static_cast<T>(std::cos(angle));
                    a.sin.row<T>(r)[i] = static_cast<T>(std::sin(angle));
                }
        });
    });
    return a;
}

namespace {

// y += or = x with its last dimensions rotated; x may be y.
template <class T, class Finish>
void rotate(Ctx& ctx, const T* x, T* y, const Shape& shape, const RopeAngles& angles, T sign, Finish finish) {
    const int64_t n_heads = shape[1], c = shape[2], half = angles.cos.dim(1), rest = c - 2 * half;
    ctx.pool.parallel_for(shape[0], 16, [&](int64_t t0, int64_t t1) {
        for (int64_t t = t0; t < t1; ++t) {
            const T *co = angles.cos.row<T>(t), *si = angles.sin.row<T>(t);
            for (int64_t h = 0; h < n_heads; ++h) {
                const T* from = x + (t * n_heads + h) * c;
                T* to = y + (t * n_heads + h) * c;
                finish(from, to, co, si, sign, rest, half);
            }
        }
    });
}

// Orthogonal: its backward is the rotation by the opposite angle.
Tensor rope_on_tape(Ctx& ctx, const Tensor& x, const RopeAngles& angles, int sign) {
    const Tensor y = ctx.arena.make(ctx.dtype, x.shape);
    with_real(ctx.dtype, [&](auto real) {
        using T = decltype(real);
        rotate<T>(ctx, x.as<T>(), y.as<T>(), x.shape, angles, static_cast<T>(sign),
                  [](const T* from, T* to, const T* co, const T* si, T s, int64_t rest, int64_t half) {
                      std::copy_n(from, rest, to);
                      for (int64_t i = rest; half-- > 0; i += 2, ++co, ++si) {
                          to[i] = from[i] * *co - s * from[i + 1] * *si;
                          to[i + 1] = s * from[i] * *si + from[i + 1] * *co;
                      }
                  });
        ctx.tape->record([=](Ctx& c) {
            if (!c.tape->has_grad(y)) return;
            rotate<T>(c, c.tape->grad(y).template as<T>(), c.tape->grad(x).template as<T>(), x.shape, angles,
                      static_cast<T>(-sign), [](const T* dy, T* dx, const T* co, const T* si, T s, int64_t rest, int64_t half) {
                          for (int64_t i = 0; i < rest; ++i) dx[i] += dy[i];
                          for (int64_t i = rest; half-- > 0; i += 2, ++co, ++si) {
                              dx[i] += dy[i] * *co - s * dy[i + 1] * *si;
                              dx[i + 1] += s * dy[i] * *si + dy[i + 1] * *co;
                          }
                      });
            c.tape->done(y);
        });
    });
    return y;
}

}  // namespace

Tensor apply_rope(Ctx& ctx, const Tensor& x_THC, const RopeAngles& angles, int sign) {
    const OpTimer timer(ctx, OpKind::rope);
    if constexpr (kHasCuda)
        if (ctx.cuda) return ctx.tape ? cuda::rope_on_tape(ctx, x_THC, angles, sign) : cuda::apply_rope(ctx, x_THC, angles, sign);
    if (ctx.tape) return rope_on_tape(ctx, x_THC, angles, sign);
    const bool is_rounded = ctx.is_reference();
    rotate<float>(ctx, x_THC.f32(), x_THC.f32(), x_THC.shape, angles, static_cast<float>(sign),
                  [is_rounded](const float*, float* x, const float* co, const float* si, float s, int64_t rest, int64_t half) {
                      x += rest;
                      for (int64_t i = 0; i < half; ++i) {
                          const float a = x[2 * i], b = x[2 * i + 1];
                          x[2 * i] = a * co[i] - s * b * si[i];
                          x[2 * i + 1] = s * a * si[i] + b * co[i];
                      }
                      if (is_rounded) cpu::kernels().round_row(x, 2 * half);  // the other dimensions are rounded already
                  });
    return x_THC;
}

Tensor norm_and_rope(Ctx& ctx, const Tensor& x_THC, double eps, const RopeAngles& angles) {
    if constexpr (kHasCuda)
        if (ctx.cuda) {
            if (!ctx.tape) return cuda::norm_and_rotate(ctx, x_THC, eps, angles);
            const OpTimer timer(ctx, OpKind::rope);
            return cuda::norm_and_rope_on_tape(ctx, x_THC, eps, angles);
        }
    return apply_rope(ctx, rmsnorm_heads(ctx, x_THC, eps), angles);
}

}  // namespace vitrine
