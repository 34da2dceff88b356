// Alarms: the lines that scalars may cross.
#include "engine/train/alarms.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "engine/telemetry/run_folder.h"

namespace vitrine {
namespace {

enum class Side { above, below };
struct Line {
    const char* name;       // a name, or the beginning of names that end in a group
    Side side;
    double at;
    bool is_each_step;
    const char* what;
    bool is_amber = false;        // worth a look; the others are worth a stop
    const char* but = nullptr;    // not this one
};
// Sinks and position biases, `vectors`, begin at 0: what an update is of them says nothing until long after. They are added to
// logits, so that the update itself is held against its line.
constexpr Line kLines[] = {
    {"max_vio.max", Side::above, 3, true, "an expert's load over the mean, minus 1"},
    {"max_vio.max", Side::above, 1, true, "an expert's load over the mean, minus 1", true},
    {"load_entropy", Side::below, 0.85, true, "entropy of the experts' loads as a share of its largest"},
    {"update_ratio.", Side::above, 5e-2, true, "an update as a share of the weights", false, "update_ratio.vectors"},
    {"update_rms.vectors", Side::above, 5e-2, true, "an update of sinks and position biases"},
    {"surprise.", Side::above, 2.3, true, "gradients over the root of their mean square: the second moment is stale"},
    {"hyper.gain.max", Side::above, 100, false, "composite gain of the residual streams"},
    {"hyper.gain_backward.max", Side::above, 100, false, "composite gain of the residual streams' gradients"},
    {"attention.max_logit", Side::above, 50, false, "the largest attention logit"},
    {"clip_rate", Side::above, 0.5, true, "steps of the last 50 whose gradient was clipped"},
    {"dead_share", Side::above, 0.1, true, "experts without a token"},
    {"dead_share.100", Side::above, 0.05, true, "experts without a token in 100 steps"},
    {"fp8.saturated.", Side::above, 1e-3, false, "FP8 values at the format's largest"},
};
// A line is told again once the value has come well back behind it and some steps have passed: swinging about it is no news.
constexpr double kBack = 0.8, kBackBelow = 1.05;
int64_t quiet_steps(int64_t every) { return std::max<int64_t>(20, 3 * every); }

// Scalars that may not double within so many steps, once they are above their floor.
struct Growth {
    const char* name;
    double factor, floor;
    int64_t within;
    const char* what;
};
constexpr Growth kGrowths[] = {{"attention.max_logit", 2, 10, 50, "the largest attention logit"}};

// Scalars of each step that may not exceed so many times their own median. Five of the last 50 steps stand for all: looking one up
// costs.
struct Jump {
    const char* name;
    double factor;
    const char* what;
};
constexpr Jump kJumps[] = {{"update_ratio.", 5, "an update as a share of the weights"}};
constexpr int64_t kStepsBefore[] = {5, 15, 25, 35, 45};
constexpr size_t kLeastBefore = 3;

// Scalars that may not stay above a line for so many steps: nothing moves there.
struct Standstill {
    const char* name;
    double above;
    int64_t within;
    const char* what;
};
constexpr Standstill kStandstills[] = {
    {"router.entropy", 0.9999, 200, "entropy of a token's affinities as a share of ln E: the router is frozen"}};

using Before = std::function<double(int64_t step, const std::string& name)>;

bool fits(const std::string& scalar, const std::string& name) {
    return name.back() == '.' ? scalar.starts_with(name) : scalar == name;
}

bool is_beyond(Side side, double at, double value) { return side == Side::above ? value > at : value < at; }
// Whether the steps before leave room to tell it: none beyond the line, or long ago and well back since.
bool is_news(const std::string& name, Side side, double at, int64_t step, int64_t every, const Before& before) {
    const double back = at * (side == Side::above ? kBack : kBackBelow);
    bool was_back = false;
    for (int64_t s = step - every; s >= 0; s -= every) {
        const bool is_long_ago = step - s >= quiet_steps(every);
        if (was_back && is_long_ago) return true;
        const double value = before(s, name);
        if (is_beyond(side, at, value)) return false;
        was_back = was_back || std::isnan(value) || !is_beyond(side, back, value);
    }
    return true;
}

// The smallest value measured in the `within` steps before; 0 when there is none.
double smallest_before(const Growth& g, int64_t step, int64_t every, const Before& before) {
    double least = 0;
    for (int64_t s = step - every; s >= 0 && s >= step - g.within; s -= every)
        if (const double v = before(s, g.name); v > 0) least = least > 0 ? std::min(least, v) : v;
    return least;
}
bool has_grown(const Growth& g, double value, double least) { return least > 0 && value > g.floor && value > g.factor * least; }
bool had_grown_lately(const Growth& g, int64_t step, int64_t every, const Before& before) {
    for (int64_t s = step - every; s >= 0 && step - s < quiet_steps(every); s -= every)
        if (has_grown(g, before(s, g.name), smallest_before(g, s, every, before))) return true;
    return false;
}

// The median of the steps that stand for those before; NaN when they are too few, or as soon as it can't be below `below`.
double median_below(const std::string& name, double below, int64_t step, const Before& before) {
    std::vector<double> values;
    size_t n_not = 0;
    for (const int64_t back : kStepsBefore) {
        const double v = step >= back ? before(step - back, name) : NAN;
        if (std::isnan(v)) continue;
        values.push_back(v), n_not += v >= below;
        if (2 * n_not > std::size(kStepsBefore)) return NAN;
    }
    if (values.size() < kLeastBefore) return NAN;
    const auto half = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
    std::nth_element(values.begin(), half, values.end());
    return *half;
}

// Whether it has now stood above its line for `within` steps, and one measurement ago had not.
bool stands_still(const Standstill& t, int64_t step, int64_t every, const Before& before) {
    const int64_t n = (t.within + every - 1) / every + 1;  // measurements from the first to this one
    for (int64_t i = 1; i < n; ++i)
        if (step < i * every || !(before(step - i * every, t.name) > t.above)) return false;
    return step < n * every || !(before(step - n * every, t.name) > t.above);
}

template <class... Values>
TrainEvent alarm(int64_t step, const char* format, Values... values) {
    char text[320];
    const int n = std::snprintf(text, sizeof text, "step %lld: ", static_cast<long long>(step));
    std::snprintf(text + n, sizeof text - static_cast<size_t>(n), format, values...);
    return {step, run_folder::kAlarm, text, ""};
}

}  // namespace

std::vector<TrainEvent> alarms_of(const StepReport& r, int64_t metrics_every, const Before& before) {
    std::vector<TrainEvent> events;
    for (const Scalar& s : r.scalars) {
        const char* name = s.name.c_str();
        for (const Line& line : kLines) {
            if (!fits(s.name, line.name) || (line.but && s.name == line.but)) continue;
            if (!is_beyond(line.side, line.at, s.value)) continue;
            const int64_t every = line.is_each_step ? 1 : metrics_every;
            if (!is_news(s.name, line.side, line.at, r.step, every, before)) continue;
            const double old = r.step < every ? NAN : before(r.step - every, s.name);
            char from[48] = "is";
            if (!std::isnan(old)) std::snprintf(from, sizeof from, "went from %.4g to", old);
            events.push_back(alarm(r.step, "%s%s %s %.4g, %s %g (%s)", line.is_amber ? "amber: " : "", name, from, s.value,
                                   line.side == Side::above ? "above" : "below", line.at, line.what));
        }
        for (const Growth& g : kGrowths) {
            if (s.name != g.name) continue;
            const double least = smallest_before(g, r.step, metrics_every, before);
            if (!has_grown(g, s.value, least) || had_grown_lately(g, r.step, metrics_every, before)) continue;
            events.push_back(alarm(r.step, "%s went from %.4g to %.4g within %lld steps, more than %g times (%s)", name, least,
                                   s.value, static_cast<long long>(g.within), g.factor, g.what));
        }
        for (const Jump& j : kJumps) {
            if (!fits(s.name, j.name)) continue;
            const double median = median_below(s.name, s.value / j.factor, r.step, before);
            if (!(s.value > j.factor * median) || !is_news(s.name, Side::above, j.factor * median, r.step, 1, before)) continue;
            events.push_back(alarm(r.step, "%s is %.4g, more than %g times its median of the last 50 steps, %.4g (%s)", name,
                                   s.value, j.factor, median, j.what));
        }
        for (const Standstill& t : kStandstills) {
            if (s.name != t.name || !(s.value > t.above) || !stands_still(t, r.step, metrics_every, before)) continue;
            events.push_back(alarm(r.step, "%s has stayed above %g for %lld steps (%s)", name, t.above,
                                   static_cast<long long>(t.within), t.what));
        }
    }
    return events;
}

}  // namespace vitrine
