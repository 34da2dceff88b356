// Tooltips, the help popup, the empty state, the copy menu.
#include <algorithm>
#include <cstring>

#include "viz/imgui_compat.h"
#include "viz/text_util.h"
#include "viz/widgets/basic.h"
#include "viz/widgets/export.h"

namespace vitrine::viz::ui {
namespace {

constexpr float kTooltipWidth = 380;

void help_line(const char* title, const char* body, bool is_mono = false) {
    if (!body || !*body) return;
    {
        FontScope small(Font::small);
        Color dim(theme().text_dim);
        plain(title);
    }
    if (is_mono) {
        FontScope mono(Font::mono);
        text_wrapped(body);
    } else {
        text_wrapped(body);
    }
    ImGui::Dummy({0, px(2)});
}

}  // namespace

namespace {
int n_tooltips = 0;  // open ones, in each other
}

float wrap_width() {
    return n_tooltips > 0 ? px(kTooltipWidth) - ImGui::GetCursorPosX() : ImGui::GetContentRegionAvail().x;
}

void begin_tooltip() {
    ++n_tooltips;
    ImGui::PushStyleVar(ImGuiStyleVar_WindowPadding, ImVec2(px(12), px(9)));
    ImGui::BeginTooltip();
    ImGui::PushTextWrapPos(px(kTooltipWidth));
}

void end_tooltip() {
    --n_tooltips;
    ImGui::PopTextWrapPos();
    ImGui::EndTooltip();
    ImGui::PopStyleVar();
}

void tooltip(std::string_view s) {
    if (!ImGui::IsItemHovered(ImGuiHoveredFlags_AllowWhenDisabled)) return;
    Tooltip box;
    FontScope body(Font::small);
    plain(s);
}

void rich_tooltip(const std::function<void()>& draw) {
    if (!ImGui::IsItemHovered()) return;
    Tooltip box;
    draw();
}

void help_button(const char* id, const Help& help) {
    const Theme& t = theme();
    ImGui::PushID(id);
    const float r = px(8), h = ImGui::GetTextLineHeight();
    const ImVec2 p = ImGui::GetCursorScreenPos();
    if (ImGui::InvisibleButton("?", {2 * r, h})) ImGui::OpenPopup("help");
    if (registry_is_on()) mark(std::string("help/") + id, "?");
    const bool is_hovered = ImGui::IsItemHovered();
    ImDrawList* dl = ImGui::GetWindowDrawList();
    dl->AddCircle({p.x + r, p.y + h / 2}, r, is_hovered ? t.text : t.border_strong, 20, px(1.2f));
    {
        FontScope small(Font::mono_small);
        const ImVec2 size = ImGui::CalcTextSize("?");
        ui::paint_text(dl, {p.x + r - size.x / 2, p.y + h / 2 - size.y / 2}, is_hovered ? t.text : t.text_dim, "?");
    }
    if (is_hovered) tooltip("What this shows and how to read it");
    ImGui::SetNextWindowSize({px(460), 0});
    ImGui::PushStyleVar(ImGuiStyleVar_WindowPadding, ImVec2(px(18), px(16)));
    if (ImGui::BeginPopup("help")) {
        help_line("What it shows", help.shows);
        help_line("How to read it", help.how_to_read);
        help_line("Formula", help.formula, true);
        help_line("Source", help.source);
        help_line("Try this", help.try_this);
        ImGui::EndPopup();
    }
    ImGui::PopStyleVar();
    ImGui::PopID();
}

bool empty_state(const char* title, const char* what_to_do, const char* action) {
    const ImVec2 p = ImGui::GetCursorPos(), room = ImGui::GetContentRegionAvail();
    const float width = std::min(room.x, px(420));
    const float line = ImGui::GetTextLineHeightWithSpacing();
    const float height = line * 4 + (action ? ImGui::GetFrameHeightWithSpacing() : 0);
    const float x = p.x + (room.x - width) / 2;
    ImGui::SetCursorPos({x, p.y + std::max(0.0f, (room.y - height) / 2)});
    ImGui::BeginGroup();
    const auto centred = [&](const char* s) {
        ImGui::SetCursorPosX(x + std::max(0.0f, (width - ImGui::CalcTextSize(s).x) / 2));
    };
    {
        FontScope big(Font::title);
        const std::string shown = elide(title, width);
        centred(shown.c_str());
        ImGui::TextUnformatted(shown.c_str());
        mark("empty", title);
    }
    {
        Color dim(theme().text_dim);
        // Line by line, each centred.
        const char* end = what_to_do + std::strlen(what_to_do);
        for (const char* at = what_to_do; at < end;) {
            const char* stop = word_wrap(at, end, width);
            if (stop == at) stop = at + 1;
            const std::string part(at, stop);
            centred(part.c_str());
            ImGui::TextUnformatted(part.c_str());
            note_text(what_to_do);
            for (at = stop; at < end && *at == ' ';) ++at;
        }
    }
    bool is_clicked = false;
    if (action) {
        ImGui::Dummy({0, px(4)});
        ImGui::SetCursorPosX(x + (width - ImGui::CalcTextSize(action).x - 2 * ImGui::GetStyle().FramePadding.x) / 2);
        is_clicked = primary_button(action);
    }
    ImGui::EndGroup();
    return is_clicked;
}

void copy_menu(const char* id, const Copyable& c) {
    // While the menu is open nothing under it is hovered: it copies what was pointed at when it was opened. One is open at a time.
    static std::string value, row;
    if (ImGui::IsItemHovered() && ImGui::IsMouseReleased(ImGuiMouseButton_Right)) value = c.value, row = c.row;
    ImGui::PushID(id);
    if (ImGui::BeginPopupContextItem("copy", ImGuiPopupFlags_MouseButtonRight)) {
        const auto offer = [](const char* label, const std::string& s) {
            if (!s.empty() && ImGui::MenuItem(label)) ImGui::SetClipboardText(s.c_str());
            if (!s.empty()) mark(label);
        };
        offer("Copy value", value);
        offer("Copy row", row);
        if (c.csv) {
            if (ImGui::MenuItem("Copy all as CSV")) ImGui::SetClipboardText(c.csv().c_str());
            mark("Copy all as CSV");
        }
        if (c.exported) {
            ImGui::Separator();
            for (const auto& [label, format] : {std::pair("Export PNG", ExportFormat::png),
                                                {"Export SVG", ExportFormat::svg},
                                                {"Export CSV", ExportFormat::csv}}) {
                if (ImGui::MenuItem(label)) request_export(c.exported, format);
                mark(label);
            }
        }
        if (c.more) ImGui::Separator(), c.more();
        ImGui::EndPopup();
    }
    ImGui::PopID();
}

}  // namespace vitrine::viz::ui
