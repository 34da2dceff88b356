// Sweeps: the same training with every combination of some values, each run in its own folder; one that fails stops no other.
#pragma once
#include <functional>
#include <map>
#include <stop_token>
#include <string>
#include <vector>

#include "engine/base/config/model_config.h"
#include "engine/base/config/training_config.h"
#include "engine/base/json.h"
#include "engine/model/texts.h"
#include "engine/model/weights.h"

namespace vitrine {

struct SweptKey {
    std::string name;
    std::vector<std::string> values;
};
// "lr=1e-3,3e-3". Error(bad_input) when there is no value, or one twice.
SweptKey swept_key(const std::string& text);
// Every combination, the last key fastest: {{"lr", "1e-3"}, {"seed", "1"}}, ...
std::vector<std::vector<std::pair<std::string, std::string>>> combinations(const std::vector<SweptKey>& keys);

struct SweepRun {
    std::string name;                        // also its folder's: "X07 muon lr=0.01 seed=2" with dashes
    std::string experiment, arm;             // of the lab, or empty
    std::map<std::string, std::string> knobs;  // of the experiment, all; else what was swept
    ModelConfig model;
    TrainConfig train;
};
// Letters, digits and ". _ + - =" stay, anything else becomes a dash.
std::string sweep_name(const std::vector<std::string>& parts);

struct SweepResult {
    std::string state = "waiting", error;  // finished, stopped, failed
    int64_t steps = 0;
    double loss = 0, eval_loss = 0;  // mean of the last ten steps; the last held-out one, NaN without any
    double seconds = 0;              // here and now, without what was done before it went on
    Json to_json() const;
    static SweepResult from_json(const Json& j);
};

struct SweepOptions {
    std::string folder;  // of run folders; empty: nothing is written
    int n_threads = 1, n_at_once = 1, gpu = -1;
    std::function<ModelWeights(const SweepRun&)> weights;
    std::function<ModelTexts(const SweepRun&)> texts;
    std::vector<std::string> command;
    std::function<void(const SweepRun&, const SweepResult&)> tell;  // one that has ended; one call at a time
};

// Error(bad_input) when the run in this folder was begun with another configuration: going on would put two runs into one curve.
void check_holds(const std::string& folder, const ModelConfig& model, const TrainConfig& train);

// The runs of this list whose number is `first`, first + stride, ...: results in their places, the others untouched. A run whose
// folder is there goes on from its newest checkpoint, or is taken as it is when it has finished.
std::vector<SweepResult> run_share_of_sweep(const std::vector<SweepRun>& runs, size_t first, size_t stride, const SweepOptions& o,
                                            std::stop_token stop);

}  // namespace vitrine
