// The probe registry.
#include "viz/widgets/registry.h"

#include <imgui_internal.h>

#include <algorithm>
#include <cmath>
#include <cstdarg>
#include <cstdio>

#include "viz/imgui_compat.h"

namespace vitrine::viz::ui {
namespace {

struct Rect {
    ImVec2 min, max;
    int frame;
};

bool g_is_on = false;
std::map<std::string, Widget, std::less<>> g_widgets;
std::vector<Rect> g_scrolling;
struct Noted {
    std::string text;
    int frame;
    bool is_visible;
};
std::vector<Noted> g_noted;  // of this frame and the last
std::string g_revealed;  // the widget to scroll to; empty: none

Widget& put(std::string_view name, ImVec2 min, ImVec2 max) {
    const int frame = ImGui::GetFrameCount();
    auto it = g_widgets.find(name);
    if (it == g_widgets.end()) it = g_widgets.emplace(std::string(name), Widget{}).first;
    Widget& w = it->second;
    if (w.frame != frame) w.text.clear(), w.has_number = false;
    w.min = min, w.max = max, w.frame = frame;
    w.is_visible = ImGui::IsRectVisible(min, max);
    const ImVec2 at = w.center();
    w.is_in_reach = ImGui::IsRectVisible({at.x - 0.5f, at.y - 0.5f}, {at.x + 0.5f, at.y + 0.5f});
    if (!g_revealed.empty() && g_revealed == name) {
        ImGui::SetScrollFromPosY((min.y + max.y) / 2 - ImGui::GetWindowPos().y, 0.5f);
        g_revealed.clear();
    }
    return w;
}

void note(std::string_view text, ImVec2 min, ImVec2 max) {
    const int frame = ImGui::GetFrameCount();
    if (!g_noted.empty() && g_noted.back().frame != frame)
        std::erase_if(g_noted, [&](const Noted& n) { return n.frame < frame - 1; });
    g_noted.push_back({std::string(text), frame, ImGui::IsRectVisible(min, max)});
}

bool is_current(const Widget& w) { return w.frame >= ImGui::GetFrameCount() - 1; }

}  // namespace

void registry_enable(bool is_on) { g_is_on = is_on; }
bool registry_is_on() { return g_is_on; }
void registry_clear() {
    g_widgets.clear();
    g_scrolling.clear();
    g_noted.clear();
}

void plain(std::string_view s) {
    ImGui::TextUnformatted(s.data(), s.data() + s.size());
    note_text(s);
}

void plainf(const char* format, ...) {
    va_list args;
    va_start(args, format);
    char text[1024];
    const int n = std::vsnprintf(text, sizeof text, format, args);
    va_end(args);
    plain({text, static_cast<size_t>(std::clamp(n, 0, static_cast<int>(sizeof text) - 1))});
}

void paint_text(ImDrawList* dl, ImVec2 at, ImU32 color, std::string_view s) {
    dl->AddText(at, color, s.data(), s.data() + s.size());
    if (!g_is_on) return;
    const ImVec2 size = ImGui::CalcTextSize(s.data(), s.data() + s.size());
    note(s, at, {at.x + size.x, at.y + size.y});
}

void note_text(std::string_view s) {
    if (g_is_on) note(s, ImGui::GetItemRectMin(), ImGui::GetItemRectMax());
}

void mark(std::string_view name, std::string_view text) {
    if (g_is_on) mark_rect(name, ImGui::GetItemRectMin(), ImGui::GetItemRectMax(), text);
}

void mark_rect(std::string_view name, ImVec2 min, ImVec2 max, std::string_view text) {
    if (g_is_on) put(name, min, max).text = text.empty() ? name : text;
}

void value(std::string_view name, double v) {
    if (g_is_on) value_rect(name, v, ImGui::GetItemRectMin(), ImGui::GetItemRectMax());
}

void value_rect(std::string_view name, double v, ImVec2 min, ImVec2 max) {
    if (!g_is_on) return;
    Widget& w = put(name, min, max);
    w.number = v, w.has_number = true;
}

void label(std::string_view name, std::string_view words) {
    if (const auto it = g_widgets.find(name); g_is_on && it != g_widgets.end()) it->second.label = words;
}

const Widget* find_widget(std::string_view name) {
    const auto it = g_widgets.find(name);
    return it == g_widgets.end() || !is_current(it->second) ? nullptr : &it->second;
}

void reveal(std::string_view name) { g_revealed = name; }

std::vector<std::string> widget_names(std::string_view prefix) {
    std::vector<std::string> out;
    for (auto it = g_widgets.lower_bound(prefix); it != g_widgets.end() && it->first.starts_with(prefix); ++it)
        if (is_current(it->second)) out.push_back(it->first);
    return out;
}

bool is_text_shown(std::string_view text) {
    const int frame = ImGui::GetFrameCount();
    if (std::any_of(g_noted.begin(), g_noted.end(), [&](const Noted& n) {
            return n.frame >= frame - 1 && n.is_visible && n.text.find(text) != std::string::npos;
        }))
        return true;
    return std::any_of(g_widgets.begin(), g_widgets.end(), [&](const auto& w) {
        return is_current(w.second) && w.second.is_visible && w.second.text.find(text) != std::string::npos;
    });
}

void scrolls_sideways(ImVec2 min, ImVec2 max) {
    if (g_is_on) g_scrolling.push_back({min, max, ImGui::GetFrameCount()});
}

std::vector<CutText> find_cut_text() {
    std::vector<CutText> out;
    const int frame = ImGui::GetFrameCount();
    std::erase_if(g_scrolling, [&](const Rect& r) { return r.frame < frame - 1; });
    const auto is_scrolling = [&](ImVec2 p) {
        return std::any_of(g_scrolling.begin(), g_scrolling.end(), [&](const Rect& r) {
            return p.x >= r.min.x - 2 && p.x <= r.max.x + 2 && p.y >= r.min.y - 2 && p.y <= r.max.y + 2;
        });
    };
    const ImVec2 white = ImGui::GetFontTexUvWhitePixel();
    const ImDrawData* data = ImGui::GetDrawData();
    const ImTextureID atlas = font_texture();
    for (int l = 0; data && l < data->CmdListsCount; ++l) {
        const ImDrawList* list = data->CmdLists[l];
        for (const ImDrawCmd& cmd : list->CmdBuffer) {
            if (cmd.UserCallback || cmd.GetTexID() != atlas) continue;
            for (unsigned i = 0; i + 5 < cmd.ElemCount; i += 6) {  // glyphs are quads: six indices, four vertices
                const ImDrawIdx* index = &list->IdxBuffer[static_cast<int>(cmd.IdxOffset + i)];
                const ImDrawVert& a = list->VtxBuffer[static_cast<int>(cmd.VtxOffset + index[0])];
                const ImDrawVert& c = list->VtxBuffer[static_cast<int>(cmd.VtxOffset + index[2])];
                if (a.uv.x == c.uv.x || a.uv.y == c.uv.y || (a.uv.x == white.x && a.uv.y == white.y)) continue;
                if (std::fabs(c.uv.x - a.uv.x) > 0.2f) continue;
                const bool is_in_rows = c.pos.y > cmd.ClipRect.y && a.pos.y < cmd.ClipRect.w;
                const bool is_cut = (a.pos.x < cmd.ClipRect.z && c.pos.x > cmd.ClipRect.z + 1.5f) ||
                                    (a.pos.x < cmd.ClipRect.x - 1.5f && c.pos.x > cmd.ClipRect.x);
                if (is_in_rows && is_cut && !is_scrolling(a.pos)) out.push_back({a.pos, list->_OwnerName ? list->_OwnerName : ""});
            }
        }
    }
    return out;
}

}  // namespace vitrine::viz::ui
