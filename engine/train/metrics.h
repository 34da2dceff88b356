// Scalars of a training step, from what the ops left and what the optimizer did (docs/TRAINING.md names them).
#pragma once
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "engine/base/config/model_config.h"
#include "engine/model/masters.h"
#include "engine/ops/adamw/adamw.h"
#include "engine/ops/training.h"

namespace vitrine {

struct Scalar;

class ScalarList {
  public:
    explicit ScalarList(std::vector<Scalar>& out) : out_(out) {}
    void add(const std::string& name, double value);

  private:
    std::vector<Scalar>& out_;
};

std::string layer_name(int layer, const std::string& what);  // "layers.3.WHAT"

struct Mean {
    double sum = 0, max = -HUGE_VAL;
    int64_t n = 0;
    void add(double v) { sum += v, max = std::max(max, v), ++n; }
    double mean() const { return n ? sum / static_cast<double>(n) : 0; }
};

// Which layers' loads means are of: those routed by score, the MTP module's included; a model whose trunk has none: the trunk's.
// [L + MTP]; a hash layer's loads are the text's, and no balancing moves them.
std::vector<bool> balanced_layers(const ModelConfig& c);
// PREFIXmax_vio, .max, PREFIXload_entropy, PREFIXdead_experts and PREFIXdead_share of tokens by expert, [L (+ MTP)] of [E] or
// empty, over layers for which is_counted.
void add_loads(const std::vector<std::vector<double>>& chosen, const std::vector<bool>& is_counted, const std::string& prefix,
               ScalarList& out);
// What of a step's loads and layers is told.
struct StepDetail {
    bool by_layer = false;    // each layer too
    bool has_shares = false;  // the load of each expert too
};
// Loads, auxiliary losses, attention and indexer statistics.
void add_training_step(const TrainingStep& s, const ModelConfig& c, const StepDetail& detail, ScalarList& out);
// update_ratio.GROUP, update_rms.GROUP, weight_rms.GROUP, surprise.GROUP; squares: of the gradients, by leaf.
void add_updates(const Masters& masters, const std::vector<UpdateSums>& sums, const std::vector<double>& squares, int n_layers,
                 bool by_layer, ScalarList& out);
// muon.rms_ratio: RMS of what the step added to the matrices that Muon moves, over `ideal` = lr scale; by group too.
void add_muon_rms(const Masters& masters, const std::vector<UpdateSums>& sums, double ideal, bool by_group, ScalarList& out);
// spectral.GROUP: the largest singular value of any matrix of a group, by power iteration from a fixed start; spectral.product
// (docs/TRAINING.md), by layer too.
void add_spectral(Ctx& ctx, const Masters& masters, int n_layers, ScalarList& out);

}  // namespace vitrine
