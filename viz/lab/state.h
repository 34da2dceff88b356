// What the Lab's parts share: the chosen experiment, the runs that are drawn, the one cursor on the time axis, the
// form.
#pragma once
#include <imgui.h>

#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "engine/telemetry/lab.h"
#include "viz/panel.h"

namespace vitrine::viz::lab {

using Values = std::map<std::string, std::string>;

enum class Tab { plots, verdict, difference, readme };

enum class EventFilter { spikes, important, all };

struct State {
    std::string experiment;                     // chosen on the left
    std::string focus;                          // the run whose controls, config and events are shown; may be empty
    bool has_own_focus = false;                 // the user chose it; else: the one that runs, else the newest
    std::map<std::string, Values> forms;        // by experiment: knobs that differ from the preset
    std::map<std::string, std::string> drafts;  // fields being typed, by "experiment/knob"
    int n_seeds = 3, n_at_once = 1;
    int tab = 0;
    std::set<std::string> shown;  // ids of the runs that are drawn
    bool has_own_choice = false;  // the user chose them; else: those with the newest run's knobs
    double cursor = -1;           // step; -1: none
    std::string event_run;        // the event that is shown in full
    size_t event = 0;
    std::vector<std::string> extra;  // metrics plotted besides the experiment's
    std::string compared, compared_for;  // the other run of the difference, and the focus it was chosen for
    bool is_hint_closed = false;
    EventFilter filter = EventFilter::important;
    // The rows of the events, kept while nothing changes: indices of runs and of their events.
    struct EventRow {
        size_t run, event;
    };
    std::vector<EventRow> rows;
    struct {
        uint64_t version = ~0ull;
        std::string experiment;
        std::set<std::string> shown;
        EventFilter filter{};
    } rows_of;
    // Of the focused run.
    std::map<std::string, std::string> live;  // live fields being typed
    int64_t rewind_step = -1;  // -1: the newest checkpoint that something comes after
    bool wants_rewind_value = false;  // the field for the change gets the keyboard
    std::string rewind_key, rewind_value, forget;
    WatchScalars watched;  // what was asked for last
};

// Once a frame, before drawing: choices that no longer exist are replaced, and what is drawn is watched.
void tend(State& s, const LabSnapshot& lab, View& view);
// Sends, and says so when it could not be sent.
bool ask(CommandSink& sink, LabCommand c);
const std::string& problem();  // why the last request was not taken; empty: it was

// The runs of the experiment, oldest first.
std::vector<const LabRun*> runs_of(const LabSnapshot& lab, const std::string& experiment);
// What can be chosen: the experiments, and above them the runs that belong to none, where there are some.
std::vector<const LabInfo*> listed(const LabSnapshot& lab);
// "mhc, depth 16": the arm and what differs from the preset; the same for all seeds.
std::string group_of(const LabRun& run, const LabInfo* info);
std::string run_title(const LabRun& run, const LabInfo* info);  // the group and the seed
// Groups keep their colour while the experiment's runs stay.
ImU32 group_color(const LabSnapshot& lab, const std::string& experiment, const std::string& group);
std::string knob_text(const State& s, const LabInfo& info, const LabKnob& knob);  // edited, or the preset's
// The newest checkpoint at or before a step; -1: there is none.
int64_t checkpoint_before(const LabRun& run, int64_t step);
// A field of the run's resolved training config as text; "" when it isn't known.
std::string config_value(const LabRun& run, const std::string& key);
void focus_on(State& s, const std::string& run);
// The event is shown in full, and the cursor stands on its step.
void show_event(State& s, const LabRun& run, size_t event);
void next_button(const char* label);           // buttons that flow into as many rows as they need
std::string range_text(double lo, double hi);  // "expected 1 to 48"
// "" or what is wrong with a knob's value.
std::string knob_problem(const LabKnob& knob, const std::string& value);

// What can be done by name with the chosen experiment and the run in focus.
std::vector<PanelAction> actions(State& s, const LabSnapshot& lab);
// What is typed in the form of the experiment is valid; the requests that run it and go back.
void choose(State& s, const std::string& experiment);
bool is_form_valid(const State& s, const LabInfo& info);
bool is_at_work(const LabSnapshot& lab, const std::string& experiment);  // needs no run; under way, or waits
const char* start_word(const LabInfo& info);                             // "Run", "Measure", "Calculate"
std::string outcome_text(LabVerdict::Outcome o);                         // its sign and word
void start_runs(State& s, const LabInfo& info, CommandSink& sink);
void rewind(State& s, const LabRun& run, int64_t step, std::map<std::string, std::string> changes, CommandSink& sink);

// ---- the parts; each draws into what is left of its pane
void draw_experiments(State& s, const LabSnapshot& lab);
void draw_experiment_combo(State& s, const LabSnapshot& lab);  // the same where there is little room
void draw_form(State& s, const LabSnapshot& lab, View& view);
void draw_runs(State& s, const LabSnapshot& lab, View& view);
void draw_controls(State& s, const LabSnapshot& lab, View& view);
void draw_verdict(State& s, const LabSnapshot& lab, const std::function<void()>& draw_charts);
void draw_difference(State& s, const LabSnapshot& lab);
void draw_readme(const State& s, const LabSnapshot& lab);
void draw_events(State& s, const LabSnapshot& lab, View& view);

}  // namespace vitrine::viz::lab
