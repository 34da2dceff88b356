// The line plot widget.
#include "viz/widgets/line_plot.h"

#include <algorithm>
#include <cmath>

#include "viz/widgets/basic.h"

namespace vitrine::viz::ui {
namespace {

struct Axis {
    double lo = 0, hi = 1;
    bool is_log = false;
    float from = 0, to = 1;  // pixels
    double position(double v) const {
        if (is_log) return (std::log(std::max(v, 1e-300)) - std::log(lo)) / (std::log(hi) - std::log(lo));
        return (v - lo) / (hi - lo);
    }
    float pixel(double v) const { return from + static_cast<float>(std::clamp(position(v), -4.0, 5.0)) * (to - from); }
    double data(float p) const {
        const double t = (p - from) / (to - from);
        return is_log ? std::exp(std::log(lo) + t * (std::log(hi) - std::log(lo))) : lo + t * (hi - lo);
    }
};

double x_of(const Series& s, size_t i) {
    return s.x.empty() ? static_cast<double>(i) : s.x[i];
}

void widen(double v, bool is_log, double& lo, double& hi) {
    if (!std::isfinite(v) || (is_log && v <= 0)) return;
    lo = std::min(lo, v), hi = std::max(hi, v);
}

// A range outward to round numbers, so that it changes seldom.
void round_out(double& lo, double& hi, bool is_log) {
    if (lo > hi) lo = is_log ? 1 : 0, hi = is_log ? 10 : 1;
    if (is_log) {
        lo = std::pow(10, std::floor(std::log10(lo) + 1e-9)), hi = std::pow(10, std::ceil(std::log10(hi) - 1e-9));
        if (lo == hi) hi = lo * 10;
        return;
    }
    if (lo == hi) lo -= std::max(0.5, std::fabs(lo) * 0.05), hi += std::max(0.5, std::fabs(hi) * 0.05);
    const double step = std::pow(10, std::floor(std::log10(hi - lo))) / 2;
    lo = std::floor(lo / step + 1e-9) * step, hi = std::ceil(hi / step - 1e-9) * step;
}

void draw_curve(ImDrawList* dl, const Series& s, const Axis& x, const Axis& y) {
    const size_t n = s.y.size();
    const int columns = std::max(1, static_cast<int>(x.to - x.from));
    std::vector<ImVec2> points;
    const auto flush = [&] {
        if (points.size() > 1 && !s.is_dashed)
            dl->AddPolyline(points.data(), static_cast<int>(points.size()), s.color, 0, px(1.8f));
        if (s.is_dashed)
            for (size_t i = 0; i + 1 < points.size(); ++i) {
                const ImVec2 a = points[i], b = points[i + 1];
                const float length = std::hypot(b.x - a.x, b.y - a.y), dash = px(5);
                for (float at = 0; at < length; at += 2 * dash) {
                    const float u = at / length, v = std::min(1.0f, (at + dash) / length);
                    dl->AddLine({a.x + (b.x - a.x) * u, a.y + (b.y - a.y) * u},
                                {a.x + (b.x - a.x) * v, a.y + (b.y - a.y) * v}, s.color, px(1.5f));
                }
            }
        points.clear();
    };
    const bool is_dense = n > static_cast<size_t>(columns) * 2;
    float column = -INFINITY, lo = 0, hi = 0;
    for (size_t i = 0; i < n; ++i) {
        if (!std::isfinite(s.y[i]) || (y.is_log && s.y[i] <= 0)) {
            flush();
            column = -INFINITY;
            continue;
        }
        const ImVec2 p{x.pixel(x_of(s, i)), y.pixel(s.y[i])};
        if (!is_dense) {
            points.push_back(p);
            if (s.has_points) dl->AddCircleFilled(p, px(2.5f), s.color, 10);
        } else if (const float c = std::floor(p.x); c != column) {  // one min-max pair per pixel column
            if (column != -INFINITY) points.push_back({column, lo}), points.push_back({column, hi});
            column = c, lo = hi = p.y;
        } else {
            lo = std::min(lo, p.y), hi = std::max(hi, p.y);
        }
        if (points.size() >= 12000) {  // 16-bit indices: a longer polyline would be drawn wrong
            const ImVec2 last = points.back();
            flush();
            points.push_back(last);
        }
    }
    if (is_dense && column != -INFINITY) points.push_back({column, lo}), points.push_back({column, hi});
    flush();
}

void draw_area(ImDrawList* dl, const Series& s, const Axis& x, const Axis& y) {
    const size_t n = s.y.size(), step = std::max<size_t>(1, n / 2000);
    const ImU32 fill = with_alpha(s.color, 0.55f);
    const ImDrawListFlags flags = dl->Flags;
    dl->Flags &= ~ImDrawListFlags_AntiAliasedFill;  // smoothed edges of neighbouring quads overlap and show as stripes
    for (size_t i = 0; i + 1 < n; i += step) {
        const size_t k = std::min(n - 1, i + step);
        const auto low = [&](size_t j) { return y.pixel(s.base.empty() ? y.lo : s.base[j]); };
        dl->AddQuadFilled({x.pixel(x_of(s, i)), y.pixel(s.y[i])}, {x.pixel(x_of(s, k)), y.pixel(s.y[k])},
                          {x.pixel(x_of(s, k)), low(k)}, {x.pixel(x_of(s, i)), low(i)}, fill);
    }
    dl->Flags = flags;
}

size_t nearest_index(const Series& s, double x) {
    if (s.x.empty()) return static_cast<size_t>(std::clamp(std::round(x), 0.0, static_cast<double>(s.y.size()) - 1));
    const auto it = std::lower_bound(s.x.begin(), s.x.end(), x);
    size_t i = static_cast<size_t>(it - s.x.begin());
    if (i == s.x.size() || (i > 0 && x - s.x[i - 1] < s.x[i] - x)) --i;
    return i;
}

std::string text_of(const std::function<std::string(double)>& f, double v, const char* unit = "") {
    return f ? f(v) : format_number(v) + (*unit ? std::string(" ") + unit : "");
}

void draw_grid(const PlotSpec& s, const Axis& x, const Axis& y) {
    const Theme& t = theme();
    ImDrawList* dl = ImGui::GetWindowDrawList();
    const float line = ImGui::GetTextLineHeight();
    for (double v : tick_values(y.lo, y.hi, std::max(2, static_cast<int>((y.from - y.to) / px(44))), s.is_log_y)) {
        const float p = y.pixel(v);
        dl->AddLine({x.from, p}, {x.to, p}, t.border);
        const std::string label = text_of(s.y_text, v);
        dl->AddText({x.from - px(6) - ImGui::CalcTextSize(label.c_str()).x, p - line / 2}, t.text_dim, label.c_str());
    }
    const int n = std::max(2, static_cast<int>((x.to - x.from) / px(84)));
    float free_from = -INFINITY;
    for (double v : tick_values(x.lo, x.hi, n, s.is_log_x)) {
        if (s.is_integer_x && v != std::floor(v)) continue;
        const float p = x.pixel(v);
        const std::string label = text_of(s.x_text, v);
        const float w = ImGui::CalcTextSize(label.c_str()).x, at = std::clamp(p - w / 2, x.from, x.to - w);
        dl->AddLine({p, y.from}, {p, y.from + px(3)}, t.border_strong);
        if (at < free_from) continue;
        dl->AddText({at, y.from + px(4)}, t.text_dim, label.c_str());
        free_from = at + w + px(8);
    }
    dl->AddLine({x.from, y.from}, {x.to, y.from}, t.border_strong);
}

void draw_lines(const PlotSpec& s, const Axis& x, const Axis& y) {
    ImDrawList* dl = ImGui::GetWindowDrawList();
    for (const Line& l : s.lines) {
        const ImU32 c = l.color ? l.color : theme().text_dim;
        const float w = ImGui::CalcTextSize(l.label).x;
        if (l.is_vertical) {
            const float p = x.pixel(l.at);
            if (p < x.from || p > x.to) continue;
            dl->AddLine({p, y.from}, {p, y.to}, c, px(1));
            dl->AddText({p + px(4) + w > x.to ? p - px(4) - w : p + px(4), y.to + px(2)}, c, l.label);
        } else {
            const float p = y.pixel(l.at);
            if (p > y.from + 1 || p < y.to - 1) continue;
            dl->AddLine({x.from, p}, {x.to, p}, c, px(1));
            dl->AddText({x.to - w - px(4), p - ImGui::GetTextLineHeight() - px(1)}, c, l.label);
        }
    }
    if (s.has_selected_x) {
        const float p = x.pixel(s.selected_x);
        if (p >= x.from - 1 && p <= x.to + 1) dl->AddLine({p, y.from}, {p, y.to}, theme().accent, px(1.5f));
    }
}

void legend(const PlotSpec& s, float width) {
    float x = 0;
    for (size_t i = 0; i < s.series.size(); ++i) {
        const float w = px(8) + px(6) + ImGui::CalcTextSize(s.series[i].name).x + px(14);
        if (i && x + w <= width)
            ImGui::SameLine(0, px(14));
        else
            x = 0;
        x += w;
        dot(s.series[i].color, 4);
        ImGui::SameLine(0, px(6));
        Color dim(theme().text_dim);
        ImGui::TextUnformatted(s.series[i].name);
    }
}

void crosshair(const PlotSpec& s, const Axis& x, const Axis& y, float mouse_x) {
    ImDrawList* dl = ImGui::GetWindowDrawList();
    const double at = x.data(mouse_x);
    dl->AddLine({mouse_x, y.from}, {mouse_x, y.to}, with_alpha(theme().text_dim, 0.6f));
    Tooltip box;
    bool has_title = false;
    for (const Series& c : s.series) {
        if (c.y.empty()) continue;
        const size_t i = nearest_index(c, at);
        if (!has_title) {
            Color dim(theme().text_dim);
            ImGui::Text("%s %s", s.x_label, text_of(s.x_text, x_of(c, i)).c_str());
            has_title = true;
        }
        if (std::isfinite(c.y[i])) dl->AddCircleFilled({x.pixel(x_of(c, i)), y.pixel(c.y[i])}, px(3), c.color, 12);
        dot(c.color, 4);
        ImGui::SameLine(0, px(6));
        const double shown = c.is_filled && !c.base.empty() ? c.y[i] - c.base[i] : c.y[i];
        ImGui::Text("%s  %s", c.name,
                    s.y_text ? s.y_text(shown).c_str() : (full_precision(shown) + " " + s.y_unit).c_str());
    }
}

std::string to_csv(const PlotSpec& s) {
    std::string out = *s.x_label ? s.x_label : "x";
    size_t n = 0;
    for (const Series& c : s.series) out += std::string(",") + c.name, n = std::max(n, c.y.size());
    out += '\n';
    for (size_t i = 0; i < n; ++i) {
        out += full_precision(i < s.series[0].y.size() ? x_of(s.series[0], i) : static_cast<double>(i));
        for (const Series& c : s.series) out += "," + (i < c.y.size() ? full_precision(c.y[i]) : std::string());
        out += '\n';
    }
    return out;
}

void note_selected(const PlotSpec& s, double at, ImVec2 a, ImVec2 b) {
    for (const Series& c : s.series) {
        if (c.y.empty()) continue;
        const size_t i = nearest_index(c, at);
        value_rect(std::string(s.id) + "/" + c.name + "/" + std::to_string(i), c.y[i], a, b);
    }
}

}  // namespace

std::vector<double> tick_values(double lo, double hi, int n, bool is_log) {
    std::vector<double> out;
    if (!(hi > lo) || n < 1) return out;
    if (is_log) {
        const int first = static_cast<int>(std::ceil(std::log10(lo) - 1e-9)),
                  last = static_cast<int>(std::floor(std::log10(hi) + 1e-9));
        const int step = std::max(1, (last - first + n) / n);
        for (int e = first; e <= last; e += step) out.push_back(std::pow(10, e));
        if (out.size() >= 2) return out;
        out.clear();
    }
    const double raw = (hi - lo) / n, power = std::pow(10, std::floor(std::log10(raw))), f = raw / power;
    const double step = power * (f <= 1 ? 1 : f <= 2 ? 2 : f <= 5 ? 5 : 10);
    for (double v = std::ceil(lo / step - 1e-9) * step; v <= hi + step * 1e-6; v += step)
        out.push_back(std::fabs(v) < step * 1e-6 ? 0 : v);
    return out;
}

PlotResult LinePlot::draw(const PlotSpec& s) {
    PlotResult out;
    FontScope small(Font::mono_small);
    const float width = s.width > 0 ? s.width : ImGui::GetContentRegionAvail().x;
    const float top = ImGui::GetCursorPosY();
    if (s.has_legend && (s.series.size() > 1 || *s.y_label)) {
        if (*s.y_label) {
            Color dim(theme().text_dim);
            ImGui::TextUnformatted(s.y_label);
            if (s.series.size() > 1) ImGui::SameLine(0, px(16));
        }
        if (s.series.size() > 1) legend(s, width - (*s.y_label ? ImGui::CalcTextSize(s.y_label).x + px(16) : 0));
    }
    const float height = (s.height > 0 ? s.height - (ImGui::GetCursorPosY() - top) : ImGui::GetContentRegionAvail().y);
    double x_lo = INFINITY, x_hi = -INFINITY, y_lo = INFINITY, y_hi = -INFINITY;
    for (const Series& c : s.series) {
        if (c.y.empty()) continue;
        widen(x_of(c, 0), s.is_log_x, x_lo, x_hi), widen(x_of(c, c.y.size() - 1), s.is_log_x, x_lo, x_hi);
        for (double v : c.y) widen(v, s.is_log_y, y_lo, y_hi);
    }
    if (s.x_lo != s.x_hi) x_lo = s.x_lo, x_hi = s.x_hi;
    if (!(x_hi > x_lo)) x_lo = std::isfinite(x_lo) ? x_lo : 0, x_hi = x_lo + 1;
    if (s.y_from_zero && !s.is_log_y) y_lo = std::min(0.0, y_lo);
    round_out(y_lo, y_hi, s.is_log_y);
    const bool is_too_wide = !s.is_log_y && has_range_ && (y_hi_ - y_lo_) > 4 * (y_hi - y_lo);
    if (!has_range_ || is_too_wide || s.is_log_y) y_lo_ = y_lo, y_hi_ = y_hi, has_range_ = true;
    y_lo_ = std::min(y_lo_, y_lo), y_hi_ = std::max(y_hi_, y_hi);
    Axis x{x_lo, x_hi, s.is_log_x}, y{y_lo_, y_hi_, s.is_log_y};
    if (s.y_lo != s.y_hi) y.lo = s.y_lo, y.hi = s.y_hi;

    const ImVec2 p = ImGui::GetCursorScreenPos();
    const float line = ImGui::GetTextLineHeight(), bottom = line + px(6) + (*s.x_label ? line + px(2) : 0);
    float labels = 0;
    for (double v : tick_values(y.lo, y.hi, 6, s.is_log_y))
        labels = std::max(labels, ImGui::CalcTextSize(text_of(s.y_text, v).c_str()).x);
    x.from = p.x + labels + px(10), x.to = p.x + std::max(labels + px(30), width - px(6));
    y.from = p.y + std::max(px(20), height - bottom), y.to = p.y + px(6);
    ImGui::PushID(s.id);
    ImGui::InvisibleButton("plot", {width, std::max(px(20) + bottom, height)});
    mark(s.id);
    const ImVec2 mouse = ImGui::GetIO().MousePos;
    out.is_hovered = ImGui::IsItemHovered() && mouse.x >= x.from && mouse.x <= x.to;
    out.is_dragged = ImGui::IsItemActive();
    out.is_clicked = out.is_hovered && ImGui::IsMouseClicked(ImGuiMouseButton_Left);
    out.x = x.data(std::clamp(mouse.x, x.from, x.to)), out.y = y.data(mouse.y);
    copy_menu("copy", {full_precision(out.x), "", [&] { return to_csv(s); }});
    draw_grid(s, x, y);
    ImDrawList* dl = ImGui::GetWindowDrawList();
    dl->PushClipRect({x.from - px(3), y.to - px(3)}, {x.to + px(3), y.from + px(3)}, true);
    for (const Series& c : s.series)
        if (c.is_filled) draw_area(dl, c, x, y);
    for (const Series& c : s.series) draw_curve(dl, c, x, y);
    dl->PopClipRect();
    draw_lines(s, x, y);
    if (*s.x_label) {
        const float w = ImGui::CalcTextSize(s.x_label).x;
        dl->AddText({(x.from + x.to - w) / 2, y.from + line + px(7)}, theme().text_dim, s.x_label);
    }
    if (s.has_selected_x && registry_is_on()) note_selected(s, s.selected_x, {x.from, y.to}, {x.to, y.from});
    if (out.is_hovered) crosshair(s, x, y, mouse.x);
    ImGui::PopID();
    return out;
}

}  // namespace vitrine::viz::ui
