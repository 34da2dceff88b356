// The ordered table of experiments: a new one is a declaration and a row here.
#include "experiments/list.h"

#include "engine/base/error.h"
#include "experiments/runs.h"

namespace vitrine::lab {

Experiment x01_hyper_connections();
Experiment x02_sinkhorn();
Experiment x03_logits();
Experiment x04_balancing();
Experiment x05_clamp();
Experiment x06_anticipatory();
Experiment x07_muon();
Experiment x08_cost();
Experiment x09_csa();
Experiment x11_retrieval();
Experiment x12_modes();
Experiment x15_formats();
Experiment x17_prediction();
Experiment x19_active_experts();
Experiment x33_arithmetic();
Experiment x34_spikes();

namespace {

// In the Lab's order: those that train, those that measure a model, those that are calculated.
constexpr Experiment (*kExperiments[])() = {
    x01_hyper_connections,
    x04_balancing,
    x06_anticipatory,
    x03_logits,
    x07_muon,
    x05_clamp,
    x34_spikes,
    x12_modes,
    x09_csa,
    x11_retrieval,
    x15_formats,
    x17_prediction,
    x19_active_experts,
    x08_cost,
    x02_sinkhorn,
    x33_arithmetic,
};

// What every judgement on runs tells, whatever it judges.
LabVerdict told(const Experiment& e, const Knobs& knobs, const std::vector<LabRun>& runs) {
    LabVerdict v = e.judge(knobs, runs);
    Results(e.arms(knobs), runs).tell_uncounted(v);
    if (const std::string changed = knobs.changed(); !changed.empty())
        v.sentence += " Measured with changed knobs (" + changed + "): what is said or was calibrated stands for the preset.";
    return v;
}

std::vector<Experiment> make_all() {
    std::vector<Experiment> all;
    for (const auto& make : kExperiments) {
        all.push_back(make());
        if (Experiment& e = all.back(); e.judge)
            e.judge = [own = e](const Knobs& knobs, const std::vector<LabRun>& runs) { return told(own, knobs, runs); };
        const auto readme = readmes().find(all.back().folder);
        VITRINE_ASSERT(readme != readmes().end());
        all.back().info.readme = readme->second;
    }
    return all;
}

}  // namespace

const std::vector<Experiment>& experiments() {
    static const std::vector<Experiment> all = make_all();
    return all;
}

const Experiment& experiment(const std::string& name) {
    std::vector<std::string> names;
    std::string list;
    for (const Experiment& e : experiments()) {
        if (e.info.name == name) return e;
        names.push_back(e.info.name);
        list += (list.empty() ? "" : ", ") + e.info.name;
    }
    const std::string near = nearest_name(name, names);
    throw_if_any({{"", "experiment", name,
                   "expected one of " + list + (near.empty() ? "" : "; did you mean " + near + "?"), ""}});
    throw Error(ErrorKind::internal, "unreachable");
}

Arm arm_of(const Experiment& e, const std::map<std::string, std::string>& knobs, const std::string& label) {
    std::string list;
    if (e.arms)
        for (Arm& a : e.arms(Knobs(e.info, knobs))) {
            if (a.label == label) return a;
            list += (list.empty() ? "" : ", ") + a.label;
        }
    throw_if_any({{e.info.name, "arm", label,
                   list.empty() ? "expected none: it needs no training" : "expected one of " + list, ""}});
    throw Error(ErrorKind::internal, "unreachable");
}

}  // namespace vitrine::lab
