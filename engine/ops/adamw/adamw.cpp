// AdamW, element by element.
#include "engine/ops/adamw/adamw.h"

#include <cmath>

#include "engine/ops/squares/squares.h"

namespace vitrine {
namespace {

template <class T>
UpdateSums update(const AdamW& a, const AdamWSlice& s, int64_t begin, int64_t end) {
    const T keep = static_cast<T>(1 - a.lr * (s.decays ? a.weight_decay : 0)), scale = static_cast<T>(a.gradient_scale);
    const T b1 = static_cast<T>(a.beta1), b2 = static_cast<T>(a.beta2), eps = static_cast<T>(a.eps);
    const T rest1 = static_cast<T>(1 - a.beta1), rest2 = static_cast<T>(1 - a.beta2);
    const auto t = static_cast<double>(s.t);
    const T rate = static_cast<T>(a.lr / (1 - std::pow(a.beta1, t)));
    const T root_correction = static_cast<T>(1 / std::sqrt(1 - std::pow(a.beta2, t)));
    T *w = s.weight.as<T>(), *m = s.mean.as<T>(), *v = s.square.as<T>();
    const T* gradient = s.gradient.as<T>();
    UpdateSums sums;
    sums.count = end - begin;
    for (int64_t i = begin; i < end; ++i) {
        const T g = gradient[i] * scale, before = w[i];
        m[i] = b1 * m[i] + rest1 * g;
        v[i] = b2 * v[i] + rest2 * g * g;
        const T root = std::sqrt(v[i]) * root_correction;
        const T after = before * keep - rate * m[i] / (root + eps);
        w[i] = after;
        const double moved = static_cast<double>(after) - static_cast<double>(before);
        sums.weight += static_cast<double>(before) * static_cast<double>(before);
        sums.update += moved * moved;
        if (root > 0) sums.surprise += static_cast<double>(g / root) * static_cast<double>(g / root);
    }
    return sums;
}

}  // namespace

std::vector<UpdateSums> adamw(Ctx& ctx, const AdamW& a, std::span<const AdamWSlice> slices) {
    std::vector<int64_t> counts;
    for (const AdamWSlice& s : slices) {
        VITRINE_ASSERT(s.t >= 1 && s.weight.count() == s.gradient.count() && s.weight.count() == s.mean.count() &&
                       s.weight.count() == s.square.count());
        counts.push_back(s.weight.count());
    }
    if constexpr (kHasCuda)
        if (ctx.cuda) return cuda::adamw(ctx, a, slices);
    const std::vector<ElementChunk> chunks = element_chunks(counts);
    std::vector<UpdateSums> partial(chunks.size());
    ctx.pool.parallel_for(static_cast<int64_t>(chunks.size()), 2, [&](int64_t c0, int64_t c1) {
        for (int64_t c = c0; c < c1; ++c) {
            const ElementChunk& at = chunks[static_cast<size_t>(c)];
            const AdamWSlice& s = slices[static_cast<size_t>(at.tensor)];
            partial[static_cast<size_t>(c)] = with_real(
                s.weight.dtype, [&](auto real) { return update<decltype(real)>(a, s, at.begin, at.end); });
        }
    });
    std::vector<UpdateSums> sums(slices.size());
    for (size_t c = 0; c < chunks.size(); ++c) {
        UpdateSums& to = sums[static_cast<size_t>(chunks[c].tensor)];
        to.weight += partial[c].weight, to.update += partial[c].update, to.surprise += partial[c].surprise;
        to.count += partial[c].count;
    }
    return sums;
}

}  // namespace vitrine
