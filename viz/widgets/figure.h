// A drawing as plain data, and the canvas that draws on the screen and into it at once: what an exported picture shows
// is what was on the screen, shape by shape, and can be written from any thread.
#pragma once
#include <imgui.h>

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace vitrine::viz::ui {

struct Shape {
    enum class Kind { line, area, rect, rect_filled, circle, text, cells };
    Kind kind = Kind::line;
    // line: its points. area: the outline. rect, cells: two corners. circle: the centre. text: the top left.
    std::vector<ImVec2> points;
    ImU32 color = 0;
    float width = 1;               // of strokes; circle: radius; text: font size [px]
    float rounding = 0, dash = 0;  // dash > 0: as long as the gap after it
    bool is_mono = false;          // text
    std::string text;              // text; line, area: the series that it shows, as SVG's data-series
    int rows = 0, cols = 0;        // cells: colours row by row
    std::vector<uint32_t> cells;
    int clip = -1;  // index into Figure::clips
};

// Coordinates are in screen pixels from the top left of the figure.
struct Figure {
    float width = 0, height = 0;
    ImU32 background = 0;
    std::string title;
    std::vector<Shape> shapes;
    struct Clip {
        ImVec2 min, max;
    };
    std::vector<Clip> clips;
};

// Draws into the window's draw list (null: not on the screen), and into a figure while one is recorded (see export.h).
class Canvas {
  public:
    explicit Canvas(ImDrawList* dl, Figure* figure = nullptr, ImVec2 origin = {})
        : dl_(dl), figure_(figure), origin_(origin) {}
    void line(ImVec2 a, ImVec2 b, ImU32 color, float width = 1);
    // A curve; dashes go on across its points. `series` names what it shows.
    void polyline(std::span<const ImVec2> points, ImU32 color, float width, bool is_dashed = false,
                  std::string_view series = {});
    // Between two curves over the same abscissas.
    void area(std::span<const ImVec2> upper, std::span<const ImVec2> lower, ImU32 color, std::string_view series = {});
    void rect(ImVec2 a, ImVec2 b, ImU32 color, float rounding = 0, float width = 1);
    void rect_filled(ImVec2 a, ImVec2 b, ImU32 color, float rounding = 0);
    void circle_filled(ImVec2 center, float radius, ImU32 color);
    void text(ImVec2 at, ImU32 color, std::string_view s);  // in the current font and size
    // `texture` holds the same pixels as `colors`, rows x cols.
    void cells(ImTextureID texture, ImVec2 a, ImVec2 b, int rows, int cols, std::span<const uint32_t> colors);
    void push_clip(ImVec2 a, ImVec2 b);
    void pop_clip();
    bool is_recording() const { return figure_ != nullptr; }
    Figure* figure() { return figure_; }
    ImVec2 local(ImVec2 p) const { return {p.x - origin_.x, p.y - origin_.y}; }  // screen to figure

  private:
    Shape* add(Shape::Kind kind, ImU32 color, std::initializer_list<ImVec2> points);
    ImDrawList* dl_;
    Figure* figure_;
    ImVec2 origin_;
    int clip_ = -1;
};

// SVG 1.1, self-contained: curves as paths, cells as rectangles (runs of one colour as one), text as text.
std::string to_svg(const Figure& f);

}  // namespace vitrine::viz::ui
