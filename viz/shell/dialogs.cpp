// Sampling, settings, notices, keyboard.

#include <algorithm>

#include "viz/imgui_compat.h"
#include "viz/shell/overlays.h"
#include "viz/text_util.h"
#include "viz/widgets/basic.h"

namespace vitrine::viz {
namespace {

std::string* g_wanted = nullptr;  // Desk's, while a dialog is drawn

// One row: label and what it does at the left, the control at the right.
void row(const char* label, const char* what) {
    const ImVec2 p = ImGui::GetCursorPos();
    ImGui::AlignTextToFramePadding();
    ui::plain(label);
    ui::tooltip(what);
    ImGui::SetCursorPos({p.x + px(190), p.y});
    ImGui::SetNextItemWidth(ImGui::GetContentRegionAvail().x);
    if (g_wanted && *g_wanted == label) focus_next_item(), g_wanted->clear();
}

template <class Draw>
void control(const char* label, const char* what, Draw draw) {
    row(label, what);
    ImGui::PushID(label);
    draw();
    ui::mark(label);
    ImGui::PopID();
}

void draw_stop_strings(Sampling& s) {
    row("Stop strings", "The answer ends before the first of these");
    static std::string text;  // one a line; the settings hold the list
    std::string joined;
    for (const std::string& t : s.stop) joined += (joined.empty() ? "" : "\n") + t;
    if (!ImGui::IsAnyItemActive()) text = joined;
    if (ImGui::InputTextMultiline("##stop", &text,
                                  {ImGui::GetContentRegionAvail().x, ImGui::GetTextLineHeight() * 3 + px(12)})) {
        s.stop.clear();
        for (size_t i = 0; i <= text.size() && s.stop.size() < 16;) {
            const size_t end = std::min(text.find('\n', i), text.size());
            if (end > i) s.stop.push_back(text.substr(i, end - i));
            i = end + 1;
        }
    }
    ui::scrolls_sideways(ImGui::GetItemRectMin(), ImGui::GetItemRectMax());
    ui::mark("Stop strings", text);
}

// What stands before the conversation: the same in all its answers from now on.
void draw_system(Desk& desk) {
    row("System text", "Read before the first message; kept with the conversation, and shown in the rendered prompt");
    static std::string text;
    static bool is_edited = false;
    const std::string now = desk.s.conversation ? desk.s.conversation->system : "";
    if (!is_edited) text = now;
    ImGui::BeginDisabled(!desk.can_send() || !desk.s.conversation);
    ImGui::InputTextMultiline("##system", &text,
                              {ImGui::GetContentRegionAvail().x, ImGui::GetTextLineHeight() * 4 + px(12)});
    // Sent when the field is left, not with every letter: each change makes the whole prompt be read again.
    is_edited = ImGui::IsItemActive();
    if (ImGui::IsItemDeactivatedAfterEdit() && text != now && desk.post(SetSystemPrompt{text})) {
        auto next = std::make_shared<Conversation>(*desk.s.conversation);  // until the engine has said so
        next->system = text;
        desk.s.conversation = std::move(next);
        desk.fonts.note_text(text);
    }
    ImGui::EndDisabled();
    ui::scrolls_sideways(ImGui::GetItemRectMin(), ImGui::GetItemRectMax());
    ui::mark("System text", text);
}

}  // namespace

void draw_sampling(Desk& desk) {
    g_wanted = &desk.wanted_setting;
    Sampling& s = desk.settings.sampling;
    const auto real = [](const char* label, const char* what, double& v, double lo, double hi, const char* format) {
        control(label, what, [&] {
            if (ImGui::SliderScalar("##v", ImGuiDataType_Double, &v, &lo, &hi, format)) v = std::clamp(v, lo, hi);
        });
        ui::value(label, v);
    };
    const auto whole = [](const char* label, const char* what, int& v, int lo, int hi) {
        control(label, what, [&] {
            if (ImGui::InputInt("##v", &v)) v = std::clamp(v, lo, hi);
        });
        ui::value(label, v);
    };
    ui::text_dim("Applied in this order. What is off leaves the distribution as it is.");
    real("Repetition penalty", "Logits of tokens seen before are divided by it (negative ones multiplied); 1 is off",
         s.repetition_penalty, 0.1, 3.0, "%.2f");
    real("Temperature", "Divides the logits; 0 takes the most probable token (greedy)", s.temperature, 0.0, 2.0,
         "%.2f");
    whole("Top-k", "Keeps the k most probable tokens; 0 is off", s.top_k, 0,
          desk.s.model ? desk.s.model->config.vocab_size : 1 << 24);
    real("Top-p", "Keeps the smallest set of tokens with this much probability; 1 is off", s.top_p, 0.01, 1.0, "%.2f");
    real("Min-p", "Drops tokens less probable than this share of the best one; 0 is off", s.min_p, 0.0, 0.99, "%.2f");
    control("Seed", "The draw at position t is a function of seed and t: the same seed gives the same answer", [&] {
        ImGui::InputScalar("##v", ImGuiDataType_U64, &s.seed);
        s.seed = std::min(s.seed, uint64_t{1} << 53);
    });
    whole("Longest answer", "Tokens, thinking included", s.max_new_tokens, 1, 1 << 20);
    draw_stop_strings(s);
    draw_system(desk);
    ImGui::Dummy({0, px(4)});
    if (ui::button("Greedy")) s.temperature = 0;
    ImGui::SameLine();
    if (ui::button("Defaults")) s = desk.s.model ? desk.s.model->sampling : Sampling{};
}

void draw_settings(Desk& desk) {
    g_wanted = &desk.wanted_setting;
    Settings& s = desk.settings;
    static const char* kThemes[] = {"Dark", "Light"};
    row("Theme", "Both meet 7:1 contrast for text");
    int theme_index = s.is_dark ? 0 : 1;
    if (ui::segmented("theme", theme_index, kThemes, 2)) s.is_dark = theme_index == 0;
    control("Text size", "Ctrl + and Ctrl \xE2\x88\x92; Ctrl 0 is normal", [&] {
        ImGui::SliderFloat("##v", &s.font_scale, 0.6f, 3.0f, "%.1f\xC3\x97");
        s.font_scale = std::clamp(s.font_scale, 0.6f, 3.0f);
    });
    ui::value("Text size", s.font_scale);
    const auto toggle = [](const char* label, const char* what, bool& v) {
        row(label, what);
        ImGui::PushID(label);
        ImGui::Checkbox("##v", &v);
        ui::mark(label);
        ui::value(label, v ? 1 : 0);
        ImGui::PopID();
    };
    toggle("Reduced motion", "The caret does not blink; nothing else here moves by itself", s.has_reduced_motion);
    toggle("Unfold thinking", "New answers show their reasoning unfolded", s.is_think_open);
    toggle("Enter sends", "Shift+Enter begins a line; off: Enter begins a line and Ctrl+Enter sends", s.enter_sends);
    for (const std::string& f : desk.fonts.substitutes()) ui::text_dim("Font not found: " + f);
}

void draw_notices(Desk& desk) {
    if (desk.s.notices.empty()) {
        ui::empty_state("Nothing to report", "Warnings and errors are listed here.");
        return;
    }
    ui::Region list("list", {0, 0});
    for (auto it = desk.s.notices.rbegin(); it != desk.s.notices.rend(); ++it) {
        const Notice::Level level = it->notice.level;
        const char* sign = level == Notice::Level::error     ? "Error"
                           : level == Notice::Level::warning ? "Warning"
                                                             : "Note";
        {
            ui::FontScope small(Font::small);
            ui::Color c(level == Notice::Level::error     ? theme().error
                        : level == Notice::Level::warning ? theme().warning
                                                          : theme().text_dim);
            ui::plain(
                (std::string(sign) + " \xC2\xB7 " + ui::format_number(std::max(0.0, desk.s.time - it->time)) + " s ago")
                    .c_str());
        }
        ui::text_wrapped(displayable(it->notice.text), "notice");
        ImGui::Dummy({0, px(4)});
    }
}

void draw_keys(const std::vector<Action>& actions) {
    ui::Region list("list", {0, 0});
    const auto line = [](const std::string& title, const std::string& keys) {
        const float x = ImGui::GetCursorPosX();
        ui::text_in(title, ImGui::GetContentRegionAvail().x - px(140));
        ImGui::SameLine();
        ImGui::SetCursorPosX(x + ImGui::GetContentRegionAvail().x + ImGui::GetCursorPosX() - x - px(130));
        ui::FontScope mono(Font::mono);
        ui::Color dim(theme().text_dim);
        ui::plain(keys.c_str());
    };
    line("Stop; else close; else clear the selection", "Esc");
    for (const Action& a : actions)
        if (a.shortcut.is_set) line(a.title, a.shortcut.to_string());
}

}  // namespace vitrine::viz
