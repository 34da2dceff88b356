// Gradient-noise scale.
#include "engine/train/noise_scale.h"

#include <cstring>

#include "engine/autograd/tape.h"

namespace vitrine {

GradientNoise gradient_noise(double difference, double whole, int64_t n_part, int64_t n) {
    VITRINE_ASSERT(n_part > 0 && n_part < n);
    const auto all = static_cast<double>(n);
    const double trace = difference / (1 / static_cast<double>(n_part) - 1 / all);
    return {trace, whole - trace / all};
}

void NoiseScale::add(const GradientNoise& now) {
    constexpr double kKept = 0.9;
    means.trace = kKept * means.trace + (1 - kKept) * now.trace;
    means.square = kKept * means.square + (1 - kKept) * now.square;
}

void NoiseScale::report(const GradientNoise& now, ScalarList& out) const {
    out.add("gradient_noise.trace", now.trace), out.add("gradient_noise.square", now.square);
    if (means.square > 0) out.add("gradient_noise.scale", means.trace / means.square);
}

PartGradient copy_gradients(const Masters& masters, const std::function<bool(size_t)>& is_active, int64_t n_counted) {
    PartGradient part{n_counted, {}};
    const auto& leaves = masters.leaves();
    for (size_t i = 0; i < leaves.size(); ++i) {
        const Tensor& g = leaves[i].gradient;
        const auto* bytes = static_cast<const std::byte*>(g.data);
        part.by_leaf.emplace_back();
        if (!g.empty() && is_active(i)) part.by_leaf.back().assign(bytes, bytes + tensor_bytes(g));
    }
    return part;
}

double squared_distance(Ctx& ctx, const Masters& masters, const PartGradient& part) {
    std::vector<double> by_leaf(part.by_leaf.size());
    ctx.pool.parallel_for(static_cast<int64_t>(by_leaf.size()), 1, [&](int64_t i0, int64_t i1) {
        for (auto i = static_cast<size_t>(i0); i < static_cast<size_t>(i1); ++i) {
            if (part.by_leaf[i].empty()) continue;
            const Tensor& g = masters.leaves()[i].gradient;
            with_real(g.dtype, [&](auto real) {
                using T = decltype(real);
                const T *now = g.as<T>(), *then = reinterpret_cast<const T*>(part.by_leaf[i].data());
                for (int64_t j = 0; j < g.count(); ++j) {
                    const double d = static_cast<double>(then[j]) - static_cast<double>(now[j]);
                    by_leaf[i] += d * d;
                }
            });
        }
    });
    double sum = 0;
    for (const double d : by_leaf) sum += d;
    return sum;
}

}  // namespace vitrine
