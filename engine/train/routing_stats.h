// What the experts that tokens were sent to say about the tokens: pairs of experts, changes from token to token, information.
#pragma once
#include <cstdint>
#include <map>
#include <span>
#include <vector>

namespace vitrine {

class CounterRng;

// Of one layer: [T, K] experts in any order, -1 in slots that stayed empty; k at least 1.
struct Choices {
    std::span<const int32_t> ids;
    int64_t k;
    int n_experts;
    int64_t n_tokens() const { return static_cast<int64_t>(ids.size()) / k; }
};

// How experts go together. P(i): share of the tokens that were sent to i.
struct CoActivation {
    double share = 0;   // largest P(i, j) / P(i): of i's tokens, those that j saw too (OLMoE, arXiv 2409.02060)
    double lift = 0;    // largest P(i, j) / (P(i) P(j)) of pairs that independent experts would share kLeastPairs times
    static constexpr double kLeastPairs = 8;
};
CoActivation co_activation(const Choices& c);

// Share of a token's experts that its predecessor did not have, mean over neighbours of one sample; sample_of ascends, [T].
double switch_rate(const Choices& c, std::span<const int32_t> sample_of);

// Share of tokens whose first choice is that of the token before it in their sample (Mixtral, arXiv 2401.04088); first:
// best.
double repeat_rate(const Choices& c, std::span<const int32_t> sample_of);

// How evenly tokens fall on experts, from counts n_e >= 0 of tokens sent to each (some > 0); N their sum.
struct LoadShape {
    double least = 0;  // min_e n_e over the mean
    double cv2 = 0;    // squared coefficient of variation: variance over squared mean (Shazeer 2017, arXiv 1701.06538)
    double gini = 0;   // 0: all alike, (E - 1) / E: one has all
    double effective = 0;  // experts: e^H of the shares n_e / N
    int n_starving = 0;    // below a tenth of the mean, the dead included
};
LoadShape load_shape(std::span<const double> counts);
// Share of the choices that experts of capacity C = factor N / E would drop: sum_e max(0, n_e - C) / N (Switch, arXiv
// 2101.03961). Simulated: nothing is dropped here.
double overflow(std::span<const double> counts, double factor);

// Of one layer's affinities s [T, E], before the selection bias.
struct RouterConfidence {
    double entropy = 0;  // of s / sum s of a token, as a share of ln E; mean over tokens
    double margin = 0;   // k-th largest affinity minus the next; mean over tokens, 0 with k = E
};
RouterConfidence router_confidence(std::span<const float> scores, int n_experts, int64_t k);

// Rows of tokens with the same id, by the id.
using RowsById = std::map<int32_t, std::vector<int64_t>>;
RowsById rows_by_id(std::span<const int32_t> token_of);
// I(expert; label | token id) in bits, the plug-in estimate, which is too large on finite texts; label_of [T] >= 0.
double conditional_information(const Choices& c, const RowsById& by_id, std::span<const int32_t> label_of);
// The labels exchanged at random among equal tokens: what is left of the information then is chance.
std::vector<int32_t> shuffled_within(const RowsById& by_id, std::span<const int32_t> label_of, const CounterRng& rng);

// Mutual information in bits between the expert E of a choice and what the token is. `null`: that of the domain given the token
// after the domains of equal tokens were shuffled, mean of kShuffles: what chance and small counts give by themselves.
struct RoutingInformation {
    double domain = 0, token = 0, domain_given_token = 0, null = 0;
    static constexpr int kShuffles = 4;
};
// domain_of [T] >= 0, token_of [T] ids. Shuffles depend on `seed` alone.
RoutingInformation routing_information(const Choices& c, std::span<const int32_t> domain_of, std::span<const int32_t> token_of,
                                       uint64_t seed);

}  // namespace vitrine
