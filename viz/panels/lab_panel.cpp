// Lab: experiments on small models that train while one watches, their knobs, curves, events and verdicts.
#include <algorithm>
#include <cmath>

#include "viz/imgui_compat.h"
#include "viz/lab/plots.h"
#include "viz/lab/state.h"
#include "viz/panels.h"
#include "viz/widgets/basic.h"

namespace vitrine::viz {
namespace {

constexpr Help kHelp = {
    "Experiments on this machine: small models that train, the shipped model measured, and what is calculated. Each "
    "asks "
    "one question, trains its arms with several seeds where it trains, and puts what was measured here beside what the "
    "literature claims.",
    "A curve is the mean over seeds, the band goes from the least to the largest, faint lines are single seeds. All "
    "plots share "
    "the axis of steps; a click puts the cursor on a step in all of them. Vertical lines are spikes, alarms and "
    "changes of the "
    "run in focus. The verdict has charts too: what finished runs say over learning rates or layers. Badges: "
    "natural, provoked (by which knob), weights edited, analytic (calculated), measured (on a "
    "trained model).",
    "a run = the weights it began with + resolved config and seed + changes in its middle + build; the same four give the "
    "same bits",
    "Each experiment's README names its papers; results stand in experiments/.",
    "Run \xE2\x80\x9CHyper-connections against mHC\xE2\x80\x9D, watch the composite gain on its logarithmic axis, then "
    "double the depth and run again.",
};

class LabPanel final : public Panel {
  public:
    const char* name() const override { return "Lab"; }
    const Help& help() const override { return kHelp; }
    bool needs_model() const override { return false; }
    std::vector<std::string> picture_lines(const Snapshot& s) const override;
    std::vector<PanelAction> actions(const Snapshot& s) override { return lab::actions(state_, s.lab); }
    void draw(const Snapshot& s, View& view) override;

  private:
    void draw_hint(const LabSnapshot& lab);
    void draw_middle(const LabSnapshot& lab, View& view, ImVec2 size);
    void draw_tabs(bool has_runs);
    void draw_right(const LabSnapshot& lab, View& view);
    void draw_side(const LabSnapshot& lab, View& view, float height);
    void draw_wide(const LabSnapshot& lab, View& view, ImVec2 room);
    float events_height(float room) const;
    void draw_narrow(const LabSnapshot& lab, View& view, ImVec2 room);
    lab::State state_;
    lab::Plots plots_;
    float form_height_ = 0;  // of the last frame
};

std::vector<std::string> LabPanel::picture_lines(const Snapshot& s) const {
    const LabInfo* info = s.lab.experiment(state_.experiment);
    std::vector<std::string> lines = {state_.experiment + (info ? " \xC2\xB7 " + info->title : "")};
    for (const std::string& id : state_.shown)
        if (const LabRun* r = s.lab.find(id); r && lines.size() < 8)
            lines.push_back(id + ": " + lab::run_title(*r, info));
    if (state_.shown.size() > lines.size() - 1)
        lines.push_back("and " + std::to_string(state_.shown.size() - lines.size() + 1) + " more runs");
    return lines;
}

void LabPanel::draw_hint(const LabSnapshot& lab) {
    const bool has_begun = !lab.runs.empty() || !lab.verdicts.empty() || !lab.at_work.empty();
    if (has_begun || state_.is_hint_closed || lab.experiments.empty()) return;
    ui::Pane pane("lab-hint", {0, ImGui::GetFrameHeight() + ImGui::GetTextLineHeightWithSpacing() +
                                      2 * ImGui::GetStyle().WindowPadding.y});
    const float close = ImGui::CalcTextSize("Close").x + 2 * ImGui::GetStyle().FramePadding.x;
    const float right = ImGui::GetCursorPosX() + ImGui::GetContentRegionAvail().x - close;
    ImGui::AlignTextToFramePadding();
    ui::text_in("New here? An experiment trains small models or measures the shipped one; most take minutes.",
                ImGui::GetContentRegionAvail().x - close - px(8), "lab/hint");
    ImGui::SameLine();
    ImGui::SetCursorPosX(right);
    if (ui::quiet_button("Close", "lab/hint/Close")) state_.is_hint_closed = true;
    ui::text(
        "1  Choose a question.   2  Press Run or Measure.   3  Watch the curves. The verdict says what they show, and "
        "what they "
        "don't.");
}

// The form as tall as it is, at most half; the runs have the rest.
void LabPanel::draw_middle(const LabSnapshot& lab, View& view, ImVec2 size) {
    ui::Region column("lab-middle", size, ImGuiWindowFlags_NoScrollbar | ImGuiWindowFlags_NoScrollWithMouse);
    const LabInfo* info = lab.experiment(state_.experiment);
    const bool has_runs = !lab::runs_of(lab, state_.experiment).empty() && !(info && !lab_has_runs(info->badge));
    const float room = ImGui::GetContentRegionAvail().y;
    {
        ui::Pane pane("lab-form", {0, has_runs ? std::min(form_height_, std::floor(room * 0.5f)) : room});
        lab::draw_form(state_, lab, view);
        form_height_ = ImGui::GetCursorPosY() + ImGui::GetStyle().WindowPadding.y;
    }
    if (!has_runs) return;
    ui::Pane pane("lab-runs", {0, 0});
    ui::section("Runs");
    const float row = ImGui::GetFrameHeightWithSpacing(), left = ImGui::GetContentRegionAvail().y;
    const float wanted = row * static_cast<float>(lab::runs_of(lab, state_.experiment).size()) + px(2);
    {
        ui::Region region("runs", {0, std::min(wanted, std::max(row * 3, std::floor(left * 0.45f)))});
        lab::draw_runs(state_, lab, view);
    }
    lab::draw_controls(state_, lab, view);
}

// Only runs differ from each other.
void LabPanel::draw_tabs(bool has_runs) {
    if (has_runs) {
        static const char* kTabs[] = {"Plots", "Verdict", "Difference", "README"};
        ui::segmented("lab/tab", state_.tab, kTabs, 4);
        return;
    }
    static const char* kTabs[] = {"Plots", "Verdict", "README"};
    static constexpr lab::Tab kMeant[] = {lab::Tab::plots, lab::Tab::verdict, lab::Tab::readme};
    if (state_.tab == static_cast<int>(lab::Tab::difference)) state_.tab = static_cast<int>(lab::Tab::verdict);
    int shown = state_.tab == static_cast<int>(lab::Tab::readme) ? 2 : state_.tab;
    if (ui::segmented("lab/tab", shown, kTabs, 3)) state_.tab = static_cast<int>(kMeant[shown]);
}

void LabPanel::draw_right(const LabSnapshot& lab, View& view) {
    const LabInfo* info = lab.experiment(state_.experiment);
    draw_tabs(!info || lab_has_runs(info->badge));
    ui::Region region("lab-right", {0, 0});
    switch (static_cast<lab::Tab>(state_.tab)) {
        case lab::Tab::plots:
            plots_.draw(state_, lab, view);
            break;
        case lab::Tab::verdict:
            lab::draw_verdict(state_, lab, [&] { plots_.draw_charts(state_, lab); });
            break;
        case lab::Tab::difference:
            lab::draw_difference(state_, lab);
            break;
        case lab::Tab::readme:
            lab::draw_readme(state_, lab);
            break;
    }
}

void LabPanel::draw_wide(const LabSnapshot& lab, View& view, ImVec2 room) {
    const float gap = ImGui::GetStyle().ItemSpacing.x, left = px(250), middle = px(340);
    {
        ui::Pane pane("lab-list", {left, room.y});
        lab::draw_experiments(state_, lab);
    }
    ImGui::SameLine(0, gap);
    draw_middle(lab, view, {middle, room.y});
    ImGui::SameLine(0, gap);
    draw_side(lab, view, room.y);
}

// What has no runs has no events either: the rest is theirs.
void LabPanel::draw_side(const LabSnapshot& lab, View& view, float height) {
    ui::Region region("lab-side", {0, height}, ImGuiWindowFlags_NoScrollbar | ImGuiWindowFlags_NoScrollWithMouse);
    const LabInfo* info = lab.experiment(state_.experiment);
    if (info && !lab_has_runs(info->badge)) return draw_right(lab, view);
    {
        ui::Region upper("lab-upper", {0, height - events_height(height) - ImGui::GetStyle().ItemSpacing.y});
        draw_right(lab, view);
    }
    ui::Pane pane("lab-events", {0, 0});
    lab::draw_events(state_, lab, view);
}

// An event that was clicked gets room for all that was recorded with it.
float LabPanel::events_height(float room) const {
    const bool is_open = !state_.event_run.empty();
    return std::clamp(std::floor(room * (is_open ? 0.45f : 0.24f)), px(100), px(is_open ? 700 : 260));
}

// Beside the chat there is room for two columns: the experiments become a list that opens.
void LabPanel::draw_narrow(const LabSnapshot& lab, View& view, ImVec2 room) {
    const float gap = ImGui::GetStyle().ItemSpacing.x, left = std::clamp(std::floor(room.x * 0.42f), px(220), px(340));
    {
        ui::Region region("lab-column", {left, room.y},
                          ImGuiWindowFlags_NoScrollbar | ImGuiWindowFlags_NoScrollWithMouse);
        lab::draw_experiment_combo(state_, lab);
        draw_middle(lab, view, {0, 0});
    }
    ImGui::SameLine(0, gap);
    draw_side(lab, view, room.y);
}

void LabPanel::draw(const Snapshot& s, View& view) {
    lab::tend(state_, s.lab, view);
    ui::section("Lab", &kHelp);
    if (s.lab.experiments.empty() && s.lab.runs.empty()) {
        ui::empty_state("No experiments here",
                        "This build has no experiments, or the run manager could not start; Help > Notices says why.");
        return;
    }
    draw_hint(s.lab);
    const ImVec2 room = ImGui::GetContentRegionAvail();
    if (room.x >= px(1000))
        draw_wide(s.lab, view, room);
    else
        draw_narrow(s.lab, view, room);
}

}  // namespace

std::unique_ptr<Panel> make_lab_panel() {
    return std::make_unique<LabPanel>();
}

}  // namespace vitrine::viz
