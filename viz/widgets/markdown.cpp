// Markdown on the screen: laid out once, then only the visible pieces are drawn.
#include "viz/widgets/markdown.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "viz/imgui_compat.h"
#include "viz/text_util.h"
#include "viz/theme.h"
#include "viz/widgets/basic.h"

namespace vitrine::viz::ui {
namespace {

using markdown::Block;
using markdown::Span;
using markdown::Spans;
using markdown::Style;

constexpr float kMostWidth = 860;  // [design px] longer lines are hard to read; tables may be wider

struct Word {
    std::string text;
    const Span* span;
    bool has_space;  // before it
    float width;
};

Font font_of(Style s, Font font, Font bold) {
    return s == Style::code ? Font::mono_small : s == Style::bold ? bold : font;
}

float width_of(const std::string& s, Font f) {
    FontScope scope(f);
    return ImGui::CalcTextSize(s.c_str(), s.c_str() + s.size()).x;
}

float line_height(Font f) {
    FontScope scope(f);
    return ImGui::GetTextLineHeight();
}

// Words that are wider than a line are cut into pieces.
void add_word(std::vector<Word>& out, std::string text, const Span& s, bool has_space, Font f, float most) {
    while (width_of(text, f) > most && text.size() > 1) {
        size_t n = 0;
        for (size_t i = 0; i < text.size();) {
            next_code_point(text, i);
            if (n > 0 && width_of(text.substr(0, i), f) > most) break;
            n = i;
        }
        if (n >= text.size()) break;
        const std::string part = text.substr(0, n);
        out.push_back({part, &s, has_space, width_of(part, f)});
        text.erase(0, n), has_space = true;
    }
    const float w = width_of(text, f);
    out.push_back({std::move(text), &s, has_space, w});
}

std::vector<Word> words_of(const Spans& spans, float most, Font font, Font bold) {
    std::vector<Word> out;
    bool has_space = false;
    for (const Span& s : spans) {
        const std::string shown = displayable(s.text);
        const Font f = font_of(s.style, font, bold);
        for (size_t i = 0; i < shown.size();) {
            if (shown[i] == ' ') {
                has_space = true, ++i;
                continue;
            }
            const size_t end = std::min(shown.find(' ', i), shown.size());
            add_word(out, shown.substr(i, end - i), s, has_space, f, most);
            has_space = false, i = end;
        }
    }
    return out;
}

}  // namespace

// Lines break at spaces only; what follows without one ("**bold**,") stays with the word before.
Markdown::Lines Markdown::flow(const Spans& spans, float width, Font font, Font bold) {
    Lines out;
    const std::vector<Word> words = words_of(spans, width, font, bold);
    const float space = width_of(" ", font), row = line_height(font) * 1.3f, text = line_height(font);
    float x = 0, y = 0;
    for (size_t i = 0; i < words.size();) {
        size_t end = i + 1;
        float w = words[i].width;
        for (; end < words.size() && !words[end].has_space; ++end) w += words[end].width;
        if (x > 0 && x + space + w > width + 0.5f) x = 0, y += row;
        if (x > 0) x += space;
        for (; i < end; ++i) {
            const Font f = font_of(words[i].span->style, font, bold);
            const float h = line_height(f);
            out.pieces.push_back({{x, y + std::floor((row - text) / 2 + (text - h) * 0.6f)},
                                  f,
                                  words[i].span->style,
                                  words[i].text,
                                  words[i].span->address,
                                  {words[i].width, h}});
            x += words[i].width;
            out.width = std::max(out.width, x);
        }
    }
    out.height = words.empty() ? 0 : y + row;
    return out;
}

void Markdown::put(const Lines& lines, ImVec2 at) {
    for (Piece p : lines.pieces) {
        p.at = {p.at.x + at.x, p.at.y + at.y};
        pieces_.push_back(std::move(p));
    }
}

void Markdown::lay_out_code(const Block& b, float width) {
    const float row = line_height(Font::mono_small) * 1.3f, pad = px(10), top = y_;
    y_ += px(8);
    for (size_t i = 0; i < b.code.size();) {
        const size_t end = std::min(b.code.find('\n', i), b.code.size());
        const std::string line = displayable(b.code.substr(i, end - i));
        std::vector<Word> parts;
        const Span span{Style::plain, line, ""};
        add_word(parts, line, span, false, Font::mono_small, width - 2 * pad);
        for (Word& part : parts) {
            pieces_.push_back({{pad, y_}, Font::mono_small, Style::plain, part.text, "", {part.width, row}});
            y_ += row;
        }
        i = end + 1;
    }
    y_ += px(8);
    shapes_.push_back({{0, top}, {width, y_}, true});
}

// Columns as wide as their words where all fit; else narrow columns keep their width and the wide ones share the rest.
void Markdown::lay_out_table(const Block& b, const std::string& name, float width) {
    const size_t n = b.is_right.size();
    if (n == 0) return;
    const float gap = px(18), room = width - gap * static_cast<float>(n - 1);
    std::vector<float> wanted(n, px(8));
    for (size_t r = 0; r < b.rows.size(); ++r)
        for (size_t c = 0; c < n; ++c)
            wanted[c] = std::max(wanted[c], flow(b.rows[r][c], 1e6f, Font::small, Font::title).width + 1);
    float total = std::accumulate(wanted.begin(), wanted.end(), 0.0f);
    if (total > room) {
        float most = *std::max_element(wanted.begin(), wanted.end());
        const auto sum_at = [&](float cap) {
            float sum = 0;
            for (const float w : wanted) sum += std::min(w, cap);
            return sum;
        };
        float least = 0;
        for (int i = 0; i < 40; ++i) (sum_at((least + most) / 2) > room ? most : least) = (least + most) / 2;
        for (float& w : wanted) w = std::max(px(24), std::min(w, least));
    }
    for (size_t r = 0; r < b.rows.size(); ++r) {
        float x = 0, height = 0;
        const float top = y_ + px(4);
        for (size_t c = 0; c < n; ++c) {
            Spans cell = b.rows[r][c];
            const Lines lines = flow(cell, wanted[c], Font::small, Font::title);
            put(lines, {b.is_right[c] ? x + wanted[c] - lines.width : x, top});
            marks_.push_back({{x, top},
                              {x + wanted[c], top + lines.height},
                              name + "/" + std::to_string(r) + "/" + std::to_string(c),
                              markdown::plain(cell)});
            height = std::max(height, lines.height);
            x += wanted[c] + gap;
        }
        y_ = top + height + px(4);
        shapes_.push_back({{0, y_}, {x - gap, y_ + (r == 0 ? px(1.5f) : px(1))}, false});
    }
}

void Markdown::lay_out_block(const Block& b, const std::string& name, float width) {
    const float narrow = std::min(width, px(kMostWidth)), top = y_;
    float left = 0;
    switch (b.kind) {
        case Block::Kind::heading: {
            const Font f = b.level == 1 ? Font::heading : Font::title;
            y_ += b.level == 1 ? 0 : px(8);
            const Lines lines = flow(b.spans, narrow, f, f);
            put(lines, {0, y_}), y_ += lines.height + px(2);
            break;
        }
        case Block::Kind::item: {
            left = px(18) * static_cast<float>(std::min(b.level, 6));
            put(flow({{Style::plain, b.marker, ""}}, narrow, Font::body, Font::title), {left, y_});
            left += std::max(px(16), width_of(b.marker + " ", Font::body));
            [[fallthrough]];
        }
        case Block::Kind::paragraph: {
            const Lines lines = flow(b.spans, narrow - left, Font::body, Font::title);
            put(lines, {left, y_}), y_ += lines.height;
            break;
        }
        case Block::Kind::code:
            lay_out_code(b, narrow);
            break;
        case Block::Kind::table:
            lay_out_table(b, name, width);
            break;
        case Block::Kind::rule:
            y_ += px(6);
            shapes_.push_back({{0, y_}, {narrow, y_ + px(1)}, false});
            break;
    }
    if (b.kind != Block::Kind::table && b.kind != Block::Kind::rule)
        marks_.push_back(
            {{0, top}, {narrow, y_}, name, b.kind == Block::Kind::code ? b.code : markdown::plain(b.spans)});
    y_ += b.kind == Block::Kind::item ? px(3) : px(9);
}

void Markdown::lay_out(std::string_view text, float width) {
    if (text == text_ && width == width_ && ImGui::GetFontSize() == font_size_) return;
    text_ = text, width_ = width, font_size_ = ImGui::GetFontSize();
    pieces_.clear(), marks_.clear(), shapes_.clear(), y_ = 0;
    const std::vector<Block> blocks = markdown::parse(text);
    for (size_t i = 0; i < blocks.size(); ++i) lay_out_block(blocks[i], std::to_string(i), width);
}

void Markdown::draw(std::string_view text, const char* id) {
    lay_out(text, std::max(px(120), ImGui::GetContentRegionAvail().x - px(4)));
    const ImVec2 p = ImGui::GetCursorScreenPos();
    const Theme& t = theme();
    ImDrawList* dl = ImGui::GetWindowDrawList();
    const float from = dl->GetClipRectMin().y - p.y, to = dl->GetClipRectMax().y - p.y;
    const auto place = [&](ImVec2 at) { return ImVec2(p.x + at.x, p.y + at.y); };
    for (const Shape& s : shapes_)
        if (s.max.y >= from && s.min.y <= to)
            dl->AddRectFilled(place(s.min), place(s.max), s.is_filled ? t.raised : t.border, s.is_filled ? px(5) : 0);
    for (const Piece& piece : pieces_) {
        if (piece.at.y + piece.size.y < from || piece.at.y > to) continue;
        const ImVec2 a = place(piece.at), b{a.x + piece.size.x, a.y + piece.size.y};
        FontScope font(piece.font);
        if (piece.style == Style::code)
            dl->AddRectFilled({a.x - px(2), a.y - px(1)}, {b.x + px(2), b.y + px(1)}, t.raised, px(3));
        ui::paint_text(dl, a, piece.style == Style::link ? t.thinking : t.text, piece.text.c_str());
        if (piece.style == Style::link) {
            dl->AddLine({a.x, b.y}, {b.x, b.y}, t.thinking);
            if (ImGui::IsWindowHovered() && ImGui::IsMouseHoveringRect(a, b)) {
                Tooltip tip;
                ui::plain(piece.address.c_str());
            }
        }
    }
    for (const Mark& m : marks_)
        if (registry_is_on()) mark_rect(std::string(id) + "/" + m.name, place(m.min), place(m.max), m.text);
    ImGui::Dummy({width_, y_});
}

}  // namespace vitrine::viz::ui
