// Names of the lab's plain data, and how it changes.
#include "engine/telemetry/lab.h"

#include <algorithm>
#include <atomic>
#include <limits>

#include "engine/base/config/training_config.h"
#include "engine/base/json.h"

namespace vitrine {
namespace {

// Revisions are never used twice, so that a cache that knows a series by its address can't take another for it.
uint64_t next_revision() {
    static std::atomic<uint64_t> last{1};
    return ++last;
}

void append(LabSeries& to, LabPointsAdded& from) {
    if (from.is_from_start || to.step.empty()) to.revision = next_revision();
    if (from.is_from_start) {
        to.step = std::move(from.step), to.value = std::move(from.value);
        return;
    }
    to.step.insert(to.step.end(), from.step.begin(), from.step.end());
    to.value.insert(to.value.end(), from.value.begin(), from.value.end());
}

struct Applier {
    LabSnapshot& s;

    void operator()(LabListed&& u) const { s.experiments = std::move(u.experiments); }
    void operator()(LabRunChanged&& u) const {
        LabRun* run = s.find(u.run.id);
        if (!run) {
            s.runs.push_back(std::move(u.run));
            return;
        }
        u.run.scalars = std::move(run->scalars), u.run.events = std::move(run->events);
        *run = std::move(u.run);
    }
    void operator()(LabEventsAdded&& u) const {
        LabRun* run = s.find(u.id);
        if (!run) return;
        if (u.is_from_start) run->events.clear();
        run->events.insert(run->events.end(), std::make_move_iterator(u.events.begin()),
                           std::make_move_iterator(u.events.end()));
    }
    void operator()(LabPointsAdded&& u) const {
        if (LabRun* run = s.find(u.id)) append(run->scalars[u.metric], u);
    }
    void operator()(LabRunGone&& u) const {
        std::erase_if(s.runs, [&](const LabRun& r) { return r.id == u.id; });
    }
    void operator()(LabVerdictMade&& u) const { s.verdicts[u.experiment] = std::move(u.verdict); }
    void operator()(LabProblem&&) const {}  // the window makes a notice of it
    void operator()(LabAtWork&& u) const { s.at_work = std::move(u.experiments), s.work_line.clear(); }
    void operator()(LabWorkLine&& u) const { s.work_line = std::move(u.line); }
};

// Values by their dotted names, in the file's order.
using Flat = std::vector<std::pair<std::string, std::string>>;
void flatten(const Json& j, const std::string& name, Flat& out) {
    const std::string prefix = name.empty() ? "" : name + ".";
    if (j.is_object() && j.size() > 0) {
        for (const auto& [key, value] : j.members()) flatten(value, prefix + key, out);
    } else if (j.is_array() && j.size() > 0) {
        for (size_t i = 0; i < j.size(); ++i) flatten(j.items()[i], prefix + std::to_string(i), out);
    } else {
        out.push_back({name, j.is_string() ? j.as_string() : j.dump()});
    }
}

Flat flat_config(const std::string& text, const char* which) {
    const Json j = Json::parse(text, which);
    Flat out;
    for (const auto& [key, value] : j.members()) flatten(value, key, out);
    return out;
}

}  // namespace

const char* lab_badge_name(LabBadge b) {
    static constexpr const char* kNames[] = {"natural", "provoked", "weights edited", "analytic", "measured"};
    return kNames[static_cast<int>(b)];
}

const char* lab_outcome_name(LabVerdict::Outcome o) {
    static constexpr const char* kNames[] = {"no result", "holds", "does not hold", "not visible", "mixed"};
    return kNames[static_cast<int>(o)];
}

const char* run_state_name(RunState s) {
    static constexpr const char* kNames[] = {"waiting", "running", "paused", "finished", "stopped", "failed"};
    return kNames[static_cast<int>(s)];
}

const std::vector<LabLiveField>& lab_live_fields() {
    static const std::vector<LabLiveField> all = [] {
        TrainConfig defaults;
        std::vector<LabLiveField> out;
        const ConfigFields keys = fields(defaults);  // must outlive the loop over its list
        for (const ConfigField& f : keys.all())
            if (f.is_live)
                out.push_back({f.name, f.name, f.help, f.lowest, f.highest, f.kind == ConfigField::Kind::integer, f.choices});
        return out;
    }();
    return all;
}

void LabSnapshot::apply(LabUpdate&& update) {
    std::visit([this](auto&& u) { Applier{*this}(std::move(u)); }, std::move(update));
    ++version;
}

LabRun* LabSnapshot::find(const std::string& id) {
    const auto it = std::find_if(runs.begin(), runs.end(), [&](const LabRun& r) { return r.id == id; });
    return it == runs.end() ? nullptr : &*it;
}
const LabRun* LabSnapshot::find(const std::string& id) const {
    return const_cast<LabSnapshot*>(this)->find(id);
}

const LabInfo* LabSnapshot::experiment(const std::string& name) const {
    const auto it = std::find_if(experiments.begin(), experiments.end(), [&](const LabInfo& i) { return i.name == name; });
    return it == experiments.end() ? nullptr : &*it;
}

bool lab_names(const std::string& pattern, const std::string& metric) {
    const size_t star = pattern.find('*');
    if (star == std::string::npos) return pattern == metric;
    const std::string_view head(pattern.data(), star), tail(pattern.data() + star + 1, pattern.size() - star - 1);
    return metric.size() >= head.size() + tail.size() && metric.starts_with(head) && metric.ends_with(tail);
}

std::vector<ConfigDifference> compare_configs(const std::string& a, const std::string& b) {
    const Flat left = flat_config(a, "the first config"), right = flat_config(b, "the second config");
    std::map<std::string, std::string> others(right.begin(), right.end());
    std::vector<ConfigDifference> out;
    for (const auto& [field, value] : left) {
        const auto it = others.find(field);
        if (it == others.end() || it->second != value) out.push_back({field, value, it == others.end() ? "" : it->second});
        if (it != others.end()) others.erase(it);
    }
    for (const auto& [field, value] : right)
        if (others.count(field)) out.push_back({field, "", value});
    return out;
}

}  // namespace vitrine
