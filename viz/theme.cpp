// The two themes, ImGui's style from them, and the colour maps.
#include "viz/theme.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>

#include "viz/fonts.h"
#include "viz/imgui_compat.h"
#include "viz/widgets/number.h"
#include "viz/widgets/registry.h"

namespace vitrine::viz {
namespace {

constexpr ImU32 rgb(uint32_t hex) { return IM_COL32((hex >> 16) & 255, (hex >> 8) & 255, hex & 255, 255); }

Theme g_theme = make_theme(true);
float g_scale = 1;

Theme dark_theme() {
    Theme t;
    t.is_dark = true;
    t.back = rgb(0x0F1113), t.pane = rgb(0x17191C), t.raised = rgb(0x212429), t.hovered = rgb(0x2C3037);
    t.border = rgb(0x282C31), t.border_strong = rgb(0x3D434B);
    t.text = rgb(0xECEEF0), t.text_dim = rgb(0xB4BAC2), t.text_faint = rgb(0x767D87);
    t.accent = rgb(0xFF7A52);
    t.button = rgb(0xE4E7EA), t.button_text = rgb(0x121416);
    t.warning = rgb(0xF0C34A), t.error = rgb(0xFF8A6B);
    t.window = rgb(0x4A9EE0), t.csa = rgb(0xE69F00), t.hca = rgb(0x1DB58E), t.sink = rgb(0x8C929B);
    t.index_key = rgb(0xD288B2), t.compressor_state = rgb(0xEEE24A), t.shared = rgb(0x9FB3C8);
    t.prompt = rgb(0x7C838D), t.thinking = rgb(0x62BAEE), t.answer = rgb(0xF1F3F5), t.tool_call = rgb(0xD288B2);
    return t;
}

Theme light_theme() {
    Theme t;
    t.is_dark = false;
    t.back = rgb(0xEFEDE7), t.pane = rgb(0xFBFAF7), t.raised = rgb(0xF0EEE8), t.hovered = rgb(0xE3E0D8);
    t.border = rgb(0xDEDAD1), t.border_strong = rgb(0xBDB8AD);
    t.text = rgb(0x1C1B19), t.text_dim = rgb(0x474541), t.text_faint = rgb(0x858077);
    t.accent = rgb(0xC93A12);
    t.button = rgb(0x26241F), t.button_text = rgb(0xFBFAF7);
    t.warning = rgb(0x7A5A00), t.error = rgb(0xA8320E);
    t.window = rgb(0x0072B2), t.csa = rgb(0xCC8400), t.hca = rgb(0x008F68), t.sink = rgb(0x85817A);
    t.index_key = rgb(0xB0568A), t.compressor_state = rgb(0xC9B600), t.shared = rgb(0x6B7F95);
    t.prompt = rgb(0xA09B92), t.thinking = rgb(0x2D95D2), t.answer = rgb(0x1C1B19), t.tool_call = rgb(0xB0568A);
    return t;
}

double linear(int c) {
    const double v = c / 255.0;
    return v <= 0.04045 ? v / 12.92 : std::pow((v + 0.055) / 1.055, 2.4);
}

double luminance(ImU32 c) {
    return 0.2126 * linear(c & 255) + 0.7152 * linear((c >> 8) & 255) + 0.0722 * linear((c >> 16) & 255);
}

template <size_t N>
ImU32 ramp(const std::array<ImU32, N>& stops, float t) {
    const float at = std::clamp(t, 0.0f, 1.0f) * (N - 1);
    const size_t i = std::min(static_cast<size_t>(at), N - 2);
    return mix(stops[i], stops[i + 1], at - static_cast<float>(i));
}

}  // namespace

Theme make_theme(bool is_dark) { return is_dark ? dark_theme() : light_theme(); }
const Theme& theme() { return g_theme; }
float ui_scale() { return g_scale; }

void set_theme(const Theme& t, float scale) {
    g_theme = t;
    g_scale = scale;
}

ImU32 Theme::kind(CacheKind k) const {
    switch (k) {
        case CacheKind::window: return window;
        case CacheKind::csa_entries: return csa;
        case CacheKind::index_keys: return index_key;
        case CacheKind::hca_entries: return hca;
        case CacheKind::compressor_state: return compressor_state;
        case CacheKind::count: break;
    }
    return text_dim;
}

ImU32 Theme::phase(Phase p) const {
    return p == Phase::prompt ? prompt : p == Phase::thinking ? thinking : p == Phase::answer ? answer : tool_call;
}

ImU32 with_alpha(ImU32 c, float alpha) {
    const auto a = static_cast<ImU32>(std::clamp(alpha, 0.0f, 1.0f) * static_cast<float>(c >> IM_COL32_A_SHIFT) + 0.5f);
    return (c & ~IM_COL32_A_MASK) | (a << IM_COL32_A_SHIFT);
}

ImU32 mix(ImU32 a, ImU32 b, float t) {
    ImU32 out = 0;
    for (int shift = 0; shift < 32; shift += 8) {
        const float x = static_cast<float>((a >> shift) & 255), y = static_cast<float>((b >> shift) & 255);
        out |= static_cast<ImU32>(std::clamp(x + (y - x) * t + 0.5f, 0.0f, 255.0f)) << shift;
    }
    return out;
}

double contrast(ImU32 a, ImU32 b) {
    const double x = luminance(a) + 0.05, y = luminance(b) + 0.05;
    return x > y ? x / y : y / x;
}

ImU32 readable_on(ImU32 background) {
    const ImU32 black = IM_COL32(16, 17, 18, 255), white = IM_COL32(255, 255, 255, 255);
    return contrast(background, black) >= contrast(background, white) ? black : white;
}

ImU32 map_color(ColorMap m, float t) {
    if (std::isnan(t)) return 0;
    if (m == ColorMap::magnitude) {
        // Blue to grey to yellow with even steps of lightness: reads the same with any colour vision, after cividis.
        static const std::array<ImU32, 6> dark = {rgb(0x0B1E38), rgb(0x1F3C6B), rgb(0x565C6C),
                                                  rgb(0x86816F), rgb(0xBDAB62), rgb(0xFBE54E)};
        static const std::array<ImU32, 6> light = {rgb(0xF3F0E8), rgb(0xDCCF9A), rgb(0xB3A56F),
                                                   rgb(0x7F7C74), rgb(0x48567A), rgb(0x0A2A5E)};
        return ramp(g_theme.is_dark ? dark : light, t);
    }
    static const std::array<ImU32, 5> dark = {rgb(0xB497F0), rgb(0x6C54A3), rgb(0x26272B), rgb(0xA8631A), rgb(0xFFB052)};
    static const std::array<ImU32, 5> light = {rgb(0x4A2D8C), rgb(0x9A85CC), rgb(0xF5F3EE), rgb(0xE9A757), rgb(0xA85400)};
    return ramp(g_theme.is_dark ? dark : light, 0.5f + 0.5f * t);
}

float map_position(ColorMap m, float v, float lo, float hi) {
    if (m == ColorMap::magnitude) return hi > lo ? (v - lo) / (hi - lo) : 0.0f;
    const float reach = std::max(std::fabs(lo), std::fabs(hi));
    return reach > 0 ? v / reach : 0.0f;
}

void color_legend(ColorMap m, float lo, float hi, const char* unit, float width) {
    if (m == ColorMap::diverging) hi = std::max(std::fabs(lo), std::fabs(hi)), lo = -hi;
    ui::FontScope small(Font::mono_small);
    ImDrawList* dl = ImGui::GetWindowDrawList();
    const ImVec2 p = ImGui::GetCursorScreenPos();
    const float h = ImGui::GetTextLineHeight();
    const std::string left = ui::format_bound(lo),
                      right = ui::format_bound(hi) + (unit && *unit ? std::string(" ") + unit : "");
    const float wl = ImGui::CalcTextSize(left.c_str()).x, wr = ImGui::CalcTextSize(right.c_str()).x, gap = px(6);
    const float strip = std::max(px(24), width - wl - wr - 2 * gap);
    ui::paint_text(dl, p, g_theme.text_dim, left.c_str());
    const float x0 = p.x + wl + gap, y0 = p.y + h * 0.25f, y1 = p.y + h * 0.75f;
    constexpr int kSteps = 24;
    for (int i = 0; i < kSteps; ++i) {
        const auto at = [&](int k) { return m == ColorMap::magnitude ? k / float(kSteps) : 2 * k / float(kSteps) - 1; };
        const ImU32 a = map_color(m, at(i)), b = map_color(m, at(i + 1));
        dl->AddRectFilledMultiColor({x0 + strip * i / kSteps, y0}, {x0 + strip * (i + 1) / kSteps, y1}, a, b, b, a);
    }
    ui::paint_text(dl, {x0 + strip + gap, p.y}, g_theme.text_dim, right.c_str());
    ImGui::Dummy({wl + wr + 2 * gap + strip, h});
}

void apply_style(const Theme& t, float scale) {
    ImGuiStyle s;
    s.WindowPadding = {12, 10}, s.FramePadding = {10, 6}, s.CellPadding = {8, 4}, s.ItemSpacing = {8, 8};
    s.ItemInnerSpacing = {6, 4}, s.IndentSpacing = 16, s.ScrollbarSize = 10, s.GrabMinSize = 12;
    s.WindowRounding = 6, s.ChildRounding = 6, s.FrameRounding = 6, s.PopupRounding = 6, s.ScrollbarRounding = 6;
    s.GrabRounding = 6, s.TabRounding = 6, s.WindowBorderSize = 0, s.ChildBorderSize = 1, s.PopupBorderSize = 1;
    s.FrameBorderSize = 0, s.TabBorderSize = 0, s.DisabledAlpha = 0.45f;
    s.ScaleAllSizes(scale);
    const auto set = [&](ImGuiCol i, ImU32 c) { s.Colors[i] = vec4(c); };
    set(ImGuiCol_Text, t.text), set(ImGuiCol_TextDisabled, t.text_faint), set(ImGuiCol_WindowBg, t.back);
    set(ImGuiCol_ChildBg, 0), set(ImGuiCol_PopupBg, t.is_dark ? t.raised : t.pane), set(ImGuiCol_Border, t.border_strong);
    set(ImGuiCol_BorderShadow, 0), set(ImGuiCol_FrameBg, t.raised), set(ImGuiCol_FrameBgHovered, t.hovered);
    set(ImGuiCol_FrameBgActive, t.hovered), set(ImGuiCol_TitleBg, t.pane), set(ImGuiCol_TitleBgActive, t.pane);
    set(ImGuiCol_MenuBarBg, t.back), set(ImGuiCol_ScrollbarBg, 0), set(ImGuiCol_ScrollbarGrab, t.border_strong);
    set(ImGuiCol_ScrollbarGrabHovered, t.text_faint), set(ImGuiCol_ScrollbarGrabActive, t.text_dim);
    set(ImGuiCol_CheckMark, t.text), set(ImGuiCol_SliderGrab, t.border_strong), set(ImGuiCol_SliderGrabActive, t.text_faint);
    set(ImGuiCol_Button, t.raised), set(ImGuiCol_ButtonHovered, t.hovered), set(ImGuiCol_ButtonActive, t.border_strong);
    set(ImGuiCol_Header, t.hovered), set(ImGuiCol_HeaderHovered, t.hovered), set(ImGuiCol_HeaderActive, t.border_strong);
    set(ImGuiCol_Separator, t.border), set(ImGuiCol_SeparatorHovered, t.text_faint), set(ImGuiCol_SeparatorActive, t.text_dim);
    set(ImGuiCol_ResizeGrip, 0), set(ImGuiCol_ResizeGripHovered, t.hovered), set(ImGuiCol_ResizeGripActive, t.border_strong);
    set(ImGuiCol_Tab, 0), set(ImGuiCol_TabHovered, t.hovered), set(kColTabSelected, t.raised);
    set(ImGuiCol_PlotLines, t.text), set(ImGuiCol_PlotHistogram, t.text), set(ImGuiCol_TableHeaderBg, t.raised);
    set(ImGuiCol_TableBorderStrong, t.border), set(ImGuiCol_TableBorderLight, t.border), set(ImGuiCol_TableRowBg, 0);
    set(ImGuiCol_TableRowBgAlt, with_alpha(t.raised, 0.5f)), set(ImGuiCol_TextSelectedBg, with_alpha(t.thinking, 0.35f));
    set(ImGuiCol_DragDropTarget, t.text), set(kColNavCursor, t.text_dim);
    set(ImGuiCol_ModalWindowDimBg, with_alpha(IM_COL32(0, 0, 0, 255), 0.45f));
    ImGui::GetStyle() = s;
}

}  // namespace vitrine::viz
