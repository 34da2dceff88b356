// The heat map widget.
#include "viz/widgets/heatmap.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "viz/text_util.h"
#include "viz/widgets/basic.h"
#include "viz/widgets/export.h"

namespace vitrine::viz::ui {
namespace {

struct Grid {
    ImVec2 at;   // top left of cell (0, 0)
    float w, h;  // of a cell
    int rows, cols;
    ImVec2 corner(int r, int c) const { return {at.x + w * static_cast<float>(c), at.y + h * static_cast<float>(r)}; }
    ImVec2 end() const { return corner(rows, cols); }
};

void data_range(const HeatmapSpec& s, float& lo, float& hi) {
    lo = s.lo, hi = s.hi;
    if (lo != hi) return;
    lo = INFINITY, hi = -INFINITY;
    for (float v : s.values)
        if (std::isfinite(v)) lo = std::min(lo, v), hi = std::max(hi, v);
    if (lo > hi) lo = 0, hi = 1;
    if (lo == hi) hi = lo + 1;
}

std::string row_title(const HeatmapSpec& s) {
    return std::string(s.row_name) + " \xE2\x86\x91";
}

void draw_column_labels(const HeatmapSpec& s, Canvas& canvas, const Grid& g) {
    float widest = 0;
    int every = 0;  // columns from one label to the next, as the caller gives them
    for (int c = 0, before = 0; c < s.cols; ++c) {
        const std::string label = s.col_label(c);
        if (label.empty()) continue;
        widest = std::max(widest, ImGui::CalcTextSize(label.c_str()).x);
        if (c > before && every == 0) every = c - before;
    }
    every = std::max(1, every);
    const int step =
        every * std::max(1, static_cast<int>(std::ceil((widest + px(6)) / (g.w * static_cast<float>(every)))));
    for (int c = 0; c < s.cols; c += step) {
        const std::string label = s.col_label(c);
        const float w = ImGui::CalcTextSize(label.c_str()).x, x = g.corner(0, c).x + (g.w - w) / 2;
        if (label.empty() || x + w > g.end().x + px(4)) continue;
        canvas.text({x, g.end().y + px(3)}, c == s.selected_col ? theme().text : theme().text_dim, label);
    }
}

// Labels on every n-th row or column, so that they never touch.
void draw_labels(const HeatmapSpec& s, Canvas& canvas, const Grid& g, float label_width) {
    const float line = ImGui::GetTextLineHeight();
    if (s.row_label) {
        const int step = std::max(1, static_cast<int>(std::ceil(line * 0.95f / std::max(g.h, 0.01f))));
        for (int r = 0; r < s.rows; ++r) {
            if (r % step != 0 && r != s.selected_row) continue;
            if (s.selected_row >= 0 && r != s.selected_row && std::abs(r - s.selected_row) < step) continue;
            const std::string label = elide(s.row_label(r), label_width);
            const float x = g.at.x - px(6) - ImGui::CalcTextSize(label.c_str()).x;
            const ImU32 c = r == s.selected_row ? theme().text : s.row_color ? s.row_color(r) : theme().text_dim;
            canvas.text({x, g.corner(r, 0).y + (g.h - line) / 2}, c, label);
        }
    }
    if (s.has_names && *s.row_name) {
        const std::string name = row_title(s);
        canvas.text({g.at.x - px(6) - ImGui::CalcTextSize(name.c_str()).x, g.end().y + px(3)}, theme().text_dim, name);
    }
    if (s.col_label) draw_column_labels(s, canvas, g);
}

void draw_marks(const HeatmapSpec& s, Canvas& canvas, const Grid& g) {
    const Theme& t = theme();
    for (const CellMark& m : s.marks) {
        if (m.row < 0 || m.row >= s.rows || m.col < 0 || m.col >= s.cols) continue;
        const ImVec2 a = g.corner(m.row, m.col), b = g.corner(m.row + 1, m.col + 1);
        const ImU32 ink = m.kind == CellMark::Kind::accent ? t.accent
                          : t.is_dark                      ? IM_COL32_WHITE
                                                           : IM_COL32(20, 20, 20, 255);
        const float inset = std::min({px(1), g.w / 6, g.h / 6}), thick = g.w > px(8) && g.h > px(8) ? px(2) : px(1);
        if (m.kind == CellMark::Kind::cross) {
            const float k = std::min({px(4), g.w * 0.3f, g.h * 0.3f});
            const ImVec2 c{(a.x + b.x) / 2, (a.y + b.y) / 2};
            canvas.line({c.x - k, c.y - k}, {c.x + k, c.y + k}, t.text_dim, px(1.2f));
            canvas.line({c.x - k, c.y + k}, {c.x + k, c.y - k}, t.text_dim, px(1.2f));
        } else if (m.kind == CellMark::Kind::hatch) {
            canvas.line({a.x + inset, b.y - inset}, {b.x - inset, a.y + inset}, with_alpha(t.text_faint, 0.7f), px(1));
        } else if (const ImU32 rim = with_alpha(t.is_dark ? IM_COL32_BLACK : IM_COL32_WHITE, 0.75f); g.w < px(5)) {
            // Too narrow for a box: a tick as tall as the cell, wide enough to be seen.
            const float x = (a.x + b.x) / 2, half = px(1.2f);
            canvas.rect_filled({x - half - 1, a.y}, {x + half + 1, b.y}, rim);
            canvas.rect_filled({x - half, a.y + inset}, {x + half, b.y - inset}, ink);
        } else {
            // A rim of the other ink around it, so that it stands out on cells of any colour.
            canvas.rect({a.x + inset, a.y + inset}, {b.x - inset, b.y - inset}, rim, px(2), thick + px(2));
            canvas.rect({a.x + inset, a.y + inset}, {b.x - inset, b.y - inset}, ink, px(2), thick);
        }
        if (registry_is_on()) {
            const std::string name = std::string(s.id) + "/" + std::to_string(m.row) + "/" + std::to_string(m.col);
            value_rect(name, s.values[static_cast<size_t>(m.row) * s.cols + m.col], a, b);
        }
    }
}

void draw_numbers(const HeatmapSpec& s, Canvas& canvas, const Grid& g, float lo, float hi) {
    for (int r = 0; r < s.rows; ++r)
        for (int c = 0; c < s.cols; ++c) {
            const float v = s.values[static_cast<size_t>(r) * s.cols + c];
            const std::string label = format_number(v);
            const ImVec2 size = ImGui::CalcTextSize(label.c_str()), a = g.corner(r, c);
            if (registry_is_on())
                value_rect(std::string(s.id) + "/" + std::to_string(r) + "/" + std::to_string(c), v, a,
                           g.corner(r + 1, c + 1));
            if (!std::isfinite(v)) continue;
            if (size.x + px(4) > g.w || size.y > g.h) continue;
            const ImU32 back = map_color(s.map, map_position(s.map, v, lo, hi));
            canvas.text({a.x + (g.w - size.x) / 2, a.y + (g.h - size.y) / 2}, readable_on(back), label);
        }
}

void hover_text(const HeatmapSpec& s, int r, int c) {
    Tooltip box;
    const float v = s.values[static_cast<size_t>(r) * s.cols + c];
    {
        FontScope small(Font::small);
        Color dim(theme().text_dim);
        const std::string row = s.row_label ? s.row_label(r) : std::to_string(r),
                          col = s.col_label ? s.col_label(c) : "";
        ui::plainf("%s %s  \xC2\xB7  %s %s", s.row_name, row.c_str(), s.col_name,
                    col.empty() ? std::to_string(c).c_str() : col.c_str());
    }
    if (std::isfinite(v)) ui::plainf("%s %s %s", s.value_name, full_precision(v).c_str(), s.unit);
    if (s.hover) s.hover(r, c);
}

// Copies what it needs: it is written on another thread.
std::function<std::string()> to_csv(const HeatmapSpec& s) {
    std::vector<std::string> rows, cols;
    for (int r = 0; r < s.rows; ++r) rows.push_back(s.row_label ? s.row_label(r) : std::to_string(r));
    for (int c = 0; c < s.cols; ++c) {
        cols.push_back(s.col_label ? s.col_label(c) : "");
        if (cols.back().empty()) cols.back() = std::to_string(c);
    }
    const auto n = static_cast<ptrdiff_t>(rows.size() * cols.size());
    return [corner = std::string(s.row_name) + " \\ " + s.col_name, rows, cols,
            values = std::vector<float>(s.values.begin(), s.values.begin() + n)] {
        std::string out = csv_field(corner);
        for (const std::string& c : cols) out += "," + csv_field(c);
        out += '\n';
        for (size_t r = 0; r < rows.size(); ++r) {
            out += csv_field(rows[r]);
            for (size_t c = 0; c < cols.size(); ++c) out += "," + exact_number(values[r * cols.size() + c]);
            out += '\n';
        }
        return out;
    };
}

// [px] that the columns' name takes from the legend's line.
float name_room(const HeatmapSpec& s) {
    return s.has_names && *s.col_name ? ImGui::CalcTextSize(s.col_name).x + px(12) : 0;
}

// The strip of the legend with its ends, for the picture: on the screen color_legend draws it.
void record_legend(Figure& f, ImVec2 at, ColorMap map, float lo, float hi, const char* unit, float width) {
    constexpr int kSteps = 64;
    Shape& strip = f.shapes.emplace_back();
    strip.kind = Shape::Kind::cells, strip.rows = 1, strip.cols = kSteps;
    const float line = ImGui::GetTextLineHeight();
    const std::string left = format_bound(map == ColorMap::diverging ? -std::max(std::fabs(lo), std::fabs(hi)) : lo),
                      right = format_bound(map == ColorMap::diverging ? std::max(std::fabs(lo), std::fabs(hi)) : hi) +
                              (*unit ? std::string(" ") + unit : "");
    const float x0 = at.x + ImGui::CalcTextSize(left.c_str()).x + px(8),
                x1 = std::max(x0 + px(10), at.x + width - ImGui::CalcTextSize(right.c_str()).x - px(8));
    strip.points = {{x0, at.y + line * 0.2f}, {x1, at.y + line * 0.8f}};
    for (int i = 0; i < kSteps; ++i) {
        const float t = (static_cast<float>(i) + 0.5f) / kSteps;
        strip.cells.push_back(map_color(map, map == ColorMap::diverging ? 2 * t - 1 : t));
    }
    for (const auto& [x, text] : {std::pair(at.x, left), std::pair(x1 + px(8), right)}) {
        Shape& s = f.shapes.emplace_back();
        s.kind = Shape::Kind::text, s.points = {{x, at.y}}, s.color = theme().text_dim, s.width = ImGui::GetFontSize();
        s.text = text, s.is_mono = true;
    }
}

}  // namespace

void Heatmap::color(const HeatmapSpec& s, float lo, float hi) {
    const size_t n = static_cast<size_t>(s.rows) * s.cols;
    const bool is_same = !texture_.empty() && drawn_.size() == n && cols_ == s.cols && lo_ == lo && hi_ == hi &&
                         map_ == s.map && is_dark_ == theme().is_dark &&
                         std::memcmp(drawn_.data(), s.values.data(), n * sizeof(float)) == 0;
    if (is_same) return;
    drawn_.assign(s.values.begin(), s.values.begin() + static_cast<ptrdiff_t>(n));
    pixels_.resize(n);
    for (size_t i = 0; i < n; ++i) pixels_[i] = map_color(s.map, map_position(s.map, drawn_[i], lo, hi));
    cols_ = s.cols, lo_ = lo, hi_ = hi, map_ = s.map, is_dark_ = theme().is_dark;
    texture_.upload(s.cols, s.rows, pixels_.data());
}

HeatmapResult Heatmap::draw(const HeatmapSpec& s) {
    HeatmapResult out;
    if (s.rows <= 0 || s.cols <= 0 || s.values.size() < static_cast<size_t>(s.rows) * s.cols) return out;
    FontScope small(Font::mono_small);
    data_range(s, out.lo, out.hi);
    const ImVec2 room = ImGui::GetContentRegionAvail(), origin = ImGui::GetCursorScreenPos();
    const float width = s.width > 0 ? s.width : room.x, line = ImGui::GetTextLineHeight();
    const float legend = s.has_legend ? line + px(8) : 0;
    const float height = (s.height > 0 ? s.height : room.y) - legend;
    float label_width = 0;
    if (s.row_label)
        for (int r = 0; r < s.rows; ++r)
            label_width = std::max(label_width, ImGui::CalcTextSize(s.row_label(r).c_str()).x);
    label_width = std::min(label_width, width * 0.3f);
    if (s.has_names && *s.row_name) label_width = std::max(label_width, ImGui::CalcTextSize(row_title(s).c_str()).x);
    const bool has_line_below = s.col_label || (s.has_names && *s.row_name);
    const float left = s.row_label ? label_width + px(8) : 0, below = has_line_below ? line + px(5) : 0;
    Grid g{{origin.x + left, origin.y},
           std::max(1.0f, width - left - 1) / s.cols,
           std::max(1.0f, height - below) / s.rows,
           s.rows,
           s.cols};
    if (s.is_square) g.w = g.h = std::min(g.w, g.h);
    color(s, out.lo, out.hi);
    Recording recording(s.id, origin, width);
    Canvas canvas = recording.canvas(ImGui::GetWindowDrawList());
    ImGui::PushID(s.id);
    ImGui::InvisibleButton("map", {width, g.h * s.rows + below});
    mark(s.id);
    const bool is_hovered = ImGui::IsItemHovered();
    const ImVec2 mouse = ImGui::GetIO().MousePos;
    if (is_hovered && mouse.x >= g.at.x && mouse.y >= g.at.y && mouse.x < g.end().x && mouse.y < g.end().y) {
        out.hovered_row = std::min(s.rows - 1, static_cast<int>((mouse.y - g.at.y) / g.h));
        out.hovered_col = std::min(s.cols - 1, static_cast<int>((mouse.x - g.at.x) / g.w));
        out.is_clicked = ImGui::IsMouseClicked(ImGuiMouseButton_Left);
    }
    const std::string under =
        out.hovered_row >= 0 ? full_precision(s.values[static_cast<size_t>(out.hovered_row) * s.cols + out.hovered_col])
                             : "";
    copy_menu("copy", {under, "", [&] { return to_csv(s)(); }, s.id, {}});
    canvas.cells(texture_.id(), g.at, g.end(), s.rows, s.cols, pixels_);
    canvas.rect(g.at, g.end(), theme().border);
    if (s.shows_numbers) draw_numbers(s, canvas, g, out.lo, out.hi);
    if (s.selected_row >= 0 && s.selected_row < s.rows)
        canvas.rect({g.at.x - px(1), g.corner(s.selected_row, 0).y - px(1)},
                    {g.end().x + px(1), g.corner(s.selected_row + 1, 0).y + px(1)}, theme().accent, px(2), px(1.5f));
    draw_marks(s, canvas, g);
    draw_labels(s, canvas, g, label_width);
    if (out.hovered_row >= 0) {
        canvas.rect(g.corner(out.hovered_row, out.hovered_col), g.corner(out.hovered_row + 1, out.hovered_col + 1),
                    theme().text, px(1));
        hover_text(s, out.hovered_row, out.hovered_col);
    }
    if (s.has_legend) {
        ImVec2 at{origin.x + left, ImGui::GetCursorScreenPos().y};
        if (s.has_names) {
            canvas.text(at, theme().text_dim, s.value_name);
            at.x += ImGui::CalcTextSize(s.value_name).x + px(10);
            const float x = g.end().x - ImGui::CalcTextSize(s.col_name).x;
            if (*s.col_name) canvas.text({x, at.y}, theme().text_dim, s.col_name);
        }
        const float strip = std::min(px(240), width - left - (at.x - origin.x - left) - name_room(s));
        ImGui::SetCursorScreenPos(at);
        if (recording.is_on())
            record_legend(*canvas.figure(), canvas.local(ImGui::GetCursorScreenPos()), s.map, out.lo, out.hi, s.unit,
                          strip);
        color_legend(s.map, out.lo, out.hi, s.unit, strip);
    }
    recording.finish(ImGui::GetCursorScreenPos().y, [&] { return to_csv(s); });
    ImGui::PopID();
    return out;
}

}  // namespace vitrine::viz::ui
