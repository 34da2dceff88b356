// The indexer's picks against attention, for one token.
#pragma once
#include <vector>

namespace vitrine::inner {

struct Picked {
    double recall = 0;     // share of the k entries with most attention mass that the indexer ranks in its first k
    double chance = 1;     // of k drawn at random
    double mass = 1;       // share of all entries' mass in the indexer's first k
    double best_mass = 1;  // the same of the k with most mass
};
// Attention mass of every visible entry, in the indexer's order, best first.
Picked picked(const std::vector<float>& mass_by_rank, int k);

}  // namespace vitrine::inner
