// Named beginnings of runs: a small model and the configuration that trains it.
#pragma once
#include <string>
#include <vector>

#include "engine/base/config/model_config.h"
#include "engine/base/config/training_config.h"

namespace vitrine {

struct TrainPreset {
    const char* name;
    const char* what;
    ModelConfig model;
    TrainConfig train;
};
// mix3-t1: about 0.5 M parameters, 1,024 tokens a step, a minute on two cores; mix3-2m: 2 M; mix3-t2: 5.5 M.
const std::vector<TrainPreset>& train_presets();
// Error(bad_input) listing the names.
const TrainPreset& train_preset(const std::string& name);

}  // namespace vitrine
