// The conversation pane: header, messages, branches.
#include "viz/shell/chat_pane.h"

#include <algorithm>
#include <cmath>

#include "viz/imgui_compat.h"
#include "viz/shell/suggestions.h"
#include "viz/text_util.h"
#include "viz/widgets/basic.h"

namespace vitrine::viz {
namespace {

constexpr const char* kDot = " \xC2\xB7 ";

constexpr Help kHelp = {
    "The conversation: what was asked, what the model thought, what it answered, and each answer's own figures.",
    "Thinking is folded: a click opens it. A click on a token selects it in every view. \xE2\x80\xB9 1/2 \xE2\x80\xBA are "
    "versions: an edit or another answer overwrites nothing. Reused are the tokens of the prompt that were in the cache already.",
    "prompt = reused + read again",
    "DeepSeek-V4's encoding of conversations; the rendered prompt (Ctrl+P) shows it with the token ids",
    "Ask one question in Non-think and in Think Max, or press Compare.",
};

const char* role_title(const std::string& role) {
    return role == "user" ? "You" : role == "assistant" ? "Model" : role == "system" ? "System" : "Tool";
}

bool small_button(const char* label, const std::string& name, bool is_enabled = true) {
    ui::FontScope small(Font::small);
    ImGui::PushStyleVar(ImGuiStyleVar_FramePadding, ImVec2(px(6), px(2)));
    ImGui::BeginDisabled(!is_enabled);
    const bool is_clicked = ui::quiet_button(label, (name + "/" + label).c_str());
    ui::mark(label);
    ImGui::EndDisabled();
    ImGui::PopStyleVar();
    return is_clicked;
}

int count_phase(const std::vector<TokenInfo>& tokens, Phase p) {
    return static_cast<int>(
        std::count_if(tokens.begin(), tokens.end(), [p](const TokenInfo& t) { return t.phase == p; }));
}

// The triangle of a fold, drawn: no font has it in every weight.
void fold_arrow(ImVec2 at, bool is_open, ImU32 color) {
    const float r = px(4);
    ImDrawList* dl = ImGui::GetWindowDrawList();
    if (is_open)
        dl->AddTriangleFilled({at.x - r, at.y - r / 2}, {at.x + r, at.y - r / 2}, {at.x, at.y + r * 0.7f}, color);
    else
        dl->AddTriangleFilled({at.x - r / 2, at.y - r}, {at.x + r * 0.7f, at.y}, {at.x - r / 2, at.y + r}, color);
}

}  // namespace

ChatPane::Message& ChatPane::message(int64_t turn, bool is_open) {
    Message& m = messages_[turn];
    if (!m.is_set) m.is_open = is_open;
    m.last_frame = ImGui::GetFrameCount();
    return m;
}

void ChatPane::draw(Desk& desk) {
    const Conversation* c = desk.s.conversation.get();
    if (c != last_) {
        ++conversation_version_;
        if (!c || !last_ || c->id != conversation_) messages_.clear(), is_at_bottom_ = true;
        last_ = c, conversation_ = c ? c->id : 0;
    }
    ImGui::PushStyleVar(ImGuiStyleVar_WindowPadding, ImVec2(px(14), px(12)));
    ui::Pane pane("chat", {0, 0}, ImGuiWindowFlags_NoScrollbar | ImGuiWindowFlags_NoScrollWithMouse);
    ImGui::PopStyleVar();
    draw_header(desk);
    draw_messages(desk);
    draw_composer(desk);
}

void ChatPane::draw_header(Desk& desk) {
    const Conversation* c = desk.s.conversation.get();
    const std::string title = c && !c->title.empty() ? displayable(c->title) : "New chat";
    const float buttons =
        ImGui::CalcTextSize("ChatsNew").x + 4 * ImGui::GetStyle().FramePadding.x + ImGui::GetStyle().ItemSpacing.x;
    ImGui::AlignTextToFramePadding();
    {
        ui::FontScope bold(Font::title);
        const float room = std::max(px(20), ImGui::GetContentRegionAvail().x - buttons - px(40));
        ImGui::SetCursorPosY(ImGui::GetCursorPosY() + ImGui::GetStyle().FramePadding.y);
        ui::text_in(title, std::min(room, ImGui::CalcTextSize(title.c_str()).x + 1), "chat/title");
    }
    ImGui::SameLine();
    ui::help_button("Chat", kHelp);
    ImGui::SameLine();
    ImGui::SetCursorPos({ImGui::GetCursorPosX() + std::max(0.0f, ImGui::GetContentRegionAvail().x - buttons),
                         ImGui::GetCursorPosY() - ImGui::GetStyle().FramePadding.y});
    if (ui::quiet_button("Chats")) desk.open(Overlay::conversations);
    ui::tooltip("All conversations: open, search, rename, delete (Ctrl+H)");
    ImGui::SameLine();
    ImGui::BeginDisabled(desk.s.is_generating);
    if (ui::button("New")) {
        desk.post(NewConversation{c ? c->system : ""});
        desk.wants_input_focus = true;
    }
    ImGui::EndDisabled();
}

void ChatPane::draw_messages(Desk& desk) {
    const int lines = composer_.n_lines();
    const float composer = ImGui::GetTextLineHeight() * static_cast<float>(std::clamp(lines, 2, 8)) +
                           2 * ImGui::GetStyle().FramePadding.y + ImGui::GetFrameHeight() +
                           3 * ImGui::GetStyle().ItemSpacing.y;
    ui::Region region("messages", {0, -composer});
    const Conversation* c = desk.s.conversation.get();
    const bool is_empty = (!c || c->path.empty()) && !desk.s.is_generating;
    if (!desk.s.model) {
        if (ui::empty_state(
                "No model is loaded",
                desk.s.is_loading ? "Loading\xE2\x80\xA6" : "Open a folder with a DeepSeek-V4 checkpoint to begin.",
                desk.s.is_loading ? "Cancel loading" : "Open model folder"))
            desk.s.is_loading ? desk.stop() : desk.open(Overlay::open_folder);
        return;
    }
    if (c && !c->system.empty()) ui::text_dim("System: " + displayable(c->system), "chat/system");
    if (is_empty && desk.s.knows_curriculum) return draw_suggestions(desk);
    if (is_empty) {
        if (ui::empty_state(
                "Ask something",
                "Every token of the answer can be opened up: what it attended to, which experts it took, what it cost.",
                "Try \xE2\x80\x9C"
                "74*82=?\xE2\x80\x9D"))
            desk.draft = "74*82=?", desk.wants_input_focus = true;
        return;
    }
    if (c)
        for (size_t i = 0; i < c->path.size(); ++i) {
            // The turn that is being generated is drawn from the live text.
            if (desk.s.is_generating && c->path[i].id == desk.s.live_turn && desk.s.live_turn != 0) continue;
            draw_turn(desk, c->path[i], static_cast<int>(i));
        }
    if (desk.s.is_generating) draw_live(desk);
    ImGui::Dummy({0, px(4)});
    if (is_at_bottom_) ImGui::SetScrollHereY(1.0f);
    const bool was_scrolled = ImGui::GetIO().MouseWheel != 0 && ImGui::IsWindowHovered(ImGuiHoveredFlags_ChildWindows);
    if (was_scrolled || ImGui::IsMouseDown(ImGuiMouseButton_Left))
        is_at_bottom_ = ImGui::GetScrollY() >= ImGui::GetScrollMaxY() - px(24);
    if (was_scrolled && ImGui::GetIO().MouseWheel > 0) is_at_bottom_ = false;
    if (ImGui::GetScrollY() >= ImGui::GetScrollMaxY() - 1 && !was_scrolled) is_at_bottom_ = true;
}

// One row per skill: the question in English and in Chinese. A click writes it into the composer.
void ChatPane::draw_suggestions(Desk& desk) {
    {
        ui::FontScope bold(Font::title);
        ui::text("Ask something");
    }
    {
        ui::FontScope small(Font::small);
        ui::Color dim(theme().text_dim);
        ui::text_wrapped("A click writes the question below. Choose a mode at the top and Send, or Compare all three.");
    }
    const float gap = px(6), room = ImGui::GetContentRegionAvail().x - px(4), width = std::floor((room - gap) / 2);
    ImGui::PushStyleVar(ImGuiStyleVar_ItemSpacing, ImVec2(gap, px(4)));
    ImGui::PushStyleVar(ImGuiStyleVar_ButtonTextAlign, ImVec2(0, 0.5f));
    ImGui::PushStyleColor(ImGuiCol_Button, theme().raised);
    ImGui::PushStyleColor(ImGuiCol_ButtonHovered, theme().hovered);
    ImGui::PushStyleColor(ImGuiCol_ButtonActive, theme().border_strong);
    for (const Suggestion& s : suggestions()) {
        {
            ui::FontScope small(Font::small);
            ui::Color dim(theme().text_dim);
            ui::text_in(s.skill, room);
        }
        for (const bool is_chinese : {false, true}) {
            const std::string question = is_chinese ? s.chinese : s.english, name = std::string("suggest/") + question;
            const bool is_far = (is_chinese ? s.note_chinese : s.note_english) != nullptr;
            if (is_chinese) ImGui::SameLine(0, gap);
            ImGui::PushID(name.c_str());
            const std::string shown = ui::elide(question, width - 2 * ImGui::GetStyle().FramePadding.x);
            if (ImGui::Button((shown + "##question").c_str(), {width, 0})) {
                desk.draft = suggested_prompt(s, is_chinese);
                desk.wants_input_focus = true;
            }
            ui::mark(name, question);
            if (is_far)
                ui::tooltip(question + "\n" + (is_chinese ? s.note_chinese : s.note_english) +
                            " That is said first, about 2,000 tokens earlier.");
            else if (shown != question)
                ui::tooltip(question);
            ImGui::PopID();
        }
    }
    ImGui::PopStyleColor(3);
    ImGui::PopStyleVar(2);
}

void ChatPane::draw_turn(Desk& desk, const Turn& t, int index) {
    const std::string name = "turn/" + std::to_string(index);
    const bool is_user = t.role == "user";
    ImGui::PushID(static_cast<int>(t.id));
    const ImVec2 p = ImGui::GetCursorScreenPos();
    const float room = ImGui::GetContentRegionAvail().x - px(4), pad = px(12);
    ImDrawList* dl = ImGui::GetWindowDrawList();
    dl->ChannelsSplit(2);
    dl->ChannelsSetCurrent(1);
    ImGui::SetCursorScreenPos({p.x + (is_user ? pad : 0), p.y + (is_user ? px(9) : px(4))});
    ImGui::BeginGroup();
    const float width = room - (is_user ? 2 * pad : 0);
    {
        ui::FontScope small(Font::small);
        ui::Color dim(theme().text_dim);
        const std::string role = role_title(t.role) + (t.role == "assistant" ? kDot + std::string(mode_title(t.mode)) : "");
        ui::plain(role.c_str());
        ui::mark(name + "/role", role);
    }
    Message& m = message(t.id, desk.settings.is_think_open);
    if (desk.edited_turn == t.id) {
        draw_editor(desk, t);
    } else {
        if (!t.reasoning.empty()) {
            m.thinking.update(t.reasoning, t.tokens, true, conversation_version_);
            const int n = t.stats.n_thinking ? t.stats.n_thinking : count_phase(t.tokens, Phase::thinking);
            draw_thinking(desk, m, t.tokens, n, false, t.is_reasoning_in_context, name);
        }
        m.answer.update(t.content, t.tokens, false, conversation_version_);
        if (!t.content.empty()) draw_content(desk, m, t, width, name + "/content");
        if (t.role == "assistant") draw_stats(t, name);
    }
    ImGui::EndGroup();
    const float bottom = ImGui::GetItemRectMax().y + (is_user ? px(9) : 0);
    dl->ChannelsSetCurrent(0);
    if (is_user) dl->AddRectFilled(p, {p.x + room, bottom}, theme().raised, px(6));
    dl->ChannelsMerge();
    ImGui::SetCursorScreenPos({p.x, bottom + px(2)});
    if (desk.edited_turn != t.id) draw_tools(desk, t, name);
    ImGui::Dummy({0, px(2)});
    ImGui::PopID();
}

void ChatPane::draw_thinking(Desk& desk, Message& m, const std::vector<TokenInfo>& tokens, int n_tokens, bool is_live,
                             bool is_in_context, const std::string& name) {
    const ImVec2 p = ImGui::GetCursorScreenPos();
    const float h = ImGui::GetTextLineHeight() + px(8);
    const std::string label = std::string(is_live ? "Thinking" : "Thought") + kDot + ui::format_count(n_tokens) +
                              " tokens" + (is_in_context ? "" : std::string(kDot) + "no longer in context");
    const float width = ImGui::GetContentRegionAvail().x - px(4);
    if (ImGui::InvisibleButton("thinking", {std::max(px(40), width), h})) m.is_open = !m.is_open, m.is_set = true;
    const bool is_hovered = ImGui::IsItemHovered();
    ui::mark(name + "/thinking", label);
    ui::value(name + "/thinking", n_tokens);
    fold_arrow({p.x + px(6), p.y + h / 2}, m.is_open, is_hovered ? theme().text : theme().thinking);
    {
        ui::FontScope small(Font::small);
        ui::paint_text(ImGui::GetWindowDrawList(), {p.x + px(18), p.y + (h - ImGui::GetTextLineHeight()) / 2},
                                            is_hovered ? theme().text : theme().text_dim,
                                            ui::elide(label, width - px(20)).c_str());
    }
    if (!m.is_open) return;
    const ImVec2 q = ImGui::GetCursorScreenPos();
    ImGui::SetCursorScreenPos({q.x + px(18), q.y});
    {
        ui::Color dim(theme().text_dim);
        m.thinking.draw(desk, tokens, width - px(18), (name + "/reasoning").c_str());
    }
    const float bottom = ImGui::GetItemRectMax().y;
    ImGui::GetWindowDrawList()->AddRectFilled({q.x + px(5), q.y}, {q.x + px(7), bottom}, theme().thinking, px(1));
    ImGui::SetCursorScreenPos({q.x, bottom + px(6)});
}

// What a user pasted may be long: its beginning, until all of it is asked for.
void ChatPane::draw_content(Desk& desk, Message& m, const Turn& t, float width, const std::string& name) {
    constexpr int64_t kLongestWhole = 12, kFolded = 8;
    const int64_t n = t.role == "user" ? m.answer.n_lines(width) : 0;
    const bool is_folded = n > kLongestWhole && !m.is_whole;
    m.answer.draw(desk, t.tokens, width, name.c_str(), is_folded ? kFolded : INT64_MAX);
    if (n <= kLongestWhole) return;
    const std::string label = is_folded ? "Show all " + ui::format_count(n) + " lines" : "Show the beginning";
    if (small_button(label.c_str(), name)) m.is_whole = is_folded;
    ui::mark(name + "/fold", label);
}

void ChatPane::draw_stats(const Turn& t, const std::string& name) {
    const TurnStats& s = t.stats;
    std::string line;
    const auto add = [&](const std::string& part) { line += (line.empty() ? "" : kDot) + part; };
    if (s.tokens_per_s > 0) add(ui::format_number(s.tokens_per_s) + " tok/s");
    if (s.n_answer > 0) add(ui::format_count(s.n_answer) + " answer tokens");
    if (s.first_token_ms > 0) add("first after " + ui::format_number(s.first_token_ms) + " ms");
    if (s.n_prompt > 0) add(ui::format_count(s.n_prompt) + " prompt, " + ui::format_count(s.n_reused) + " reused");
    if (!s.stop_reason.empty())
        add(displayable(s.stop_reason));
    else if (!t.is_complete)
        add("not finished");
    if (line.empty()) return;
    ui::FontScope small(Font::mono_small);
    ui::Color dim(theme().text_dim);
    ui::text_wrapped(line, (name + "/stats").c_str());
}

void ChatPane::draw_tools(Desk& desk, const Turn& t, const std::string& name) {
    const float spacing = px(2);
    const bool is_idle = desk.can_send();
    if (small_button("Copy", name)) ImGui::SetClipboardText(t.content.c_str());
    ImGui::SameLine(0, spacing);
    if (small_button("Edit", name, is_idle)) desk.edited_turn = t.id, desk.edit_text = t.content;
    if (t.role == "assistant") {
        ImGui::SameLine(0, spacing);
        if (small_button("Regenerate", name, is_idle) &&
            desk.post(Regenerate{t.id, desk.settings.mode, desk.settings.sampling}))
            desk.cursor.is_live = true;
    }
    if (t.n_siblings < 2) return;
    ImGui::SameLine(0, px(8));
    if (small_button("\xE2\x80\xB9", name, is_idle && t.sibling > 0)) desk.post(SelectSibling{t.id, t.sibling - 1});
    ImGui::SameLine(0, spacing);
    {
        ui::FontScope small(Font::mono_small);
        const std::string which = std::to_string(t.sibling + 1) + "/" + std::to_string(t.n_siblings);
        const ImVec2 p = ImGui::GetCursorScreenPos(), size = ImGui::CalcTextSize(which.c_str());
        const float row = font_design_size(Font::small) * ui_scale() + px(4);
        ui::paint_text(ImGui::GetWindowDrawList(), {p.x, p.y + (row - size.y) / 2}, theme().text_dim, which.c_str());
        ImGui::Dummy({size.x, row});
        ui::mark(name + "/sibling", which);
    }
    ImGui::SameLine(0, spacing);
    if (small_button("\xE2\x80\xBA", name, is_idle && t.sibling + 1 < t.n_siblings))
        desk.post(SelectSibling{t.id, t.sibling + 1});
}

void ChatPane::draw_live(Desk& desk) {
    Snapshot& s = desk.s;
    constexpr int64_t kLive = -1;
    Message& m = message(kLive, true);
    if (s.live_tokens.empty() && !m.is_set) m = Message{}, m.is_open = true;
    ImGui::PushID("live");
    {
        ui::FontScope small(Font::small);
        ui::Color dim(theme().text_dim);
        // The answer's own mode: the switch may have been moved since.
        const Turn* t = desk.last_turn("assistant");
        const Mode mode = t && !t->is_complete ? t->mode : desk.settings.mode;
        const std::string role = std::string("Model") + kDot + mode_title(mode);
        ui::plain(role.c_str());
        ui::mark("live/role", role);
    }
    const uint64_t version = s.timeline_version;
    if (!s.live_reasoning.empty()) {
        m.thinking.update(s.live_reasoning, s.live_tokens, true, version);
        draw_thinking(desk, m, s.live_tokens, count_phase(s.live_tokens, Phase::thinking), s.live_content.empty(), true,
                      "live");
    }
    const float width = ImGui::GetContentRegionAvail().x - px(4);
    m.answer.update(s.live_content, s.live_tokens, false, version);
    if (!s.live_content.empty()) m.answer.draw(desk, s.live_tokens, width, "live/content");
    if (s.live_tokens.empty()) {
        const std::string what = s.progress.total > 0 ? s.progress.what + " " + ui::format_count(s.progress.done) +
                                                            " of " + ui::format_count(s.progress.total) + " tokens"
                                                      : "Reading the prompt\xE2\x80\xA6";
        ui::text_dim(what, "live/progress");
    }
    ImGui::PopID();
}

void ChatPane::draw_caption(Desk& desk) {
    const Turn* t = desk.last_turn("assistant");
    const bool is_live = desk.s.is_generating;
    const std::string& text = is_live ? desk.s.live_content : t ? t->content : std::string();
    Message& m = message(is_live ? -2 : -3, false);
    m.answer.update(text, is_live || !t ? desk.s.live_tokens : t->tokens, false,
                    is_live ? desk.s.timeline_version : conversation_version_);
    ui::Region region("caption", {0, 0});
    m.answer.draw(desk, is_live || !t ? desk.s.live_tokens : t->tokens, ImGui::GetContentRegionAvail().x - px(6),
                  "caption");
    ImGui::SetScrollHereY(1.0f);
}

}  // namespace vitrine::viz
