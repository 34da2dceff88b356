// generation_config.json: how a model's authors want it sampled.
#pragma once
#include <string>
#include <vector>

#include "engine/base/config/sampling.h"

namespace vitrine {

// Reads do_sample, temperature, top_p, top_k, min_p and repetition_penalty of folder/generation_config.json as transformers
// does: without do_sample = true the model is greedy (temperature 0). No such file: Sampling's own defaults. Other keys are
// left alone.
// Error(bad_input) naming file, key, value and range.
Sampling read_generation_config(const std::string& folder);

// Its eos_token_id, one or a list: every one of them ends a text. None: no such file or key. Error(bad_input) for what is no
// id below vocab_size.
std::vector<int> read_end_ids(const std::string& folder, int vocab_size);

}  // namespace vitrine
