// What `vitrine train` was asked for, and where its model and configuration begin.
#pragma once
#include <string>
#include <vector>

#include "engine/base/config/model_config.h"
#include "engine/base/config/training_config.h"
#include "engine/model/texts.h"
#include "engine/model/weights.h"
#include "engine/train/run_folder.h"

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
    std::string weights = {};            // folder; empty: from nothing
    std::string from = {};               // where they came from first: the same, or what a repeated run says
    std::string fingerprint = {};        // of these, when it is known
    std::vector<RecordedChange> changes = {};  // live ones of a repeated run
    std::string left = {};               // a repeated run that left another one: its folder, to be left at its beginning
    RunDescription as = {};              // of a repeated run: its experiment, arm, knobs and parent
};

// UsageError, or Error(bad_input) with all that is wrong. --config with the run.json of a run's folder repeats the run: from the
// first checkpoint where it did not begin from nothing, with its live changes but for keys that are set here.
Beginning beginning(const TrainArgs& a);
ModelWeights weights_of(const Beginning& b);
// As run.json tells it: weights and changes filled in, and what a run is of that is repeated with nothing set.
RunDescription described(const Beginning& b, RunDescription d);
std::vector<std::string> settings_of(const TrainArgs& a);  // --set, --steps, --seed, --dtype: as KEY=VALUE
ModelTexts texts_of(const Beginning& b);  // files that travel with the model's checkpoints

}  // namespace vitrine::cli
