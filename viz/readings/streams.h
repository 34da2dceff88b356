// What a token's record says about the residual streams: every mixing site along depth, gain of their product, and its
// mean and maximum over the conversation.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "engine/telemetry/derive.h"
#include "engine/telemetry/model_info.h"
#include "viz/readings/walk.h"

namespace vitrine::viz {

// One of the two mixing sites of a layer, in the order they act.
struct MixingSite {
    int layer = 0;
    bool is_mlp = false;
    std::vector<float> comb;       // [N, N], C[from][to]
    std::vector<float> pre, post;  // [N]
    MixingStats stats;
    Gain gain;                 // of the product up to and including this site
    std::string name() const;  // "layer 4, attention"
};

struct StreamsReading {
    int n = 0;                      // streams
    std::vector<MixingSite> sites;  // recorded ones, by depth
    bool is_complete = false;       // every site is there, so that the composite gain means what it says
    int fastest = -1;               // index of the site with the smallest sigma2
    const MixingSite* find(int layer, bool is_mlp) const;
};

StreamsReading read_streams(const TokenRecord& record, const ModelInfo& model);
// "Layer 4's attention site mixes the streams fastest: ..."
std::string mixing_sentence(const StreamsReading& r);

// Mean and maximum over tokens of the composite gain at each site.
class GainMeter {
  public:
    bool update(const Timeline& timeline, const Trace* trace, const ModelInfo& model);
    int64_t n_tokens() const { return n_tokens_; }
    std::vector<Gain> mean() const;
    const std::vector<Gain>& maximum() const { return max_; }

  private:
    TimelineWalk walk_;
    const ModelInfo* model_ = nullptr;
    int64_t n_tokens_ = 0;
    std::vector<Gain> sum_, max_;
};

}  // namespace vitrine::viz
