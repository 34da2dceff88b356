// Where a forward pass first left the finite numbers.
#pragma once
#include <cmath>
#include <string>

#include "engine/telemetry/probes.h"

namespace vitrine {

// Watches the sites between ops in the order they act and keeps the first that has a value which is NaN or infinite.
class FirstNotFinite : public ProbeSink {
  public:
    static ProbeSet wanted();
    void put(int token, Probe p, int layer, const float* data, int rows, int cols) override;
    void put(int, Probe, int, const int32_t*, int, int) override {}
    std::string text() const;  // "blocks.2.hook_mlp_out (output of the MLP sub-layer) at token 17"; "" when all were finite

  private:
    Probe probe_ = kProbeCount;
    int layer_ = 0, token_ = 0;
};

}  // namespace vitrine
