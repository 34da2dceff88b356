// Left: the experiments with their questions and badges. Middle, above: the form of the chosen one.
#include <algorithm>

#include "viz/imgui_compat.h"
#include "viz/lab/state.h"
#include "viz/text_util.h"
#include "viz/widgets/basic.h"

namespace vitrine::viz::lab {
namespace {

const char* badge_words(LabBadge b) {
    static constexpr const char* kWords[] = {
        "Natural: nothing was set up to make this happen.",
        "Provoked: a knob was turned to where this happens within minutes.",
        "Weights edited: the effect is made by changing weights by hand.",
        "Analytic: calculated from formulas, nothing is trained.",
        "Measured: a trained model is loaded and measured, nothing is trained.",
    };
    return kWords[static_cast<int>(b)];
}

// A sign besides the word: filled, half, edited, calculated.
void draw_badge(const LabInfo& info, const std::string& name) {
    const Theme& t = theme();
    ui::FontScope small(Font::small);
    const char* words = lab_badge_name(info.badge);
    const ImVec2 p = ImGui::GetCursorScreenPos(), size = ImGui::CalcTextSize(words);
    const float h = ImGui::GetTextLineHeight(), r = px(3.5f), pad = px(7);
    ImDrawList* dl = ImGui::GetWindowDrawList();
    const ImVec2 c{p.x + pad + r, p.y + h / 2}, end{p.x + size.x + 2 * r + 2 * pad + px(5), p.y + h};
    dl->AddRect({p.x, p.y - px(1)}, {end.x, end.y + px(1)}, t.border_strong, h / 2);
    if (info.badge == LabBadge::natural) dl->AddCircleFilled(c, r, t.text_dim, 16);
    if (info.badge == LabBadge::provoked)
        dl->AddTriangle({c.x - r, c.y + r}, {c.x + r, c.y + r}, {c.x, c.y - r}, t.text_dim, px(1.5f));
    if (info.badge == LabBadge::weights_edited)
        dl->AddRect({c.x - r, c.y - r}, {c.x + r, c.y + r}, t.text_dim, 0, 0, px(1.5f));
    if (info.badge == LabBadge::analytic) dl->AddCircle(c, r, t.text_dim, 16, px(1.5f));
    if (info.badge == LabBadge::measured) {
        dl->AddCircle(c, r, t.text_dim, 16, px(1.5f));
        dl->AddCircleFilled(c, px(1.5f), t.text_dim, 8);
    }
    ui::paint_text(dl, {c.x + r + px(5), p.y}, t.text_dim, words);
    ImGui::Dummy({end.x - p.x, h});
    ui::mark(name, words);
    std::string why = badge_words(info.badge);
    if (!info.provoked_by.empty()) why += " The knob: " + info.provoked_by + ".";
    ui::tooltip(why);
}

// Experiments of a kind stand together; the pointer tells the kinds apart.
const char* group_title(const LabInfo& info) {
    return info.is_collection                 ? "Your own runs"
           : lab_has_runs(info.badge)         ? "Small models, trained here"
           : info.badge == LabBadge::measured ? "The shipped model, measured"
                                              : "Calculated";
}

void draw_group(const char* title) {
    ImGui::Dummy({0, px(4)});
    ui::FontScope small(Font::small);
    ui::Color dim(theme().text_dim);
    ui::text(title, (std::string("lab/group/") + title).c_str());
}

void draw_entry(State& s, const LabSnapshot& lab, const LabInfo& info) {
    const bool is_chosen = s.experiment == info.name;
    const float width = ImGui::GetContentRegionAvail().x, pad = px(8);
    const ImVec2 p = ImGui::GetCursorScreenPos();
    ImGui::PushID(info.name.c_str());
    // Drawn first to learn its height; the button that covers it comes after.
    ImDrawList* dl = ImGui::GetWindowDrawList();
    dl->ChannelsSplit(2);
    dl->ChannelsSetCurrent(1);
    ImGui::SetCursorScreenPos({p.x + pad, p.y + px(6)});
    ImGui::BeginGroup();
    ImGui::PushTextWrapPos(ImGui::GetCursorPosX() + width - 2 * pad);
    ui::plain((info.is_collection ? info.title : info.name + "  " + info.title).c_str());
    {
        ui::FontScope small(Font::small);
        ui::Color dim(theme().text_dim);
        ui::plain(info.question.c_str());
        ui::mark("lab/experiment/" + info.name + "/question", info.question);
    }
    ImGui::PopTextWrapPos();
    if (!info.is_collection) draw_badge(info, "lab/experiment/" + info.name + "/badge");
    if (const auto verdict = lab.verdicts.find(info.name); verdict != lab.verdicts.end()) {
        ImGui::SameLine(0, px(8));
        ui::text_dim(outcome_text(verdict->second.outcome));
    }
    ImGui::EndGroup();
    const float height = ImGui::GetItemRectSize().y + px(14);
    ImGui::SetCursorScreenPos(p);
    allow_overlap_next();
    if (ImGui::InvisibleButton("entry", {width, height})) choose(s, info.name);
    ui::mark("lab/experiment/" + info.name, info.title);
    ui::value("lab/experiment/" + info.name, is_chosen ? 1 : 0);
    dl->ChannelsSetCurrent(0);
    if (is_chosen || ImGui::IsItemHovered())
        dl->AddRectFilled(p, {p.x + width, p.y + height}, is_chosen ? theme().raised : theme().hovered, px(6));
    if (is_chosen) dl->AddRectFilled(p, {p.x + px(3), p.y + height}, theme().text_dim, px(2));
    dl->ChannelsMerge();
    ImGui::PopID();
}

void reset_button(State& s, const LabInfo& info, const LabKnob& knob) {
    if (ui::quiet_button(("Reset##" + knob.key).c_str(), ("lab/knob/" + knob.key + "/reset").c_str())) {
        s.forms[info.name].erase(knob.key);
        s.drafts.erase(info.name + "/" + knob.key);
    }
    ui::tooltip("Back to the preset: " + knob.value);
}

void set_knob(State& s, const LabInfo& info, const LabKnob& knob, const std::string& value) {
    if (value == knob.value)
        s.forms[info.name].erase(knob.key);
    else
        s.forms[info.name][knob.key] = value;
}

void draw_choice(State& s, const LabInfo& info, const LabKnob& knob, const std::string& value) {
    const bool is_open = ImGui::BeginCombo("##choice", value.c_str());
    ui::mark("lab/knob/" + knob.key, value);
    if (!is_open) return;
    for (const std::string& c : knob.choices) {
        if (ImGui::Selectable(c.c_str(), c == value)) set_knob(s, info, knob, c);
        ui::mark("lab/knob/" + knob.key + "/" + c, c);
    }
    ImGui::EndCombo();
}

// What is typed stays as it is until it is a valid value; then it is the knob's.
void draw_field(State& s, const LabInfo& info, const LabKnob& knob, const std::string& value) {
    std::string& draft = s.drafts.try_emplace(info.name + "/" + knob.key, value).first->second;
    if (knob_problem(knob, draft).empty()) draft = value;
    ui::FontScope mono(Font::mono);
    const bool has_changed = knob.when_empty.empty()
                                 ? ImGui::InputText("##value", &draft)
                                 : ImGui::InputTextWithHint("##value", knob.when_empty.c_str(), &draft);
    if (has_changed && knob_problem(knob, draft).empty()) set_knob(s, info, knob, draft);
    ui::mark("lab/knob/" + knob.key, draft);
}

void draw_knob(State& s, const LabInfo& info, const LabKnob& knob) {
    ImGui::PushID(knob.key.c_str());
    const std::string value = knob_text(s, info, knob);
    const bool is_changed = value != knob.value;
    const float width = ImGui::GetContentRegionAvail().x;
    const bool is_number = knob.choices.empty() && knob.min != knob.max;
    const float field = std::min(px(is_number ? 88 : 130), width * 0.42f);
    const float reset = ImGui::CalcTextSize("Reset").x + 2 * ImGui::GetStyle().FramePadding.x;
    const float indent = ImGui::GetCursorPosX(), left = std::max(px(40), width - field - reset - px(16));
    ImGui::AlignTextToFramePadding();
    {
        ui::Color c(is_changed ? theme().text : theme().text_dim);
        const std::string label = (is_changed ? "\xE2\x97\x8F " : "") + (knob.label.empty() ? knob.key : knob.label);
        ImGui::PushTextWrapPos(indent + left);
        ui::plain(label.c_str());
        ImGui::PopTextWrapPos();
        if (!knob.help.empty()) ui::tooltip(knob.help + (is_changed ? "\nPreset: " + knob.value : ""));
        ui::mark("lab/knob/" + knob.key + "/label", label);
        ui::value("lab/knob/" + knob.key + "/label", is_changed ? 1 : 0);
    }
    ImGui::SameLine(indent + left + px(8));
    ImGui::SetNextItemWidth(field);
    if (knob.choices.empty())
        draw_field(s, info, knob, value);
    else
        draw_choice(s, info, knob, value);
    if (is_changed) {
        ImGui::SameLine(0, px(8));
        reset_button(s, info, knob);
    }
    const auto draft = s.drafts.find(info.name + "/" + knob.key);
    const std::string problem = draft == s.drafts.end() ? "" : knob_problem(knob, draft->second);
    if (!problem.empty()) {
        ui::FontScope small(Font::small);
        ui::Color c(theme().error);
        ui::text_wrapped("! " + problem, ("lab/knob/" + knob.key + "/problem").c_str());
    }
    ImGui::PopID();
}

void draw_at_once(State& s, View& view) {
    static const char* kCounts[] = {"1", "2", "4"};
    int chosen = s.n_at_once == 1 ? 0 : s.n_at_once == 2 ? 1 : 2;
    {
        ui::Color dim(theme().text_dim);
        ImGui::AlignTextToFramePadding();
        ui::plain("At once");
    }
    ui::tooltip("How many runs share this machine; the others wait. More than one makes each slower.");
    ImGui::SameLine(0, px(8));
    if (ui::segmented("lab/at once", chosen, kCounts, 3)) {
        s.n_at_once = chosen == 0 ? 1 : chosen == 1 ? 2 : 4;
        ask(view.commands, RunsAtOnce{s.n_at_once});
    }
}

// What needs no run and was asked for: what it does now, and how to end it.
void draw_work(const LabInfo& info, const LabSnapshot& lab, View& view) {
    const bool is_first = lab.at_work.front() == info.name;
    if (ui::button("Stop", "lab/measuring/Stop")) ask(view.commands, CancelWork{info.name});
    ImGui::SameLine(0, px(8));
    ImGui::AlignTextToFramePadding();
    ui::text(!is_first                          ? "waits for " + lab.at_work.front()
             : info.badge == LabBadge::measured ? "is measuring\xE2\x80\xA6"
                                                : "is calculating\xE2\x80\xA6",
             "lab/measuring");
    ui::text_dim(is_first && !lab.work_line.empty() ? lab.work_line : " ", "lab/measuring/line");
}

void draw_start(State& s, const LabInfo& info, const LabSnapshot& lab, View& view, bool is_valid) {
    if (lab_has_runs(info.badge)) {
        ImGui::AlignTextToFramePadding();
        {
            ui::Color dim(theme().text_dim);
            ui::plain("Seeds");
        }
        ui::tooltip("Each arm runs once with every seed. Three or more show what is chance.");
        ImGui::SameLine(0, px(8));
        static const char* kCounts[] = {"1", "3", "5"};
        int chosen = s.n_seeds == 1 ? 0 : s.n_seeds == 3 ? 1 : 2;
        if (ui::segmented("lab/seeds", chosen, kCounts, 3)) s.n_seeds = chosen == 0 ? 1 : chosen == 1 ? 3 : 5;
        ImGui::SameLine(0, px(12));
    }
    if (is_at_work(lab, info.name)) {
        draw_work(info, lab, view);
    } else {
        ImGui::BeginDisabled(!is_valid);
        if (ui::primary_button(start_word(info), "lab/Run")) start_runs(s, info, view.commands);
        ImGui::EndDisabled();
    }
    if (!info.expected_time.empty()) {
        ui::FontScope small(Font::small);
        ui::Color dim(theme().text_dim);
        ui::text_wrapped("The preset takes " + info.expected_time, "lab/expected");
    }
    if (!problem().empty()) {
        ui::Color c(theme().error);
        ui::text_wrapped(problem(), "lab/problem");
    }
}

}  // namespace

void choose(State& s, const std::string& name) {
    s.experiment = name, s.has_own_choice = s.has_own_focus = false, s.cursor = -1;
    s.shown.clear(), s.focus.clear(), s.event_run.clear();
}

bool is_at_work(const LabSnapshot& lab, const std::string& experiment) {
    return std::find(lab.at_work.begin(), lab.at_work.end(), experiment) != lab.at_work.end();
}

const char* start_word(const LabInfo& info) {
    return lab_has_runs(info.badge) ? "Run" : info.badge == LabBadge::measured ? "Measure" : "Calculate";
}

// What is typed in any field is a value.
bool is_form_valid(const State& s, const LabInfo& info) {
    return std::all_of(info.knobs.begin(), info.knobs.end(), [&](const LabKnob& knob) {
        const auto draft = s.drafts.find(info.name + "/" + knob.key);
        return draft == s.drafts.end() || knob_problem(knob, draft->second).empty();
    });
}

void start_runs(State& s, const LabInfo& info, CommandSink& sink) {
    const auto form = s.forms.find(info.name);
    s.has_own_choice = s.has_own_focus = false, s.focus.clear();
    ask(sink, StartRuns{info.name, form == s.forms.end() ? Values{} : form->second, s.n_seeds, 1});
}

void draw_experiments(State& s, const LabSnapshot& lab) {
    if (lab.experiments.empty()) {
        ui::text_dim("No experiments are known.");
        return;
    }
    const char* group = "";
    for (const LabInfo* info : listed(lab)) {
        if (group != group_title(*info)) draw_group(group = group_title(*info));
        draw_entry(s, lab, *info);
    }
}

void draw_experiment_combo(State& s, const LabSnapshot& lab) {
    const LabInfo* chosen = lab.experiment(s.experiment);
    ImGui::SetNextItemWidth(ImGui::GetContentRegionAvail().x);
    const std::string shown = chosen ? chosen->name + "  " + chosen->title : "Choose an experiment";
    const bool is_open =
        ImGui::BeginCombo("##experiment", ui::elide(shown, ImGui::GetContentRegionAvail().x - px(48)).c_str(),
                          ImGuiComboFlags_HeightLargest);
    ui::mark("lab/experiments", shown);
    if (!is_open) return;
    const char* group = "";
    for (const LabInfo* each : listed(lab)) {
        const LabInfo& info = *each;
        if (group != group_title(info)) draw_group(group = group_title(info));
        ImGui::PushID(info.name.c_str());
        if (ImGui::Selectable((info.name + "  " + info.title).c_str(), s.experiment == info.name)) choose(s, info.name);
        ui::mark("lab/experiment/" + info.name, info.title),
            ui::value("lab/experiment/" + info.name, s.experiment == info.name);
        ui::tooltip(info.question);
        ImGui::PopID();
    }
    ImGui::EndCombo();
}

void draw_form(State& s, const LabSnapshot& lab, View& view) {
    const LabInfo* info = lab.experiment(s.experiment);
    if (!info) {
        ui::text_wrapped("Choose an experiment on the left.");
        return;
    }
    if (info->is_collection) {
        ui::section(info->title.c_str());
        ui::text_wrapped(info->question, "lab/question");
        draw_at_once(s, view);
        return;
    }
    ui::section((info->name + " \xC2\xB7 " + info->title).c_str());
    draw_badge(*info, "lab/form/badge");
    draw_start(s, *info, lab, view, is_form_valid(s, *info));
    if (!info->claim.empty()) {
        ui::FontScope small(Font::small);
        ui::Color dim(theme().text_dim);
        ui::text_wrapped(info->question, "lab/question");
        ui::text_wrapped("Claim: " + info->claim, "lab/claim");
    }
    for (const LabKnob& knob : info->knobs) draw_knob(s, *info, knob);
    if (const auto form = s.forms.find(info->name); form != s.forms.end() && !form->second.empty()) {
        ui::FontScope small(Font::small);
        ui::text_dim("\xE2\x97\x8F differs from the preset");
        ImGui::SameLine(0, px(10));
        if (ui::quiet_button("Reset all", "lab/reset all")) {
            form->second.clear();
            std::erase_if(s.drafts, [&](const auto& d) { return d.first.rfind(info->name + "/", 0) == 0; });
        }
    }
    if (lab_has_runs(info->badge)) draw_at_once(s, view);
}

}  // namespace vitrine::viz::lab
