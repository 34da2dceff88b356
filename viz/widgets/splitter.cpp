// The splitter widget.
#include "viz/widgets/splitter.h"

#include <algorithm>

#include "viz/theme.h"
#include "viz/widgets/registry.h"

namespace vitrine::viz::ui {

float splitter(const char* id, bool is_vertical, float& ratio, float length, float across, float min_first, float min_second) {
    const float bar = px(kSplitterWidth);
    const float largest = std::max(min_first, length - min_second - bar);
    const float first = std::clamp(ratio * length, min_first, largest);
    const ImVec2 p = ImGui::GetCursorScreenPos();
    ImGui::SetCursorScreenPos(is_vertical ? ImVec2(p.x + first, p.y) : ImVec2(p.x, p.y + first));
    ImGui::InvisibleButton(id, is_vertical ? ImVec2(bar, across) : ImVec2(across, bar));
    mark(id);
    const bool is_active = ImGui::IsItemActive(), is_hovered = ImGui::IsItemHovered();
    if (is_active || is_hovered) {
        ImGui::SetMouseCursor(is_vertical ? ImGuiMouseCursor_ResizeEW : ImGuiMouseCursor_ResizeNS);
        const ImVec2 a = ImGui::GetItemRectMin(), b = ImGui::GetItemRectMax(), c{(a.x + b.x) / 2, (a.y + b.y) / 2};
        const ImVec2 half = is_vertical ? ImVec2(px(1), px(18)) : ImVec2(px(18), px(1));
        ImGui::GetWindowDrawList()->AddRectFilled({c.x - half.x, c.y - half.y}, {c.x + half.x, c.y + half.y},
                                                  is_active ? theme().text : theme().text_faint, px(1));
    }
    if (is_active && length > 0) {
        const ImVec2 d = ImGui::GetIO().MouseDelta;
        ratio = std::clamp(first + (is_vertical ? d.x : d.y), min_first, largest) / length;
    }
    ImGui::SetCursorScreenPos(p);
    return first;
}

}  // namespace vitrine::viz::ui
