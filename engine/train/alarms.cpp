// Alarms: the lines that scalars may cross.
#include "engine/train/alarms.h"

#include <cstdio>

#include "engine/telemetry/run_folder.h"

namespace vitrine {
namespace {

struct Line {
    const char* name;       // a name, or the beginning of names that end in a group
    double above;
    bool is_each_step;
    const char* what;
};
constexpr Line kLines[] = {
    {"max_vio.max", 3, true, "an expert's load over the mean, minus 1"},
    {"update_ratio.", 5e-2, true, "an update as a share of the weights"},
    {"surprise.", 2.3, true, "gradients over the root of their mean square: the second moment is stale"},
    {"hyper.gain.max", 100, false, "composite gain of the residual streams"},
    {"attention.max_logit", 50, false, "the largest attention logit"},
};

}  // namespace

std::vector<TrainEvent> alarms_of(const StepReport& r, int64_t metrics_every,
                                  const std::function<double(int64_t step, const std::string& name)>& before) {
    std::vector<TrainEvent> events;
    for (const Scalar& s : r.scalars)
        for (const Line& line : kLines) {
            const std::string name = line.name;
            const bool fits = name.back() == '.' ? s.name.starts_with(name) : s.name == name;
            if (!fits || !(s.value > line.above)) continue;
            const int64_t last = r.step - (line.is_each_step ? 1 : metrics_every);
            const double old = last < 0 ? 0 : before(last, s.name);
            if (old > line.above) continue;
            char text[256];
            std::snprintf(text, sizeof text, "step %lld: %s went from %.4g to %.4g, above %g (%s)", static_cast<long long>(r.step),
                          s.name.c_str(), old, s.value, line.above, line.what);
            events.push_back({r.step, run_folder::kAlarm, text, ""});
        }
    return events;
}

}  // namespace vitrine
