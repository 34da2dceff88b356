// The small pieces every view is made of: panes, section titles, text that never overflows, buttons that the registry
// knows, badges, tooltips, the help popup, the empty state, the copy menu.
#pragma once
#include <imgui.h>

#include <functional>
#include <string>
#include <string_view>

#include "viz/fonts.h"
#include "viz/panel.h"
#include "viz/theme.h"
#include "viz/widgets/number.h"
#include "viz/widgets/registry.h"

namespace vitrine::viz::ui {

// ---- surfaces. A pane is a rounded, bordered child with padding; keep the object for its extent (ends it when it
// dies).
struct Pane {
    Pane(const char* id, ImVec2 size, ImGuiWindowFlags flags = 0);  // size <= 0: what is left (minus that much)
    ~Pane();
    Pane(const Pane&) = delete;
    Pane& operator=(const Pane&) = delete;
    bool is_open;
};
// A plain child without border or background, for scrolling regions.
struct Region {
    Region(const char* id, ImVec2 size, ImGuiWindowFlags flags = 0);
    ~Region();
    Region(const Region&) = delete;
    Region& operator=(const Region&) = delete;
};
struct Color {  // text colour of the scope
    explicit Color(ImU32 c) { ImGui::PushStyleColor(ImGuiCol_Text, c); }
    ~Color() { ImGui::PopStyleColor(); }
    Color(const Color&) = delete;
    Color& operator=(const Color&) = delete;
};

// ---- text. All take untrusted UTF-8; `name` (may be null) is the registry's.
void text(std::string_view s, const char* name = nullptr);  // one line, elided at the pane's edge, full text on hover
void text_dim(std::string_view s, const char* name = nullptr);  // the same in the dim colour and small type
void text_mono(std::string_view s, const char* name = nullptr);
void text_wrapped(std::string_view s, const char* name = nullptr);
float wrap_width();  // of running text here: what is left of a pane, or of a tooltip, which grows with its text
void text_in(std::string_view s, float width, const char* name = nullptr);  // elided to `width`, which it occupies
void number(double v, const char* unit, const char* name);  // mono, three digits; hover and copy in full precision
void label_value(const char* label, std::string_view value,
                 const char* name = nullptr);  // dim label, mono value, one line
void label_number(const char* label, double v, const char* unit, const char* name);

// A title in bold with an optional (?) that opens the help, and a right-aligned slot: returns its x for callers that
// add to it.
void section(const char* title, const Help* help = nullptr);
void help_button(const char* id, const Help& help);
void badge(Source s, const char* name = "badge");  // "live", "recorded", "projected", with a sign
void dot(ImU32 color, float radius = 4);     // a round swatch on the text line
void kind_glyph(LayerKind k, bool is_hash);  // S C H in the kind's colour, # when hash-routed

// ---- controls
bool button(const char* label, const char* name = nullptr);
bool primary_button(const char* label, const char* name = nullptr);
bool quiet_button(const char* label, const char* name = nullptr);                 // no background until hovered
bool segmented(const char* id, int& selected, const char* const* labels, int n);  // registry: "id/label"
bool checkbox(const char* label, bool& v);
void tooltip(std::string_view s);                      // on the last item, wrapped
void rich_tooltip(const std::function<void()>& draw);  // on the last item
// A tooltip window at the mouse, styled; draw between. For widgets that test hovering themselves.
void begin_tooltip();
void end_tooltip();
struct Tooltip {  // the same for a scope; declare it before fonts and colours, so that it ends after them
    Tooltip() { begin_tooltip(); }
    ~Tooltip() { end_tooltip(); }
    Tooltip(const Tooltip&) = delete;
    Tooltip& operator=(const Tooltip&) = delete;
};

// What to do when there is nothing to show, centred in what is left; true when the action (may be null) was clicked.
bool empty_state(const char* title, const char* what_to_do, const char* action = nullptr);

// Right click on the last item: copy the value, its row, everything as CSV; export. Only given ones are offered.
struct Copyable {
    std::string value, row;
    std::function<std::string()> csv;
    const char* exported = nullptr;  // the name of its Recording (export.h)
    std::function<void()> more;      // more menu items
};
void copy_menu(const char* id, const Copyable& c);

}  // namespace vitrine::viz::ui
