// vitrine train --list and --experiment: the lab from the command line.
#include "app/cli/experiment.h"

#include <algorithm>
#include <cstdio>

#include "engine/base/error.h"
#include "experiments/list.h"
#include "experiments/report.h"

namespace vitrine::cli {
namespace {

int print_list() {
    for (const lab::Experiment& e : lab::experiments())
        std::printf("%-4s %-10s %s\n     %s\n     %s\n", e.info.name.c_str(), lab_badge_name(e.info.badge),
                    e.info.title.c_str(), e.info.question.c_str(), e.info.expected_time.c_str());
    return 0;
}

std::map<std::string, std::string> knobs_from(const std::vector<std::string>& words) {
    std::map<std::string, std::string> knobs;
    for (const std::string& w : words) {
        const size_t equals = w.find('=');
        if (equals == std::string::npos || equals == 0)
            throw UsageError("--knob " + escaped(w) + ": expected KEY=VALUE");
        if (!knobs.emplace(w.substr(0, equals), w.substr(equals + 1)).second)
            throw UsageError("--knob " + escaped(w.substr(0, equals)) + ": given twice");
    }
    return knobs;
}

void print_knobs(const lab::Experiment& e) {
    for (const LabKnob& k : e.info.knobs)
        std::printf("  %-14s %-10s %s: %s\n", k.key.c_str(), k.value.c_str(), k.label.c_str(), k.help.c_str());
}

}  // namespace

bool asks_for_experiment(const Args& args) {
    return std::any_of(args.begin(), args.end(), [](const std::string& a) {
        return a == "--list" || a == "--experiment" || a.rfind("--experiment=", 0) == 0;
    });
}

int run_experiment(const Args& args) {
    std::string name, readme;
    std::vector<std::string> knob_words;
    bool lists = false, tells_knobs = false;
    Options options("train", "--experiment NAME [OPTIONS]",
                    "Runs an experiment of the lab and prints what was measured beside what is claimed.");
    options.flag("--list", &lists, "the experiments");
    options.text("--experiment", "NAME", &name, "which one: X01, X08, ...");
    options.flag("--knobs", &tells_knobs, "its knobs with their preset values, and nothing else");
    options.list("--knob", "KEY=VALUE", &knob_words, "sets one");
    options.text("--update", "FILE", &readme, "writes the result between the marks of a README.md");
    if (!options.parse(args)) return 0;
    if (lists) return print_list();
    const lab::Experiment& e = lab::experiment(name);
    if (tells_knobs) return print_knobs(e), 0;
    const lab::Knobs knobs(e.info, knobs_from(knob_words));
    const LabVerdict v = e.analyse(knobs);
    std::printf("%s\n", lab::to_text(v).c_str());
    if (!readme.empty()) lab::update_readme(readme, lab::to_markdown(v));
    return 0;
}

}  // namespace vitrine::cli
