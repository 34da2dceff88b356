// The indexer's picks against attention, for one token.
#pragma once
#include <cstdint>
#include <functional>
#include <stop_token>
#include <vector>

namespace vitrine {
class Engine;
}

namespace vitrine::inner {

struct Picked {
    double recall = 0;     // share of the k entries with most attention mass that the indexer ranks in its first k
    double chance = 1;     // of k drawn at random
    double mass = 1;       // share of all entries' mass in the indexer's first k
    double best_mass = 1;  // the same of the k with most mass
};
// Attention mass of every visible entry, in the indexer's order, best first.
Picked picked(const std::vector<float>& mass_by_rank, int k);

// Reads a prompt while one CSA layer attends to every entry, the layers below as they were trained: of each position
// that sees more than the trained k, the entries' attention mass in the indexer's order.
using MassByRank = std::function<void(int position, const std::vector<float>& mass_by_rank)>;
void read_by_rank(Engine& engine, const std::vector<int32_t>& prompt, int layer, const MassByRank& take,
                  std::stop_token stop);

}  // namespace vitrine::inner
