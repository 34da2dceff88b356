// Which experts a token uses: one function per variant of the router, in a file each (v4-spec 5.1).
#pragma once
#include <cstdint>

#include "engine/base/config/model_config.h"

namespace vitrine {

// One token of a layer that is routed by score.
struct Affinities {
    const float* affinity;  // [E] sqrt(softplus(logit))
    const float* bias;      // [E] selection bias; only topk_bias looks at it
    int n_experts, k;       // at most k experts are chosen
    double top_p;           // Variants::router_top_p
    float* scratch;         // [E] private to the caller
};

// Writes k experts, best first, -1 in slots that stay empty. Ties: lowest expert. Returns by how much the score of the last
// chosen expert exceeds the best one left out (infinity when nobody is left out).
using Choose = float (*)(const Affinities& token, int32_t* chosen);

float choose_topk_bias(const Affinities& token, int32_t* chosen);  // V4: the k best of affinity + bias
float choose_topk(const Affinities& token, int32_t* chosen);       // the k best of affinity alone
// As many of the best as reach top_p of the sum of all affinities, at least one and at most k.
float choose_top_p(const Affinities& token, int32_t* chosen);

Choose choice_of(RouterKind kind);

// The k best of score by (score descending, index ascending). Returns the best score left out, -infinity if none.
float best_of(const float* score, int n, int k, int32_t* chosen);

}  // namespace vitrine
