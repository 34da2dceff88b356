// Curves with axes, ticks and units: linear or logarithmic, min/max per pixel column for long series, crosshair values on
// hover. Axes grow in steps so that nothing jumps while data streams in.
#pragma once
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "viz/theme.h"

namespace vitrine::viz::ui {

struct Series {
    const char* name = "";
    ImU32 color = 0;
    std::span<const double> x;      // ascending; empty: 0, 1, 2, ...
    std::span<const double> y;      // NaN: a gap
    bool is_dashed = false;
    bool is_filled = false;         // area down to the series before it (stacked) or to the axis
    std::span<const double> base = {};  // lower edge when filled; empty: the axis
    bool has_points = false;
};

struct Line {                       // a reference line
    double at = 0;
    const char* label = "";
    ImU32 color = 0;
    bool is_vertical = false;
};

struct PlotSpec {
    const char* id = "plot";        // registry: "id/<series name>/<index>" for the hovered or selected index
    std::span<const Series> series;
    std::span<const Line> lines;
    const char* x_label = "";
    const char* y_label = "";
    const char* y_unit = "";
    bool is_log_x = false, is_log_y = false;
    double x_lo = 0, x_hi = 0, y_lo = 0, y_hi = 0;   // equal: from the data, in steps
    bool y_from_zero = false;
    bool is_integer_x = false;
    std::function<std::string(double)> x_text, y_text;  // ticks and hover; default format_number
    double selected_x = 0;          // an accent line; used when has_selected_x
    bool has_selected_x = false;
    bool has_legend = true;
    float width = 0, height = 0;    // 0: what is left; real pixels
};

struct PlotResult {
    bool is_hovered = false, is_clicked = false, is_dragged = false;
    double x = 0, y = 0;            // data under the mouse
};

class LinePlot {
  public:
    PlotResult draw(const PlotSpec& spec);

  private:
    double y_lo_ = 0, y_hi_ = 0;    // the range shown; widened in steps, narrowed when it is 4x too wide
    bool has_range_ = false;
};

// At most `n` round tick values in [lo, hi]; decades when logarithmic.
std::vector<double> tick_values(double lo, double hi, int n, bool is_log);

}  // namespace vitrine::viz::ui
