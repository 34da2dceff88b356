// Scalars of a training step, from what the ops left and what the optimizer did (docs/TRAINING.md names them).
#pragma once
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

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

// Loads, auxiliary losses, attention and indexer statistics. by_layer: each layer too.
void add_training_step(const TrainingStep& s, bool by_layer, ScalarList& out);
// update_ratio.GROUP, weight_rms.GROUP, surprise.GROUP; squares: of the gradients, by leaf.
void add_updates(const Masters& masters, const std::vector<UpdateSums>& sums, const std::vector<double>& squares, int n_layers,
                 bool by_layer, ScalarList& out);
// spectral.GROUP: the largest singular value of any matrix of a group, by power iteration from a fixed start.
void add_spectral(Ctx& ctx, const Masters& masters, ScalarList& out);

}  // namespace vitrine
