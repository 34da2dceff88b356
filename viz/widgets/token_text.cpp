// The token text widget.
#include "viz/widgets/token_text.h"

#include <algorithm>
#include <cfloat>

#include "viz/text_util.h"
#include "viz/widgets/basic.h"

namespace vitrine::viz::ui {
namespace {

constexpr int64_t kTokensPerFrame = 20000;

bool ends_line(const TokenInfo& t) {
    return !t.text.empty() && t.text.back() == '\n';
}

// One token's part of the box around an entry: open where it goes on into the neighbour.
void draw_outline(ImDrawList* dl, ImVec2 a, ImVec2 b, const TokenStyle& style) {
    const float thick = px(1.5f);
    if (!style.joins_left && !style.joins_right) return dl->AddRect(a, b, style.outline, px(3), 0, thick);
    const float right = b.x + (style.joins_right ? px(1) : 0);
    dl->AddLine({a.x, a.y}, {right, a.y}, style.outline, thick);
    dl->AddLine({a.x, b.y - 1}, {right, b.y - 1}, style.outline, thick);
    if (!style.joins_left) dl->AddLine(a, {a.x, b.y}, style.outline, thick);
    if (!style.joins_right) dl->AddLine({b.x - 1, a.y}, {b.x - 1, b.y}, style.outline, thick);
}

void draw_token(const TokenTextSpec& s, int64_t i, ImVec2 a, ImVec2 b, bool is_hovered) {
    const Theme& t = theme();
    ImDrawList* dl = ImGui::GetWindowDrawList();
    const TokenInfo& token = s.tokens[static_cast<size_t>(i)];
    const TokenStyle style = s.style ? s.style(i) : TokenStyle{};
    if (style.fill)
        dl->AddRectFilled(a, {b.x + (style.joins_right ? px(0.5f) : 0), b.y}, style.fill,
                          style.joins_left || style.joins_right ? 0 : px(3));
    if (is_hovered && !style.fill) dl->AddRectFilled(a, b, t.hovered, px(3));
    if (style.outline) draw_outline(dl, a, b, style);
    if (style.underline) dl->AddRectFilled({a.x, b.y}, {b.x, b.y + px(2)}, style.underline);
    if (style.bracket) {
        const float y = a.y - px(3);
        dl->AddLine({a.x, y}, {b.x, y}, style.bracket, px(1.5f));
        if (style.is_bracket_begin) dl->AddLine({a.x, y}, {a.x, y + px(4)}, style.bracket, px(1.5f));
        if (style.is_bracket_end) dl->AddLine({b.x - 1, y}, {b.x - 1, y + px(4)}, style.bracket, px(1.5f));
    }
    const ImU32 ink = style.ink          ? style.ink
                      : style.fill       ? readable_on(mix(t.pane, style.fill | IM_COL32_A_MASK,
                                                           static_cast<float>(style.fill >> IM_COL32_A_SHIFT) / 255))
                      : token.is_special ? t.text_dim
                                         : t.text;
    const std::string label = elide(token_label(token.text), b.x - a.x);
    dl->AddText({a.x + px(1), a.y}, ink, label.c_str());
    if (i == s.selected) dl->AddRect({a.x - px(1), a.y - px(1)}, {b.x + px(1), b.y + px(1)}, t.accent, px(3), 0, px(2));
    if (registry_is_on()) mark_rect(std::string(s.id) + "/" + std::to_string(i), a, b, token.text);
}

}  // namespace

float TokenText::token_width(const TokenInfo& t, float room) const {
    const std::string label = token_label(t.text);
    const float w = ImGui::GetFont()->CalcTextSizeA(font_size_, FLT_MAX, 0, label.c_str()).x;
    return std::min(std::max(w, px(4)) + px(2), room);
}

void TokenText::lay_out(const TokenTextSpec& s, float width) {
    const auto n = static_cast<int64_t>(s.tokens.size());
    if (width != width_ || ImGui::GetFontSize() != font_size_ || s.version != version_ || n < n_laid_out_) {
        line_begin_.assign(1, 0);
        n_laid_out_ = 0, x_ = 0;
        width_ = width, font_size_ = ImGui::GetFontSize(), version_ = s.version;
        wants_scroll_ = true;
    }
    const int64_t end = std::min(n, n_laid_out_ + kTokensPerFrame);
    for (; n_laid_out_ < end; ++n_laid_out_) {
        const TokenInfo& t = s.tokens[static_cast<size_t>(n_laid_out_)];
        const float w = token_width(t, width);
        if (x_ > 0 && x_ + w > width) line_begin_.push_back(n_laid_out_), x_ = 0;
        x_ += w;
        if (ends_line(t)) line_begin_.push_back(n_laid_out_ + 1), x_ = 0;
    }
}

TokenTextResult TokenText::draw(const TokenTextSpec& s) {
    TokenTextResult out;
    Region region(s.id, {0, s.height});
    FontScope mono(Font::mono);
    const float width = std::max(px(40), ImGui::GetContentRegionAvail().x - px(4));
    lay_out(s, width);
    const float line = ImGui::GetTextLineHeight() + px(9);
    const ImVec2 origin = ImGui::GetCursorScreenPos();
    const auto n_lines = static_cast<int64_t>(line_begin_.size());
    if (s.selected != last_selected_) wants_scroll_ = s.follows_selected, last_selected_ = s.selected;
    if (wants_scroll_ && s.selected >= 0 && s.selected < n_laid_out_) {
        const auto it = std::upper_bound(line_begin_.begin(), line_begin_.end(), s.selected) - 1;
        const float y = static_cast<float>(it - line_begin_.begin()) * line, top = ImGui::GetScrollY(),
                    room = ImGui::GetWindowHeight();
        if (y < top + line || y > top + room - 2 * line) ImGui::SetScrollY(std::max(0.0f, y - room / 2));
        wants_scroll_ = false;
    }
    const int64_t first = std::clamp<int64_t>(static_cast<int64_t>(ImGui::GetScrollY() / line), 0, n_lines - 1);
    const int64_t last = std::min(n_lines, first + static_cast<int64_t>(ImGui::GetWindowHeight() / line) + 2);
    const bool is_over = ImGui::IsWindowHovered();
    const ImVec2 mouse = ImGui::GetIO().MousePos;
    for (int64_t l = first; l < last; ++l) {
        const int64_t end = l + 1 < n_lines ? line_begin_[static_cast<size_t>(l + 1)] : n_laid_out_;
        float x = origin.x + px(1);
        const float y = origin.y + px(5) + static_cast<float>(l) * line;
        for (int64_t i = line_begin_[static_cast<size_t>(l)]; i < end; ++i) {
            const float w = token_width(s.tokens[static_cast<size_t>(i)], width);
            const ImVec2 a{x, y}, b{x + w - px(0.5f), y + ImGui::GetTextLineHeight()};
            const bool is_hovered =
                is_over && mouse.x >= a.x && mouse.x < x + w && mouse.y >= a.y - px(3) && mouse.y < b.y + px(3);
            if (is_hovered) out.hovered = i;
            draw_token(s, i, a, b, is_hovered);
            x += w;
        }
    }
    ImGui::Dummy({width, static_cast<float>(n_lines) * line + px(6)});
    if (out.hovered >= 0) {
        if (s.hover) begin_tooltip(), s.hover(out.hovered), end_tooltip();
        if (ImGui::IsMouseClicked(ImGuiMouseButton_Left)) out.clicked = out.hovered;
    }
    return out;
}

}  // namespace vitrine::viz::ui
