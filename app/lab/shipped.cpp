// The experiments that ship, as the run manager wants them.
#include "app/lab/shipped.h"

#include "app/paths.h"
#include "engine/base/error.h"
#include "experiments/list.h"

namespace vitrine {

LabCatalogue shipped_catalogue() {
    LabCatalogue c;
    for (const lab::Experiment& e : lab::experiments()) c.infos.push_back(e.info);
    c.arms = [](const std::string& name, const LabKnobs& knobs) {
        const lab::Experiment& e = lab::experiment(name);
        const lab::Knobs checked(e.info, knobs);
        std::vector<std::string> labels;
        if (e.arms)
            for (const lab::Arm& a : e.arms(checked)) labels.push_back(a.label);
        return labels;
    };
    c.analyse = [](const std::string& name, const LabKnobs& knobs, const LabCatalogue::Tell& tell,
                   std::stop_token stop) {
        const lab::Experiment& e = lab::experiment(name);
        VITRINE_ASSERT(e.is_measured_at_once());
        return e.at_once(lab::Knobs(e.info, knobs), {e.measure ? shipped_model() : "", tell, stop});
    };
    c.judge = [](const std::string& name, const std::vector<LabRun>& runs) {
        const lab::Experiment& e = lab::experiment(name);
        VITRINE_ASSERT(e.judge && !runs.empty());
        return e.judge(lab::Knobs(e.info, runs.front().knobs), runs);
    };
    return c;
}

}  // namespace vitrine
