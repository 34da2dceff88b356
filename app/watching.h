// What watching costs: the same tokens decoded in short spans, in turn with nobody watching and with everything
// recorded.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "engine/engine.h"

namespace vitrine {

struct WatchingCost {
    double percent = 0;        // median of (time watched / time unwatched - 1) * 100 over the pairs
    double low = 0, high = 0;  // interval that holds the true median with at least 95 % (order statistics)
    int n_pairs = 0;
};
WatchingCost summarize(std::vector<double> percents);

// Measures on a session of its own, with a trace of its own, so nothing on screen changes. Owner: the engine thread.
class WatchingMeter {
  public:
    // `context`: what is in the cache when the spans begin; its ids are decoded again in the spans.
    WatchingMeter(Engine& engine, std::span<const int32_t> context, int span_tokens, ProbeSet probes);
    void measure_pair();  // two spans; the one watched comes first in every second pair
    int n_pairs() const { return static_cast<int>(percents_.size()); }
    WatchingCost cost() const { return summarize(percents_); }

  private:
    double span_ms(bool is_watched);
    Engine& engine_;
    std::unique_ptr<Session> session_;
    std::shared_ptr<Trace> trace_;
    std::vector<int32_t> span_;
    int64_t base_;
    ProbeSet probes_;
    std::vector<double> percents_;
};

}  // namespace vitrine
