// The running text widget.
#include "viz/widgets/text_flow.h"

#include <algorithm>
#include <cfloat>

#include "viz/imgui_compat.h"
#include "viz/text_util.h"
#include "viz/theme.h"

namespace vitrine::viz::ui {
namespace {

bool is_cjk(unsigned c) {
    return (c >= 0x2E80 && c < 0xD7B0) || (c >= 0xF900 && c < 0xFB00) || (c >= 0xFF00 && c < 0xFFF0);
}
// Closing marks stay with what they close.
bool never_begins_line(unsigned c) {
    return (c >= 0x3001 && c <= 0x3002) || c == 0xFF0C || c == 0xFF01 || c == 0xFF1F || c == 0xFF1A || c == 0xFF1B ||
           c == 0x300D || c == 0x300F || c == 0xFF09 || c == 0x201D || c == 0x2019;
}

float width_of(std::string_view s) {
    return ImGui::GetFont()->CalcTextSizeA(ImGui::GetFontSize(), FLT_MAX, 0, s.data(), s.data() + s.size()).x;
}

// Where the line that begins at `begin` ends (one past its last byte, its newline included).
size_t line_end(std::string_view text, size_t begin, float width) {
    float x = 0;
    size_t last_break = begin;
    unsigned before = 0;
    for (size_t i = begin; i < text.size();) {
        const size_t at = i;
        const unsigned c = next_code_point(text, i);
        if (c == '\n') return i;
        if (at > begin && !never_begins_line(c) && (is_cjk(c) || is_cjk(before)) && c != ' ') last_break = at;
        const float w = glyph_advance(c);
        if (x + w > width && c != ' ') return last_break > begin ? last_break : at > begin ? at : i;
        x += w;
        // A sign stays with its number, a hyphen with the word before it.
        const bool is_sign = c == '-' && (before == ' ' || before == '[' || before == '(' || before == 0);
        if (c == ' ' || (c == '-' && !is_sign) || c == '/') last_break = i;
        before = c;
    }
    return text.size();
}

}  // namespace

std::string wrapped(std::string_view text, float width) {
    std::string out;
    for (size_t at = 0; at < text.size();) {
        const size_t end = line_end(text, at, width);
        std::string_view line = text.substr(at, end - at);
        if (end < text.size())
            while (!line.empty() && (line.back() == ' ' || line.back() == '\n')) line.remove_suffix(1);
        out += line;
        if (end < text.size()) out += '\n';
        at = end;
    }
    return out;
}

void TextFlow::lay_out(std::string_view text, uint64_t version, float width) {
    const bool is_new = version != version_ || width != width_ || ImGui::GetFontSize() != font_size_ ||
                        text.size() < n_bytes_ || line_begin_.empty();
    if (!is_new && text.size() == n_bytes_) return;
    if (is_new) line_begin_.assign(1, 0);
    version_ = version, width_ = width, font_size_ = ImGui::GetFontSize(), n_bytes_ = text.size();
    line_height_ = ImGui::GetTextLineHeight() * 1.32f;
    for (size_t at = line_begin_.back(); at < text.size();) {
        at = line_end(text, at, width);
        if (at < text.size() || text.back() == '\n') line_begin_.push_back(at);
    }
}

float TextFlow::height() const {
    return line_height_ * static_cast<float>(line_begin_.size());
}

int64_t TextFlow::n_lines(std::string_view text, uint64_t version, float width) {
    lay_out(text, version, width);
    return static_cast<int64_t>(line_begin_.size());
}

std::string_view TextFlow::first_lines(std::string_view text, int64_t n) const {
    return n < static_cast<int64_t>(line_begin_.size()) ? text.substr(0, line_begin_[static_cast<size_t>(n)]) : text;
}

int64_t TextFlow::draw(std::string_view text, uint64_t version, float width, std::span<const TextMark> marks,
                       int64_t most_lines) {
    lay_out(text, version, width);
    text = first_lines(text, most_lines);
    const auto n = std::min(static_cast<int64_t>(line_begin_.size()), most_lines);
    const ImVec2 p = ImGui::GetCursorScreenPos(), mouse = ImGui::GetIO().MousePos;
    ImGui::Dummy({width, line_height_ * static_cast<float>(n)});
    const bool is_hovered = ImGui::IsItemHovered();
    ImDrawList* dl = ImGui::GetWindowDrawList();
    const ImVec2 clip_min = dl->GetClipRectMin(), clip_max = dl->GetClipRectMax();
    const auto first = std::clamp<int64_t>(static_cast<int64_t>((clip_min.y - p.y) / line_height_), 0, n);
    const auto last = std::clamp<int64_t>(static_cast<int64_t>((clip_max.y - p.y) / line_height_) + 1, 0, n);
    const ImU32 ink = ImGui::GetColorU32(ImGuiCol_Text);
    const float inset = (line_height_ - ImGui::GetTextLineHeight()) / 2;
    int64_t under = -1;
    for (int64_t l = first; l < last; ++l) {
        const size_t begin = line_begin_[static_cast<size_t>(l)];
        size_t end = l + 1 < n ? line_begin_[static_cast<size_t>(l + 1)] : text.size();
        const float y = p.y + line_height_ * static_cast<float>(l);
        for (const TextMark& m : marks) {
            const size_t a = std::max(begin, m.begin), b = std::min(end, m.end);
            if (a >= b) continue;
            const float x0 = p.x + width_of(text.substr(begin, a - begin)),
                        x1 = std::max(x0 + px(3), p.x + width_of(text.substr(begin, b - begin)));
            if (m.fill) dl->AddRectFilled({x0, y + inset / 2}, {x1, y + line_height_ - inset / 2}, m.fill, px(3));
            if (m.outline)
                dl->AddRect({x0 - 1, y + inset / 2}, {x1 + 1, y + line_height_ - inset / 2}, m.outline, px(3), 0,
                            px(1.5f));
        }
        if (is_hovered && mouse.y >= y && mouse.y < y + line_height_) {
            float x = p.x;
            for (size_t i = begin; i < end;) {
                const size_t at = i;
                x += glyph_advance(next_code_point(text, i));
                if (mouse.x < x) {
                    under = static_cast<int64_t>(at);
                    break;
                }
            }
        }
        while (end > begin && (text[end - 1] == '\n' || text[end - 1] == ' ')) --end;
        dl->AddText({p.x, y + inset}, ink, text.data() + begin, text.data() + end);
    }
    return under;
}

}  // namespace vitrine::viz::ui
