// What an experiment changes in a running model, by layer: entries that attention reads, the window, experts.
#pragma once
#include <cstdint>
#include <vector>

namespace vitrine {

// Which compressed entries a token attends to.
enum class EntryChoice : uint8_t {
    as_trained,  // CSA: the indexer's best; HCA: all
    none,        // they are removed: window and sink remain
    random,      // CSA: as many as the indexer would take, drawn anew for every position
    recent,      // CSA: the last ones
    attention    // CSA: those with the most attention (summed over heads) if all were attended to: what an indexer aims
                 // at
};

struct LayerIntervention {
    EntryChoice entries = EntryChoice::as_trained;
    int topk = 0;                          // CSA: entries in place of index_topk, any number; 0: as trained
    int window = 0;                        // positions in place of sliding_window, at most as many; 0: as trained
    std::vector<int32_t> removed_experts;  // they add nothing; the others keep their weights. The router's probes show
                                           // its own choice
};

struct Interventions {
    std::vector<LayerIntervention> layers;  // one each, or empty: none
    uint64_t seed = 0;                      // of random entries
};

}  // namespace vitrine
