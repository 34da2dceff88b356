// vitrine train --list and --experiment: the lab from the command line.
#include "app/cli/experiment.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <thread>

#include "app/cli/common.h"
#include "app/lab/experiment_runs.h"
#include "app/paths.h"
#include "engine/base/error.h"
#include "experiments/list.h"
#include "experiments/report.h"

namespace vitrine::cli {
namespace {

int print_list() {
    for (const lab::Experiment& e : lab::experiments())
        std::printf("%-4s %-10s %s\n     %s\n%s     %s\n", e.info.name.c_str(), lab_badge_name(e.info.badge),
                    e.info.title.c_str(), e.info.question.c_str(),
                    e.info.provoked_by.empty() ? "" : ("     provoked by " + e.info.provoked_by + "\n").c_str(),
                    e.info.expected_time.c_str());
    return 0;
}

struct ExperimentArgs {
    std::string name, size, folder, readme;
    std::vector<std::string> knobs;
    int64_t n_seeds = 1, n_at_once = 0, n_steps = -1, first_seed = -1;
    bool lists = false, tells_knobs = false;
};

bool has_knob(const lab::Experiment& e, const std::string& key) {
    return std::any_of(e.info.knobs.begin(), e.info.knobs.end(), [&](const LabKnob& k) { return k.key == key; });
}

std::map<std::string, std::string> knobs_from(const lab::Experiment& e, const ExperimentArgs& a) {
    std::map<std::string, std::string> knobs;
    for (const std::string& w : a.knobs) {
        const size_t equals = w.find('=');
        if (equals == std::string::npos || equals == 0)
            throw UsageError("--set " + escaped(w) + ": expected KNOB=VALUE");
        if (!knobs.emplace(w.substr(0, equals), w.substr(equals + 1)).second)
            throw UsageError("--set " + escaped(w.substr(0, equals)) + ": given twice");
    }
    if (!a.size.empty()) knobs["size"] = a.size;
    const auto add = [&](const char* key, int64_t value) {
        if (value < 0) return;
        if (!has_knob(e, key))
            throw UsageError(std::string("--") + key + ": " + e.info.name + " has no such knob; --knobs lists its own");
        if (!knobs.emplace(key, std::to_string(value)).second) throw UsageError(std::string("--") + key + ": given twice");
    };
    add("steps", a.n_steps);
    if (!e.arms) add("seed", a.first_seed);
    return knobs;
}

LabVerdict trained(const lab::Experiment& e, const ExperimentArgs& a) {
    ExperimentRequest request;
    request.knobs = knobs_from(e, a), request.n_seeds = static_cast<int>(a.n_seeds), request.folder = a.folder;
    if (a.first_seed >= 0) request.first_seed = a.first_seed;
    request.n_at_once = a.n_at_once ? static_cast<int>(a.n_at_once)
                                    : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
    Interrupt interrupt;
    const auto runs = run_experiment_arms(e, request, interrupt.begin(),
                                          [](const std::string& line) { std::fprintf(stderr, "%s\n", line.c_str()); });
    return e.judge(lab::Knobs(e.info, request.knobs), runs);
}

LabVerdict at_once(const lab::Experiment& e, const ExperimentArgs& a) {
    if (e.analyse) return e.analyse(lab::Knobs(e.info, knobs_from(e, a)));
    Interrupt interrupt;
    const bool has_terminal = isatty(STDERR_FILENO) != 0;
    const auto progress = [&](const std::string& line) {
        if (has_terminal) std::fprintf(stderr, "\r\x1b[K%s", line.c_str());
    };
    const LabVerdict v = e.measure(lab::Knobs(e.info, knobs_from(e, a)), {shipped_model(), progress, interrupt.begin()});
    if (has_terminal) std::fputs("\r\x1b[K", stderr);
    return v;
}

void print_knobs(const lab::Experiment& e) {
    for (const LabKnob& k : e.info.knobs)
        std::printf("  %-14s %-10s %s: %s\n", k.key.c_str(), k.value.c_str(), k.label.c_str(), k.help.c_str());
}

}  // namespace

// One run of the lab, `--arm`, is run_train's business.
bool asks_for_experiment(const Args& args) {
    const auto has = [&](const std::string& name) {
        return std::any_of(args.begin(), args.end(),
                           [&](const std::string& a) { return a == name || a.rfind(name + "=", 0) == 0; });
    };
    return has("--list") || (has("--experiment") && !has("--arm"));
}

int run_experiment(const Args& args) {
    ExperimentArgs a;
    Options options("train", "--experiment NAME [OPTIONS]",
                    "Runs an experiment of the lab and prints what was measured here beside what is claimed.");
    options.flag("--list", &a.lists, "the experiments")
        .text("--experiment", "NAME", &a.name, "which one: X01, X08, ...")
        .flag("--knobs", &a.tells_knobs, "its knobs with their preset values, and nothing else")
        .list("--set, --knob", "KNOB=VALUE", &a.knobs, "sets one; may be repeated")
        .choice("--size", {"quick", "full"}, &a.size, "as --set size=...")
        .integer("--steps", 1, INT64_MAX, &a.n_steps, "as --set steps=N")
        .integer("--seeds", 1, 1000, &a.n_seeds, "runs of each arm, with seeds from --seed on")
        .integer("--seed", 0, INT64_MAX, &a.first_seed, "the first one (1)")
        .integer("--at-once", 1, 1024, &a.n_at_once, "runs side by side; one per core when not given")
        .text("--run", "DIR", &a.folder, "a folder of run folders, which the window shows too; the same line again goes on")
        .text("--update", "FILE", &a.readme, "writes the result between the marks of a README.md");
    if (!options.parse(args)) return 0;
    if (a.lists) return print_list();
    const lab::Experiment& e = lab::experiment(a.name);
    if (a.tells_knobs) return print_knobs(e), 0;
    const LabVerdict v = e.is_measured_at_once() ? at_once(e, a) : trained(e, a);
    std::printf("%s%s\n", lab::to_text(v).c_str(), lab::claim_text(e.info).c_str());
    if (!a.readme.empty()) lab::update_readme(a.readme, lab::to_markdown(v));
    return 0;
}

}  // namespace vitrine::cli
