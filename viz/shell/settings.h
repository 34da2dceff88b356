// What the window remembers between starts: theme, sizes, splitters, sampling, recent folders. Plain data with its JSON
// form.
#pragma once
#include <string>
#include <vector>

#include "engine/base/config/sampling.h"

namespace vitrine::viz {

struct Settings {
    bool is_dark = true;
    float font_scale = 1;  // [0.6, 3]
    bool has_reduced_motion = false;
    float chat_ratio = 0.34f;  // of the body's width
    bool is_chat_open = true;
    int paint = 0;  // of the token strip
    std::string panel = "Overview";
    Mode mode = Mode::non_think;
    Sampling sampling;
    bool is_think_open = false;  // thinking unfolded in new answers
    bool enter_sends = true;
    int window_width = 1440, window_height = 900;
    std::vector<std::string> recent_folders;  // newest first
    friend bool operator==(const Settings&, const Settings&);

    void add_recent(const std::string& folder);
    std::string to_json() const;
    // Error(bad_input) naming file, key, value and what was expected. Unknown keys are errors.
    static Settings parse(const std::string& text, const std::string& file);
};

// Reads `path`; a missing file gives the defaults. A damaged one is renamed to `path`.bad, and `problem` says so.
Settings load_settings(const std::string& path, std::string& problem);
// Error(io) when it can't be written.
void save_settings(const Settings& s, const std::string& path);

}  // namespace vitrine::viz
