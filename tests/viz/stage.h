// A stage for one view without a display: draws a panel with the null renderer and reads what it drew from the probe
// registry.
#pragma once
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/viz/fake_feed.h"
#include "viz/fonts.h"
#include "viz/panel.h"

namespace vitrine::viz::test {

// One per process at a time: owns the ImGui context.
class Stage {
  public:
    explicit Stage(float width = 1800, float height = 1400, bool is_dark = true);
    ~Stage();
    Stage(const Stage&) = delete;
    Stage& operator=(const Stage&) = delete;

    Cursor cursor;
    fake::Sink sink;
    std::string went_to;    // the view that a panel asked for
    std::string asked_for;  // the action

    void draw(const std::string& panel, const Snapshot& s, int n_frames = 2);
    // Clicks the middle of a widget that was drawn; false when it was not.
    bool click(const std::string& panel, const Snapshot& s, const std::string& widget);
    void hover(const std::string& panel, const Snapshot& s, float x, float y);
    Panel& panel(const std::string& name);
    // New panels: nothing remembered.
    void reset();

    std::optional<double> number(const std::string& name) const;  // none: not drawn, or drawn without a number
    std::string text(const std::string& name) const;              // empty: not drawn
    bool is_drawn(const std::string& name) const;
    // Numbers of all widgets "prefix" + integer, by that integer.
    std::map<int64_t, double> numbers(const std::string& prefix) const;

  private:
    void frame(Panel& panel, const Snapshot& s);
    float width_, height_;
    std::unique_ptr<Fonts> fonts_;
    std::vector<std::unique_ptr<Panel>> panels_;
};

}  // namespace vitrine::viz::test
