// Ranks after the first: rows of their experts.
#include "engine/infer/expert_server.h"

namespace vitrine {

void answer_on_cpu(ExpertRanks& ranks, const ModelConfig& c, const ModelWeights& w, int n_threads) {
    Pool pool(n_threads);
    Arena arena;
    for (;;) {
        const ExpertOrder order = ranks.next_order();
        if (order.what == ExpertOrder::end) return;
        const Arena::Scope scratch(arena);
        Ctx ctx{arena, pool, static_cast<Numerics>(order.numerics)};
        ctx.layer = order.layer_number, ctx.expert_ranks = &ranks;
        answer_moe(ctx, order, experts_of_layer(w, static_cast<size_t>(order.layer_number)), c);
    }
}

}  // namespace vitrine
