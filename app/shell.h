// The window's life: ImGui context, fonts, frame pacing, settings on disk, pictures. With a GLFW window or without any
// display; `while (shell->frame())` is the same for both. Belongs to the UI thread except where said.
//
// Draws when something happened: input (and 3 frames after it, for hovering and popups), reports of the engine, a
// notice that goes. On software OpenGL 4 to 10 frames per second while the engine generates, as long as one takes.
#pragma once
#include <atomic>
#include <chrono>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include "viz/gl.h"
#include "viz/shell/driver.h"
#include "viz/shell/settings.h"
#include "viz/shell/workspace.h"
#include "viz/snapshot.h"

namespace vitrine {

struct ShellOptions {
    bool has_window = true;     // false: no display is needed; pictures are drawn on the CPU
    int width = 0, height = 0;  // 0: as remembered in the settings
    float content_scale = 0;    // 0: the display's
    double time_step = 0;       // [s] > 0: fixed, frames never wait (tests, scripts)
    std::string settings_path;  // empty: nothing is remembered
    std::string export_folder = ".";
    std::string picture_folder = ".";
};

class Shell {
  public:
    // `next_update` gives the engine's next report, false when there is none. Error(device) when no window can be
    // opened.
    static std::unique_ptr<Shell> open(const ShellOptions& options, CommandSink& sink,
                                       std::function<bool(Update&)> next_update);
    virtual ~Shell();
    Shell(const Shell&) = delete;
    Shell& operator=(const Shell&) = delete;

    bool frame();             // false: closed
    virtual void wake() = 0;  // any thread: a report waits; the system is told once until the next frame
    // Waits until the last frame is really drawn (OpenGL only queues it): for measurements.
    virtual void finish() {}
    void set_time_step(double seconds) { options_.time_step = seconds; }  // 0: real time, frames wait
    void close() { workspace_->desk().wants_quit = true; }

    viz::Workspace& workspace() { return *workspace_; }
    viz::Snapshot& snapshot() { return snapshot_; }
    viz::Settings& settings() { return settings_; }
    viz::Input& input() { return input_; }  // for scripts: see viz::Driver

    // Draws a frame and writes it as PNG on another thread; "" or what went wrong.
    std::future<std::string> picture(const std::string& path);

  protected:
    Shell(const ShellOptions& options, CommandSink& sink, std::function<bool(Update&)> next_update);
    void start(float content_scale);             // after the platform is there
    void shut_widgets() { workspace_.reset(); }  // textures die before their context
    // The platform: waits for a reason to draw, begins the frame, shows it, gives its pixels.
    virtual bool wait_for_work(bool is_animating) = 0;  // false: closed
    virtual void begin_frame() = 0;
    virtual void end_frame() = 0;
    virtual void fonts_changed() = 0;
    virtual viz::Pixels pixels() = 0;

    ShellOptions options_;
    viz::Settings settings_;
    std::string settings_problem_;
    viz::Input input_;
    float content_scale_ = 1;
    double elapsed() const;  // [s] since start

  private:
    void drain();
    void note_text(const Update& u);
    void apply_scale();
    void remember();
    void measure(double ms);

    CommandSink& sink_;
    std::function<bool(Update&)> next_update_;
    viz::Snapshot snapshot_;
    viz::Fonts fonts_;
    std::unique_ptr<viz::Workspace> workspace_;
    std::string saved_settings_;
    double saved_at_ = 0, measured_at_ = -10, last_frame_ = 0;
    int n_frames_ = 0;
    bool is_dark_ = true, has_new_fonts_ = false;
    float applied_scale_ = 0;
    int64_t noted_conversation_ = 0;
    std::future<std::string> saving_;
    std::vector<std::future<std::string>> pictures_;
    std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace vitrine
