// Input by program: what a script or a test types and clicks, by the names of the probe registry. One event per frame,
// as a hand would, so that it works the same with a window and without.
#pragma once
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "viz/imgui_compat.h"

namespace vitrine::viz {

// What is held and pressed now. The shell applies it after the platform's own input, before the frame is built.
class Input {
  public:
    void apply();            // into ImGui's io
    bool is_active = false;  // false: the platform's mouse is left alone
    ImVec2 mouse{-1, -1};
    bool is_button_down[2] = {};
    int mods = kNoMod;
    std::vector<Key> keys;  // held
    std::string text;       // typed in the next frame
    float wheel = 0;        // of the next frame

  private:
    std::vector<Key> applied_;
};

// What a script calls a widget: its full name, or its last parts, or the words before a number ("MaxVio" for routing/load/maxvio);
// upper and lower case are the same. Several that fit: the only one that is not scrolled away.
struct Label {
    std::string name, problem;  // one of them is empty; the problem names what it could mean
};
Label find_label(std::string_view label, bool is_number);  // is_number: only widgets that show one

class Driver {
  public:
    // `frame` draws one frame and returns false when the window is gone.
    Driver(Input& input, std::function<bool()> frame) : input_(input), frame_(std::move(frame)) {
        input_.is_active = true;
    }
    bool frames(int n);
    // Each returns "" or why not: "no widget 'Sned'; did you mean Send?"
    std::string click(std::string_view name, int button = 0);
    std::string hover(std::string_view name);
    std::string type(std::string_view utf8);  // to what has the focus
    std::string key(std::string_view chord);  // "Ctrl+K", "Left", "Escape", "1"
    void move_to(ImVec2 p);
    void press(ImVec2 p, int button = 0);
    void drag(ImVec2 from, ImVec2 to);
    void wheel(float dy);

  private:
    std::string locate(std::string_view name, ImVec2& at);
    Input& input_;
    std::function<bool()> frame_;
};

}  // namespace vitrine::viz
