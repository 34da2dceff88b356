// vitrine eval: a model's scorecard on held-out items of the curriculum.
#include <unistd.h>

#include <cstdio>

#include "app/cli/common.h"
#include "app/cli/ranks.h"
#include "engine/base/error.h"
#include "engine/engine.h"
#include "experiments/curriculum/suite.h"
#include "experiments/inner/inner.h"

namespace vitrine::cli {
namespace {

std::vector<std::string> parts_of(const std::string& list) {
    std::vector<std::string> parts;
    for (size_t begin = 0; begin < list.size();) {
        const size_t end = std::min(list.find(';', begin), list.size());
        if (end > begin) parts.push_back(list.substr(begin, end - begin));
        begin = end + 1;
    }
    return parts;
}

int run_inner(Engine& engine, const inner::Options& options, bool is_json, const inner::Progress& progress,
              std::stop_token stop) {
    const std::vector<inner::Result> results = inner::run_measures(engine, options, progress, stop);
    progress("");
    if (is_json) {
        Json j = inner::to_json(results, options);
        j.set("model", engine.info().name);
        std::printf("%s\n", j.dump().c_str());
    } else {
        std::fputs(inner::to_text(results).c_str(), stdout);
    }
    return 0;
}

// On rank 0, or in the only process.
int lead(const Args& args, Communicator& ranks) {
    ModelArgs model;
    curriculum::EvalOptions options;
    std::string suite = "nano", tasks, invariant = "on";
    std::vector<std::string> modes;
    int64_t n = options.n, together = options.n_together, samples = 0, seed = static_cast<int64_t>(options.seed);
    bool is_json = false, lists = false;
    Options o("eval", "[-m DIR] [OPTIONS]",
              "Asks a model held-out items of the curriculum (experiments/curriculum/README.md), greedily, in each "
              "mode. Prints accuracy in\n"
              "percent with its 95 % Wilson interval and the mean number of tokens spent. Suite `inner` measures how "
              "the model works instead:\n"
              "what its experts and its indexer know, what is lost without HCA or CSA, what drafting saves.");
    add_model_options(o, model);
    o.choice("--suite", {"nano", "inner"}, &suite, "which rows (nano)")
        .integer("-n, --items", 1, 100000, &n, "items of each row and mode (500; suite inner: 100)")
        .list("--mode", "NAME", &modes, "non-think, high or max; all three when not given (suite inner: high); may be repeated")
        .text("--tasks", "ROWS", &tasks, "these rows alone, with semicolons between: \"add 3 digits;sort 8\"")
        .flag("--list", &lists, "the rows, and nothing else")
        .integer("--together", 1, 1024, &together, "answers written at the same time (32)")
        .choice("--batch-invariant", {"on", "off"}, &invariant,
                "each answer has the bits that it has alone (on); or the fastest kernels for so many")
        .integer("--samples", 0, 100000, &samples, "show so many answers of each row and mode (0)")
        .integer("--seed", 0, INT64_MAX, &seed, "of the items (2026)")
        .flag("--json", &is_json, "print one object instead of the table");
    if (!o.parse(args)) return 0;
    const bool is_inner = suite == "inner";
    if (is_inner && samples > 0) throw UsageError("--samples belongs to --suite nano");
    if (lists && is_inner) {
        for (const inner::Measure& m : inner::measures()) std::printf("%-10s %s\n", m.name, m.what);
        return 0;
    }
    if (lists) {
        for (const std::string& name : curriculum::suite_names()) std::printf("%s\n", name.c_str());
        return 0;
    }
    options.n = static_cast<int>(n), options.n_together = static_cast<int>(together),
    options.n_samples = static_cast<int>(samples);
    options.is_batch_invariant = invariant == "on";
    options.seed = static_cast<uint64_t>(seed), options.rows = parts_of(tasks);
    if (o.was_given("--tasks") && options.rows.empty())
        throw UsageError("--tasks " + escaped(tasks) + ": expected rows with semicolons between; --list tells them");
    if (!modes.empty()) options.modes.clear();
    for (const std::string& m : modes) options.modes.push_back(mode_from_name(m));

    Interrupt interrupt;
    const auto engine = load_engine(model, ranks);
    const bool has_terminal = isatty(STDERR_FILENO) != 0;
    const auto progress = [&](const std::string& text) {
        if (has_terminal) std::fprintf(stderr, "\r\x1b[K%s", text.c_str());
    };
    if (is_inner) {
        inner::Options o_inner;
        if (o.was_given("-n")) o_inner.n = options.n;
        if (!modes.empty()) o_inner.modes = options.modes;
        o_inner.seed = options.seed, o_inner.measures = options.rows, o_inner.n_together = options.n_together;
        o_inner.is_batch_invariant = options.is_batch_invariant;
        return run_inner(*engine, o_inner, is_json, progress, interrupt.begin());
    }
    const curriculum::EvalResult r = curriculum::evaluate(*engine, options, progress, interrupt.begin());
    if (has_terminal) std::fputs("\r\x1b[K", stderr);
    if (!is_json) {
        std::fputs(curriculum::to_table(r, options).c_str(), stdout);
        return 0;
    }
    Json j = curriculum::to_json(r, options);
    j.set("model", engine->info().name);
    std::printf("%s\n", j.dump().c_str());
    return 0;
}

}  // namespace

int run_eval(const Args& args) {
    return with_started_ranks([&](Communicator& ranks) { return lead(args, ranks); });
}

}  // namespace vitrine::cli
