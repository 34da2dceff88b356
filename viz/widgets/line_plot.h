// Curves with axes, ticks and units. Plain data in (Series, PlotSpec), one LinePlot per place where a plot is drawn.
//
// Looks: linear or logarithmic axes, bands (min to max over seeds) with a faint line per seed, areas, smoothing that says so
// ("loss (smoothed 0.9)" over the faint raw line), a legend whose entries hide and show their series, values of all series
// under the mouse. Axes grow in steps so that nothing jumps while data streams in.
// Hands: wheel zooms about the mouse (Shift: x only, Ctrl: y only), drag pans, double click fits, right click: copy, export
// as PNG, SVG or CSV, logarithmic axes, smoothing.
// Speed: a series costs its pixels, not its points, when it has a `revision` (a pyramid of extremes is kept and extended);
// without one it is read once a frame. Drawn are minimum and maximum of every pixel column, so no peak is lost.
#pragma once
#include <functional>
#include <map>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "viz/theme.h"
#include "viz/widgets/curve.h"

namespace vitrine::viz::ui {

// Spans are read during draw() only. All have the length of y, or are empty.
struct Series {
    std::string name;               // unique in its plot
    ImU32 color = 0;
    std::span<const double> x;      // ascending; empty: 0, 1, 2, ...
    std::span<const double> y;      // NaN: a gap
    bool is_dashed = false;
    bool is_filled = false;         // area down to the series before it (stacked) or to the axis
    std::span<const double> base = {};  // lower edge when filled; empty: the axis
    bool has_points = false;
    std::span<const double> band_lo = {}, band_hi = {};     // a band around y, such as the least and most over seeds
    std::span<const std::span<const double>> seeds = {};    // one faint line each, at the same x; each as long as it got
    // Not 0: the same as long as values were only appended; another after any other change. 0: unknown.
    uint64_t revision = 0;
};

struct Line {                       // a reference line
    double at = 0;
    const char* label = "";
    ImU32 color = 0;
    bool is_vertical = false;
};

// The x axis of several plots that are zoomed and moved together; kept by the caller. Plots with a logarithmic x axis of their
// own keep to themselves where it can't show the range.
struct LinkedX {
    double lo = 0, hi = 0;
    bool is_set = false;            // false: every plot shows all
    int n_fits = 0;                 // one plot was fitted: all are
};

struct PlotSpec {
    const char* id = "plot";        // registry: see below; also the name of its exports
    std::span<const Series> series;
    std::span<const Line> lines;
    const char* x_label = "";
    const char* y_label = "";
    const char* y_unit = "";
    bool is_log_x = false, is_log_y = false;         // as the plot begins; its menu changes it
    double x_lo = 0, x_hi = 0, y_lo = 0, y_hi = 0;   // equal: from the data, in steps
    bool y_from_zero = false;
    bool is_integer_x = false;
    double x_step = 0;                                  // > 0: ticks only at multiples of it
    std::function<std::string(double)> x_text, y_text;  // ticks and hover; default format_number
    double selected_x = 0;          // an accent line; used when has_selected_x
    bool has_selected_x = false;
    bool has_legend = true;
    float width = 0, height = 0;    // 0: what is left; real pixels
    const char* x_unit = "";
    double smoothing = -1;          // weight in [0, 1) of a moving average; -1: the plot's own, chosen in its menu
    bool drag_pans = true;          // false: the caller uses is_dragged
    LinkedX* linked_x = nullptr;    // null: this plot's own
};

struct PlotResult {
    bool is_hovered = false, is_dragged = false;
    bool is_clicked = false;        // pressed and released without moving
    double x = 0, y = 0;            // data under the mouse
    double x_slack = 0;             // |x| of a few pixels there: what a click may miss by
};

// Registry, for tests and scripts: "id" the whole; "id/area" the plot's rectangle; "id/x_lo", "id/x_hi", "id/y_lo",
// "id/y_hi" the axes' ends; "id/legend/<series>" 1 shown, 0 hidden; "id/drawn/<series>" points of its curve on the screen;
// "id/crosshair/<series>" the value under the mouse; "id/<series>/<index>" the value at selected_x;
// "id/line/<label>/<at>" a vertical reference line.
class LinePlot {
  public:
    PlotResult draw(const PlotSpec& spec);
    void fit() { is_zoomed_ = false, has_range_ = false; }
    float legend_height() const { return legend_height_; }  // real pixels beyond its first row, when drawn last

  private:
    struct Frame;                   // what one draw() computes
    void find_range(const PlotSpec& s, Frame& f);
    void lay_out(const PlotSpec& s, Frame& f);
    void draw_legend(const PlotSpec& s, Frame& f);
    void draw_series(const Series& c, Frame& f);
    void draw_band(const Series& c, Frame& f);
    void draw_curve(const Series& c, Frame& f, std::span<const double> y, const std::string& key, bool is_smooth, ImU32 color,
                    float width, const std::string& name);
    void crosshair(const PlotSpec& s, Frame& f);
    void use_mouse(const PlotSpec& s, Frame& f, PlotResult& out);
    void fit_all(const PlotSpec& s);
    void menu(const PlotSpec& s, Frame& f, double under);
    bool is_shown(const Series& c) const { return !hidden_.count(c.name); }
    Curve& curve(const std::string& key, std::span<const double> y, uint64_t revision, double weight);

    double y_lo_ = 0, y_hi_ = 0;    // the range shown; widened in steps, narrowed when it is 4x too wide
    bool has_range_ = false;
    bool is_zoomed_ = false;
    double zoom_[4] = {0, 1, 0, 1};  // x_lo, x_hi, y_lo, y_hi
    int n_fits_ = 0;                // of the linked axis, that were followed
    bool is_pressed_ = false;
    float moved_ = 0;               // [px] since pressed
    float label_width_ = 0;         // [px] of the y axis
    float legend_height_ = 0;
    bool has_own_log_ = false, is_log_x_ = false, is_log_y_ = false;
    double smoothing_ = 0;
    std::set<std::string> hidden_;
    std::map<std::string, Curve> curves_;
};

// At most `n` round tick values in [lo, hi]; decades when logarithmic.
std::vector<double> tick_values(double lo, double hi, int n, bool is_log);
// The same, but two of them where that takes more than `n`: one tick gives no scale.
std::vector<double> scale_ticks(double lo, double hi, int n, bool is_log);

}  // namespace vitrine::viz::ui
