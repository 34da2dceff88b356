// generation_config.json: how a model's authors want it sampled.
#pragma once
#include <string>

#include "engine/base/config/sampling.h"

namespace vitrine {

// Reads do_sample, temperature, top_p, top_k and min_p of folder/generation_config.json as transformers does: without
// do_sample = true the model is greedy (temperature 0). No such file: Sampling's own defaults. Other keys are left alone.
// Error(bad_input) naming file, key, value and range.
Sampling read_generation_config(const std::string& folder);

}  // namespace vitrine
