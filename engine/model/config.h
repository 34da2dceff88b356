// config.json, in the official or the transformers form, to a validated ModelConfig (v4-spec 1, 0.4).
#pragma once
#include <string>
#include <vector>

#include "engine/base/config/model_config.h"
#include "engine/base/error.h"

namespace vitrine {

struct ParsedConfig {
    ModelConfig config;
    std::vector<std::string> warnings;  // unknown keys
};

// Reads and validates folder/config.json. A missing key that changes numbers is an error; every problem is listed at once.
ParsedConfig read_config(const std::string& folder);
ParsedConfig parse_config(const std::string& json_text, const std::string& file);

// What is inconsistent in a config, wherever it came from. Empty: it can be built.
std::vector<Issue> validate(const ModelConfig& c, const std::string& file);
// `reference` numerics need more: an index size that is a power of two.
std::vector<Issue> validate_reference(const ModelConfig& c, const std::string& file);

// The official form (for `vitrine init`).
std::string config_to_json(const ModelConfig& c);

}  // namespace vitrine
