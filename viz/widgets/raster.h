// A figure as pixels, without a GPU and without Dear ImGui's atlas: may run on any thread.
#pragma once
#include <string>
#include <vector>

#include "viz/fonts.h"
#include "viz/gl.h"
#include "viz/widgets/figure.h"

namespace vitrine::viz::ui {

// `scale` pixels for each pixel of the figure; smoothed edges. `words` and `mono` are font files in order of
// preference, as viz::font_files gives them; a file that can't be read is left out, a character that none has is drawn
// as a box.
Pixels rasterize(const Figure& f, float scale, const std::vector<FontFile>& words, const std::vector<FontFile>& mono);

}  // namespace vitrine::viz::ui
