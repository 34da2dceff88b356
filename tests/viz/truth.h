// What the views must say, taken from the reference vectors and from formulas written here anew, and checks of what a
// view drew against it. A check returns what is wrong; nothing wrong is an empty list.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tests/support/vectors.h"
#include "tests/viz/stage.h"

namespace vitrine::viz::test {

using Violations = std::vector<std::string>;

// A model that read one sequence, and the vectors of that sequence.
struct ModelRun {
    std::shared_ptr<const ModelInfo> model;
    vitrine::test::Arrays vectors;
    std::vector<std::vector<double>> bias;  // [layer][expert], read from the checkpoint; empty: hash-routed
    Snapshot snapshot;
    int64_t n_tokens() const { return static_cast<int64_t>(snapshot.timeline.tokens.size()); }
    const vitrine::test::Array& at(int layer, const std::string& name) const {
        return vectors.at("blocks." + std::to_string(layer) + "." + name);
    }
};
ModelRun run_golden(const std::string& name);  // flashlike, prolike, seedling (no logits)
ModelRun run_ids(const std::string& folder, const std::vector<int32_t>& ids);

// The records of `s` with `change` applied to every array, in a trace of their own.
using Change = std::function<void(int64_t position, int layer, Probe probe, std::vector<float>& values)>;
Snapshot changed(const Snapshot& s, const ModelInfo& model, const Change& change);

Violations check_routing(Stage& stage, const ModelRun& truth, const Snapshot& shown,
                         const std::vector<int64_t>& tokens);
Violations check_loads(Stage& stage, const ModelRun& truth, const Snapshot& shown);
Violations check_attention(Stage& stage, const ModelRun& truth, const Snapshot& shown,
                           const std::vector<int64_t>& tokens);
Violations check_heads(Stage& stage, const ModelRun& truth, const Snapshot& shown, const std::vector<int64_t>& tokens);
Violations check_entries(Stage& stage, const ModelRun& truth, const Snapshot& shown);
Violations check_streams(Stage& stage, const ModelRun& truth, const Snapshot& shown,
                         const std::vector<int64_t>& tokens);
Violations check_next(Stage& stage, const ModelRun& truth, const Snapshot& shown, const std::vector<int64_t>& tokens);
Violations check_cache(Stage& stage, const ModelRun& truth, const Snapshot& shown);

std::string listed(const Violations& v);  // at most ten lines
// A few positions where something begins or ends, and some in between.
std::vector<int64_t> sample_tokens(const ModelRun& r);

}  // namespace vitrine::viz::test
