// What every view begins with: its title and help, the badge, the token and layer it shows, and why there is nothing to
// show.
#pragma once
#include <functional>
#include <string>

#include "viz/panel.h"

namespace vitrine::viz::ui {

// "token 12 "?" (answer) · layer 4, CSA"
std::string cursor_text(const Snapshot& s, const View& view, bool with_layer);
// "layer 4, CSA" and whether experts come from the token id table there.
std::string layer_text(const ModelConfig& c, int layer);

void view_head(const Help& help, const char* title, const Snapshot& s, const View& view, bool with_layer);

// False after drawing why: no model, nothing read yet, record on its way, record fallen out (offers to compute it
// again).
bool require_model(const Snapshot& s);
// False after saying that another model than the loaded one read this token; offers to open that one.
bool require_own_record(const Snapshot& s, View& view, TokenRef token);
std::string model_name(const std::string& folder);  // its last component
bool require_record(const Snapshot& s, View& view, ProbeSet probes);

// The view has no room for panes side by side: a narrow window, large type, presenter mode. They stand one below the
// other then, and the view scrolls.
bool is_narrow();
struct GridPane {
    const char* id;
    float least;  // [design px] height that it needs to be read
    std::function<void()> draw;
};
// Four panes, two over two: `left_upper` and `left_lower` are the left ones' shares of the width, `upper` the share of
// the height. Narrow: one below the other.
void four_panes(const GridPane (&panes)[4], float upper, float left_upper, float left_lower);

// The index in the timeline of a token, -1 when it is not in context.
int64_t timeline_index(const Timeline& t, TokenRef ref);

}  // namespace vitrine::viz::ui
