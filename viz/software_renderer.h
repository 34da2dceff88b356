// Draws ImGui's triangles into pixels on the CPU: pictures without a display, the same bits on every machine.
#pragma once
#include <imgui.h>

#include "viz/gl.h"

namespace vitrine::viz {

// Textured, coloured, alpha-blended triangles with their clip rectangles, over `background`. Textures are those of the
// null backend of gl.h and the font atlas.
Pixels render_on_cpu(const ImDrawData* data, ImU32 background);

}  // namespace vitrine::viz
