// The probe registry: when on, every named widget leaves its rectangle, text and number of this frame, so that tests and
// scripts find widgets by name and read exactly what was drawn. Off (the default) it costs one branch.
#pragma once
#include <imgui.h>

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace vitrine::viz::ui {

struct Widget {
    ImVec2 min, max;
    std::string text;
    std::string label;  // the words that stand before a number: "MaxVio"
    double number = 0;
    bool has_number = false;
    bool is_visible = true;   // inside its clip rectangle, at least in part
    bool is_in_reach = true;  // its centre is inside: a click there meets it
    int frame = 0;            // ImGui frame it was last drawn in
    ImVec2 center() const { return {(min.x + max.x) / 2, (min.y + max.y) / 2}; }
};

void registry_enable(bool is_on);
bool registry_is_on();
void registry_clear();

// The item drawn last, under a name. Names are paths: "routing/expert/3/weight"; labels of buttons are their words ("Send").
void mark(std::string_view name, std::string_view text = {});
void mark_rect(std::string_view name, ImVec2 min, ImVec2 max, std::string_view text = {});
// A number that is on the screen, as it is drawn (full precision).
void value(std::string_view name, double v);
void value_rect(std::string_view name, double v, ImVec2 min, ImVec2 max);
void label(std::string_view name, std::string_view words);  // of a widget that was marked in this frame

// Text without a name, so that is_text_shown knows all that stands on the screen. All text is drawn by these (or by what calls
// them), for ImGui::TextUnformatted, ImGui::Text, ImDrawList::AddText; but running text, whose widget is marked with its words.
void plain(std::string_view s);
void plainf(const char* format, ...) IM_FMTARGS(1);
void paint_text(ImDrawList* dl, ImVec2 at, ImU32 color, std::string_view s);
void note_text(std::string_view s);  // of the item drawn last: what a cut or broken text says as a whole

// As drawn in the last finished frame; nullptr: not drawn.
const Widget* find_widget(std::string_view name);
std::vector<std::string> widget_names(std::string_view prefix = {});
// Scrolls the pane of this widget so that it stands in its middle, when it is drawn next: what a wheel would do, for scripts.
void reveal(std::string_view name);
// True when a text that was drawn in the last frame contains this: a widget's, a tooltip's, any other.
bool is_text_shown(std::string_view text);

// Text whose glyphs are cut at the left or right edge of their clip rectangle: what "text never overflows" forbids. Call after
// ImGui::Render(). Regions that scroll sideways on purpose are noted while drawing with `scrolls_sideways`.
struct CutText {
    ImVec2 at;
    std::string window;
};
void scrolls_sideways(ImVec2 min, ImVec2 max);
std::vector<CutText> find_cut_text();

}  // namespace vitrine::viz::ui
