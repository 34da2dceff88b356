// Exporting plots and heat maps: a picture (PNG at twice the size, SVG) or the numbers (CSV). A widget that can be
// exported draws through a Recording; asking for an export by the widget's name makes its next frame write itself.
// Rasterising, compressing and writing happen on another thread. UI thread only, except where said.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "viz/widgets/figure.h"

namespace vitrine::viz::ui {

enum class ExportFormat { png, svg, csv };
const char* export_extension(ExportFormat f);  // "png"
inline constexpr float kPngScale = 2;          // pixels of the picture for one of the screen

// Where files go, and the lines inside every picture: model, prompt, token, layer, settings. Set once a frame.
struct ExportContext {
    std::string folder = ".";
    std::vector<std::string> lines;
};
void set_export_context(ExportContext c);

// Names of the widgets that could be exported in this or the last frame, in the order drawn.
std::vector<std::string> exportables();
// The widget of this name writes itself the next time that it is drawn. `path` empty: a new file in the context's
// folder.
void request_export(std::string name, ExportFormat format, std::string path = {});

struct ExportResult {
    std::string path, problem;  // problem empty: written
};
std::vector<ExportResult> take_export_results();  // of the exports that are done
bool is_exporting();                              // something is asked for or being written
void wait_for_exports();                          // until everything recorded is written: tests, the end

// What a widget does while it draws:
//   Recording rec(id, top_left, width);  Canvas canvas = rec.canvas(draw_list);  ...  rec.finish(bottom, csv);
class Recording {
  public:
    Recording(const char* name, ImVec2 min, float width);
    Recording(const Recording&) = delete;
    Recording& operator=(const Recording&) = delete;
    Canvas canvas(ImDrawList* dl) { return Canvas(dl, is_on_ ? &figure_ : nullptr, origin_); }
    bool is_on() const { return is_on_; }
    // `csv` is called on another thread: it owns what it needs.
    void finish(float bottom, const std::function<std::function<std::string()>()>& make_csv);

  private:
    std::string name_, path_;
    ExportFormat format_ = ExportFormat::png;
    bool is_on_ = false;
    ImVec2 origin_;
    Figure figure_;
};

// One field of a CSV line: quoted when it must be.
std::string csv_field(const std::string& s);

}  // namespace vitrine::viz::ui
