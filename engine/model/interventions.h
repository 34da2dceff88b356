// Interventions inside a forward pass, on the CPU.
#pragma once
#include <string>
#include <vector>

#include "engine/base/config/interventions.h"
#include "engine/base/config/model_config.h"
#include "engine/base/error.h"
#include "engine/ops/router/router.h"

namespace vitrine {

// Everything that doesn't fit the model, by layer.
std::vector<Issue> validate(const Interventions& edits, const ModelConfig& c, const std::string& model);
// The configuration that layer `l` runs with.
ModelConfig edited_config(const ModelConfig& c, const LayerIntervention& edit);
// Takes experts out of a choice that was made.
void remove_experts(const Routing& routing, const std::vector<int32_t>& experts);
// k of n entries for the token at `position`, ascending.
std::vector<int32_t> random_entries(int64_t n, int64_t k, uint64_t seed, int layer, int64_t position);

}  // namespace vitrine
