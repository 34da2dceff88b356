// What the Lab can do by name, for its menu and the command palette.
#include "viz/lab/state.h"

namespace vitrine::viz::lab {
namespace {

using Do = ControlRun::Do;

void add_runs(std::vector<PanelAction>& all, State& s, const LabSnapshot& lab) {
    const LabInfo* info = lab.experiment(s.experiment);
    if (!info) return;
    const std::string what = info->name + " \xC2\xB7 " + info->title;
    const bool is_working = is_at_work(lab, info->name);
    if (is_working)
        all.push_back({"Stop " + what, true, false,
                       [name = info->name](const Snapshot&, CommandSink& sink) { ask(sink, CancelWork{name}); }});
    if (!info->is_collection)
        all.push_back({start_word(*info) + (" " + what), !is_working && is_form_valid(s, *info), false,
                       [&s, name = info->name](const Snapshot& now, CommandSink& sink) {
                           if (const LabInfo* i = now.lab.experiment(name)) start_runs(s, *i, sink);
                       }});
    bool has_held = false;
    for (const LabRun& r : lab.runs) has_held |= r.state == RunState::waiting && r.is_resumable;
    all.push_back({"Start the runs that wait since an earlier window", has_held, false,
                   [](const Snapshot& now, CommandSink& sink) {
                       for (const LabRun& r : now.lab.runs)
                           if (r.state == RunState::waiting && r.is_resumable) ask(sink, ControlRun{r.id, Do::resume});
                   }});
    bool has_live = false;
    for (const LabRun& r : lab.runs)
        has_live |= r.state == RunState::running || r.state == RunState::paused || r.state == RunState::waiting;
    all.push_back({"Stop all runs", has_live, false, [](const Snapshot& now, CommandSink& sink) {
                       for (const LabRun& r :
                            now.lab.runs)  // those that wait first, so that none takes a place that is free
                           if (r.state == RunState::waiting) ask(sink, ControlRun{r.id, Do::stop});
                       for (const LabRun& r : now.lab.runs)
                           if (r.state == RunState::running || r.state == RunState::paused)
                               ask(sink, ControlRun{r.id, Do::stop});
                   }});
}

void add_focused(std::vector<PanelAction>& all, State& s, const LabSnapshot& lab) {
    const LabRun* r = lab.find(s.focus);
    const bool is_running = r && r->state == RunState::running, is_paused = r && r->state == RunState::paused;
    const bool is_alive = is_running || is_paused;
    const auto control = [&](const char* title, Do what, bool is_enabled, bool has_separator = false) {
        all.push_back({title, is_enabled, has_separator, [id = s.focus, what](const Snapshot&, CommandSink& sink) {
                           ask(sink, ControlRun{id, what});
                       }});
    };
    control("Pause the run", Do::pause, is_running, true);
    control("Resume the run", Do::resume, is_paused || (r && r->is_resumable));
    control("One step of the run", Do::step, is_paused);
    control("Write a checkpoint", Do::checkpoint, is_alive);
    control("Stop the run", Do::stop, is_alive || (r && r->state == RunState::waiting));
    const int64_t step = !r ? -1 : s.rewind_step >= 0 ? s.rewind_step : checkpoint_before(*r, r->step - 1);
    all.push_back({"Replay the run unchanged from " + (step > 0 ? "step " + std::to_string(step) : "its beginning"),
                   step >= 0, false, [&s, id = s.focus, step](const Snapshot& now, CommandSink& sink) {
                       if (const LabRun* run = now.lab.find(id)) rewind(s, *run, step, {}, sink);
                   }});
    all.push_back({"Show the run's folder", r != nullptr, true,
                   [id = s.focus](const Snapshot&, CommandSink& sink) { ask(sink, ShowFolder{id}); }});
}

}  // namespace

std::vector<PanelAction> actions(State& s, const LabSnapshot& lab) {
    std::vector<PanelAction> all;
    add_runs(all, s, lab);
    add_focused(all, s, lab);
    all.push_back({"Show the folder of all runs", true, false,
                   [](const Snapshot&, CommandSink& sink) { ask(sink, ShowFolder{}); }});
    all.push_back(
        {"Export the drawn runs for TensorBoard", !s.shown.empty(), false,
         [ids = std::vector<std::string>(s.shown.begin(), s.shown.end())](const Snapshot&, CommandSink& sink) {
             ask(sink, ExportEvents{ids, ""});
         }});
    static const char* kTabs[] = {"Plots", "Verdict", "Difference", "README"};
    for (int i = 0; i < 4; ++i)
        all.push_back(
            {std::string("Show the ") + kTabs[i], true, i == 0, [&s, i](const Snapshot&, CommandSink&) { s.tab = i; }});
    const auto choices = listed(lab);
    for (const LabInfo* info : choices)
        all.push_back({"Choose " + (info->is_collection ? "" : info->name + " \xC2\xB7 ") + info->title, true,
                       info == choices.front(), [&s, name = info->name](const Snapshot&, CommandSink&) { choose(s, name); }});
    return all;
}

}  // namespace vitrine::viz::lab
