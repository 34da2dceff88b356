// Where a message is written, and where an earlier one is edited.
#include <imgui_internal.h>

#include <algorithm>

#include "viz/imgui_compat.h"
#include "viz/shell/chat_pane.h"
#include "viz/text_util.h"
#include "viz/widgets/basic.h"

namespace vitrine::viz {
namespace {

std::string sampling_summary(const Sampling& s) {
    if (s.temperature == 0) return "greedy";
    std::string out = "T " + ui::format_number(s.temperature);
    if (s.top_k > 0) out += " \xC2\xB7 top-k " + std::to_string(s.top_k);
    if (s.top_p < 1) out += " \xC2\xB7 top-p " + ui::format_number(s.top_p);
    if (s.min_p > 0) out += " \xC2\xB7 min-p " + ui::format_number(s.min_p);
    return out;
}

}  // namespace

void ChatPane::draw_composer(Desk& desk) {
    const float spacing = ImGui::GetStyle().ItemSpacing.y, row = ImGui::GetFrameHeight();
    ImGui::SetCursorPosY(ImGui::GetCursorPosY() + spacing / 2);
    const float height = ImGui::GetContentRegionAvail().y - row - spacing;
    const ImVec2 p = ImGui::GetCursorScreenPos();
    if (desk.wants_input_focus) focus_next_item(), desk.wants_input_focus = false;
    // Enter sends and Shift+Enter begins a line (or Ctrl+Enter sends, by the settings): the newline is swallowed and
    // remembered. Pasted newlines stay.
    bool is_sent = false;
    composer_.draw("##draft", desk.draft, {ImGui::GetContentRegionAvail().x, std::max(row, height)}, [&](unsigned c) {
        if (c != '\n' || !key_pressed(Key::kEnter)) return false;
        const bool sends = current_mods() == (desk.settings.enter_sends ? kNoMod : kCtrl);
        is_sent = is_sent || sends;
        return sends;
    });
    ui::mark("Message", desk.draft);
    ui::value("Message/lines", composer_.n_lines());
    const ImVec2 end = ImGui::GetItemRectMax();
    const bool is_active = ImGui::IsItemActive();
    ImGui::GetWindowDrawList()->AddRect(p, end, is_active ? theme().text_faint : theme().border, px(6));
    if (desk.draft.empty()) {  // beside the caret where it has the keyboard
        const ImVec2 pad = ImGui::GetStyle().FramePadding;
        const std::string hint = desk.settings.enter_sends ? "Ask\xE2\x80\xA6  Enter sends, Shift+Enter begins a line"
                                                           : "Ask\xE2\x80\xA6  Ctrl+Enter sends";
        ui::paint_text(ImGui::GetWindowDrawList(), {p.x + pad.x + px(4), p.y + pad.y}, theme().text_faint,
                                            ui::elide(hint, end.x - p.x - 2 * pad.x - px(4)).c_str());
    }
    // Ctrl+Enter: Dear ImGui ends the editing by itself.
    const bool is_ended = is_active || ImGui::IsItemDeactivated();
    is_sent = is_sent || (is_ended && current_mods() == kCtrl && key_pressed(Key::kEnter, false));
    if (is_sent) {
        ImGui::ClearActiveID();  // the field keeps its own copy of the text while it is active
        desk.send_draft();
        desk.wants_input_focus = true;
        is_at_bottom_ = true;
    }
    if (is_active && current_mods() == kCtrl && key_pressed(Key::kM, false)) {
        ImGui::ClearActiveID();
        desk.compare();
        desk.wants_input_focus = true;
    }
    const std::string summary = sampling_summary(desk.settings.sampling);
    const bool is_busy = desk.s.is_generating || desk.s.is_comparing;
    const char* action = is_busy ? "Stop" : "Send";
    const float action_width = ImGui::CalcTextSize("Send").x + 4 * ImGui::GetStyle().FramePadding.x;
    const float compare_width = ImGui::CalcTextSize("Compare").x + 2 * ImGui::GetStyle().FramePadding.x + px(6);
    const float summary_room =
        ImGui::GetContentRegionAvail().x - action_width - compare_width - ImGui::GetStyle().ItemSpacing.x;
    {
        ui::FontScope small(Font::mono_small);
        ImGui::PushStyleVar(ImGuiStyleVar_FramePadding, ImVec2(px(6), (row - ImGui::GetTextLineHeight()) / 2));
        const bool fits = ImGui::CalcTextSize(summary.c_str()).x + px(14) < summary_room;
        if (ui::quiet_button(fits ? summary.c_str() : "Sampling", "Sampling")) desk.open(Overlay::sampling);
        ImGui::PopStyleVar();
        ui::tooltip("Sampling and system text: temperature, top-k, top-p, min-p, repetition penalty, seed, stop strings");
    }
    ImGui::SameLine(0, 0);
    ImGui::SetCursorPosX(ImGui::GetCursorPosX() +
                         std::max(0.0f, ImGui::GetContentRegionAvail().x - action_width - compare_width));
    ImGui::BeginDisabled(!desk.can_compare());
    if (ui::quiet_button("Compare") && desk.compare()) desk.wants_input_focus = true;
    ImGui::EndDisabled();
    ui::tooltip("Non-think, Think High and Think Max side by side: what is written here, else the last question (Ctrl+M)");
    ImGui::SameLine(0, px(6));
    ImGui::PushStyleVar(ImGuiStyleVar_FramePadding,
                        ImVec2(2 * ImGui::GetStyle().FramePadding.x, ImGui::GetStyle().FramePadding.y));
    const bool is_enabled = is_busy || (desk.can_send() && !desk.draft.empty());
    ImGui::BeginDisabled(!is_enabled);
    if (ui::primary_button(action)) {
        if (is_busy)
            desk.stop();
        else if (desk.send_draft())
            desk.wants_input_focus = true, is_at_bottom_ = true;
    }
    ImGui::EndDisabled();
    ui::tooltip(is_busy ? "Stop (Esc)" : "Send (Ctrl+Enter)");
    ImGui::PopStyleVar();
}

void ChatPane::draw_editor(Desk& desk, const Turn& t) {
    const float width = ImGui::GetContentRegionAvail().x - px(16);
    const int lines = std::clamp(editor_.n_lines(), 3, 12);
    ImGui::PushStyleColor(ImGuiCol_FrameBg, theme().pane);
    editor_.draw("##edit", desk.edit_text, {width, ImGui::GetTextLineHeight() * static_cast<float>(lines) + px(16)});
    ImGui::PopStyleColor();
    ui::mark("Edit text", desk.edit_text);
    ImGui::BeginDisabled(!desk.can_send());
    const char* label = t.role == "user" ? "Save and answer" : "Save";
    if (ui::primary_button(label) &&
        desk.post(EditTurn{t.id, desk.edit_text, desk.settings.mode, desk.settings.sampling})) {
        desk.edited_turn = 0;
        desk.cursor.is_live = true;
    }
    ImGui::EndDisabled();
    ImGui::SameLine();
    if (ui::quiet_button("Cancel")) desk.edited_turn = 0;
    ImGui::SameLine();
    ui::text_dim("The old version stays as a branch.");
}

}  // namespace vitrine::viz
