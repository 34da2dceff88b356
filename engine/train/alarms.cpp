// Alarms: the lines that scalars may cross.
#include "engine/train/alarms.h"

#include <algorithm>
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
    {"clip_rate", 0.5, true, "steps of the last 50 whose gradient was clipped"},
    {"dead_share", 0.1, true, "experts without a token"},
    {"fp8.saturated.", 1e-3, false, "FP8 values at the format's largest"},
};
// Scalars that may not double within so many steps, once they are above their floor.
struct Growth {
    const char* name;
    double factor, floor;
    int64_t within;
    const char* what;
};
constexpr Growth kGrowths[] = {{"attention.max_logit", 2, 10, 50, "the largest attention logit"}};
using Before = std::function<double(int64_t step, const std::string& name)>;

// The smallest value measured in the `within` steps before; 0 when there is none.
double smallest_before(const Growth& g, int64_t step, int64_t every, const Before& before) {
    double least = 0;
    for (int64_t s = step - every; s >= 0 && s >= step - g.within; s -= every)
        if (const double v = before(s, g.name); v > 0) least = least > 0 ? std::min(least, v) : v;
    return least;
}
bool has_grown(const Growth& g, double value, double least) { return least > 0 && value > g.floor && value > g.factor * least; }

}  // namespace

std::vector<TrainEvent> alarms_of(const StepReport& r, int64_t metrics_every,
                                  const Before& before) {
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
    for (const Scalar& s : r.scalars)
        for (const Growth& g : kGrowths) {
            if (s.name != g.name) continue;
            const int64_t last = r.step - metrics_every;
            const double least = smallest_before(g, r.step, metrics_every, before);
            if (!has_grown(g, s.value, least)) continue;
            if (last >= 0 && has_grown(g, before(last, g.name), smallest_before(g, last, metrics_every, before))) continue;
            char text[256];
            std::snprintf(text, sizeof text, "step %lld: %s went from %.4g to %.4g within %lld steps, more than %g times (%s)",
                          static_cast<long long>(r.step), g.name, least, s.value, static_cast<long long>(g.within), g.factor,
                          g.what);
            events.push_back({r.step, run_folder::kAlarm, text, ""});
        }
    return events;
}

}  // namespace vitrine
