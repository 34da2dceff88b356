// The canvas: every call draws, and is kept while a figure is recorded.
#include "viz/widgets/figure.h"

#include <algorithm>
#include <cmath>

#include "viz/fonts.h"
#include "viz/theme.h"
#include "viz/widgets/registry.h"

namespace vitrine::viz::ui {
namespace {

constexpr int kMaxPolyline = 12000;  // 16-bit indices: a longer one would be drawn wrong
constexpr float kDash = 5;           // [design px]

void draw_polyline(ImDrawList* dl, std::span<const ImVec2> points, ImU32 color, float width) {
    for (size_t i = 0; i + 1 < points.size(); i += kMaxPolyline - 1) {
        const size_t n = std::min<size_t>(kMaxPolyline, points.size() - i);
        dl->AddPolyline(points.data() + i, static_cast<int>(n), color, 0, width);
    }
}

void draw_dashed(ImDrawList* dl, std::span<const ImVec2> points, ImU32 color, float width, float dash) {
    float phase = 0;  // along the curve, in [0, 2 dash)
    for (size_t i = 0; i + 1 < points.size(); ++i) {
        const ImVec2 a = points[i], b = points[i + 1];
        const float length = std::hypot(b.x - a.x, b.y - a.y);
        for (float at = 0; at < length;) {
            const bool is_on = phase < dash;
            const float step = std::min(length - at, (is_on ? dash : 2 * dash) - phase);
            if (is_on) {
                const float u = at / length, v = (at + step) / length;
                dl->AddLine({a.x + (b.x - a.x) * u, a.y + (b.y - a.y) * u},
                            {a.x + (b.x - a.x) * v, a.y + (b.y - a.y) * v}, color, width);
            }
            at += std::max(step, 1e-3f);
            phase = std::fmod(phase + std::max(step, 1e-3f), 2 * dash);
        }
    }
}

}  // namespace

Shape* Canvas::add(Shape::Kind kind, ImU32 color, std::initializer_list<ImVec2> points) {
    if (!figure_) return nullptr;
    Shape& s = figure_->shapes.emplace_back();
    s.kind = kind, s.color = color, s.clip = clip_;
    for (ImVec2 p : points) s.points.push_back(local(p));
    return &s;
}

void Canvas::line(ImVec2 a, ImVec2 b, ImU32 color, float width) {
    if (dl_) dl_->AddLine(a, b, color, width);
    if (Shape* s = add(Shape::Kind::line, color, {a, b})) s->width = width;
}

void Canvas::polyline(std::span<const ImVec2> points, ImU32 color, float width, bool is_dashed,
                      std::string_view series) {
    if (points.size() < 2) return;
    if (dl_ && is_dashed)
        draw_dashed(dl_, points, color, width, px(kDash));
    else if (dl_)
        draw_polyline(dl_, points, color, width);
    if (Shape* s = add(Shape::Kind::line, color, {})) {
        for (ImVec2 p : points) s->points.push_back(local(p));
        s->width = width, s->dash = is_dashed ? px(kDash) : 0, s->text = series;
    }
}

void Canvas::area(std::span<const ImVec2> upper, std::span<const ImVec2> lower, ImU32 color, std::string_view series) {
    const size_t n = std::min(upper.size(), lower.size());
    if (n < 2) return;
    if (dl_) {
        const ImDrawListFlags flags = dl_->Flags;
        dl_->Flags &= ~ImDrawListFlags_AntiAliasedFill;  // smoothed edges of neighbouring quads overlap and show as stripes
        for (size_t i = 0; i + 1 < n; ++i) dl_->AddQuadFilled(upper[i], upper[i + 1], lower[i + 1], lower[i], color);
        dl_->Flags = flags;
    }
    if (Shape* s = add(Shape::Kind::area, color, {})) {
        for (size_t i = 0; i < n; ++i) s->points.push_back(local(upper[i]));
        for (size_t i = n; i > 0; --i) s->points.push_back(local(lower[i - 1]));
        s->text = series;
    }
}

void Canvas::rect(ImVec2 a, ImVec2 b, ImU32 color, float rounding, float width) {
    if (dl_) dl_->AddRect(a, b, color, rounding, 0, width);
    if (Shape* s = add(Shape::Kind::rect, color, {a, b})) s->rounding = rounding, s->width = width;
}

void Canvas::rect_filled(ImVec2 a, ImVec2 b, ImU32 color, float rounding) {
    if (dl_) dl_->AddRectFilled(a, b, color, rounding);
    if (Shape* s = add(Shape::Kind::rect_filled, color, {a, b})) s->rounding = rounding;
}

void Canvas::circle_filled(ImVec2 center, float radius, ImU32 color) {
    if (dl_) dl_->AddCircleFilled(center, radius, color, 12);
    if (Shape* s = add(Shape::Kind::circle, color, {center})) s->width = radius;
}

void Canvas::text(ImVec2 at, ImU32 color, std::string_view t) {
    if (dl_) paint_text(dl_, at, color, t);
    if (Shape* s = add(Shape::Kind::text, color, {at}))
        s->text = t, s->width = ImGui::GetFontSize(),
        s->is_mono = ImGui::GetFont() == font(Font::mono) || ImGui::GetFont() == font(Font::mono_small);
}

void Canvas::cells(ImTextureID texture, ImVec2 a, ImVec2 b, int rows, int cols, std::span<const uint32_t> colors) {
    if (dl_) dl_->AddImage(texture, a, b);
    if (Shape* s = add(Shape::Kind::cells, 0, {a, b}))
        s->rows = rows, s->cols = cols, s->cells.assign(colors.begin(), colors.end());
}

void Canvas::push_clip(ImVec2 a, ImVec2 b) {
    if (dl_) dl_->PushClipRect(a, b, true);
    if (!figure_) return;
    clip_ = static_cast<int>(figure_->clips.size());
    figure_->clips.push_back({local(a), local(b)});
}

void Canvas::pop_clip() {
    if (dl_) dl_->PopClipRect();
    clip_ = -1;
}

}  // namespace vitrine::viz::ui
