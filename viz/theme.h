// Colours and metrics: one place. Surfaces, text, the accent of the cursor, the fixed colours of kinds and phases, and the two
// colour maps (cividis-like for magnitude, purple-orange for signed values). All hues are the Okabe-Ito set, tuned per theme.
#pragma once
#include <imgui.h>

#include "engine/base/config/model_config.h"
#include "engine/telemetry/cache_report.h"
#include "engine/telemetry/chat.h"

namespace vitrine::viz {

struct Theme {
    bool is_dark = true;
    // Surfaces from back to front; text on any of them has a contrast of at least 7:1 for `text` and `text_dim`.
    ImU32 back, pane, raised, hovered, border, border_strong;
    ImU32 text, text_dim, text_faint;   // faint: decoration only (axis ticks' lines, placeholders)
    ImU32 accent;                       // the cursor and nothing else
    ImU32 button, button_text;          // the primary button: text colour inverted
    ImU32 warning, error;               // always beside a sign or a word
    // Kinds (v4-spec 0.4) and phases keep their colour in every view.
    ImU32 window, csa, hca, sink, index_key, compressor_state, shared;
    ImU32 prompt, thinking, answer, tool_call;

    ImU32 kind(LayerKind k) const { return k == LayerKind::sliding ? window : k == LayerKind::csa ? csa : hca; }
    ImU32 kind(CacheKind k) const;
    ImU32 phase(Phase p) const;
};

Theme make_theme(bool is_dark);
// The theme and scale of this frame. Set by the shell before drawing; UI thread only.
const Theme& theme();
void set_theme(const Theme& t, float scale);
float ui_scale();                                    // font scale x the display's content scale
inline float px(float v) { return v * ui_scale(); }  // design pixels to real ones
void apply_style(const Theme& t, float scale);       // to ImGui's style

ImU32 with_alpha(ImU32 c, float alpha);
ImU32 mix(ImU32 a, ImU32 b, float t);                // t = 0: a
ImU32 readable_on(ImU32 background);                 // black or white, whichever contrasts more
double contrast(ImU32 a, ImU32 b);                   // WCAG 2 ratio, 1..21
inline ImVec4 vec4(ImU32 c) { return ImGui::ColorConvertU32ToFloat4(c); }

enum class ColorMap { magnitude, diverging };
// Colour of t: [0, 1] for magnitude, [-1, 1] for diverging; clamped; NaN is transparent.
ImU32 map_color(ColorMap m, float t);
// Where `v` lies: magnitude (v - lo) / (hi - lo), diverging v / max(|lo|, |hi|).
float map_position(ColorMap m, float v, float lo, float hi);
// A horizontal legend at the cursor: strip, end values, unit. Width in real pixels.
void color_legend(ColorMap m, float lo, float hi, const char* unit, float width);

}  // namespace vitrine::viz
