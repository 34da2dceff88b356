// Tokens and choices regrouped by expert.
#include "engine/ops/moe/plan.h"

#include <algorithm>

namespace vitrine {

MoePlan make_moe_plan(const Routing& r, const MoeWeights& w) {
    const int64_t n_tokens = r.indices_TK.dim(0), k = r.indices_TK.dim(1);
    const auto n_experts = static_cast<int64_t>(w.experts.size());
    const bool has_shared = !w.shared.w1.empty();
    const int32_t* chosen = r.indices_TK.as<int32_t>();
    std::vector<int64_t> start(static_cast<size_t>(n_experts + 1), 0);
    for (int64_t i = 0; i < n_tokens * k; ++i)
        if (chosen[i] >= 0) ++start[chosen[i] + 1];
    for (int64_t e = 0; e < n_experts; ++e) start[e + 1] += start[e];
    const int64_t n_routed = start[n_experts];

    MoePlan p;
    p.slots.resize(static_cast<size_t>(n_routed + (has_shared ? n_tokens : 0)));
    p.slots_of_token.assign(static_cast<size_t>(n_tokens * (k + 1)), -1);
    p.routed_of_token.resize(static_cast<size_t>(n_tokens));
    std::vector<int64_t> next(start.begin(), start.end() - 1);
    for (int64_t t = 0; t < n_tokens; ++t) {
        int64_t* mine = p.slots_of_token.data() + t * (k + 1);
        int n = 0;
        for (int64_t i = t * k; i < (t + 1) * k; ++i) {
            if (chosen[i] < 0) continue;
            const int64_t slot = next[chosen[i]]++;
            p.slots[slot] = {t, i};
            mine[n++] = slot;
        }
        std::sort(mine, mine + n);
        p.routed_of_token[t] = n;
        if (has_shared) p.slots[n_routed + t] = {t, -1}, mine[n] = n_routed + t;
    }
    for (int64_t e = 0; e < n_experts; ++e)
        if (start[e + 1] > start[e]) p.groups.push_back({&w.experts[e], false, start[e], start[e + 1]});
    if (has_shared) p.groups.push_back({&w.shared, true, n_routed, n_routed + n_tokens});
    return p;
}

}  // namespace vitrine
