// What probes of a step's forward pass say about it: mixing matrices, residual streams, the router (docs/TRAINING.md
// names them).
#pragma once
#include <map>
#include <span>
#include <vector>

#include "engine/base/config/model_config.h"
#include "engine/telemetry/probes.h"
#include "engine/train/anticipation.h"
#include "engine/train/metrics.h"

namespace vitrine {

// Collects mixing matrices, streams, router scores, margins and choices of a forward pass.
class InternalsSink : public ProbeSink {
  public:
    explicit InternalsSink(int64_t n_tokens) { choices_.n_tokens = n_tokens; }
    ProbeSet wanted() const;
    void put(int token, Probe p, int layer, const float* data, int rows, int cols) override;
    void put(int token, Probe p, int layer, const int32_t* data, int rows, int cols) override;
    // Experts of the batch's tokens: how sure the router is, which go together, how they change, what they tell of
    // domain and token. Domains may be unknown (has_domains false).
    void add_routing(const ModelConfig& c, const TrainBatch& batch, bool has_domains, bool by_layer,
                     ScalarList& out) const;
    // hyper.gain.max and so on: forward = largest absolute row sum of the composite map of all sites, per token.
    // streams.…, activations.…
    void add(int n_layers, bool by_layer, ScalarList& out) const;

  private:
    struct Site {
        int n = 0;
        std::vector<float> combs;  // [T, n, n] in the order of tokens
    };
    struct Streams {  // of one layer, after it
        Mean norm, cosine, rank;
        double peak = 0;            // largest magnitude, of all tokens
        size_t n_channels = 0;
        std::vector<float> values;  // of the tokens that stand for all
    };
    void add_gains(const std::vector<const Site*>& trunk, bool by_layer, ScalarList& out) const;
    void add_shapes(const std::vector<const Site*>& trunk, bool by_layer, ScalarList& out) const;
    void add_streams(int n_layers, bool by_layer, ScalarList& out) const;
    void add_router_scores(const ModelConfig& c, bool by_layer, ScalarList& out) const;

    std::map<int, Site> sites_;  // 2 layer (+ 1 for the experts' site): in the order they act
    std::map<int, Streams> streams_;
    std::map<int, std::vector<double>> margins_;
    std::map<int, std::vector<float>> scores_;  // [T, E] in the order of tokens
    ExpertChoices choices_;
};

}  // namespace vitrine
