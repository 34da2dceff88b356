// Panes, text, buttons.
#include "viz/widgets/basic.h"

#include <algorithm>

#include "viz/imgui_compat.h"
#include "viz/text_util.h"
#include "viz/widgets/text_flow.h"

namespace vitrine::viz::ui {
namespace {

// One elided line in the current font and colour; the full text on hover when it was cut.
void line(std::string_view s, float width, const char* name) {
    const std::string shown = elide(s, width);
    ImGui::TextUnformatted(shown.c_str(), shown.c_str() + shown.size());
    name ? mark(name, s) : note_text(s);
    if (shown.size() != s.size() && ImGui::IsItemHovered()) tooltip(s);
}

bool colored_button(const char* label, const char* name, ImU32 normal, ImU32 hover, ImU32 active, ImU32 ink) {
    ImGui::PushStyleColor(ImGuiCol_Button, normal);
    ImGui::PushStyleColor(ImGuiCol_ButtonHovered, hover);
    ImGui::PushStyleColor(ImGuiCol_ButtonActive, active);
    ImGui::PushStyleColor(ImGuiCol_Text, ink);
    const bool is_clicked = ImGui::Button(label);
    ImGui::PopStyleColor(4);
    const std::string_view shown(label);
    mark(name ? name : shown.substr(0, shown.find("##")), shown.substr(0, shown.find("##")));
    return is_clicked;
}

}  // namespace

Pane::Pane(const char* id, ImVec2 size, ImGuiWindowFlags flags) {
    const Theme& t = theme();
    ImGui::PushStyleColor(ImGuiCol_ChildBg, t.pane);
    ImGui::PushStyleColor(ImGuiCol_Border, t.border);
    is_open = begin_child(id, size, true, flags);
    ImGui::PopStyleColor(2);
}
Pane::~Pane() { ImGui::EndChild(); }

Region::Region(const char* id, ImVec2 size, ImGuiWindowFlags flags) { begin_child(id, size, false, flags); }
Region::~Region() { ImGui::EndChild(); }

void text(std::string_view s, const char* name) { line(s, ImGui::GetContentRegionAvail().x, name); }

void text_dim(std::string_view s, const char* name) {
    FontScope small(Font::small);
    Color dim(theme().text_dim);
    line(s, ImGui::GetContentRegionAvail().x, name);
}

void text_mono(std::string_view s, const char* name) {
    FontScope mono(Font::mono);
    line(s, ImGui::GetContentRegionAvail().x, name);
}

void text_wrapped(std::string_view s, const char* name) {
    const std::string lines = wrapped(s, wrap_width());
    ImGui::TextUnformatted(lines.data(), lines.data() + lines.size());
    name ? mark(name, s) : note_text(s);
}

void text_in(std::string_view s, float width, const char* name) {
    const ImVec2 p = ImGui::GetCursorScreenPos();
    const std::string shown = elide(s, width);
    ImGui::GetWindowDrawList()->AddText(p, ImGui::GetColorU32(ImGuiCol_Text), shown.c_str());
    ImGui::Dummy({width, ImGui::GetTextLineHeight()});
    name ? mark(name, s) : note_text(s);
    if (shown.size() != s.size() && ImGui::IsItemHovered()) tooltip(s);
}

void number(double v, const char* unit, const char* name) {
    const std::string shown = format_number(v) + (unit && *unit ? std::string(" ") + unit : "");
    {
        FontScope mono(Font::mono);
        line(shown, ImGui::GetContentRegionAvail().x, nullptr);
    }
    if (name) mark(name, shown), value(name, v);
    if (ImGui::IsItemHovered()) tooltip(full_precision(v) + (unit && *unit ? std::string(" ") + unit : ""));
    if (name) copy_menu(name, {full_precision(v), "", {}});
}

void label_value(const char* label, std::string_view v, const char* name) {
    const float width = ImGui::GetContentRegionAvail().x;
    {
        FontScope small(Font::small);
        Color dim(theme().text_dim);
        ImGui::AlignTextToFramePadding();
        text_in(label, std::min(width * 0.5f, ImGui::CalcTextSize(label).x));
    }
    ImGui::SameLine();
    FontScope mono(Font::mono);
    line(v, ImGui::GetContentRegionAvail().x, name);
}

void label_number(const char* label, double v, const char* unit, const char* name) {
    {
        FontScope small(Font::small);
        Color dim(theme().text_dim);
        text_in(label, ImGui::CalcTextSize(label).x);
    }
    ImGui::SameLine();
    number(v, unit, name);
    if (name) ui::label(name, label);
}

void section(const char* title, const Help* help) {
    {
        FontScope bold(Font::title);
        const float reserve = help ? ImGui::GetFrameHeight() : 0;
        text_in(title, std::min(ImGui::CalcTextSize(title).x, std::max(1.0f, ImGui::GetContentRegionAvail().x - reserve)), title);
    }
    if (help) {
        ImGui::SameLine();
        help_button(title, *help);
    }
}

void dot(ImU32 color, float radius) {
    const ImVec2 p = ImGui::GetCursorScreenPos();
    const float h = ImGui::GetTextLineHeight(), r = px(radius);
    ImGui::GetWindowDrawList()->AddCircleFilled({p.x + r, p.y + h / 2}, r, color, 16);
    ImGui::Dummy({2 * r, h});
}

void badge(Source s, const char* name) {
    if (s == Source::none) return;
    const Theme& t = theme();
    const char* words[] = {"", "live", "recorded", "projected"};
    const char* word = words[static_cast<int>(s)];
    FontScope small(Font::small);
    // Its border stands around the line: a little lower, so that the top of a pane does not cut it.
    const ImVec2 at = ImGui::GetCursorScreenPos(), p{at.x, at.y + px(1.5f)}, size = ImGui::CalcTextSize(word);
    const float h = ImGui::GetTextLineHeight(), r = px(3.5f), pad = px(8);
    const ImVec2 end{p.x + size.x + 2 * r + pad * 2 + px(5), p.y + h};
    ImDrawList* dl = ImGui::GetWindowDrawList();
    dl->AddRect({p.x, p.y - px(1)}, {end.x, end.y + px(1)}, t.border_strong, h / 2);
    const ImVec2 c{p.x + pad + r, p.y + h / 2};
    if (s == Source::live) dl->AddCircleFilled(c, r, t.text, 16);
    else if (s == Source::recorded) dl->AddCircle(c, r, t.text_dim, 16, px(1.5f));
    else dl->AddTriangle({c.x - r, c.y + r}, {c.x + r, c.y + r}, {c.x, c.y - r}, t.text_dim, px(1.5f));
    dl->AddText({c.x + r + px(5), p.y}, t.text_dim, word);
    ImGui::Dummy({end.x - p.x, h + px(2)});
    mark(name, word);
    const char* meaning[] = {"", "Measured in this window, with the model that is loaded.",
                             "Recorded earlier. Saved of a conversation are all texts, token ids and settings, and the "
                             "records of its tokens (what the views show) that the trace held then, up to 256 MiB. A token "
                             "without one is hollow in the token strip; select it to compute it again.",
                             "Computed from the configuration, not measured."};
    tooltip(meaning[static_cast<int>(s)]);
}

void kind_glyph(LayerKind k, bool is_hash) {
    FontScope mono(Font::mono);
    Color c(theme().kind(k));
    const char text[] = {layer_glyph(k), is_hash ? '#' : ' ', 0};
    ImGui::TextUnformatted(text);
    if (ImGui::IsItemHovered()) {
        const char* words[] = {"sliding window only", "CSA: compressed sparse attention", "HCA: heavily compressed attention"};
        tooltip(std::string(words[static_cast<int>(k)]) + (is_hash ? "; experts by token hash" : ""));
    }
}

bool button(const char* label, const char* name) {
    const Theme& t = theme();
    return colored_button(label, name, t.raised, t.hovered, t.border_strong, t.text);
}
bool primary_button(const char* label, const char* name) {
    const Theme& t = theme();
    return colored_button(label, name, t.button, mix(t.button, t.pane, 0.12f), mix(t.button, t.pane, 0.25f), t.button_text);
}
bool quiet_button(const char* label, const char* name) {
    const Theme& t = theme();
    return colored_button(label, name, 0, t.hovered, t.border_strong, t.text_dim);
}

bool segmented(const char* id, int& selected, const char* const* labels, int n) {
    const Theme& t = theme();
    ImGui::PushID(id);
    const float pad = px(12), h = ImGui::GetFrameHeight();
    float total = 0;
    for (int i = 0; i < n; ++i) total += ImGui::CalcTextSize(labels[i]).x + 2 * pad;
    const ImVec2 p = ImGui::GetCursorScreenPos();
    ImDrawList* dl = ImGui::GetWindowDrawList();
    dl->AddRectFilled(p, {p.x + total, p.y + h}, t.raised, px(6));
    bool is_changed = false;
    float x = p.x;
    for (int i = 0; i < n; ++i) {
        const ImVec2 size = ImGui::CalcTextSize(labels[i]);
        const float w = size.x + 2 * pad;
        ImGui::SetCursorScreenPos({x, p.y});
        if (ImGui::InvisibleButton(labels[i], {w, h}) && selected != i) selected = i, is_changed = true;
        const bool is_hovered = ImGui::IsItemHovered();
        if (i == selected) {
            const ImVec2 a{x + px(2), p.y + px(2)}, b{x + w - px(2), p.y + h - px(2)};
            dl->AddRectFilled(a, b, t.is_dark ? t.border_strong : t.pane, px(5));
            dl->AddRect(a, b, t.is_dark ? t.text_faint : t.border_strong, px(5));
        }
        dl->AddText({x + pad, p.y + (h - size.y) / 2}, i == selected || is_hovered ? t.text : t.text_dim, labels[i]);
        if (registry_is_on()) {
            mark(std::string(id) + "/" + labels[i], labels[i]);
            value(std::string(id) + "/" + labels[i], i == selected ? 1 : 0);
        }
        x += w;
    }
    ImGui::SetCursorScreenPos(p);
    ImGui::Dummy({total, h});
    ImGui::PopID();
    return is_changed;
}

bool checkbox(const char* label, bool& v) {
    const bool is_changed = ImGui::Checkbox(label, &v);
    mark(label);
    value(label, v ? 1 : 0);
    return is_changed;
}

}  // namespace vitrine::viz::ui
