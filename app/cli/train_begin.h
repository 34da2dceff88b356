// What `vitrine train` was asked for, and where its model and configuration begin.
#pragma once
#include <string>
#include <vector>

#include "engine/base/config/model_config.h"
#include "engine/base/config/training_config.h"
#include "engine/model/texts.h"
#include "engine/model/weights.h"

namespace vitrine::cli {

struct TrainArgs {
    std::string from, preset, config, run, rewind, tokens, dtype, experiment, arm, device = "cpu";
    std::vector<std::string> sets;
    int64_t steps = -1, seed = -1, at_step = -1, threads = 0;
    bool resumes = false, is_controlled = false, lists_keys = false;
    std::vector<std::string> command;
};

struct Beginning {
    ModelConfig model;
    TrainConfig train;
    std::string weights;  // folder; empty: from nothing
};

// UsageError, or Error(bad_input) with all that is wrong.
Beginning beginning(const TrainArgs& a);
ModelWeights weights_of(const Beginning& b);
ModelTexts texts_of(const Beginning& b);  // files that travel with the model's checkpoints

}  // namespace vitrine::cli
