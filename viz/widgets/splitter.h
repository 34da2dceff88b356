// A draggable bar between two regions; the ratio is what settings remember.
#pragma once

namespace vitrine::viz::ui {

// Draws the bar inside a region of `length` (along the split) x `across` at the cursor, leaves the cursor where it was and
// returns the first part's length. vertical: the bar stands, parts lie side by side. Bar width: kSplitterWidth design pixels.
inline constexpr float kSplitterWidth = 8;
float splitter(const char* id, bool is_vertical, float& ratio, float length, float across, float min_first, float min_second);

}  // namespace vitrine::viz::ui
