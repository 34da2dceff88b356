// Rotary position embedding: frequencies, angles, rotation.
#include "engine/ops/rope/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "engine/device/cpu/kernels.h"

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
    const auto n = static_cast<int64_t>(positions.size()), half = static_cast<int64_t>(frequencies.size());
    RopeAngles a{ctx.arena.make(DType::f32, {n, half}), ctx.arena.make(DType::f32, {n, half})};
    ctx.pool.parallel_for(n, 16, [&](int64_t r0, int64_t r1) {
        for (int64_t r = r0; r < r1; ++r)
            for (int64_t i = 0; i < half; ++i) {
                const double angle = static_cast<float>(positions[r]) * static_cast<float>(frequencies[i]);
                a.cos.row<float>(r)[i] = static_cast<float>(std::cos(angle));
                a.sin.row<float>(r)[i] = static_cast<float>(std::sin(angle));
            }
    });
    return a;
}

void apply_rope(Ctx& ctx, const Tensor& x_THC, const RopeAngles& angles, int sign) {
    const OpTimer timer(ctx, OpKind::rope);
    const int64_t n_heads = x_THC.dim(1), c = x_THC.dim(2), half = angles.cos.dim(1);
    const auto s = static_cast<float>(sign);
    ctx.pool.parallel_for(x_THC.dim(0), 16, [&](int64_t t0, int64_t t1) {
        for (int64_t t = t0; t < t1; ++t) {
            const float *co = angles.cos.row<float>(t), *si = angles.sin.row<float>(t);
            for (int64_t h = 0; h < n_heads; ++h) {
                float* x = x_THC.row<float>(t) + h * c + (c - 2 * half);
                for (int64_t i = 0; i < half; ++i) {
                    const float a = x[2 * i], b = x[2 * i + 1];
                    x[2 * i] = a * co[i] - s * b * si[i];
                    x[2 * i + 1] = s * a * si[i] + b * co[i];
                }
                if (ctx.is_reference()) cpu::kernels().round_row(x, 2 * half);  // the other dimensions are rounded already
            }
        }
    });
}

}  // namespace vitrine
