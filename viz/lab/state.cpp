// What the Lab's parts share.
#include "viz/lab/state.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "engine/base/error.h"
#include "engine/base/json.h"
#include "viz/theme.h"
#include "viz/widgets/number.h"

namespace vitrine::viz::lab {
namespace {

constexpr size_t kMaxShown = 128, kMaxShownAlone = 12;  // the latter: runs that are nothing to each other
std::string last_problem;

Values differing(const LabRun& run, const LabInfo* info) {
    Values out;
    for (const auto& [key, value] : run.knobs) {
        const LabKnob* knob = nullptr;
        if (info)
            for (const LabKnob& k : info->knobs)
                if (k.key == key) knob = &k;
        if (!knob || knob->value != value) out[key] = value;
    }
    return out;
}

// Without a choice of the user's: the runs that were started like the newest one.
void choose_runs(State& s, const LabSnapshot& lab) {
    const auto runs = runs_of(lab, s.experiment);
    if (s.has_own_choice) {
        std::erase_if(s.shown, [&](const std::string& id) {
            const LabRun* r = lab.find(id);
            return !r || r->experiment != s.experiment;
        });
        return;
    }
    s.shown.clear();
    if (runs.empty()) return;
    const LabRun& newest = *runs.back();
    const LabInfo* info = lab.experiment(s.experiment);
    if (info && info->is_collection) {
        for (auto r = runs.rbegin(); r != runs.rend() && s.shown.size() < kMaxShownAlone; ++r) s.shown.insert((*r)->id);
        return;
    }
    for (auto r = runs.rbegin(); r != runs.rend() && s.shown.size() < kMaxShown; ++r)
        if ((*r)->knobs == newest.knobs || (*r)->id == newest.parent) s.shown.insert((*r)->id);
}

// The first experiment; where all runs belong to none, what holds them.
std::string first_choice(const LabSnapshot& lab) {
    const auto collection =
        std::find_if(lab.experiments.begin(), lab.experiments.end(), [](const LabInfo& i) { return i.is_collection; });
    const bool holds_all = collection != lab.experiments.end() && !lab.runs.empty() &&
                           std::all_of(lab.runs.begin(), lab.runs.end(),
                                       [&](const LabRun& r) { return r.experiment == collection->name; });
    return holds_all ? collection->name : lab.experiments.empty() ? "" : lab.experiments.front().name;
}

void watch(State& s, const LabSnapshot& lab, View& view) {
    WatchScalars wanted;
    wanted.ids.assign(s.shown.begin(), s.shown.end());
    if (const LabInfo* info = lab.experiment(s.experiment))
        for (const LabPlot& p : info->plots)
            wanted.metrics.insert(wanted.metrics.end(), p.metrics.begin(), p.metrics.end());
    wanted.metrics.insert(wanted.metrics.end(), s.extra.begin(), s.extra.end());
    std::sort(wanted.metrics.begin(), wanted.metrics.end());
    wanted.metrics.erase(std::unique(wanted.metrics.begin(), wanted.metrics.end()), wanted.metrics.end());
    if (wanted.ids == s.watched.ids && wanted.metrics == s.watched.metrics) return;
    if (view.commands.send_lab(wanted)) s.watched = std::move(wanted);
}

}  // namespace

void tend(State& s, const LabSnapshot& lab, View& view) {
    if (!lab.experiment(s.experiment)) {
        const bool has_orphans = !s.experiment.empty() && !runs_of(lab, s.experiment).empty();
        if (!has_orphans) s.experiment = first_choice(lab);
        s.has_own_choice = false;
    }
    choose_runs(s, lab);
    const LabRun* focused = lab.find(s.focus);
    const bool is_gone = !focused || focused->experiment != s.experiment;
    if (is_gone) s.has_own_focus = false;
    if (!s.has_own_focus && (is_gone || focused->state != RunState::running)) {
        const auto runs = runs_of(lab, s.experiment);
        // The one that runs, else the newest.
        const auto live =
            std::find_if(runs.begin(), runs.end(), [](const LabRun* r) { return r->state == RunState::running; });
        if (live != runs.end() || is_gone)
            s.focus = live != runs.end() ? (*live)->id : runs.empty() ? "" : runs.back()->id, s.rewind_step = -1;
    }
    watch(s, lab, view);
}

bool ask(CommandSink& sink, LabCommand c) {
    const bool is_taken = sink.send_lab(std::move(c));
    last_problem = is_taken ? "" : "The lab doesn't take requests now: no run manager, or its queue is full.";
    return is_taken;
}

const std::string& problem() {
    return last_problem;
}

std::vector<const LabRun*> runs_of(const LabSnapshot& lab, const std::string& experiment) {
    std::vector<const LabRun*> out;
    for (const LabRun& r : lab.runs)
        if (r.experiment == experiment) out.push_back(&r);
    return out;
}

std::vector<const LabInfo*> listed(const LabSnapshot& lab) {
    std::vector<const LabInfo*> out;
    for (const bool is_collection : {true, false})
        for (const LabInfo& i : lab.experiments)
            if (i.is_collection == is_collection && (!is_collection || !runs_of(lab, i.name).empty())) out.push_back(&i);
    return out;
}

// "X34-0003-beta2-0.95-clip-s1" -> "0003": enough to tell replays apart.
std::string short_id(const std::string& id) {
    const size_t from = id.find('-'), to = id.find('-', from + 1);
    return from == std::string::npos || to == std::string::npos ? id : id.substr(from + 1, to - from - 1);
}

std::string group_of(const LabRun& run, const LabInfo* info) {
    std::string out = run.arm.empty() ? run.id : run.arm;
    for (const auto& [key, value] : differing(run, info)) out += ", " + key + " " + value;
    if (!run.changed.empty()) out += ", changed: " + run.changed + " (" + short_id(run.id) + ")";  // no sample of its arm
    if (!run.parent.empty()) out += ", from step " + std::to_string(run.parent_step) + " (" + short_id(run.id) + ")";
    return out;
}

std::string run_title(const LabRun& run, const LabInfo* info) {
    return group_of(run, info) + ", seed " + std::to_string(run.seed);
}

// Arms in the order of their first run, then groups that differ from the preset: hues of the theme, then their
// mixtures.
ImU32 group_color(const LabSnapshot& lab, const std::string& experiment, const std::string& group) {
    const LabInfo* info = lab.experiment(experiment);
    static uint64_t version = ~0ull;
    static std::string of;
    static std::vector<std::string> groups;
    if (version != lab.version || of != experiment) {
        groups.clear();
        for (const LabRun* r : runs_of(lab, experiment))
            if (const std::string g = group_of(*r, info); std::find(groups.begin(), groups.end(), g) == groups.end())
                groups.push_back(g);
        version = lab.version, of = experiment;
    }
    const Theme& t = theme();
    const ImU32 hues[] = {t.csa, t.window, t.hca, t.index_key, t.compressor_state, t.thinking};
    const auto at = static_cast<size_t>(std::find(groups.begin(), groups.end(), group) - groups.begin());
    const ImU32 hue = hues[at % 6];
    return at < 6 ? hue : mix(hue, t.text, std::min(0.75f, 0.25f * static_cast<float>(at / 6)));
}

int64_t checkpoint_before(const LabRun& run, int64_t step) {
    int64_t found = -1;
    for (const int64_t c : run.checkpoints)
        if (c <= step) found = std::max(found, c);
    return found;
}

std::string config_value(const LabRun& run, const std::string& key) {
    static std::string of;
    static Json config;
    try {
        if (of != run.config_json) of = run.config_json, config = of.empty() ? Json() : Json::parse(of, "the run's config");
    } catch (const Error&) {
        config = Json();
    }
    const Json* train = config.is_object() ? config.find("train") : nullptr;
    const Json* value = train && train->is_object() ? train->find(key) : nullptr;
    return !value ? "" : value->is_string() ? value->as_string() : value->dump();
}

void focus_on(State& s, const std::string& run) {
    s.focus = run, s.has_own_focus = true, s.rewind_step = -1, s.forget.clear();
}

void show_event(State& s, const LabRun& run, size_t event) {
    if (s.focus != run.id) focus_on(s, run.id);
    s.has_own_focus = true;
    s.event_run = run.id, s.event = event;
    s.cursor = static_cast<double>(run.events[event].step);
}

std::string range_text(double lo, double hi) {
    char out[80];
    std::snprintf(out, sizeof out, "expected %.9g to %.9g", lo, hi);
    return out;
}

std::string knob_text(const State& s, const LabInfo& info, const LabKnob& knob) {
    const auto form = s.forms.find(info.name);
    if (form == s.forms.end()) return knob.value;
    const auto it = form->second.find(knob.key);
    return it == form->second.end() ? knob.value : it->second;
}

std::string knob_problem(const LabKnob& knob, const std::string& value) {
    if (!knob.choices.empty()) {
        const bool is_one = std::find(knob.choices.begin(), knob.choices.end(), value) != knob.choices.end();
        return is_one ? "" : "not one of the choices";
    }
    if (knob.min == knob.max) return "";
    double v = 0;
    const auto [end, failed] = std::from_chars(value.data(), value.data() + value.size(), v);
    if (failed != std::errc() || end != value.data() + value.size() || !std::isfinite(v)) return "expected a number";
    if (v < knob.min || v > knob.max)
        return range_text(knob.min, knob.max);
    return "";
}

}  // namespace vitrine::viz::lab
