// A router with a variable number of experts: as many as reach a share of the affinities.
#include <algorithm>
#include <cmath>

#include "engine/ops/router/choice.h"

namespace vitrine {

float choose_top_p(const Affinities& token, int32_t* chosen) {
    const float* s = token.affinity;
    float left_out = best_of(s, token.n_experts, token.k, chosen);
    double all = 0, reached = 0;
    for (int e = 0; e < token.n_experts; ++e) all += s[e];
    int n = 0;
    while (n < token.k && (n == 0 || reached < token.top_p * all)) reached += s[chosen[n++]];
    if (n < token.k) left_out = s[chosen[n]];
    std::fill(chosen + n, chosen + token.k, -1);
    return s[chosen[n - 1]] - left_out;
}

}  // namespace vitrine
