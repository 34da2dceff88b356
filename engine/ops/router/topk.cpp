// Routers with a fixed number of experts: with V4's selection bias, and without.
#include <algorithm>
#include <cmath>

#include "engine/ops/order.h"
#include "engine/ops/router/choice.h"

namespace vitrine {

float best_of(const float* score, int n, int k, int32_t* chosen) {
    float left_out = -INFINITY;
    int filled = 0;
    for (int e = 0; e < n; ++e) {
        const uint32_t key = order_key(score[e]);
        int at = filled;
        while (at > 0 && order_key(score[chosen[at - 1]]) < key) --at;  // equal scores: the lower expert stays ahead
        if (at == k) {
            if (e == k || key > order_key(left_out)) left_out = score[e];
            continue;
        }
        if (filled == k) left_out = score[chosen[k - 1]];  // it was at least as good as all that were left out before
        filled = std::min(filled + 1, k);
        std::copy_backward(chosen + at, chosen + filled - 1, chosen + filled);
        chosen[at] = e;
    }
    return left_out;
}

float choose_topk_bias(const Affinities& token, int32_t* chosen) {
    for (int e = 0; e < token.n_experts; ++e) token.scratch[e] = token.affinity[e] + token.bias[e];
    const float left_out = best_of(token.scratch, token.n_experts, token.k, chosen);
    return token.scratch[chosen[token.k - 1]] - left_out;
}

float choose_topk(const Affinities& token, int32_t* chosen) {
    const float left_out = best_of(token.affinity, token.n_experts, token.k, chosen);
    return token.affinity[chosen[token.k - 1]] - left_out;
}

}  // namespace vitrine
