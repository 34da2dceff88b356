// The engine's side of a probe: who wants what, and where it goes. One relaxed load when nobody looks.
#pragma once
#include <atomic>

#include "engine/telemetry/catalog.h"

namespace vitrine {

// Receives what ops publish during one forward pass. `token` counts within the batch. Called on the engine thread only.
class ProbeSink {
  public:
    virtual ~ProbeSink() = default;
    virtual void put(int token, Probe p, int layer, const float* data, int rows, int cols) = 0;
    virtual void put(int token, Probe p, int layer, const int32_t* data, int rows, int cols) = 0;
};

// What is watched. The set may be changed by any thread; the engine reads it at each probe site.
class Watch {
  public:
    bool wants(Probe p) const { return (set_.load(std::memory_order_relaxed) & probe_bit(p)) != 0; }
    ProbeSet get() const { return set_.load(std::memory_order_relaxed); }
    void set(ProbeSet s) { set_.store(s, std::memory_order_relaxed); }

  private:
    std::atomic<ProbeSet> set_{kNoProbes};
};

}  // namespace vitrine
