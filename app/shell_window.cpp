// The shell in a GLFW window with OpenGL 3.3: waits for events, draws only when something happened.
#include <GLFW/glfw3.h>
#include <imgui.h>
#include <imgui_impl_glfw.h>
#include <imgui_impl_opengl3.h>

#include <algorithm>
#include <cstring>

#include "app/shell_platforms.h"
#include "engine/base/error.h"
#include "viz/gl.h"
#include "viz/theme.h"

namespace vitrine {
namespace {

constexpr int kSettleFrames = 3;  // hover, popups and layout need them after an input
// On software OpenGL drawing takes the engine's processors. While the engine works: a seventh of the time, between 10 and 4
// frames a second, and 10 at most for input.
constexpr double kSoftwareInterval = 0.1, kSoftwareMost = 0.25, kSoftwareShare = 7;
constexpr double kHardwareInterval = 1 / 60.0, kIdleWait = 10.0;

std::string glfw_problem() {
    const char* text = nullptr;
    glfwGetError(&text);
    return text ? text : "no reason given";
}

class WindowShell : public Shell {
  public:
    WindowShell(const ShellOptions& options, CommandSink& sink, std::function<bool(Update&)> next_update)
        : Shell(options, sink, std::move(next_update)) {
        if (!glfwInit()) throw Error(ErrorKind::device, "no window: GLFW can't start: " + glfw_problem());
        glfwWindowHint(GLFW_CONTEXT_VERSION_MAJOR, 3);
        glfwWindowHint(GLFW_CONTEXT_VERSION_MINOR, 3);
        glfwWindowHint(GLFW_OPENGL_PROFILE, GLFW_OPENGL_CORE_PROFILE);
        glfwWindowHint(GLFW_OPENGL_FORWARD_COMPAT, GLFW_TRUE);
        window_ = glfwCreateWindow(settings().window_width, settings().window_height, "Vitrine", nullptr, nullptr);
        if (!window_) {
            const std::string why = glfw_problem();
            glfwTerminate();
            throw Error(ErrorKind::device, "no window: OpenGL 3.3 is needed: " + why);
        }
        glfwMakeContextCurrent(window_);
        glfwSwapInterval(1);
        viz::set_gl_backend(viz::GlBackend::opengl);
        glfwSetWindowUserPointer(window_, this);
        install_callbacks();  // before ImGui's, which call them on
        ImGui_ImplGlfw_InitForOpenGL(window_, true);
        ImGui_ImplOpenGL3_Init("#version 330");
        const char* renderer = reinterpret_cast<const char*>(glGetString(GL_RENDERER));
        is_software_ = renderer && (std::strstr(renderer, "llvmpipe") || std::strstr(renderer, "softpipe") ||
                                    std::strstr(renderer, "SWR"));
        float sx = 1, sy = 1;
        glfwGetWindowContentScale(window_, &sx, &sy);
        start(std::max(1.0f, sx));
    }

    ~WindowShell() override {
        shut_widgets();
        ImGui_ImplOpenGL3_Shutdown();
        ImGui_ImplGlfw_Shutdown();
        glfwDestroyWindow(window_);
        glfwTerminate();
    }

    // One event until a frame took notice, so that a fast engine does not flood the queue.
    void wake() override {
        if (!has_reports_.exchange(true)) glfwPostEmptyEvent();
    }

    void finish() override { glFinish(); }

  protected:
    bool wait_for_work(bool is_animating) override {
        if (options_.time_step > 0) {  // a script drives: never wait
            glfwPollEvents();
            return !glfwWindowShouldClose(window_);
        }
        const double drawing = kSoftwareShare * 1e-3 * workspace().desk().frame_ms;
        const double interval = is_software_ ? std::clamp(drawing, kSoftwareInterval, kSoftwareMost) : kHardwareInterval;
        for (;;) {
            const double wanted = settle_ == 0 ? interval : is_software_ && is_animating ? kSoftwareInterval : 0;
            const double left = drawn_at_ + wanted - elapsed();
            if (settle_ > 0 && left <= 0)
                glfwPollEvents();
            else
                glfwWaitEventsTimeout(is_animating || has_reports_ ? std::max(0.001, left) : kIdleWait);
            if (glfwWindowShouldClose(window_)) return false;
            if (has_input_) settle_ = kSettleFrames, has_input_ = false;
            if (elapsed() - drawn_at_ < wanted) continue;
            const bool has_reports = has_reports_.exchange(false);
            if (settle_ > 0 || is_animating || has_reports) break;
        }
        if (settle_ > 0) --settle_;
        drawn_at_ = elapsed();
        return true;
    }

    void begin_frame() override {
        ImGui_ImplOpenGL3_NewFrame();
        ImGui_ImplGlfw_NewFrame();
    }

    void end_frame() override {
        draw();
        glfwSwapBuffers(window_);
    }

    void fonts_changed() override {
#if IMGUI_VERSION_NUM < 19200
        ImGui_ImplOpenGL3_DestroyFontsTexture();
        ImGui_ImplOpenGL3_CreateFontsTexture();
#endif
    }

    viz::Pixels pixels() override {
        draw();  // into the back buffer again: after a swap its content is undefined
        int w = 0, h = 0;
        glfwGetFramebufferSize(window_, &w, &h);
        return viz::read_framebuffer(w, h);
    }

  private:
    void draw() {
        int w = 0, h = 0;
        glfwGetFramebufferSize(window_, &w, &h);
        glViewport(0, 0, w, h);
        const ImVec4 back = viz::vec4(viz::theme().back);
        glClearColor(back.x, back.y, back.z, 1);
        glClear(GL_COLOR_BUFFER_BIT);
        ImGui_ImplOpenGL3_RenderDrawData(ImGui::GetDrawData());
    }

    void install_callbacks() {
        static const auto self = [](GLFWwindow* w) { return static_cast<WindowShell*>(glfwGetWindowUserPointer(w)); };
        glfwSetKeyCallback(window_, [](GLFWwindow* w, int, int, int, int) { self(w)->has_input_ = true; });
        glfwSetCharCallback(window_, [](GLFWwindow* w, unsigned) { self(w)->has_input_ = true; });
        glfwSetCursorPosCallback(window_, [](GLFWwindow* w, double, double) { self(w)->has_input_ = true; });
        glfwSetMouseButtonCallback(window_, [](GLFWwindow* w, int, int, int) { self(w)->has_input_ = true; });
        glfwSetScrollCallback(window_, [](GLFWwindow* w, double, double) { self(w)->has_input_ = true; });
        glfwSetWindowFocusCallback(window_, [](GLFWwindow* w, int) { self(w)->has_input_ = true; });
        glfwSetWindowRefreshCallback(window_, [](GLFWwindow* w) { self(w)->has_input_ = true; });
        glfwSetWindowSizeCallback(window_, [](GLFWwindow* w, int width, int height) {
            if (width >= 320 && height >= 240)
                self(w)->settings().window_width = width, self(w)->settings().window_height = height;
            self(w)->has_input_ = true;
        });
        glfwSetWindowContentScaleCallback(window_, [](GLFWwindow* w, float x, float) {
            self(w)->content_scale_ =
                self(w)->options_.content_scale > 0 ? self(w)->options_.content_scale : std::max(1.0f, x);
            self(w)->has_input_ = true;
        });
        glfwSetDropCallback(window_, [](GLFWwindow* w, int n, const char** paths) {
            self(w)->workspace().drop_files(std::vector<std::string>(paths, paths + n));
            self(w)->has_input_ = true;
        });
    }

    GLFWwindow* window_ = nullptr;
    bool is_software_ = false, has_input_ = true;
    int settle_ = kSettleFrames;
    double drawn_at_ = -1;
    std::atomic<bool> has_reports_{false};
};

}  // namespace

std::unique_ptr<Shell> open_window(const ShellOptions& o, CommandSink& sink, std::function<bool(Update&)> next_update) {
    return std::make_unique<WindowShell>(o, sink, std::move(next_update));
}

std::unique_ptr<Shell> Shell::open(const ShellOptions& o, CommandSink& sink, std::function<bool(Update&)> next_update) {
    return o.has_window ? open_window(o, sink, std::move(next_update)) : open_headless(o, sink, std::move(next_update));
}

}  // namespace vitrine
