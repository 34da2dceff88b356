// All conversations: search, open, rename, delete after asking.

#include "viz/imgui_compat.h"
#include "viz/shell/overlays.h"
#include "viz/text_util.h"
#include "viz/widgets/basic.h"

namespace vitrine::viz {

void ConversationList::draw_row(Desk& desk, const ConversationSummary& c) {
    const std::string name = "conversation/" + std::to_string(c.id);
    const float width = ImGui::GetContentRegionAvail().x, row = ImGui::GetTextLineHeight() * 2 + px(16),
                buttons = px(150);
    const ImVec2 p = ImGui::GetCursorScreenPos();
    ImGui::PushID(static_cast<int>(c.id));
    ImDrawList* dl = ImGui::GetWindowDrawList();
    const bool is_shown = desk.s.conversation && desk.s.conversation->id == c.id;
    allow_overlap_next();
    const bool is_clicked = ImGui::InvisibleButton("row", {width, row});
    allow_overlap_last();
    ui::mark(name, c.title);
    if (is_shown || ImGui::IsItemHovered())
        dl->AddRectFilled(p, {p.x + width, p.y + row}, is_shown ? theme().raised : theme().hovered, px(6));
    if (is_shown) dl->AddRectFilled({p.x, p.y + px(8)}, {p.x + px(3), p.y + row - px(8)}, theme().text_dim, px(2));
    const float text_width = width - buttons - px(24);
    if (renamed_ == c.id) {
        ImGui::SetCursorScreenPos({p.x + px(10), p.y + px(8)});
        ImGui::SetNextItemWidth(text_width);
        if (is_renaming_new_) focus_next_item(), is_renaming_new_ = false;
        const bool is_entered = ImGui::InputText("##title", &title_, ImGuiInputTextFlags_EnterReturnsTrue);
        ui::mark("Title", title_);
        ImGui::SameLine();
        if ((ui::button("Save") || is_entered) && !title_.empty())
            desk.post(RenameConversation{c.id, title_}), renamed_ = 0;
        ImGui::SameLine();
        if (ui::quiet_button("Cancel")) renamed_ = 0;
    } else {
        ui::paint_text(dl, {p.x + px(12), p.y + px(7)}, theme().text, ui::elide(displayable(c.title), text_width).c_str());
        {
            ui::FontScope small(Font::small);
            const std::string line =
                c.when + " \xC2\xB7 " + std::to_string(c.n_turns) + " turns \xC2\xB7 " + displayable(c.snippet);
            ui::paint_text(dl, {p.x + px(12), p.y + row / 2 + px(2)}, theme().text_dim, ui::elide(line, text_width).c_str());
        }
        ImGui::SetCursorScreenPos({p.x + width - buttons, p.y + (row - ImGui::GetFrameHeight()) / 2});
        if (deleted_ == c.id) {
            if (ui::button("Delete?", (name + "/confirm").c_str())) desk.post(DeleteConversation{c.id}), deleted_ = 0;
            ui::tooltip("Can be undone for a few seconds (Ctrl+Z).");
            ImGui::SameLine();
            if (ui::quiet_button("Keep")) deleted_ = 0;
        } else {
            if (ui::quiet_button("Rename", (name + "/Rename").c_str()))
                renamed_ = c.id, title_ = c.title, is_renaming_new_ = true;
            ImGui::SameLine(0, 0);
            if (ui::quiet_button("Delete", (name + "/Delete").c_str())) deleted_ = c.id;
        }
        if (is_clicked && !ImGui::IsAnyItemActive()) {
            desk.post(OpenConversation{c.id});
            desk.cursor.is_live = true;
            desk.close();
        }
    }
    ImGui::SetCursorScreenPos({p.x, p.y + row + px(3)});
    ImGui::PopID();
}

void ConversationList::draw(Desk& desk) {
    if (desk.is_overlay_new) {
        search_.clear(), renamed_ = deleted_ = 0;
        desk.post(ListConversations{""});
        focus_next_item();
    }
    ImGui::SetNextItemWidth(-1);
    if (ImGui::InputTextWithHint("##search", "Search titles and messages", &search_))
        desk.post(ListConversations{search_});
    ui::mark("Search conversations", search_);
    ui::scrolls_sideways(ImGui::GetItemRectMin(), ImGui::GetItemRectMax());
    ui::Region list("list", {0, 0});
    if (desk.s.conversations.empty())
        ui::empty_state(search_.empty() ? "No conversations yet" : "Nothing found",
                        search_.empty() ? "They are saved as they grow." : "Try other words.");
    const float row = ImGui::GetTextLineHeight() * 2 + px(16) + px(3) + ImGui::GetStyle().ItemSpacing.y;
    (void)row;
    for (const ConversationSummary& c : desk.s.conversations) {
        if (c.id == desk.deleted) continue;
        const ImVec2 p = ImGui::GetCursorScreenPos();
        const float h = ImGui::GetTextLineHeight() * 2 + px(16);
        if (ImGui::IsRectVisible(p, {p.x + 1, p.y + h}))
            draw_row(desk, c);
        else
            ImGui::SetCursorScreenPos({p.x, p.y + h + px(3)});
    }
    ImGui::Dummy({0, 0});
}

}  // namespace vitrine::viz
