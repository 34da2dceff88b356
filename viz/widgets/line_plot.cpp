// The line plot widget.
#include "viz/widgets/line_plot.h"

#include <algorithm>
#include <cmath>

#include "viz/imgui_compat.h"
#include "viz/text_util.h"
#include "viz/widgets/axis.h"
#include "viz/widgets/basic.h"
#include "viz/widgets/export.h"
#include "viz/widgets/plot_csv.h"

namespace vitrine::viz::ui {
namespace {

constexpr float kDragPixels = 4;
constexpr double kWheelStep = 0.85;
constexpr double kSmoothings[] = {0, 0.6, 0.9, 0.97, 0.99};

double x_of(const Series& s, size_t i) {
    return s.x.empty() ? static_cast<double>(i) : s.x[i];
}

void widen(const Extremes& e, bool is_log, double& lo, double& hi) {
    if (e.n == 0 || (is_log && e.max <= 0)) return;
    lo = std::min(lo, is_log ? e.min_positive : e.min), hi = std::max(hi, e.max);
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

void draw_area(Canvas& canvas, const Series& s, const Axis& x, const Axis& y) {
    const size_t n = s.y.size(), step = std::max<size_t>(1, n / 2000);
    std::vector<ImVec2> upper, lower;
    const auto add = [&](size_t i) {
        upper.push_back({x.pixel(x_of(s, i)), y.pixel(s.y[i])});
        lower.push_back({x.pixel(x_of(s, i)), y.pixel(s.base.empty() ? y.lo : s.base[i])});
    };
    for (size_t i = 0; i < n; i += step) add(i);
    if (n > 0 && (n - 1) % step != 0) add(n - 1);
    canvas.area(upper, lower, with_alpha(s.color, 0.55f), s.name);
}

// Indices of `s` whose x lies in the axis, and one more on each side.
std::pair<size_t, size_t> visible_range(const Series& s, size_t n, const Axis& x) {
    if (s.x.empty()) {
        const double last = static_cast<double>(n);
        return {static_cast<size_t>(std::clamp(std::floor(x.lo), 0.0, last)),
                static_cast<size_t>(std::clamp(std::ceil(x.hi) + 1, 0.0, last))};
    }
    const auto end = s.x.begin() + static_cast<ptrdiff_t>(std::min(n, s.x.size()));
    const auto a = std::lower_bound(s.x.begin(), end, x.lo), b = std::upper_bound(s.x.begin(), end, x.hi);
    return {static_cast<size_t>(a - s.x.begin()) - (a > s.x.begin() ? 1 : 0),
            static_cast<size_t>(b - s.x.begin()) + (b < end ? 1 : 0)};
}

// The first index from `from` whose x is at least `v`.
size_t index_from(const Series& s, size_t from, size_t end, double v) {
    if (s.x.empty())
        return std::max(from, static_cast<size_t>(std::clamp(std::ceil(v), 0.0, static_cast<double>(end))));
    return static_cast<size_t>(
        std::lower_bound(s.x.begin() + static_cast<ptrdiff_t>(from), s.x.begin() + static_cast<ptrdiff_t>(end), v) -
        s.x.begin());
}

size_t nearest_index(const Series& s, double x) {
    if (s.x.empty()) return static_cast<size_t>(std::clamp(std::round(x), 0.0, static_cast<double>(s.y.size()) - 1));
    const auto it = std::lower_bound(s.x.begin(), s.x.end(), x);
    size_t i = static_cast<size_t>(it - s.x.begin());
    if (i == s.x.size() || (i > 0 && x - s.x[i - 1] < s.x[i] - x)) --i;
    return std::min(i, s.y.size() - 1);
}

std::string text_of(const std::function<std::string(double)>& f, double v, const char* unit = "") {
    return f ? f(v) : format_bound(v) + (*unit ? std::string(" ") + unit : "");
}

std::vector<std::string> tick_texts(const std::function<std::string(double)>& f, std::span<const double> ticks,
                                    bool is_log) {
    std::vector<std::string> out = format_ticks(ticks, is_log);
    for (size_t i = 0; f && i < out.size(); ++i) out[i] = f(ticks[i]);
    return out;
}

std::string with_unit(const char* label, const char* unit) {
    return *label && *unit ? std::string(label) + " [" + unit + "]" : label;
}

void draw_grid(const PlotSpec& s, Canvas& canvas, const Axis& x, const Axis& y) {
    const Theme& t = theme();
    const float line = ImGui::GetTextLineHeight();
    const std::vector<double> rows =
        scale_ticks(y.lo, y.hi, std::max(2, static_cast<int>((y.from - y.to) / px(44))), y.is_log);
    const std::vector<std::string> row_labels = tick_texts(s.y_text, rows, y.is_log);
    for (size_t i = 0; i < rows.size(); ++i) {
        const float p = y.pixel(rows[i]);
        canvas.line({x.from, p}, {x.to, p}, t.border);
        const std::string& label = row_labels[i];
        canvas.text({x.from - px(6) - ImGui::CalcTextSize(label.c_str()).x, p - line / 2}, t.text_dim, label);
    }
    const int n = std::max(2, static_cast<int>((x.to - x.from) / px(84)));
    float free_from = -INFINITY;
    const double unit = s.x_step > 0 && !x.is_log ? s.x_step : 1;
    std::vector<double> columns;
    for (const double units : tick_values(x.lo / unit, x.hi / unit, n, x.is_log)) {
        const bool is_between =
            (unit != 1 && units != std::floor(units)) || (s.is_integer_x && units * unit != std::floor(units * unit));
        if (!is_between) columns.push_back(units * unit);
    }
    const std::vector<std::string> column_labels = tick_texts(s.x_text, columns, x.is_log);
    for (size_t i = 0; i < columns.size(); ++i) {
        const float p = x.pixel(columns[i]);
        const std::string& label = column_labels[i];
        const float w = ImGui::CalcTextSize(label.c_str()).x,
                    at = std::clamp(p - w / 2, x.from, std::max(x.from, x.to - w));
        canvas.line({p, y.from}, {p, y.from + px(3)}, t.border_strong);
        if (at < free_from) continue;
        canvas.text({at, y.from + px(4)}, t.text_dim, label);
        free_from = at + w + px(8);
    }
    canvas.line({x.from, y.from}, {x.to, y.from}, t.border_strong);
}

// Words of lines that stand close together would cover each other: the first one's are drawn.
void draw_lines(const PlotSpec& s, Canvas& canvas, const Axis& x, const Axis& y) {
    std::vector<std::pair<float, float>> taken;
    const auto is_free = [&](float from, float to) {
        for (const auto& [a, b] : taken)
            if (from < b && to > a) return false;
        return taken.emplace_back(from, to), true;
    };
    for (const Line& l : s.lines) {
        const ImU32 c = l.color ? l.color : theme().text_dim;
        const float w = ImGui::CalcTextSize(l.label).x;
        if (l.is_vertical) {
            const float p = x.pixel(l.at);
            if (p < x.from || p > x.to) continue;
            canvas.line({p, y.from}, {p, y.to}, c, px(1));
            if (registry_is_on())
                value_rect(std::string(s.id) + "/line/" + l.label + "/" + full_precision(l.at), l.at, {p - 1, y.to},
                           {p + 1, y.from});
            const float at = p + px(4) + w > x.to ? p - px(4) - w : p + px(4);
            if (!is_free(at - px(4), at + w + px(4)) || !*l.label) continue;
            canvas.rect_filled({at - px(2), y.to + px(1)}, {at + w + px(2), y.to + px(3) + ImGui::GetTextLineHeight()},
                               with_alpha(theme().pane, 0.85f), px(2));
            canvas.text({at, y.to + px(2)}, c, l.label);
        } else {
            const float p = y.pixel(l.at);
            if (p > y.from + 1 || p < y.to - 1) continue;
            canvas.line({x.from, p}, {x.to, p}, c, px(1));
            canvas.text({x.to - w - px(4), p - ImGui::GetTextLineHeight() - px(1)}, c, l.label);
        }
    }
    if (s.has_selected_x) {
        const float p = x.pixel(s.selected_x);
        if (p >= x.from - 1 && p <= x.to + 1) canvas.line({p, y.from}, {p, y.to}, theme().accent, px(1.5f));
    }
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

std::vector<double> scale_ticks(double lo, double hi, int n, bool is_log) {
    std::vector<double> out;
    for (; out.size() < 2 && n <= 12; ++n) out = tick_values(lo, hi, n, is_log);
    return out;
}

struct LinePlot::Frame {
    Canvas canvas;
    Axis x, y;
    std::string id;
    double weight = 0;  // of the smoothing
    float width = 0, height = 0;
};

Curve& LinePlot::curve(const std::string& key, std::span<const double> y, uint64_t revision, double weight) {
    Curve& c = curves_[key];
    c.update(y, revision, weight);
    return c;
}

// The axes' ends: fixed by the caller, zoomed by hand, or of the data in steps.
void LinePlot::find_range(const PlotSpec& s, Frame& f) {
    double x_lo = INFINITY, x_hi = -INFINITY, y_lo = INFINITY, y_hi = -INFINITY;
    for (const Series& c : s.series) {
        if (c.y.empty()) continue;
        Curve& cached = curve(c.name, c.y, c.revision, f.weight);
        if (!is_shown(c)) continue;
        Extremes ends;
        size_t first = 0;
        if (f.x.is_log && !c.x.empty())  // what is not positive has no place on the axis
            first = std::min(c.y.size() - 1,
                             static_cast<size_t>(std::upper_bound(c.x.begin(), c.x.end(), 0.0) - c.x.begin()));
        else if (f.x.is_log)
            first = std::min<size_t>(1, c.y.size() - 1);
        ends.add(x_of(c, first)), ends.add(x_of(c, c.y.size() - 1));
        widen(ends, f.x.is_log, x_lo, x_hi);
        widen(cached.query(c.y, 0, c.y.size()), f.y.is_log, y_lo, y_hi);
        for (const auto& [band, key] : {std::pair(c.band_lo, "\x01lo"), std::pair(c.band_hi, "\x01hi")})
            if (band.size() == c.y.size())
                widen(curve(c.name + key, band, c.revision, 0).query(band, 0, band.size()), f.y.is_log, y_lo, y_hi);
        for (size_t i = 0; i < c.seeds.size(); ++i)
            widen(curve(c.name + "\x01s" + std::to_string(i), c.seeds[i], c.revision, 0)
                      .query(c.seeds[i], 0, c.seeds[i].size()),
                  f.y.is_log, y_lo, y_hi);
    }
    if (s.x_lo != s.x_hi) x_lo = s.x_lo, x_hi = s.x_hi;
    if (!(x_hi > x_lo))
        x_lo = std::isfinite(x_lo) ? x_lo : f.x.is_log ? 1 : 0, x_hi = f.x.is_log ? x_lo * 10 : x_lo + 1;
    if (f.x.is_log && x_lo <= 0) x_lo = std::min(1.0, x_hi / 10);
    if (s.y_from_zero && !f.y.is_log) y_lo = std::min(0.0, y_lo);
    round_out(y_lo, y_hi, f.y.is_log);
    const bool is_too_wide = !f.y.is_log && has_range_ && (y_hi_ - y_lo_) > 4 * (y_hi - y_lo);
    if (!has_range_ || is_too_wide || f.y.is_log) y_lo_ = y_lo, y_hi_ = y_hi, has_range_ = true;
    y_lo_ = std::min(y_lo_, y_lo), y_hi_ = std::max(y_hi_, y_hi);
    f.x.lo = x_lo, f.x.hi = x_hi, f.y.lo = y_lo_, f.y.hi = y_hi_;
    const bool is_fixed = s.y_lo != s.y_hi && (!f.y.is_log || s.y_lo > 0);
    if (is_fixed) f.y.lo = s.y_lo, f.y.hi = s.y_hi;
    if (s.linked_x && s.linked_x->n_fits != n_fits_) n_fits_ = s.linked_x->n_fits, is_zoomed_ = false, has_range_ = false;
    if (is_zoomed_) f.x.lo = zoom_[0], f.x.hi = zoom_[1], f.y.lo = zoom_[2], f.y.hi = zoom_[3];
    if (s.linked_x && s.linked_x->is_set && (!f.x.is_log || s.linked_x->lo > 0))
        f.x.lo = s.linked_x->lo, f.x.hi = s.linked_x->hi;
}

void LinePlot::fit_all(const PlotSpec& s) {
    is_zoomed_ = false, has_range_ = false;
    if (s.linked_x) s.linked_x->is_set = false, n_fits_ = ++s.linked_x->n_fits;
}

// Where the axes lie, below the legend.
void LinePlot::lay_out(const PlotSpec& s, Frame& f) {
    const ImVec2 p = ImGui::GetCursorScreenPos();
    const float line = ImGui::GetTextLineHeight(), bottom = line + px(6) + (*s.x_label ? line + px(2) : 0);
    // Only ever wider until the plot is fitted again, and never narrower than most numbers: zooming must not move the
    // area.
    float labels = s.y_text ? 0 : ImGui::CalcTextSize("0.0000").x;
    for (const std::string& label : tick_texts(s.y_text, tick_values(f.y.lo, f.y.hi, 6, f.y.is_log), f.y.is_log))
        labels = std::max(labels, ImGui::CalcTextSize(label.c_str()).x);
    if (is_zoomed_) labels = std::max(labels, label_width_);
    label_width_ = labels;
    f.x.from = p.x + labels + px(10), f.x.to = p.x + std::max(labels + px(30), f.width - px(6));
    f.y.from = p.y + std::max(px(20), f.height - bottom), f.y.to = p.y + px(6);
    f.height = std::max(px(20) + bottom, f.height);
}

// Entries that hide and show their series, in as many rows as they need.
void LinePlot::draw_legend(const PlotSpec& s, Frame& f) {
    const std::string label = with_unit(s.y_label, s.y_text ? "" : s.y_unit);
    const bool has_entries = s.series.size() > 1 || f.weight > 0;
    if (!s.has_legend || (!has_entries && label.empty())) return;
    const ImVec2 origin = ImGui::GetCursorScreenPos();
    const float row = ImGui::GetTextLineHeight() + px(3), r = px(4), gap = px(14);
    ImVec2 p = origin;
    if (!label.empty()) {
        f.canvas.text(p, theme().text_dim, elide(label, f.width));
        p.x += ImGui::CalcTextSize(label.c_str()).x + px(16);
    }
    for (size_t i = 0; has_entries && i < s.series.size(); ++i) {
        const Series& c = s.series[i];
        char words[32];
        std::snprintf(words, sizeof words, " (smoothed %g)", f.weight);
        const std::string name = elide(c.name + (f.weight > 0 && !c.is_filled ? words : ""), f.width - 2 * r - px(6));
        const float w = 2 * r + px(6) + ImGui::CalcTextSize(name.c_str()).x;
        if (p.x > origin.x && p.x + w > origin.x + f.width) p = {origin.x, p.y + row};
        ImGui::SetCursorScreenPos(p);
        ImGui::PushID(static_cast<int>(i));
        if (ImGui::InvisibleButton("entry", {w, row})) {
            if (!hidden_.erase(c.name)) hidden_.insert(c.name);
            has_range_ = false;
        }
        ImGui::PopID();
        const bool is_on = is_shown(c);
        tooltip(is_on ? "Click to hide" : "Click to show");
        mark(f.id + "/legend/" + c.name, name), value(f.id + "/legend/" + c.name, is_on ? 1 : 0);
        const ImVec2 middle{p.x + r, p.y + ImGui::GetTextLineHeight() / 2};
        if (is_on && c.is_dashed) {
            f.canvas.line({middle.x - r, middle.y}, {middle.x - r / 4, middle.y}, c.color, px(2));
            f.canvas.line({middle.x + r / 4, middle.y}, {middle.x + r, middle.y}, c.color, px(2));
        } else if (is_on)
            f.canvas.circle_filled(middle, r, c.color);
        else
            f.canvas.line({middle.x - r, middle.y}, {middle.x + r, middle.y}, theme().border_strong, px(1.5f));
        f.canvas.text({p.x + 2 * r + px(6), p.y}, is_on ? theme().text_dim : theme().border_strong, name);
        p.x += w + gap;
    }
    legend_height_ = p.y - origin.y;
    ImGui::SetCursorScreenPos({origin.x, p.y + row + px(3)});
}

// One polyline per stretch without gaps: the points themselves, or least and most of every pixel column.
void LinePlot::draw_curve(const Series& c, Frame& f, std::span<const double> y, const std::string& key, bool is_smooth,
                          ImU32 color, float width, const std::string& name) {
    const Axis &ax = f.x, &ay = f.y;
    const auto [begin, end] = visible_range(c, y.size(), ax);
    const size_t columns = static_cast<size_t>(std::max(1.0f, ax.to - ax.from));
    const Curve& cached = curves_[key];
    std::vector<ImVec2> points;
    size_t n_drawn = 0;
    const auto flush = [&] {
        n_drawn += points.size();
        if (points.size() == 1 && !c.has_points) f.canvas.circle_filled(points[0], px(2), color);  // alone between gaps
        f.canvas.polyline(points, color, width, c.is_dashed, name);
        points.clear();
    };
    if (end - begin <= 2 * columns) {
        for (size_t i = begin; i < end; ++i) {
            if (!std::isfinite(y[i]) || (ay.is_log && y[i] <= 0) || (ax.is_log && x_of(c, i) <= 0)) {
                flush();
                continue;
            }
            points.push_back({ax.pixel(x_of(c, i)), ay.pixel(y[i])});
            if (c.has_points) f.canvas.circle_filled(points.back(), px(2.5f), color);
        }
    } else {
        size_t i = begin;
        for (size_t column = 0; column <= columns && i < end; ++column) {
            const float left = ax.from + static_cast<float>(column);
            const size_t next = column == columns ? end : index_from(c, i, end, ax.data(left + 1));
            if (next == i) continue;
            const Extremes e = is_smooth ? cached.query_smooth(i, next) : cached.query(y, i, next);
            i = next;
            if (e.n == 0 || (ay.is_log && e.max <= 0)) {
                flush();
                continue;
            }
            points.push_back({left + 0.5f, ay.pixel(ay.is_log ? e.min_positive : e.min)});
            points.push_back({left + 0.5f, ay.pixel(e.max)});
        }
    }
    flush();
    if (registry_is_on() && !name.empty())
        value_rect(f.id + "/drawn/" + name, static_cast<double>(n_drawn), {ax.from, ay.to}, {ax.to, ay.from});
}

void LinePlot::draw_band(const Series& c, Frame& f) {
    if (c.band_lo.size() != c.y.size() || c.band_hi.size() != c.y.size()) return;
    const auto [begin, end] = visible_range(c, c.y.size(), f.x);
    const Curve &lo = curves_[c.name + "\x01lo"], &hi = curves_[c.name + "\x01hi"];
    const size_t columns = static_cast<size_t>(std::max(1.0f, f.x.to - f.x.from));
    const bool is_dense = end - begin > 2 * columns;
    std::vector<ImVec2> upper, lower;
    const auto flush = [&] {
        f.canvas.area(upper, lower, with_alpha(c.color, 0.22f), c.name + " band");
        upper.clear(), lower.clear();
    };
    for (size_t i = begin, k = 0; i < end; ++k) {
        const float left = f.x.from + static_cast<float>(k);
        const size_t next = !is_dense ? i + 1 : k >= columns ? end : index_from(c, i, end, f.x.data(left + 1));
        if (next == i) continue;
        const Extremes a = lo.query(c.band_lo, i, next), b = hi.query(c.band_hi, i, next);
        const float at = is_dense ? left + 0.5f : f.x.pixel(x_of(c, i));
        i = next;
        if (a.n == 0 || b.n == 0 || (f.y.is_log && b.max <= 0)) {
            flush();
            continue;
        }
        upper.push_back({at, f.y.pixel(b.max)});
        lower.push_back({at, f.y.pixel(f.y.is_log && a.min <= 0 ? f.y.lo : a.min)});
    }
    flush();
}

void LinePlot::draw_series(const Series& c, Frame& f) {
    const float width = c.is_dashed ? px(1.5f) : px(1.8f);
    for (size_t i = 0; i < c.seeds.size(); ++i)
        draw_curve(c, f, c.seeds[i], c.name + "\x01s" + std::to_string(i), false, with_alpha(c.color, 0.35f), px(1),
                   c.name + " seed " + std::to_string(i));
    const Curve& cached = curves_[c.name];
    if (!cached.has_smooth() || c.is_filled) {
        draw_curve(c, f, c.y, c.name, false, c.color, width, c.name);
        return;
    }
    draw_curve(c, f, c.y, c.name, false, with_alpha(c.color, 0.28f), px(1), c.name);
    draw_curve(c, f, cached.smooth(), c.name, true, c.color, width, c.name + " smoothed");
}

// The values of all series at the nearest point to the mouse.
void LinePlot::crosshair(const PlotSpec& s, Frame& f) {
    const float mouse_x = ImGui::GetIO().MousePos.x;
    ImDrawList* dl = ImGui::GetWindowDrawList();
    const double at = f.x.data(mouse_x);
    dl->AddLine({mouse_x, f.y.from}, {mouse_x, f.y.to}, with_alpha(theme().text_dim, 0.6f));
    Tooltip box;
    bool has_title = false;
    for (const Series& c : s.series) {
        if (c.y.empty() || !is_shown(c)) continue;
        const size_t i = nearest_index(c, at);
        if (!has_title) {
            Color dim(theme().text_dim);
            ui::plainf("%s %s", s.x_label, text_of(s.x_text, x_of(c, i), s.x_unit).c_str());
            has_title = true;
        }
        const Curve& cached = curves_[c.name];
        const bool is_smooth = cached.has_smooth() && !c.is_filled;
        const double drawn = is_smooth ? cached.smooth()[i] : c.y[i];
        if (std::isfinite(drawn)) dl->AddCircleFilled({f.x.pixel(x_of(c, i)), f.y.pixel(drawn)}, px(3), c.color, 12);
        dot(c.color, 4);
        ImGui::SameLine(0, px(6));
        const auto words = [&](double v) {
            return s.y_text ? s.y_text(v) : full_precision(v) + (*s.y_unit ? std::string(" ") + s.y_unit : "");
        };
        const double shown = c.is_filled && !c.base.empty() ? c.y[i] - c.base[i] : c.y[i];
        std::string text = c.name + "  " + words(shown);
        if (is_smooth) text += "  (smoothed " + words(drawn) + ")";
        if (i < c.band_lo.size() && i < c.band_hi.size())
            text += "  [" + words(c.band_lo[i]) + ", " + words(c.band_hi[i]) + "]";
        ui::plain(text.c_str());
        if (registry_is_on()) value_rect(f.id + "/crosshair/" + c.name, shown, {f.x.from, f.y.to}, {f.x.to, f.y.from});
    }
}

// Zoom, pan, fit. A click is a press that is let go where it began.
void LinePlot::use_mouse(const PlotSpec& s, Frame& f, PlotResult& out) {
    const ImGuiIO& io = ImGui::GetIO();
    const bool is_item = ImGui::IsItemHovered();
    out.is_hovered = is_item && io.MousePos.x >= f.x.from && io.MousePos.x <= f.x.to && io.MousePos.y <= f.y.from;
    out.is_dragged = ImGui::IsItemActive();
    out.x = f.x.data(std::clamp(io.MousePos.x, f.x.from, f.x.to)), out.y = f.y.data(io.MousePos.y);
    const auto keep = [&] {
        is_zoomed_ = true, zoom_[0] = f.x.lo, zoom_[1] = f.x.hi, zoom_[2] = f.y.lo, zoom_[3] = f.y.hi;
    };
    const auto tell = [&] {
        if (s.linked_x) s.linked_x->lo = zoom_[0], s.linked_x->hi = zoom_[1], s.linked_x->is_set = true;
    };
    const auto change = [](const Axis& a, double from, double to, double* ends) {
        const double lo = a.at(from), hi = a.at(to);
        const bool is_usable =
            std::isfinite(lo) && std::isfinite(hi) && hi - lo > std::fabs(hi) * 1e-12 && (!a.is_log || lo > 0);
        if (is_usable) ends[0] = lo, ends[1] = hi;
    };
    out.x_slack = std::fabs(f.x.data(io.MousePos.x + px(5)) - f.x.data(io.MousePos.x));
    if (out.is_hovered) use_wheel_on_last_item();
    if (out.is_hovered && io.MouseWheel != 0) {
        keep();
        const double k = std::pow(kWheelStep, io.MouseWheel), tx = f.x.position(out.x), ty = f.y.position(out.y);
        if (!io.KeyCtrl) change(f.x, tx - tx * k, tx + (1 - tx) * k, zoom_), tell();
        if (!io.KeyShift) change(f.y, ty - ty * k, ty + (1 - ty) * k, zoom_ + 2);
    }
    if (out.is_hovered && ImGui::IsMouseClicked(ImGuiMouseButton_Left)) is_pressed_ = true, moved_ = 0;
    if (is_pressed_) {
        moved_ += std::fabs(io.MouseDelta.x) + std::fabs(io.MouseDelta.y);
        if (s.drag_pans && ImGui::IsItemActive() && moved_ >= kDragPixels) {
            keep();
            const double dx = -io.MouseDelta.x / (f.x.to - f.x.from), dy = -io.MouseDelta.y / (f.y.to - f.y.from);
            change(f.x, dx, 1 + dx, zoom_), change(f.y, dy, 1 + dy, zoom_ + 2);
            tell();
        }
        if (ImGui::IsMouseReleased(ImGuiMouseButton_Left)) {
            out.is_clicked = out.is_hovered && moved_ < kDragPixels;
            is_pressed_ = false;
        }
    }
    if (out.is_hovered && ImGui::IsMouseDoubleClicked(ImGuiMouseButton_Left)) fit_all(s), is_pressed_ = false;
}

void LinePlot::menu(const PlotSpec& s, Frame& f, double under) {
    Copyable c{full_precision(under), "", [&] { return plot_csv(s)(); }, s.id, {}};
    c.more = [&] {
        const auto item = [](const char* label, bool is_checked, const std::function<void()>& run) {
            if (ImGui::MenuItem(label, nullptr, is_checked)) run();
            mark(label);
        };
        item("Fit", false, [&] { fit_all(s); });
        const auto set_log = [&](bool x, bool y) { has_own_log_ = true, is_log_x_ = x, is_log_y_ = y, fit_all(s); };
        item("Logarithmic x", f.x.is_log, [&] { set_log(!f.x.is_log, f.y.is_log); });
        item("Logarithmic y", f.y.is_log, [&] { set_log(f.x.is_log, !f.y.is_log); });
        if (s.smoothing >= 0) return;
        for (const double w : kSmoothings) {
            char label[32];
            std::snprintf(label, sizeof label, w > 0 ? "Smoothing %g" : "No smoothing", w);
            item(label, smoothing_ == w, [&] { smoothing_ = w; });
        }
    };
    copy_menu("copy", c);
}

PlotResult LinePlot::draw(const PlotSpec& s) {
    PlotResult out;
    FontScope small(Font::mono_small);
    const ImVec2 top = ImGui::GetCursorScreenPos();
    const float width = s.width > 0 ? s.width : ImGui::GetContentRegionAvail().x;
    const float room = s.height > 0 ? s.height : ImGui::GetContentRegionAvail().y;
    Recording recording(s.id, top, width);
    Frame f{recording.canvas(ImGui::GetWindowDrawList()), {}, {}, s.id};
    f.x.is_log = has_own_log_ ? is_log_x_ : s.is_log_x, f.y.is_log = has_own_log_ ? is_log_y_ : s.is_log_y;
    f.weight = s.smoothing >= 0 ? s.smoothing : smoothing_;
    f.width = width;
    ImGui::PushID(s.id);
    find_range(s, f);
    draw_legend(s, f);
    f.height = room - (ImGui::GetCursorScreenPos().y - top.y);
    lay_out(s, f);
    ImGui::InvisibleButton("plot", {width, f.height});
    const float bottom = ImGui::GetItemRectMax().y;
    mark(s.id);
    use_mouse(s, f, out);
    menu(s, f, out.x);
    draw_grid(s, f.canvas, f.x, f.y);
    f.canvas.push_clip({f.x.from - px(3), f.y.to - px(3)}, {f.x.to + px(3), f.y.from + px(3)});
    for (const Series& c : s.series)
        if (is_shown(c) && c.is_filled) draw_area(f.canvas, c, f.x, f.y);
    for (const Series& c : s.series)
        if (is_shown(c)) draw_band(c, f);
    for (const Series& c : s.series)
        if (is_shown(c)) draw_series(c, f);
    f.canvas.pop_clip();
    draw_lines(s, f.canvas, f.x, f.y);
    if (*s.x_label) {
        const std::string label = with_unit(s.x_label, s.x_text ? "" : s.x_unit);
        const float w = ImGui::CalcTextSize(label.c_str()).x, line = ImGui::GetTextLineHeight();
        f.canvas.text({(f.x.from + f.x.to - w) / 2, f.y.from + line + px(7)}, theme().text_dim, label);
    }
    if (registry_is_on()) {
        const ImVec2 a{f.x.from, f.y.to}, b{f.x.to, f.y.from};
        mark_rect(f.id + "/area", a, b);
        for (const auto& [name, v] :
             {std::pair("/x_lo", f.x.lo), {"/x_hi", f.x.hi}, {"/y_lo", f.y.lo}, {"/y_hi", f.y.hi}})
            value_rect(f.id + name, v, a, b);
        if (s.has_selected_x) note_selected(s, s.selected_x, a, b);
    }
    if (out.is_hovered) crosshair(s, f);
    recording.finish(bottom, [&] { return plot_csv(s); });
    ImGui::PopID();
    return out;
}

}  // namespace vitrine::viz::ui
