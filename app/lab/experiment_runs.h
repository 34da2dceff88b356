// Runs of an experiment in this process: every arm with every seed, a few at a time, one thread each.
//
// Arms of small models leave a second thread little to do, so several run side by side instead; the bits are the same.
#pragma once
#include <functional>
#include <stop_token>
#include <string>
#include <vector>

#include "experiments/experiment.h"

namespace vitrine {

struct ExperimentRequest {
    std::map<std::string, std::string> knobs;
    int n_seeds = 1, n_at_once = 1;
    int64_t first_seed = 1;
    std::string folder;  // of run folders, one a run, which a second call goes on with; empty: nothing is written
};

// The runs, arms in their order, seeds within; a run that cannot go on is `failed` with its reason. `tell` gets a line
// for each that ends. Error(cancelled) when asked to stop; Error(bad_input) for wrong knobs.
std::vector<LabRun> run_experiment_arms(const lab::Experiment& e, const ExperimentRequest& request,
                                        std::stop_token stop, const std::function<void(const std::string&)>& tell);

}  // namespace vitrine
