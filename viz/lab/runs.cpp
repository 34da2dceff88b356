// Middle, below: the runs of the experiment, and the controls of the one in focus.
#include <algorithm>
#include <charconv>
#include <cmath>

#include "engine/base/config/training_config.h"
#include "viz/imgui_compat.h"
#include "viz/lab/state.h"
#include "viz/text_util.h"
#include "viz/widgets/basic.h"

namespace vitrine::viz::lab {
namespace {

using Do = ControlRun::Do;

// A sign for each state, so that the colour is not the only one.
const char* state_sign(RunState s) {
    static constexpr const char* kSigns[] = {"\xE2\x80\xA6", "\xE2\x96\xB6", "\xE2\x80\x96",
                                             "\xE2\x9C\x93", "\xE2\x96\xA0", "\xE2\x9C\x95"};
    return kSigns[static_cast<int>(s)];
}

std::string progress_text(const LabRun& r) {
    std::string out = ui::format_count(r.step);
    if (r.n_steps > 0) out += "/" + ui::format_count(r.n_steps);
    return out;
}

// One row: drawn or not, colour, name, state, steps, speed; a bar of its progress below.
void draw_row(State& s, const LabSnapshot& lab, const LabRun& r, const LabInfo* info) {
    ImGui::PushID(r.id.c_str());
    const std::string name = "lab/run/" + r.id;
    const float width = ImGui::GetContentRegionAvail().x, h = ImGui::GetFrameHeight();
    const ImVec2 p = ImGui::GetCursorScreenPos();
    bool is_shown = s.shown.count(r.id) > 0;
    const ImU32 color = group_color(lab, s.experiment, group_of(r, info));
    ImDrawList* dl = ImGui::GetWindowDrawList();
    const bool is_focused = s.focus == r.id;
    if (is_focused) dl->AddRectFilled(p, {p.x + width, p.y + h}, theme().raised, px(5));
    if (ImGui::InvisibleButton("shown", {h, h})) {
        if (!s.shown.erase(r.id)) s.shown.insert(r.id);
        s.has_own_choice = true, is_shown = !is_shown;
    }
    ui::tooltip(is_shown ? "Drawn. Click to leave it out" : "Not drawn. Click to draw it");
    ui::mark(name + "/shown"), ui::value(name + "/shown", is_shown ? 1 : 0);
    const ImVec2 c{p.x + h / 2, p.y + h / 2};
    if (is_shown) dl->AddCircleFilled(c, px(5), color, 16);
    dl->AddCircle(c, px(5), color, 16, px(1.5f));
    ImGui::SameLine(0, 0);
    if (ImGui::InvisibleButton("row", {std::max(px(10), width - h), h})) focus_on(s, r.id);
    const bool is_hovered = ImGui::IsItemHovered();
    if (is_hovered && !is_focused) dl->AddRect(p, {p.x + width, p.y + h}, theme().border_strong, px(5));
    const std::string state = std::string(state_sign(r.state)) + " " + run_state_name(r.state);
    if (is_hovered)
        ui::tooltip(r.id + "\n" + run_title(r, info) + "\n" + state + ", step " + progress_text(r) +
                    (r.error.empty() ? "" : "\n" + r.error));
    ui::mark(name, run_title(r, info));
    const float line = ImGui::GetTextLineHeight(), y = p.y + (h - line) / 2;
    std::string right = progress_text(r);
    if (r.state == RunState::running && r.tokens_per_s > 0)
        right += "  " + ui::format_number(r.tokens_per_s) + " tok/s";
    const ImU32 ink = r.state == RunState::failed ? theme().error : theme().text_dim;
    float x = p.x + width - px(6);
    {
        ui::FontScope small(Font::mono_small);
        x -= ImGui::CalcTextSize(right.c_str()).x;
        ui::paint_text(dl, {x, y + px(1)}, theme().text_dim, right.c_str());
        ui::value(name + "/step", static_cast<double>(r.step));
    }
    {
        ui::FontScope small(Font::small);
        x -= ImGui::CalcTextSize(state.c_str()).x + px(10);
        ui::paint_text(dl, {x, y + px(1)}, ink, state.c_str());
        ui::mark_rect(name + "/state", {x, p.y}, {x + px(40), p.y + h}, run_state_name(r.state));
    }
    ui::paint_text(dl, {p.x + h + px(2), y}, theme().text,
                ui::elide(run_title(r, info), std::max(px(20), x - p.x - h - px(12))).c_str());
    const float done =
        r.n_steps > 0 ? std::clamp(static_cast<float>(r.step) / static_cast<float>(r.n_steps), 0.0f, 1.0f) : 0;
    if (r.state == RunState::running || r.state == RunState::paused)
        dl->AddRectFilled({p.x + h, p.y + h - px(2)}, {p.x + h + (width - h) * done, p.y + h}, with_alpha(color, 0.8f));
    ImGui::PopID();
}

bool control_button(View& view, const LabRun& r, const char* label, Do what, bool is_enabled, const char* help) {
    ImGui::BeginDisabled(!is_enabled);
    const bool is_clicked = ui::button(label, (std::string("lab/control/") + label).c_str());
    ImGui::EndDisabled();
    ui::tooltip(help);
    if (is_clicked) ask(view.commands, ControlRun{r.id, what});
    return is_clicked;
}

void draw_buttons(State& s, const LabRun& r, View& view) {
    const bool is_running = r.state == RunState::running, is_paused = r.state == RunState::paused;
    const bool is_alive = is_running || is_paused;
    control_button(view, r, "Pause", Do::pause, is_running, "After the step that is being taken");
    next_button("Resume");
    control_button(view, r, "Resume", Do::resume, is_paused || r.is_resumable,
                   r.state == RunState::waiting ? "Waits since an earlier window: takes its turn now"
                                                : "On from here, or from the last checkpoint of a run that ended");
    next_button("Step");
    control_button(view, r, "Step", Do::step, is_paused, "One more step, then paused again");
    next_button("Checkpoint");
    control_button(view, r, "Checkpoint", Do::checkpoint, is_alive, "Writes weights and optimizer state now");
    next_button("Stop");
    control_button(view, r, "Stop", Do::stop, is_alive || r.state == RunState::waiting,
                   "Writes a checkpoint and ends; it can be resumed");
    if (is_alive || (r.state == RunState::waiting && !r.is_resumable)) return;
    next_button("Forget\xE2\x80\xA6");
    if (s.forget != r.id) {
        if (ui::quiet_button("Forget\xE2\x80\xA6", "lab/control/Forget")) s.forget = r.id;
        ui::tooltip("Deletes the run's folder");
    } else if (ui::button("Delete its folder", "lab/control/Delete")) {
        ask(view.commands, ForgetRun{r.id});
        s.forget.clear();
    }
}

template <class T>
bool is_number_in(const std::string& text, double min, double max) {
    T v{};
    const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), v);
    return failed == std::errc() && end == text.data() + text.size() && static_cast<double>(v) >= min &&
           static_cast<double>(v) <= max;
}
bool is_valid_live(const LabLiveField& f, const std::string& text) {
    return f.is_integer ? is_number_in<int64_t>(text, f.min, f.max) : is_number_in<double>(text, f.min, f.max);
}

// What it stands at: the last change, or what the run began with.
std::string live_value(const LabRun& r, const std::string& key) {
    for (auto e = r.events.rbegin(); e != r.events.rend(); ++e) {
        if (e->kind != "change" || !e->text.starts_with(key + " ")) continue;
        std::string value = e->text.substr(e->text.rfind(' ') + 1);
        std::erase(value, '"');
        return value;
    }
    return config_value(r, key);
}

// One of a few: what is picked is set at once.
void draw_live_choice(const LabRun& r, const LabLiveField& f, View& view) {
    const std::string now = live_value(r, f.key);
    const bool is_open = ImGui::BeginCombo("##live", now.c_str());
    ui::mark("lab/live/" + f.key, now);
    if (!is_open) return;
    for (const std::string& c : f.choices) {
        if (ImGui::Selectable(c.c_str(), c == now)) ask(view.commands, SetLive{r.id, f.key, c});
        ui::mark("lab/live/" + f.key + "/" + c, c);
    }
    ImGui::EndCombo();
}

void draw_live_number(State& s, const LabRun& r, const LabLiveField& f, View& view) {
    std::string& text = s.live[f.key];
    const bool is_entered = ImGui::InputText("##live", &text, ImGuiInputTextFlags_EnterReturnsTrue);
    ui::mark("lab/live/" + f.key, text);
    ImGui::SameLine();
    const bool is_valid = is_valid_live(f, text);
    ImGui::BeginDisabled(!is_valid);
    const bool is_set = ui::button("Set", ("lab/live/" + f.key + "/Set").c_str());
    ImGui::EndDisabled();
    if (!is_valid && !text.empty()) ui::tooltip(range_text(f.min, f.max));
    if (is_valid && (is_set || is_entered)) ask(view.commands, SetLive{r.id, f.key, text});
}

void draw_live(State& s, const LabRun& r, View& view) {
    ui::text_dim("Changes in the middle of the run; recorded in it");
    static const std::set<std::string> kOffered = {"lr", "clip", "weight_decay", "metrics", "metrics_every"};
    for (const LabLiveField& f : lab_live_fields()) {
        if (!kOffered.count(f.key)) continue;
        ImGui::PushID(f.key.c_str());
        const float indent = ImGui::GetCursorPosX();
        ImGui::AlignTextToFramePadding();
        {
            ui::Color dim(theme().text_dim);
            ui::plain(f.label.c_str());
        }
        ui::tooltip(f.help);
        ImGui::SameLine(indent + px(104));
        ImGui::SetNextItemWidth(px(100));
        if (f.choices.empty())
            draw_live_number(s, r, f, view);
        else
            draw_live_choice(r, f, view);
        ImGui::PopID();
    }
}

int64_t draw_rewind_step(State& s, const LabRun& r) {
    const auto label = [](int64_t step) {
        return step == 0 ? std::string("the beginning") : "step " + ui::format_count(step);
    };
    if (!std::count(r.checkpoints.begin(), r.checkpoints.end(), s.rewind_step)) s.rewind_step = -1;
    const int64_t shown = s.rewind_step >= 0 ? s.rewind_step : checkpoint_before(r, r.step - 1);
    ImGui::SetNextItemWidth(px(130));
    const bool is_open = ImGui::BeginCombo("##checkpoint", shown < 0 ? "none yet" : label(shown).c_str());
    ui::mark("lab/rewind/step", label(shown));
    ui::value("lab/rewind/step", static_cast<double>(shown));
    if (!is_open) return shown;
    for (const int64_t step : r.checkpoints) {
        if (ImGui::Selectable(label(step).c_str(), step == shown)) s.rewind_step = step;
        ui::mark("lab/rewind/step/" + std::to_string(step), label(step));
    }
    ImGui::EndCombo();
    return shown;
}

void draw_rewind_key(State& s) {
    static const std::vector<std::string> keys = [] {
        TrainConfig defaults;
        const ConfigFields all = fields(defaults);
        std::vector<std::string> out;
        for (const ConfigField& f : all.all()) out.push_back(f.name);
        return out;
    }();
    if (!std::count(keys.begin(), keys.end(), s.rewind_key)) s.rewind_key = "lr";
    ImGui::SetNextItemWidth(px(130));
    const bool is_open = ImGui::BeginCombo("##key", s.rewind_key.c_str());
    ui::mark("lab/rewind/key", s.rewind_key);
    if (ImGui::IsItemHovered()) {
        TrainConfig defaults;
        const ConfigFields all = fields(defaults);
        if (const ConfigField* f = all.find(s.rewind_key)) ui::tooltip(std::string(f->help) + "; " + f->expected());
    }
    if (!is_open) return;
    for (const std::string& k : keys) {
        if (ImGui::Selectable(k.c_str(), k == s.rewind_key)) s.rewind_key = k, s.wants_rewind_value = true;
        ui::mark("lab/rewind/key/" + k, k);
    }
    ImGui::EndCombo();
}

// Back to a checkpoint, with one change or with none.
void draw_rewind(State& s, const LabRun& r, View& view) {
    ui::text_dim("Rewind: a new run from a checkpoint, with one change");
    const int64_t step = draw_rewind_step(s, r);
    const auto go = [&](std::map<std::string, std::string> changes) {
        rewind(s, r, step, std::move(changes), view.commands);
    };
    next_button("Replay unchanged");
    ImGui::BeginDisabled(step < 0);
    if (ui::button("Replay unchanged", "lab/rewind/Replay")) go({});
    ImGui::EndDisabled();
    ui::tooltip("The same steps again, with all that was changed live after it: the curves must agree bit for bit");
    draw_rewind_key(s);
    ImGui::SameLine();
    ImGui::SetNextItemWidth(px(90));
    if (s.wants_rewind_value) focus_next_item();
    s.wants_rewind_value = false;
    const std::string now = config_value(r, s.rewind_key);
    const bool is_entered = ImGui::InputTextWithHint("##value", now.empty() ? "value" : ("now " + now).c_str(),
                                                     &s.rewind_value, ImGuiInputTextFlags_EnterReturnsTrue);
    ui::mark("lab/rewind/value", s.rewind_value);
    next_button("Run changed");
    ImGui::BeginDisabled(s.rewind_value.empty() || step < 0);
    const bool is_pressed = ui::button("Run changed", "lab/rewind/Run");
    ImGui::EndDisabled();
    if ((is_pressed || is_entered) && !s.rewind_value.empty() && step >= 0) go({{s.rewind_key, s.rewind_value}});
}

}  // namespace

void next_button(const char* label) {
    const float w = ImGui::CalcTextSize(label).x + 2 * ImGui::GetStyle().FramePadding.x;
    ImGui::SameLine();
    if (ImGui::GetContentRegionAvail().x < w) ImGui::NewLine();
}

void rewind(State& s, const LabRun& run, int64_t step, std::map<std::string, std::string> changes, CommandSink& sink) {
    s.has_own_choice = s.has_own_focus = false;
    ask(sink, RewindRun{run.id, step, std::move(changes)});
}

void draw_runs(State& s, const LabSnapshot& lab, View&) {
    const LabInfo* info = lab.experiment(s.experiment);
    std::vector<const LabRun*> runs = runs_of(lab, s.experiment);
    std::reverse(runs.begin(), runs.end());
    ImGuiListClipper clipper;
    clipper.Begin(static_cast<int>(runs.size()), ImGui::GetFrameHeight() + ImGui::GetStyle().ItemSpacing.y);
    while (clipper.Step())
        for (int i = clipper.DisplayStart; i < clipper.DisplayEnd; ++i)
            draw_row(s, lab, *runs[static_cast<size_t>(i)], info);
    ui::value("lab/runs", static_cast<double>(runs.size()));
}

void draw_controls(State& s, const LabSnapshot& lab, View& view) {
    const LabRun* r = lab.find(s.focus);
    if (!r) return;
    const LabInfo* info = lab.experiment(s.experiment);
    ui::text(run_title(*r, info), "lab/focus");
    draw_buttons(s, *r, view);
    if (!r->error.empty()) {
        ui::Color c(theme().error);
        ui::text_wrapped("\xE2\x9C\x95 " + r->error, "lab/error");
    }
    if (!r->last_log_line.empty()) {
        ui::FontScope mono(Font::mono_small);
        ui::text_wrapped("Last words: " + r->last_log_line, "lab/last line");
    }
    if (r->state == RunState::running || r->state == RunState::paused) draw_live(s, *r, view);
    if (r->step > 0) draw_rewind(s, *r, view);
    ui::text_dim(r->folder, "lab/folder");
    ui::copy_menu("folder", {.value = r->folder, .row = "", .csv = {}, .more = {}});
}

}  // namespace vitrine::viz::lab
