// Measures of a model's inner workings on held-out text of the curriculum: what its experts, indexer and compressed
// entries do, each with an interval or a null and with the bar that was set before the model was trained.
#pragma once
#include <functional>
#include <limits>
#include <stop_token>
#include <string>
#include <vector>

#include "engine/base/config/sampling.h"
#include "engine/base/json.h"

namespace vitrine {
class Engine;
}

namespace vitrine::inner {

inline constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

struct Options {
    int n = 100;  // items of each row; what it means for a measure stands in its `about`
    uint64_t seed = 2026;
    std::vector<Mode> modes = {Mode::high};  // of removal
    std::vector<std::string> measures;       // empty: all
    int n_together = 32;
    bool is_batch_invariant = true;
};

struct Table {
    std::string title;
    std::vector<std::string> columns;  // beside the row's name
    int digits = 3;
    struct Row {
        std::string name;
        std::vector<double> values;  // kNone: nothing to tell
    };
    std::vector<Row> rows;
};
struct Bar {
    std::string what, measured;
    bool is_met = false;
};
struct Result {
    std::string name, about;
    std::vector<Table> tables;
    std::vector<Bar> bars;
};

using Progress = std::function<void(const std::string&)>;
struct Measure {
    const char *name, *what;
    Result (*run)(Engine&, const Options&, const Progress&, std::stop_token);
};
// routing, indexer, removal, drafting
const std::vector<Measure>& measures();

// Error(bad_input) for unknown measures, a model without a tokenizer, and on a GPU (the model is intervened in).
std::vector<Result> run_measures(Engine& engine, const Options& options, const Progress& progress,
                                 std::stop_token stop);
std::string to_text(const std::vector<Result>& results);
Json to_json(const std::vector<Result>& results, const Options& options);

// ---- one file each
Result measure_routing(Engine&, const Options&, const Progress&, std::stop_token);
Result measure_indexer(Engine&, const Options&, const Progress&, std::stop_token);
Result measure_removal(Engine&, const Options&, const Progress&, std::stop_token);
Result measure_drafting(Engine&, const Options&, const Progress&, std::stop_token);

}  // namespace vitrine::inner
