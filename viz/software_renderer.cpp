// The CPU renderer: edge functions over the box of each triangle, exact on shared edges.
#include "viz/software_renderer.h"

#include <algorithm>
#include <cmath>

#include "viz/imgui_compat.h"

namespace vitrine::viz {
namespace {

struct Source {
    const uint32_t* rgba = nullptr;        // nearest texel; null: `alpha`
    const unsigned char* alpha = nullptr;  // coverage, between four texels; null: white
    int width = 1, height = 1;
    // Red, green, blue, alpha in [0, 1].
    void at(float u, float v, float (&out)[4]) const {
        const float x = u * static_cast<float>(width), y = v * static_cast<float>(height);
        if (rgba) {
            const ImU32 c =
                rgba[static_cast<size_t>(clamp_y(static_cast<int>(y))) * width + clamp_x(static_cast<int>(x))];
            for (int k = 0; k < 4; ++k) out[k] = static_cast<float>((c >> (8 * k)) & 255) / 255.0f;
            return;
        }
        out[0] = out[1] = out[2] = 1;
        const float fx = std::floor(x - 0.5f), fy = std::floor(y - 0.5f), tx = x - 0.5f - fx, ty = y - 0.5f - fy;
        const auto texel = [&](int dx, int dy) {
            return alpha ? static_cast<float>(alpha[static_cast<size_t>(clamp_y(static_cast<int>(fy) + dy)) * width +
                                                    clamp_x(static_cast<int>(fx) + dx)])
                         : 255.0f;
        };
        const float top = texel(0, 0) * (1 - tx) + texel(1, 0) * tx, bottom = texel(0, 1) * (1 - tx) + texel(1, 1) * tx;
        out[3] = (top * (1 - ty) + bottom * ty) / 255.0f;
    }
    int clamp_x(int x) const { return std::clamp(x, 0, width - 1); }
    int clamp_y(int y) const { return std::clamp(y, 0, height - 1); }
};

Source source_of(ImTextureID id) {
    Source s;
    if (const Pixels* p = null_texture(id)) {
        s.rgba = p->rgba.data(), s.width = p->width, s.height = p->height;
        return s;
    }
#if IMGUI_VERSION_NUM >= 19200
    for (ImTextureData* t : ImGui::GetPlatformIO().Textures)
        if (t->TexID == id) {
            s.width = t->Width, s.height = t->Height;
            if (t->BytesPerPixel == 4)
                s.rgba = reinterpret_cast<const uint32_t*>(t->GetPixels());
            else
                s.alpha = static_cast<const unsigned char*>(t->GetPixels());
        }
#else
    unsigned char* alpha = nullptr;
    ImGui::GetIO().Fonts->GetTexDataAsAlpha8(&alpha, &s.width, &s.height);
    s.alpha = alpha;
#endif
    return s;
}

ImU32 blend(ImU32 below, const float (&c)[4]) {
    ImU32 out = 0xFF000000u;
    for (int k = 0; k < 3; ++k) {
        const float b = static_cast<float>((below >> (8 * k)) & 255);
        out |= static_cast<ImU32>(b + (c[k] - b) * c[3] + 0.5f) << (8 * k);
    }
    return out;
}

struct Clip {
    int x0, y0, x1, y1;
};

// Vertices in 1/256 pixel, so that edges that two triangles share are decided exactly: each pixel belongs to one of
// them.
struct Point {
    int64_t x, y;
};
constexpr int64_t kSub = 256;
Point fixed(ImVec2 p) {
    return {std::llround(p.x * static_cast<float>(kSub)), std::llround(p.y * static_cast<float>(kSub))};
}
int64_t cross(Point o, Point a, Point b) {
    return (a.x - o.x) * (b.y - o.y) - (a.y - o.y) * (b.x - o.x);
}
bool is_top_left(Point p, Point q) {
    return q.y < p.y || (q.y == p.y && q.x > p.x);
}  // for positive area, y down

void triangle(Pixels& target, const Clip& clip, const Source& texture, const ImDrawVert& a, const ImDrawVert& b0,
              const ImDrawVert& c0) {
    const Point pa = fixed(a.pos);
    const bool is_flipped = cross(pa, fixed(b0.pos), fixed(c0.pos)) < 0;
    const ImDrawVert &b = is_flipped ? c0 : b0, &c = is_flipped ? b0 : c0;
    const Point pb = fixed(b.pos), pc = fixed(c.pos);
    const int64_t area = cross(pa, pb, pc);
    if (area == 0) return;
    const int x0 = std::max<int>(clip.x0, static_cast<int>(std::min({pa.x, pb.x, pc.x}) / kSub) - 1);
    const int y0 = std::max<int>(clip.y0, static_cast<int>(std::min({pa.y, pb.y, pc.y}) / kSub) - 1);
    const int x1 = std::min<int>(clip.x1, static_cast<int>(std::max({pa.x, pb.x, pc.x}) / kSub) + 1);
    const int y1 = std::min<int>(clip.y1, static_cast<int>(std::max({pa.y, pb.y, pc.y}) / kSub) + 1);
    const int64_t edge_a = is_top_left(pb, pc) ? 0 : 1, edge_b = is_top_left(pc, pa) ? 0 : 1,
                  edge_c = is_top_left(pa, pb) ? 0 : 1;
    for (int y = y0; y < y1; ++y)
        for (int x = x0; x < x1; ++x) {
            const Point p{x * kSub + kSub / 2, y * kSub + kSub / 2};
            const int64_t ia = cross(pb, pc, p), ib = cross(pc, pa, p), ic = cross(pa, pb, p);
            if (ia < edge_a || ib < edge_b || ic < edge_c) continue;
            const float wa = static_cast<float>(ia) / static_cast<float>(area),
                        wb = static_cast<float>(ib) / static_cast<float>(area);
            const float wc = 1 - wa - wb;
            float texel[4], color[4];
            texture.at(wa * a.uv.x + wb * b.uv.x + wc * c.uv.x, wa * a.uv.y + wb * b.uv.y + wc * c.uv.y, texel);
            for (int k = 0; k < 4; ++k) {
                const auto part = [k](ImU32 v) { return static_cast<float>((v >> (8 * k)) & 255); };
                color[k] = (wa * part(a.col) + wb * part(b.col) + wc * part(c.col)) * texel[k];
            }
            color[3] /= 255.0f;
            if (color[3] <= 0) continue;
            ImU32& out = target.rgba[static_cast<size_t>(y) * target.width + x];
            out = blend(out, color);
        }
}

}  // namespace

Pixels render_on_cpu(const ImDrawData* data, ImU32 background) {
    const auto width = static_cast<int>(data->DisplaySize.x), height = static_cast<int>(data->DisplaySize.y);
    Pixels out{width, height, std::vector<uint32_t>(static_cast<size_t>(width) * height, background | IM_COL32_A_MASK)};
    for (int l = 0; l < data->CmdListsCount; ++l) {
        const ImDrawList* list = data->CmdLists[l];
        for (const ImDrawCmd& cmd : list->CmdBuffer) {
            if (cmd.UserCallback) continue;
            const Clip clip{
                std::max(0, static_cast<int>(cmd.ClipRect.x)), std::max(0, static_cast<int>(cmd.ClipRect.y)),
                std::min(width, static_cast<int>(cmd.ClipRect.z)), std::min(height, static_cast<int>(cmd.ClipRect.w))};
            if (clip.x0 >= clip.x1 || clip.y0 >= clip.y1) continue;
            const Source texture = source_of(cmd.GetTexID());
            const auto vertex = [&](unsigned i) -> const ImDrawVert& {
                return list
                    ->VtxBuffer[static_cast<int>(cmd.VtxOffset + list->IdxBuffer[static_cast<int>(cmd.IdxOffset + i)])];
            };
            for (unsigned i = 0; i + 2 < cmd.ElemCount; i += 3)
                triangle(out, clip, texture, vertex(i), vertex(i + 1), vertex(i + 2));
        }
    }
    return out;
}

}  // namespace vitrine::viz
