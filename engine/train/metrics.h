// Scalars of a training step, from what the ops left and what the optimizer did (docs/TRAINING.md names them).
#pragma once
#include <map>
#include <string>
#include <vector>

#include "engine/base/config/model_config.h"
#include "engine/model/masters.h"
#include "engine/ops/adamw/adamw.h"
#include "engine/ops/training.h"
#include "engine/telemetry/probes.h"
#include "engine/train/anticipation.h"

namespace vitrine {

struct Scalar;

class ScalarList {
  public:
    explicit ScalarList(std::vector<Scalar>& out) : out_(out) {}
    void add(const std::string& name, double value);

  private:
    std::vector<Scalar>& out_;
};

// Loads, auxiliary losses, attention and indexer statistics. by_layer: each layer too.
void add_training_step(const TrainingStep& s, bool by_layer, ScalarList& out);
// update_ratio.GROUP, weight_rms.GROUP, surprise.GROUP; squares: of the gradients, by leaf.
void add_updates(const Masters& masters, const std::vector<UpdateSums>& sums, const std::vector<double>& squares, int n_layers,
                 bool by_layer, ScalarList& out);
// spectral.GROUP: the largest singular value of any matrix of a group, by power iteration from a fixed start.
void add_spectral(Ctx& ctx, const Masters& masters, ScalarList& out);

// Collects mixing matrices, router margins and choices of a forward pass.
class InternalsSink : public ProbeSink {
  public:
    explicit InternalsSink(int64_t n_tokens) { choices_.n_tokens = n_tokens; }
    ProbeSet wanted() const;
    void put(int token, Probe p, int layer, const float* data, int rows, int cols) override;
    void put(int token, Probe p, int layer, const int32_t* data, int rows, int cols) override;
    // Experts of the batch's tokens: which go together, how they change, what they tell of domain and token. Domains may be
    // unknown (has_domains false).
    void add_routing(const ModelConfig& c, const TrainBatch& batch, bool has_domains, bool by_layer, ScalarList& out) const;
    // hyper.gain.max and so on: forward = largest absolute row sum of the composite map of all sites, per token.
    void add(int n_layers, bool by_layer, ScalarList& out) const;

  private:
    struct Site {
        int n = 0;
        std::vector<std::vector<float>> by_token;
    };
    std::map<int, Site> sites_;  // 2 layer (+ 1 for the experts' site): in the order they act
    std::map<int, std::vector<double>> margins_;
    ExpertChoices choices_;
};

}  // namespace vitrine
