// A stage for one view without a display.
#include "tests/viz/stage.h"

#include <cstdlib>
#include <stdexcept>

#include "viz/gl.h"
#include "viz/imgui_compat.h"
#include "viz/theme.h"
#include "viz/widgets/registry.h"

namespace vitrine::viz::test {

Stage::Stage(float width, float height, bool is_dark) : width_(width), height_(height) {
    set_gl_backend(GlBackend::null);
    ImGui::CreateContext();
    ImGuiIO& io = ImGui::GetIO();
    io.IniFilename = nullptr;
    io.DeltaTime = 1.0f / 60;
    null_platform_init();
    const Theme t = make_theme(is_dark);
    set_theme(t, 1);
    apply_style(t, 1);
    fonts_ = std::make_unique<Fonts>();
    fonts_->set_scale(1);
    fonts_->rebuild_if_needed();
    ui::registry_enable(true);
    ui::registry_clear();
    reset();
}

Stage::~Stage() {
    panels_.clear();
    fonts_.reset();
    ImGui::DestroyContext();
    ui::registry_clear();
}

void Stage::reset() {
    panels_ = make_panels();
}

Panel& Stage::panel(const std::string& name) {
    for (auto& p : panels_)
        if (name == p->name()) return *p;
    throw std::runtime_error("no view is called " + name);
}

void Stage::frame(Panel& panel, const Snapshot& s) {
    ImGui::GetIO().DisplaySize = {width_, height_};
    ImGui::NewFrame();
    ImGui::SetNextWindowPos({0, 0});
    ImGui::SetNextWindowSize({width_, height_});
    ImGui::Begin("stage", nullptr,
                 ImGuiWindowFlags_NoDecoration | ImGuiWindowFlags_NoMove | ImGuiWindowFlags_NoSavedSettings);
    View view{cursor, sink};
    if (s.trace) view.record = s.trace->get(cursor.token.branch, cursor.token.position);
    const auto n = static_cast<int64_t>(s.timeline.tokens.size());
    if (cursor.token.position >= 0 && cursor.token.position < n) view.token = &s.timeline.tokens[cursor.token.position];
    view.source = Source::live;
    panel.draw(s, view);
    if (!view.go_to.empty()) went_to = view.go_to;
    if (!view.run.empty()) asked_for = view.run;
    ImGui::End();
    ImGui::Render();
    null_render();
}

void Stage::draw(const std::string& panel, const Snapshot& s, int n_frames) {
    for (int i = 0; i < n_frames; ++i) frame(this->panel(panel), s);
}

void Stage::hover(const std::string& panel, const Snapshot& s, float x, float y) {
    feed_mouse(x, y);
    draw(panel, s, 3);
}

bool Stage::click(const std::string& panel, const Snapshot& s, const std::string& widget) {
    const ui::Widget* w = ui::find_widget(widget);
    if (!w) return false;
    const ImVec2 at = w->center();
    hover(panel, s, at.x, at.y);
    feed_button(0, true);
    draw(panel, s, 1);
    feed_button(0, false);
    draw(panel, s, 1);
    hover(panel, s, -100, -100);
    return true;
}

std::optional<double> Stage::number(const std::string& name) const {
    const ui::Widget* w = ui::find_widget(name);
    if (!w || !w->has_number) return {};
    return w->number;
}

std::string Stage::text(const std::string& name) const {
    const ui::Widget* w = ui::find_widget(name);
    return w ? w->text : std::string();
}

bool Stage::is_drawn(const std::string& name) const {
    return ui::find_widget(name) != nullptr;
}

std::map<int64_t, double> Stage::numbers(const std::string& prefix) const {
    std::map<int64_t, double> out;
    for (const std::string& name : ui::widget_names(prefix)) {
        const std::string rest = name.substr(prefix.size());
        if (rest.empty() || rest.find_first_not_of("0123456789") != std::string::npos) continue;
        if (const auto v = number(name)) out[std::atoll(rest.c_str())] = *v;
    }
    return out;
}

}  // namespace vitrine::viz::test
