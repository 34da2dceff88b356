// A matrix as colours: one texture, row and column labels, outlined cells, a marked row, value on hover, legend.
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "viz/gl.h"
#include "viz/theme.h"

namespace vitrine::viz::ui {

struct CellMark {
    enum class Kind { outline, accent, cross, hatch };  // hatch: the cell has no such value by design
    int row = 0, col = 0;
    Kind kind = Kind::outline;
};

struct HeatmapSpec {
    const char* id = "heatmap";                 // registry: "id", and "id/r/c" for marked and hovered cells
    std::span<const float> values;              // rows x cols, row-major; NaN: no value
    int rows = 0, cols = 0;
    ColorMap map = ColorMap::magnitude;
    float lo = 0, hi = 1;                       // lo == hi: the data's own range
    const char* value_name = "value";
    const char* unit = "";
    std::function<std::string(int)> row_label, col_label;      // short; drawn where they fit
    std::function<ImU32(int)> row_color;        // colour of the label; default dim
    std::function<void(int r, int c)> hover;    // more lines in the tooltip
    const char* row_name = "row";
    const char* col_name = "column";
    std::span<const CellMark> marks;
    int selected_row = -1, selected_col = -1;
    float width = 0, height = 0;                // 0: what is left; real pixels
    bool has_legend = true;
    bool has_names = false;  // writes row_name, col_name and value_name beside their axes and the legend
    bool shows_numbers = false;                 // writes the values into the cells where they fit
    bool is_square = false;                     // cells as squares
};

struct HeatmapResult {
    int hovered_row = -1, hovered_col = -1;
    bool is_clicked = false;                    // the hovered cell
    float lo = 0, hi = 0;                       // the range used
};

// Owns the texture; keep one per heat map. The texture is coloured anew only when values, range or theme changed.
class Heatmap {
  public:
    HeatmapResult draw(const HeatmapSpec& spec);

  private:
    void color(const HeatmapSpec& s, float lo, float hi);
    Texture texture_;
    std::vector<float> drawn_;
    std::vector<uint32_t> pixels_;
    float lo_ = 0, hi_ = 0;
    int cols_ = 0;
    ColorMap map_ = ColorMap::magnitude;
    bool is_dark_ = true;
};

}  // namespace vitrine::viz::ui
