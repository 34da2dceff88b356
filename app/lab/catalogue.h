// What the run manager needs to know of the experiments, as functions: the shipped ones (experiments/list.h), or a
// test's.
#pragma once
#include <functional>
#include <map>
#include <stop_token>
#include <string>
#include <vector>

#include "engine/telemetry/lab.h"

namespace vitrine {

using LabKnobs = std::map<std::string, std::string>;  // those that differ from the preset, or all

struct LabCatalogue {
    std::vector<LabInfo> infos;
    // The arms of an experiment: one run each and seed. Empty: it needs no run. Error(bad_input) lists wrong knobs.
    std::function<std::vector<std::string>(const std::string& experiment, const LabKnobs&)> arms;
    // What needs no run: seconds to minutes. Called on a thread of its own, beside the others; tells what it does, a
    // line at a time. Error(cancelled).
    using Tell = std::function<void(const std::string& line)>;
    std::function<LabVerdict(const std::string& experiment, const LabKnobs&, const Tell&, std::stop_token)> analyse;
    // Of finished and failed runs with the same knobs, with the scalars of the experiment's plots and `judged`.
    std::function<LabVerdict(const std::string& experiment, const std::vector<LabRun>&)> judge;
};

}  // namespace vitrine
