// Bars: sorted or in order, vertical with values on hover; horizontal with labels; and one stacked bar of shares.
#pragma once
#include <functional>
#include <span>
#include <string>

#include "viz/theme.h"
#include "viz/widgets/figure.h"

namespace vitrine::viz::ui {

struct BarsSpec {
    const char* id = "bars";  // registry: "id/i" carries the value of bar i
    std::span<const float> values;
    std::function<std::string(int)> label;  // drawn below where it fits, and on hover
    std::function<ImU32(int)> color;        // default: text_dim
    std::function<void(int)> hover;         // more lines in the tooltip
    const char* value_name = "value";
    const char* unit = "";
    bool is_share = false;        // fractions, written as percent
    const char* label_name = "";  // what the labels are, written below them
    float lo = 0, hi = 0;       // equal: 0 (or the least) to the largest
    bool starts_at_lo = false;  // bars stand on `lo` instead of 0: for rankings, where only order and distance count
    int selected = -1;          // outlined in the accent
    double line = 0;            // a horizontal reference line, when line_label is not empty
    const char* line_label = "";
    float width = 0, height = 0;  // 0: what is left; real pixels
};
struct BarsResult {
    int hovered = -1;
    bool is_clicked = false;
};
// With an axis of values, titled "value_name [unit]", where there is room for one. Registry: "id/axis/lo" and
// "id/axis/hi", its lowest and highest tick.
BarsResult vertical_bars(const BarsSpec& spec);
// One row per value: label, bar, number. Height follows from the number of rows unless given (then rows are cut with "…
// n more").
BarsResult horizontal_bars(const BarsSpec& spec, float label_width);

// Parts of a whole in one bar; fractions >= 0, drawn relative to their sum or to `whole` when > 0.
struct Share {
    const char* name;
    double value;
    ImU32 color;
};
// Returns the hovered part or -1. Registry: "id/<name>". Exports itself under its id; with a canvas it is a part of the
// caller's figure instead.
int stacked_bar(const char* id, std::span<const Share> parts, float width, float height, double whole = 0,
                const char* unit = "", Canvas* canvas = nullptr);

}  // namespace vitrine::viz::ui
