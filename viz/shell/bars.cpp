// The bars of the frame: menus with the model chip and the mode switch, the views' tabs with the cursor, the status
// line.
#include <algorithm>

#include "viz/shell/workspace.h"
#include "viz/text_util.h"
#include "viz/widgets/basic.h"

namespace vitrine::viz {
namespace {

constexpr const char* kDot = " \xC2\xB7 ";

// A small framed chip with text; true when clicked.
bool chip(const char* id, const std::string& label, float most, const char* tip) {
    const float h = ImGui::GetFrameHeight(), pad = px(10);
    const std::string shown = ui::elide(label, most - 2 * pad);
    const float w = ImGui::CalcTextSize(shown.c_str()).x + 2 * pad;
    const ImVec2 p = ImGui::GetCursorScreenPos();
    const bool is_clicked = ImGui::InvisibleButton(id, {w, h});
    ui::mark(id, label);
    ImDrawList* dl = ImGui::GetWindowDrawList();
    if (ImGui::IsItemHovered()) dl->AddRectFilled(p, {p.x + w, p.y + h}, theme().hovered, px(6));
    dl->AddRect(p, {p.x + w, p.y + h}, theme().border_strong, px(6));
    ui::paint_text(dl, {p.x + pad, p.y + (h - ImGui::GetTextLineHeight()) / 2}, theme().text, shown.c_str());
    ui::tooltip(shown == label ? std::string(tip) : label + "\n" + tip);
    return is_clicked;
}

}  // namespace

void Workspace::draw_menu_bar() {
    // The bar takes its height from the padding at this moment, its items theirs from the one after.
    ImGui::PushStyleVar(ImGuiStyleVar_FramePadding, ImVec2(px(8), px(10)));
    const bool is_open_bar = ImGui::BeginMenuBar();
    ImGui::PopStyleVar();
    if (!is_open_bar) return;
    ImGui::PushStyleVar(ImGuiStyleVar_FramePadding, ImVec2(px(8), px(5)));
    {
        ui::FontScope bold(Font::title);
        ui::plain("Vitrine");
    }
    ImGui::Dummy({px(6), 0});
    ImGui::PushStyleVar(ImGuiStyleVar_WindowPadding, ImVec2(px(10), px(8)));
    ImGui::PushStyleVar(ImGuiStyleVar_ItemSpacing, ImVec2(px(12), px(8)));
    for (const char* name : {"File", "View", "Chat", "Model", "Lab", "Help"}) {
        const bool is_open = ImGui::BeginMenu(name);
        if (!is_open) ui::mark(std::string("menu/") + name, name);
        if (!is_open) continue;
        draw_menu_items(actions_, name);
        draw_menu_items(panel_actions(desk_), name);
        ImGui::EndMenu();
        ui::mark(std::string("menu/") + name, name);
    }
    ImGui::PopStyleVar(2);
    const float y = ImGui::GetCursorPosY();
    const char* modes[] = {mode_title(Mode::non_think), mode_title(Mode::high), mode_title(Mode::max)};
    float mode_width = 0;
    for (const char* m : modes) mode_width += ImGui::CalcTextSize(m).x + px(24);
    const float hint = ImGui::CalcTextSize("Ctrl+K").x + px(20), right = mode_width + hint + px(28);
    const float left = ImGui::GetCursorPosX(), width = ImGui::GetWindowWidth();
    const float chip_room = width - left - right - px(24);
    if (chip_room > px(90)) {
        ImGui::SetCursorPosX(left + px(10));
        ImGui::SetCursorPosY(y + px(5));
        const ModelInfo* m = desk_.s.model.get();
        const std::string label = desk_.s.is_loading ? "loading\xE2\x80\xA6"
                                  : m ? displayable(m->name) + kDot + numerics_name(m->numerics) + kDot + m->device
                                      : "no model";
        if (chip("model chip", label, chip_room, m ? displayable(m->folder).c_str() : "Open a model folder (Ctrl+O)"))
            desk_.open(Overlay::open_folder);
    }
    if (width - left > right + px(8)) {
        ImGui::SetCursorPosX(width - right);
        ImGui::SetCursorPosY(y + px(5));
        int mode = static_cast<int>(desk_.settings.mode);
        if (ui::segmented("mode", mode, modes, 3)) desk_.settings.mode = static_cast<Mode>(mode);
        ImGui::SetCursorPosX(width - hint - px(12));
        ImGui::SetCursorPosY(y + px(5));
        ui::FontScope small(Font::small);
        if (chip("palette chip", "Ctrl+K", hint + px(20), "Command palette: everything by name"))
            desk_.open(Overlay::palette);
    }
    ImGui::PopStyleVar();
    ImGui::EndMenuBar();
}

void Workspace::draw_tabs() {
    const Theme& t = theme();
    const float h = ImGui::GetFrameHeight() + px(6), pad = px(10);
    const ImVec2 origin = ImGui::GetCursorScreenPos();
    const float room = ImGui::GetContentRegionAvail().x;
    ImDrawList* dl = ImGui::GetWindowDrawList();
    float x = origin.x - pad;
    for (size_t i = 0; i < desk_.panels.size(); ++i) {
        const char* name = desk_.panels[i]->name();
        const ImVec2 size = ImGui::CalcTextSize(name);
        const float w = size.x + 2 * pad;
        ImGui::SetCursorScreenPos({x, origin.y});
        ImGui::PushID(static_cast<int>(i));
        if (ImGui::InvisibleButton("tab", {w, h})) desk_.panel = static_cast<int>(i);
        ImGui::PopID();
        const bool is_hovered = ImGui::IsItemHovered(), is_selected = desk_.panel == static_cast<int>(i);
        ui::mark(name);
        ui::mark(std::string("view/") + name, name);
        if (is_hovered) ui::tooltip(std::string(name) + " (" + std::to_string(i + 1) + ")");
        ui::paint_text(dl, {x + pad, origin.y + (h - size.y) / 2}, is_selected || is_hovered ? t.text : t.text_dim, name);
        if (is_selected) dl->AddRectFilled({x + pad, origin.y + h - px(2)}, {x + w - pad, origin.y + h}, t.text, px(1));
        x += w;
    }
    dl->AddLine({origin.x, origin.y + h}, {origin.x + room, origin.y + h}, t.border);
    ImGui::SetCursorScreenPos({origin.x, origin.y + h + px(10)});
    ui::value_rect("cursor/layer", desk_.cursor.layer, origin, {origin.x + room, origin.y + h});
    if (const TokenInfo* token = desk_.token(desk_.shown))
        ui::mark_rect("cursor/words", origin, {origin.x + room, origin.y + h}, token_label(token->text));
}

void Workspace::draw_status_bar() {
    const Snapshot& s = desk_.s;
    ui::FontScope mono(Font::mono_small);
    ui::Color dim(theme().text_dim);
    ImGui::SetCursorPosX(ImGui::GetCursorPosX() + px(6));
    const Source source = record_ ? desk_.source(desk_.shown) : Source::none;
    const float badge = source == Source::none ? 0 : px(110), right = px(170) + badge;
    bool is_first = true;
    const auto item = [&](const char* name, const std::string& text, const char* tip) {
        const float need = ImGui::CalcTextSize(text.c_str()).x + (is_first ? 0 : px(26));
        if (!is_first) ImGui::SameLine(0, 0);
        if (need > ImGui::GetContentRegionAvail().x - right) return;
        if (!is_first) {
            ImGui::Dummy({px(26), 1});
            const ImVec2 a = ImGui::GetItemRectMin();
            ImGui::GetWindowDrawList()->AddCircleFilled({a.x + px(13), a.y + ImGui::GetTextLineHeight() / 2}, px(1.5f),
                                                        theme().border_strong);
            ImGui::SameLine(0, 0);
        }
        ui::plain(text.c_str());
        ui::mark(std::string("status/") + name, text);
        ui::tooltip(tip);
        is_first = false;
    };
    if (s.model)
        item("model", ui::elide(displayable(s.model->name) + kDot + numerics_name(s.model->numerics), px(300)),
             "Model and numeric mode");
    if (s.meters.tokens_per_s > 0)
        item("speed", ui::format_number(s.meters.tokens_per_s) + " tok/s", "Tokens generated per second");
    if (s.meters.watching_cost_percent >= 0)
        item("watching", "watching costs " + ui::format_number(s.meters.watching_cost_percent) + " %",
             "What publishing and recording probes adds to a token's time");
    item("frame", ui::format_number(desk_.frame_ms) + " ms/frame", "Building and drawing one frame");
    if (s.cache.total() > 0) item("cache", "cache " + ui::format_bytes(s.cache.total()), "KV cache as allocated");
    if (s.trace && s.trace->bytes() > 0)
        item("trace", "trace " + ui::format_bytes(s.trace->bytes()), "Records of tokens that can be selected");
    if (desk_.resident_bytes > 0) item("memory", ui::format_bytes(desk_.resident_bytes), "Memory of the program");
    if (s.trace && s.trace->n_dropped() > 0)
        item("dropped", ui::format_count(s.trace->n_dropped()) + " records fell out",
             "The oldest records were dropped to stay within the bound");
    // Right: what the engine is doing.
    std::string doing;
    if (s.progress.total > 0)
        doing = displayable(s.progress.what) + " " +
                ui::format_percent(static_cast<double>(s.progress.done) / static_cast<double>(s.progress.total));
    else if (s.is_loading)
        doing = "loading\xE2\x80\xA6";
    else if (s.is_generating)
        doing = "generating";
    else if (s.is_comparing)
        doing = "comparing modes";
    else if (!s.lab.at_work.empty())
        doing = "lab: " + s.lab.at_work.front();
    else if (const auto n = std::count_if(s.lab.runs.begin(), s.lab.runs.end(),
                                          [](const LabRun& r) { return r.state == RunState::running; }))
        doing = "lab: " + ui::format_count(n) + (n == 1 ? " run trains" : " runs train");
    else if (s.model)
        doing = "idle";
    doing = ui::elide(doing, right - badge - px(16));
    ImGui::SameLine(0, 0);
    if (source != Source::none) {  // of the token that the views show; at a place of its own, so that nothing moves
        ImGui::SetCursorPosX(ImGui::GetWindowWidth() - right);
        ui::badge(source, "status/badge");
        ImGui::SameLine(0, 0);
    }
    ImGui::SetCursorPosX(ImGui::GetWindowWidth() - ImGui::CalcTextSize(doing.c_str()).x - px(18));
    ui::plain(doing.c_str());
    ui::mark("status/engine", doing);
}

}  // namespace vitrine::viz
