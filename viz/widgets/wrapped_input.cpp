// The wrapping text field: after every edit the soft breaks are taken out, and put in anew.
#include "viz/widgets/wrapped_input.h"

#include <algorithm>

#include "viz/imgui_compat.h"
#include "viz/text_util.h"

namespace vitrine::viz::ui {
namespace {

// Between two of these a line may end; before closing marks it may not.
bool is_ideograph(unsigned c) {
    return (c >= 0x2E80 && c <= 0x9FFF) || (c >= 0xAC00 && c <= 0xD7AF) || (c >= 0xF900 && c <= 0xFAFF) ||
           (c >= 0xFF00 && c <= 0xFFEF);
}
bool is_closing(unsigned c) {
    constexpr unsigned kClosing[] = {0x3001, 0x3002, 0x3009, 0x300B, 0x300D, 0x300F, 0xFF01, 0xFF09,
                                     0xFF0C, 0xFF0E, 0xFF1A, 0xFF1B, 0xFF1F, ',',    '.',    ')'};
    return std::find(std::begin(kClosing), std::end(kClosing), c) != std::end(kClosing);
}

size_t previous_character(const std::string& s, size_t at) {
    if (at > 0) --at;
    while (at > 0 && (static_cast<unsigned char>(s[at]) & 0xC0) == 0x80) --at;
    return at;
}

}  // namespace

std::string Wrapped::plain(size_t begin, size_t end) const {
    end = std::min(end, text.size());
    std::string out;
    size_t from = begin;
    for (const SoftBreak& b : breaks) {
        if (b.at < begin || b.at >= end) continue;
        out.append(text, from, b.at - from);
        if (b.is_blank) out += ' ';
        from = b.at + 1;
    }
    return from < end ? out.append(text, from, end - from) : out;
}

size_t Wrapped::to_plain(size_t at) const {
    size_t out = at;
    for (const SoftBreak& b : breaks) out -= b.at < at && !b.is_blank ? 1 : 0;
    return out;
}

size_t Wrapped::from_plain(size_t at) const {
    size_t out = at;
    for (const SoftBreak& b : breaks)
        if (!b.is_blank && b.at <= out) ++out;
    return std::min(out, text.size());
}

Wrapped wrap_text(std::string_view text, float width) {
    Wrapped out;
    float x = 0, x_at_chance = 0;       // of the line so far; at the last chance to break
    size_t chance = std::string::npos;  // in out.text
    bool is_chance_blank = false;
    unsigned before = 0;
    for (size_t i = 0; i < text.size();) {
        const size_t begin = i;
        const unsigned c = next_code_point(text, i);
        const float advance = c == '\n' ? 0 : glyph_advance(c > 0xFFFF ? 0xFFFD : c);
        const bool may_break_here = before && !is_closing(c) && c != ' ' && (is_ideograph(c) || is_ideograph(before));
        if (may_break_here) chance = out.text.size(), is_chance_blank = false, x_at_chance = x;
        if (c != '\n' && c != ' ' && x > 0 && x + advance > width) {
            if (chance == std::string::npos) chance = out.text.size(), is_chance_blank = false, x_at_chance = x;
            if (is_chance_blank)
                out.text[chance] = '\n';
            else
                out.text.insert(chance, 1, '\n');
            out.breaks.push_back({chance, is_chance_blank});
            x -= x_at_chance;
            chance = std::string::npos;
        }
        if (c == ' ') chance = out.text.size(), is_chance_blank = true, x_at_chance = x + advance;
        out.text.append(text.substr(begin, i - begin));
        x += advance;
        before = c;
        if (c == '\n') x = 0, chance = std::string::npos, before = 0;
    }
    return out;
}

int WrappedInput::n_lines() const {
    return 1 + static_cast<int>(std::count(shown_.text.begin(), shown_.text.end(), '\n'));
}

void WrappedInput::rewrite(ImGuiInputTextCallbackData* data, const std::string& plain, size_t plain_cursor) {
    Wrapped next = wrap_text(plain, width_);
    wrapped_for_ = width_;
    plain_ = plain;
    const size_t cursor = next.from_plain(plain_cursor);
    if (next.text != std::string_view(data->Buf, static_cast<size_t>(data->BufTextLen))) {
        data->DeleteChars(0, data->BufTextLen);
        data->InsertChars(0, next.text.c_str(), next.text.c_str() + next.text.size());
        data->CursorPos = data->SelectionStart = data->SelectionEnd = static_cast<int>(cursor);
        was_rewritten_ = true;
    }
    shown_ = std::move(next);
}

// Soft breaks before and after the place of the edit are still soft; every other newline was typed or pasted.
void WrappedInput::edited(ImGuiInputTextCallbackData* data) {
    const std::string_view now(data->Buf, static_cast<size_t>(data->BufTextLen));
    const std::string& was = shown_.text;
    const size_t shorter = std::min(now.size(), was.size());
    size_t head = 0, tail = 0;
    while (head < shorter && now[head] == was[head]) ++head;
    while (tail < shorter - head && now[now.size() - 1 - tail] == was[was.size() - 1 - tail]) ++tail;
    Wrapped edit;
    edit.text = now;
    size_t n_gone = 0;
    for (const SoftBreak& b : shown_.breaks) {
        if (b.at < head)
            edit.breaks.push_back(b);
        else if (b.at >= was.size() - tail)
            edit.breaks.push_back({b.at + now.size() - was.size(), b.is_blank});
        else
            ++n_gone;
    }
    std::string plain = edit.plain();
    size_t at = edit.to_plain(static_cast<size_t>(data->CursorPos));
    // Backspace or Delete at a soft break took a newline that is not there: the character beside it is meant. (One that
    // stood for a blank has taken the blank.)
    if (n_gone == 1 && plain == plain_ && now.size() + 1 == was.size()) {
        if (static_cast<size_t>(data->CursorPos) < cursor_) {
            const size_t from = previous_character(plain, at);
            plain.erase(from, at - from), at = from;
        } else if (at < plain.size()) {
            size_t end = at;
            next_code_point(plain, end);
            plain.erase(at, end - at);
        }
    }
    rewrite(data, plain, at);
}

int WrappedInput::on_event(ImGuiInputTextCallbackData* data) {
    auto& self = *static_cast<WrappedInput*>(data->UserData);
    if (data->EventFlag == ImGuiInputTextFlags_CallbackCharFilter)
        return self.filter_ && *self.filter_ && (*self.filter_)(data->EventChar) ? 1 : 0;
    if (data->EventFlag == ImGuiInputTextFlags_CallbackEdit) self.edited(data);
    if (data->EventFlag == ImGuiInputTextFlags_CallbackAlways) {
        if (self.wrapped_for_ != self.width_)
            self.rewrite(data, self.plain_, self.shown_.to_plain(static_cast<size_t>(data->CursorPos)));
        // Lines are copied as they were typed. The keys were handled before this: the selection is the frame's before.
        if ((current_mods() & kCtrl) && (key_pressed(Key::kC, false) || key_pressed(Key::kX, false)) &&
            self.selection_[0] != self.selection_[1] && data->SelectionStart != data->SelectionEnd)
            ImGui::SetClipboardText(self.shown_.plain(self.selection_[0], self.selection_[1]).c_str());
        self.cursor_ = static_cast<size_t>(data->CursorPos);
        self.selection_[0] = static_cast<size_t>(std::min(data->SelectionStart, data->SelectionEnd));
        self.selection_[1] = static_cast<size_t>(std::max(data->SelectionStart, data->SelectionEnd));
    }
    return 0;
}

bool WrappedInput::draw(const char* id, std::string& text, ImVec2 size, const std::function<bool(unsigned)>& filter) {
    const ImGuiStyle& style = ImGui::GetStyle();
    width_ = std::max(1.0f, size.x - 2 * style.FramePadding.x - style.ScrollbarSize - 2);
    filter_ = &filter;
    was_rewritten_ = false;
    if (text != plain_) plain_ = text, wrapped_for_ = -1;  // changed by somebody else
    if (wrapped_for_ < 0) shown_ = wrap_text(plain_, width_), wrapped_for_ = width_;
    std::string buffer = shown_.text;
    constexpr ImGuiInputTextFlags kFlags = ImGuiInputTextFlags_CallbackEdit | ImGuiInputTextFlags_CallbackAlways |
                                           ImGuiInputTextFlags_CallbackCharFilter |
                                           ImGuiInputTextFlags_NoHorizontalScroll;
    ImGui::InputTextMultiline(id, &buffer, size, kFlags, on_event, this);
    if (was_rewritten_) forget_text_undo();
    filter_ = nullptr;
    const bool is_changed = text != plain_;
    text = plain_;
    return is_changed;
}

}  // namespace vitrine::viz::ui
