// The shell without a display: frames never wait, time goes in fixed steps, pictures are drawn on the CPU.
#include "app/shell_platforms.h"
#include "viz/gl.h"
#include "viz/imgui_compat.h"
#include "viz/software_renderer.h"
#include "viz/theme.h"

namespace vitrine {
namespace {

class HeadlessShell : public Shell {
  public:
    HeadlessShell(const ShellOptions& options, CommandSink& sink, std::function<bool(Update&)> next_update)
        : Shell(options, sink, std::move(next_update)) {
        if (options_.time_step <= 0) options_.time_step = 1 / 60.0;
        viz::set_gl_backend(viz::GlBackend::null);
        viz::null_platform_init();
        start(1);
    }
    ~HeadlessShell() override { shut_widgets(); }
    void wake() override {}

  protected:
    bool wait_for_work(bool) override { return true; }
    void begin_frame() override {
        ImGui::GetIO().DisplaySize = {static_cast<float>(settings().window_width),
                                      static_cast<float>(settings().window_height)};
    }
    void end_frame() override { viz::null_render(); }
    void fonts_changed() override {
#if IMGUI_VERSION_NUM < 19200
        ImGui::GetIO().Fonts->SetTexID(viz::texture_id(1));
#endif
    }
    viz::Pixels pixels() override {
        return viz::render_on_cpu(ImGui::GetDrawData(), viz::theme().back);
    }
};

}  // namespace

std::unique_ptr<Shell> open_headless(const ShellOptions& o, CommandSink& sink,
                                     std::function<bool(Update&)> next_update) {
    return std::make_unique<HeadlessShell>(o, sink, std::move(next_update));
}

}  // namespace vitrine
