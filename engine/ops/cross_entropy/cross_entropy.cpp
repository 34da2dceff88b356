// Cross-entropy: two passes over each row forward, one backward; nothing is kept but the log-sum-exp
// (docs/math/losses.md).
#include "engine/ops/cross_entropy/cross_entropy.h"

#include <algorithm>
#include <cmath>

#include "engine/device/cpu/kernels.h"

namespace vitrine {
namespace {

// In 16 strands, which the compiler turns into vectors.
template <class T>
T largest_of(const T* z, int64_t n) {
    T strand[16];
    std::fill_n(strand, 16, z[0]);
    int64_t v = 0;
    for (; v + 16 <= n; v += 16)
        for (int l = 0; l < 16; ++l) strand[l] = strand[l] < z[v + l] ? z[v + l] : strand[l];
    for (; v < n; ++v) strand[0] = std::max(strand[0], z[v]);
    return *std::max_element(strand, strand + 16);
}

// sum_v e^(z_v - top)
float exp_sum(const float* z, int64_t n, float top) { return cpu::kernels().exp_row(z, n, top, nullptr); }
double exp_sum(const double* z, int64_t n, double top) {
    double sum = 0;
    for (int64_t v = 0; v < n; ++v) sum += std::exp(z[v] - top);
    return sum;
}

// dz += scale softmax(z), whose logarithm of the sum is lse
void add_softmax(const float* z, int64_t n, float lse, float scale, float* dz) {
    cpu::kernels().exp_axpy(scale, z, n, lse, dz);
}
void add_softmax(const double* z, int64_t n, double lse, double scale, double* dz) {
    for (int64_t v = 0; v < n; ++v) dz[v] += scale * std::exp(z[v] - lse);
}

}  // namespace

CrossEntropy cross_entropy(Ctx& ctx, const Tensor& logits_TV, std::span<const int32_t> targets, double weight) {
    const OpTimer timer(ctx, OpKind::head);
    if constexpr (kHasCuda)
        if (ctx.cuda) return cuda::cross_entropy(ctx, logits_TV, targets, weight);
    const int64_t n_tokens = logits_TV.dim(0), vocab = logits_TV.dim(1);
    VITRINE_ASSERT(static_cast<int64_t>(targets.size()) == n_tokens);
    CrossEntropy r{0, 0, ctx.arena.make(logits_TV.dtype, {n_tokens})};
    const Tensor lse_T = ctx.arena.make(logits_TV.dtype, {n_tokens}), kept_T = ctx.arena.make(DType::i32, {n_tokens});
    for (int64_t t = 0; t < n_tokens; ++t) {
        VITRINE_ASSERT(targets[t] >= -1 && targets[t] < vocab);
        r.n_counted += targets[t] >= 0;
        kept_T.as<int32_t>()[t] = targets[t];  // the caller's may be gone by then
    }
    with_real(logits_TV.dtype, [&](auto real) {
        using T = decltype(real);
        T *lse = lse_T.as<T>(), *losses = r.losses_T.as<T>();
        ctx.pool.parallel_for(n_tokens, 8, [&](int64_t t0, int64_t t1) {
            for (int64_t t = t0; t < t1; ++t) {
                const T* z = logits_TV.row<T>(t);
                const bool is_counted = targets[t] >= 0;
                const T top = largest_of(z, vocab);
                lse[t] = is_counted ? top + std::log(exp_sum(z, vocab, top)) : T{0};
                losses[t] = is_counted ? lse[t] - z[targets[t]] : T{0};
            }
        });
        double sum = 0;
        for (int64_t t = 0; t < n_tokens; ++t) sum += losses[t];
        if (r.n_counted == 0) return;
        r.value = sum / static_cast<double>(r.n_counted);
        const T scale = static_cast<T>(weight / static_cast<double>(r.n_counted));
        ctx.tape->record([=](Ctx& c) {
            const Tensor dlogits = c.tape->grad(logits_TV);
            c.pool.parallel_for(n_tokens, 8, [&](int64_t t0, int64_t t1) {
                for (int64_t t = t0; t < t1; ++t) {
                    const int32_t target = kept_T.as<int32_t>()[t];
                    if (target < 0) continue;
                    T* dz = dlogits.row<T>(t);
                    add_softmax(logits_TV.row<T>(t), vocab, lse_T.as<T>()[t], scale, dz);
                    dz[target] -= scale;
                }
            });
        });
    });
    return r;
}

}  // namespace vitrine
