// Bar widgets.
#include "viz/widgets/bars.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

#include "viz/text_util.h"
#include "viz/widgets/basic.h"
#include "viz/widgets/export.h"
#include "viz/widgets/line_plot.h"

namespace vitrine::viz::ui {
namespace {

void range_of(const BarsSpec& s, float& lo, float& hi) {
    lo = s.lo, hi = s.hi;
    if (lo != hi) return;
    lo = hi = 0;
    for (float v : s.values)
        if (std::isfinite(v)) lo = std::min(lo, v), hi = std::max(hi, v);
    if (*s.line_label) hi = std::max(hi, static_cast<float>(s.line));
    if (lo == hi) hi = lo + 1;
}

ImU32 color_of(const BarsSpec& s, int i) {
    return s.color ? s.color(i) : theme().text_dim;
}

void bar_tooltip(const BarsSpec& s, int i) {
    Tooltip box;
    if (s.label) {
        Color dim(theme().text_dim);
        ui::plain(s.label(i).c_str());
    }
    const double v = s.values[static_cast<size_t>(i)];
    ui::plainf("%s %s %s", s.value_name, full_precision(s.is_share ? 100 * v : v).c_str(), s.is_share ? "%" : s.unit);
    if (s.hover) s.hover(i);
}

// Copies what it needs: it is written on another thread.
std::function<std::string()> to_csv(const BarsSpec& s) {
    std::vector<std::string> labels;
    for (size_t i = 0; i < s.values.size(); ++i)
        labels.push_back(s.label ? s.label(static_cast<int>(i)) : std::to_string(i));
    const std::string title = std::string(s.value_name) + (*s.unit ? std::string(" [") + s.unit + "]" : "");
    return [title, labels, values = std::vector<float>(s.values.begin(), s.values.end())] {
        std::string out = "label," + csv_field(title) + "\n";
        for (size_t i = 0; i < values.size(); ++i) out += csv_field(labels[i]) + "," + exact_number(values[i]) + "\n";
        return out;
    };
}

// Where vertical bars lie: below a title and right of their axis, when there is room for these.
struct Frame {
    ImVec2 at;                // top left of the bars' area, title and axis left out
    float width, base, room;  // base: the y of `lo`; room: pixels from there to `hi`
    float lo, hi;
    std::vector<double> ticks;  // none: no axis
    float y(double v) const {
        return base - room * static_cast<float>((std::clamp<double>(v, lo, hi) - lo) / (hi - lo));
    }
};

std::vector<std::string> tick_labels(const BarsSpec& s, const std::vector<double>& ticks) {
    std::vector<double> shown = ticks;
    for (double& v : shown) v *= s.is_share ? 100 : 1;
    std::vector<std::string> out = format_ticks(shown);
    for (std::string& label : out) label += s.is_share ? " %" : "";
    return out;
}

Frame lay_out(const BarsSpec& s, ImVec2 p, float width, float height) {
    const float line = ImGui::GetTextLineHeight();
    const float below = (s.label ? line + px(4) : 0) + (*s.label_name ? line + px(2) : 0);
    Frame f{p, width, p.y + height - below, 0, 0, 0, {}};
    range_of(s, f.lo, f.hi);
    if (height - below >= px(56) && width >= px(150)) {
        f.at.y += line + px(4);
        f.ticks = scale_ticks(f.lo, f.hi, std::max(2, static_cast<int>((f.base - f.at.y) / px(40))), false);
        // As wide as most numbers, so that the bars stay where they are while values change.
        float labels = ImGui::CalcTextSize("0.000").x;
        for (const std::string& t : tick_labels(s, f.ticks))
            labels = std::max(labels, ImGui::CalcTextSize(t.c_str()).x);
        f.at.x += labels + px(8), f.width -= labels + px(8);
    }
    f.room = std::max(1.0f, f.base - f.at.y - px(2));
    return f;
}

void draw_axis(const BarsSpec& s, Canvas& canvas, const Frame& f, ImVec2 top) {
    const float line = ImGui::GetTextLineHeight();
    if (*s.label_name) {
        const float w = ImGui::CalcTextSize(s.label_name).x;
        canvas.text({f.at.x + (f.width - w) / 2, f.base + (s.label ? line + px(5) : px(3))}, theme().text_dim,
                    s.label_name);
    }
    if (f.ticks.empty()) return;
    canvas.text(top, theme().text_dim, std::string(s.value_name) + (*s.unit ? std::string(" [") + s.unit + "]" : ""));
    const std::vector<std::string> labels = tick_labels(s, f.ticks);
    for (size_t i = 0; i < f.ticks.size(); ++i) {
        const double v = f.ticks[i];
        const std::string& label = labels[i];
        canvas.line({f.at.x, f.y(v)}, {f.at.x + f.width, f.y(v)}, theme().border);
        canvas.text({f.at.x - px(6) - ImGui::CalcTextSize(label.c_str()).x, f.y(v) - line / 2}, theme().text_dim,
                    label);
    }
    if (!registry_is_on()) return;
    const ImVec2 end{f.at.x + f.width, f.base};
    value_rect(std::string(s.id) + "/axis/lo", f.ticks.front(), f.at, end);
    value_rect(std::string(s.id) + "/axis/hi", f.ticks.back(), f.at, end);
}

// Labels on every n-th bar, so that they never touch.
int label_step(const BarsSpec& s, float step) {
    float widest = 0;
    for (size_t i = 0; i < s.values.size(); ++i)
        widest = std::max(widest, ImGui::CalcTextSize(s.label(static_cast<int>(i)).c_str()).x);
    return std::max(1, static_cast<int>(std::ceil((widest + px(5)) / std::max(step, 0.01f))));
}

}  // namespace

BarsResult vertical_bars(const BarsSpec& s) {
    BarsResult out;
    FontScope small(Font::mono_small);
    const int n = static_cast<int>(s.values.size());
    const float all = s.width > 0 ? s.width : ImGui::GetContentRegionAvail().x;
    const float height = s.height > 0 ? s.height : ImGui::GetContentRegionAvail().y;
    const ImVec2 top = ImGui::GetCursorScreenPos();
    Recording recording(s.id, top, all);
    ImGui::PushID(s.id);
    ImGui::InvisibleButton("bars", {std::max(1.0f, all), std::max(1.0f, height)});
    mark(s.id);
    const bool is_hovered = ImGui::IsItemHovered();
    const Frame f = lay_out(s, top, all, height);
    const float line = ImGui::GetTextLineHeight(), base = f.base, width = f.width;
    const ImVec2 p = f.at;
    const double foot = s.starts_at_lo ? f.lo : 0;
    const auto y_of = [&](double v) { return f.y(v); };
    const float step = n > 0 ? width / static_cast<float>(n) : width,
                gap = step < px(4) ? 0 : std::min(px(3), step * 0.2f);
    Canvas canvas = recording.canvas(ImGui::GetWindowDrawList());
    draw_axis(s, canvas, f, top);
    const int every = s.label ? label_step(s, step) : 1;
    float labelled_to =
        p.x - px(5);  // a label that an end of the axis pushed may reach to where the next one would begin
    for (int i = 0; i < n; ++i) {
        const float x0 = p.x + step * static_cast<float>(i), v = s.values[static_cast<size_t>(i)];
        const ImVec2 a{x0 + gap / 2, std::min(y_of(v), y_of(foot))},
            b{x0 + step - gap / 2, std::max(y_of(v), y_of(foot))};
        if (std::isfinite(v))
            canvas.rect_filled(a, {b.x, std::max(b.y, a.y + 1)}, color_of(s, i), std::min(px(2), step / 4));
        if (i == s.selected) canvas.rect({a.x - px(1), p.y}, {b.x + px(1), base}, theme().accent, px(2), px(1.5f));
        if (registry_is_on()) value_rect(std::string(s.id) + "/" + std::to_string(i), v, {x0, p.y}, {x0 + step, base});
        if (s.label && i % every == 0) {
            const std::string label = s.label(i);
            const float w = ImGui::CalcTextSize(label.c_str()).x;
            const float x = std::clamp(x0 + (step - w) / 2, p.x, std::max(p.x, p.x + width - w));
            if (x < labelled_to + px(5)) continue;
            canvas.text({x, base + px(3)}, theme().text_dim, label);
            labelled_to = x + w;
        }
    }
    canvas.line({p.x, y_of(foot)}, {p.x + width, y_of(foot)}, theme().border_strong);
    if (*s.line_label) {
        const float y = y_of(s.line), w = ImGui::CalcTextSize(s.line_label).x;
        canvas.line({p.x, y}, {p.x + width, y}, theme().text_dim);
        canvas.text({p.x + width - w - px(2), y - line - px(1)}, theme().text_dim, s.line_label);
    }
    const ImVec2 mouse = ImGui::GetIO().MousePos;
    if (is_hovered && n > 0 && mouse.y <= base && mouse.x >= p.x)
        out.hovered = std::clamp(static_cast<int>((mouse.x - p.x) / step), 0, n - 1);
    const std::string under = out.hovered >= 0 ? full_precision(s.values[static_cast<size_t>(out.hovered)]) : "";
    copy_menu("copy", {under, "", [&] { return to_csv(s)(); }, s.id, {}});
    if (out.hovered >= 0) bar_tooltip(s, out.hovered), out.is_clicked = ImGui::IsMouseClicked(ImGuiMouseButton_Left);
    recording.finish(top.y + height, [&] { return to_csv(s); });
    ImGui::PopID();
    return out;
}

BarsResult horizontal_bars(const BarsSpec& s, float label_width) {
    BarsResult out;
    FontScope mono(Font::mono_small);
    const float width = s.width > 0 ? s.width : ImGui::GetContentRegionAvail().x,
                row = ImGui::GetTextLineHeight() + px(7);
    Recording recording(s.id, ImGui::GetCursorScreenPos(), width);
    int n = static_cast<int>(s.values.size());
    const int all = n;
    if (s.height > 0) n = std::min(n, std::max(0, static_cast<int>(s.height / row)));
    if (n < all && n > 0) --n;
    float lo, hi;
    range_of(s, lo, hi);
    const float number_width =
        ImGui::CalcTextSize("0.0000").x + (*s.unit ? ImGui::CalcTextSize(s.unit).x + px(4) : 0) + px(8);
    const float room = std::max(px(10), width - label_width - number_width - px(8));
    Canvas canvas = recording.canvas(ImGui::GetWindowDrawList());
    ImGui::PushID(s.id);
    ImGui::PushStyleVar(ImGuiStyleVar_ItemSpacing, ImVec2(0, 0));
    for (int i = 0; i < n; ++i) {
        const ImVec2 p = ImGui::GetCursorScreenPos();
        ImGui::PushID(i);
        if (ImGui::InvisibleButton("row", {width, row})) out.hovered = i, out.is_clicked = true;
        const float v = s.values[static_cast<size_t>(i)];
        if (registry_is_on()) {
            const std::string name = std::string(s.id) + "/" + std::to_string(i);
            mark(name, s.label ? s.label(i) : "");
            value(name, v);
        }
        copy_menu("copy", {full_precision(v),
                           (s.label ? s.label(i) : std::to_string(i)) + "\t" + full_precision(v),
                           [&] { return to_csv(s)(); },
                           s.id,
                           {}});
        if (ImGui::IsItemHovered()) out.hovered = i, bar_tooltip(s, i);
        const float text_y = p.y + (row - ImGui::GetTextLineHeight()) / 2;
        if (s.label) canvas.text({p.x, text_y}, theme().text, elide(s.label(i), label_width - px(8)));
        const float x0 = p.x + label_width, w = room * std::clamp((v - lo) / (hi - lo), 0.0f, 1.0f);
        canvas.rect_filled({x0, p.y + px(4)}, {x0 + room, p.y + row - px(4)}, theme().raised, px(3));
        if (w >= 1) canvas.rect_filled({x0, p.y + px(4)}, {x0 + w, p.y + row - px(4)}, color_of(s, i), px(3));
        if (i == s.selected) canvas.rect({p.x - px(3), p.y}, {p.x + width, p.y + row}, theme().accent, px(3), px(1.5f));
        const std::string number = format_number(v) + (*s.unit ? std::string(" ") + s.unit : "");
        canvas.text({p.x + width - ImGui::CalcTextSize(number.c_str()).x, text_y}, theme().text, number);
        ImGui::PopID();
    }
    if (n < all) text_dim("\xE2\x80\xA6 " + std::to_string(all - n) + " more");
    recording.finish(ImGui::GetCursorScreenPos().y, [&] { return to_csv(s); });
    ImGui::PopStyleVar();
    ImGui::PopID();
    return out;
}

namespace {

std::function<std::string()> to_csv(std::span<const Share> parts, double whole, const std::string& unit) {
    std::string out = csv_field("part") + "," + csv_field(unit.empty() ? "value" : "value [" + unit + "]") + ",share\n";
    for (const Share& p : parts)
        out += csv_field(p.name) + "," + exact_number(p.value) + "," + exact_number(whole > 0 ? p.value / whole : 0) +
               "\n";
    return [out] { return out; };
}

void stacked_tooltip(std::span<const Share> parts, double whole, const char* unit) {
    Tooltip box;
    FontScope small(Font::mono_small);
    for (const Share& s : parts) {
        dot(s.color);
        ImGui::SameLine(0, px(6));
        ui::plainf("%s  %s %s (%s)", s.name, format_number(s.value).c_str(), unit,
                    format_percent(whole > 0 ? s.value / whole : 0).c_str());
    }
}

// What stands in the picture and not on the screen, where hovering tells it.
float draw_legend(Canvas canvas, std::span<const Share> parts, ImVec2 at, double whole, const char* unit) {
    FontScope small(Font::mono_small);
    const float line = ImGui::GetTextLineHeight() + px(3);
    for (const Share& s : parts) {
        canvas.circle_filled({at.x + px(4), at.y + line / 2}, px(4), s.color);
        canvas.text({at.x + px(14), at.y + px(1)}, theme().text,
                    std::string(s.name) + "  " + format_number(s.value) + (*unit ? std::string(" ") + unit : "") +
                        " (" + format_percent(whole > 0 ? s.value / whole : 0) + ")");
        at.y += line;
    }
    return at.y;
}

}  // namespace

int stacked_bar(const char* id, std::span<const Share> parts, float width, float height, double whole, const char* unit,
                Canvas* shared) {
    double sum = 0;
    for (const Share& p : parts) sum += std::max(0.0, p.value);
    if (whole <= 0) whole = sum;
    const ImVec2 p = ImGui::GetCursorScreenPos();
    std::optional<Recording> recording;
    if (!shared) recording.emplace(id, p, width);
    ImGui::PushID(id);
    ImGui::InvisibleButton("bar", {std::max(1.0f, width), height});
    const bool is_hovered = ImGui::IsItemHovered();
    Canvas own = recording ? recording->canvas(ImGui::GetWindowDrawList()) : Canvas(nullptr);
    Canvas& canvas = shared ? *shared : own;
    canvas.rect_filled(p, {p.x + width, p.y + height}, theme().raised, px(3));
    int hovered = -1;
    float x = p.x;
    for (size_t i = 0; i < parts.size(); ++i) {
        const float w = whole > 0 ? width * static_cast<float>(std::max(0.0, parts[i].value) / whole) : 0;
        const ImVec2 a{x, p.y}, b{x + w, p.y + height};
        if (w > 0.2f)
            canvas.rect_filled(a, {std::max(a.x + 0.5f, b.x - (w > px(4) ? 1.0f : 0.0f)), b.y}, parts[i].color, px(2));
        if (registry_is_on()) value_rect(std::string(id) + "/" + parts[i].name, parts[i].value, a, b);
        const float mouse = ImGui::GetIO().MousePos.x;
        if (is_hovered && mouse >= a.x && mouse < b.x) hovered = static_cast<int>(i);
        x += w;
    }
    if (is_hovered) stacked_tooltip(parts, whole, unit);
    if (recording) {
        const std::string under = hovered >= 0 ? full_precision(parts[static_cast<size_t>(hovered)].value) : "";
        copy_menu("copy", {under, "", [&] { return to_csv(parts, whole, unit)(); }, id, {}});
        const float bottom = p.y + height;
        recording->finish(canvas.is_recording()
                              ? draw_legend(recording->canvas(nullptr), parts, {p.x, bottom + px(4)}, whole, unit)
                              : bottom,
                          [&] { return to_csv(parts, whole, unit); });
    }
    ImGui::PopID();
    return hovered;
}

}  // namespace vitrine::viz::ui
