// The rasteriser of figures: coverage per shape in a mask, then one blend, so that a curve never darkens where it meets
// itself.
#include "viz/widgets/raster.h"

#include <stb_truetype.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>

#include "engine/base/error.h"
#include "engine/base/reader.h"
#include "viz/text_util.h"

namespace vitrine::viz::ui {
namespace {

constexpr uint64_t kMaxFontBytes = uint64_t{64} << 20;
constexpr int kSubLines = 4;  // per pixel row, of filled outlines

struct Box {
    int x0, y0, x1, y1;  // [x0, x1) x [y0, y1)
    bool is_empty() const { return x0 >= x1 || y0 >= y1; }
};

struct LoadedFont {
    std::string bytes;
    stbtt_fontinfo info{};
    float factor = 1;
};

class Raster {
  public:
    Raster(Pixels& out, const Figure& f, float scale) : out_(out), figure_(f), scale_(scale) {
        mask_.resize(static_cast<size_t>(out.width) * out.height);
    }
    void draw(const Shape& s);
    std::vector<std::unique_ptr<LoadedFont>> words, mono;

  private:
    Box clip_of(const Shape& s) const;
    void stroke(const std::vector<ImVec2>& points, float width, float dash, const Box& clip);
    void segment(ImVec2 a, ImVec2 b, float half, const Box& clip);
    void fill(const std::vector<ImVec2>& outline, const Box& clip);
    void cells(const Shape& s, const Box& clip);
    void text(const Shape& s, const Box& clip);
    void glyph(const LoadedFont& f, int index, float scale, float x, float baseline, const Box& clip);
    void cover(int x, int y, float v) {
        float& m = mask_[static_cast<size_t>(y) * out_.width + x];
        m = std::max(m, v);
        touched_ = {std::min(touched_.x0, x), std::min(touched_.y0, y), std::max(touched_.x1, x + 1),
                    std::max(touched_.y1, y + 1)};
    }
    void blend(ImU32 color);
    void blend_pixel(int x, int y, ImU32 color, float coverage);
    ImVec2 scaled(ImVec2 p) const { return {p.x * scale_, p.y * scale_}; }

    Pixels& out_;
    const Figure& figure_;
    const float scale_;
    std::vector<float> mask_;
    Box touched_{1 << 30, 1 << 30, 0, 0};
};

void Raster::blend_pixel(int x, int y, ImU32 color, float coverage) {
    uint32_t& below = out_.rgba[static_cast<size_t>(y) * out_.width + x];
    const float a = coverage * static_cast<float>(color >> 24) / 255.0f;
    uint32_t result = 0xFF000000u;
    for (int k = 0; k < 24; k += 8) {
        const float b = static_cast<float>((below >> k) & 255), c = static_cast<float>((color >> k) & 255);
        result |= static_cast<uint32_t>(b + (c - b) * a + 0.5f) << k;
    }
    below = result;
}

void Raster::blend(ImU32 color) {
    for (int y = touched_.y0; y < touched_.y1; ++y)
        for (int x = touched_.x0; x < touched_.x1; ++x) {
            float& m = mask_[static_cast<size_t>(y) * out_.width + x];
            if (m > 0) blend_pixel(x, y, color, std::min(1.0f, m));
            m = 0;
        }
    touched_ = {1 << 30, 1 << 30, 0, 0};
}

Box Raster::clip_of(const Shape& s) const {
    Box b{0, 0, out_.width, out_.height};
    if (s.clip < 0) return b;
    const Figure::Clip& c = figure_.clips[static_cast<size_t>(s.clip)];
    return {std::max(b.x0, static_cast<int>(c.min.x * scale_)), std::max(b.y0, static_cast<int>(c.min.y * scale_)),
            std::min(b.x1, static_cast<int>(std::ceil(c.max.x * scale_))),
            std::min(b.y1, static_cast<int>(std::ceil(c.max.y * scale_)))};
}

// Pixels by their distance to the segment: round ends and joints.
void Raster::segment(ImVec2 a, ImVec2 b, float half, const Box& clip) {
    const float reach = half + 1;
    const Box box{std::max(clip.x0, static_cast<int>(std::floor(std::min(a.x, b.x) - reach))),
                  std::max(clip.y0, static_cast<int>(std::floor(std::min(a.y, b.y) - reach))),
                  std::min(clip.x1, static_cast<int>(std::ceil(std::max(a.x, b.x) + reach))),
                  std::min(clip.y1, static_cast<int>(std::ceil(std::max(a.y, b.y) + reach)))};
    const float dx = b.x - a.x, dy = b.y - a.y, length2 = dx * dx + dy * dy;
    for (int y = box.y0; y < box.y1; ++y)
        for (int x = box.x0; x < box.x1; ++x) {
            const float px = static_cast<float>(x) + 0.5f - a.x, py = static_cast<float>(y) + 0.5f - a.y;
            const float t = length2 > 0 ? std::clamp((px * dx + py * dy) / length2, 0.0f, 1.0f) : 0;
            const float d = std::hypot(px - t * dx, py - t * dy), v = std::clamp(half + 0.5f - d, 0.0f, 1.0f);
            if (v > 0) cover(x, y, std::min(v, 2 * half));
        }
}

void Raster::stroke(const std::vector<ImVec2>& points, float width, float dash, const Box& clip) {
    float phase = 0;
    for (size_t i = 0; i + 1 < points.size(); ++i) {
        const ImVec2 a = scaled(points[i]), b = scaled(points[i + 1]);
        if (dash <= 0) {
            segment(a, b, width / 2, clip);
            continue;
        }
        const float length = std::hypot(b.x - a.x, b.y - a.y);
        for (float at = 0; at < length;) {
            const bool is_on = phase < dash;
            const float step = std::max(1e-2f, std::min(length - at, (is_on ? dash : 2 * dash) - phase));
            const auto point = [&](float u) { return ImVec2(a.x + (b.x - a.x) * u, a.y + (b.y - a.y) * u); };
            if (is_on) segment(point(at / length), point(std::min(1.0f, (at + step) / length)), width / 2, clip);
            at += step;
            phase = std::fmod(phase + step, 2 * dash);
        }
    }
}

// Even-odd by sub-lines, with exact coverage across.
void Raster::fill(const std::vector<ImVec2>& outline, const Box& clip) {
    float top = 1e9f, bottom = -1e9f;
    for (ImVec2 p : outline) top = std::min(top, p.y * scale_), bottom = std::max(bottom, p.y * scale_);
    const int y0 = std::max(clip.y0, static_cast<int>(std::floor(top))),
              y1 = std::min(clip.y1, static_cast<int>(std::ceil(bottom)));
    std::vector<float> crossings, row(static_cast<size_t>(out_.width));
    for (int y = y0; y < y1; ++y) {
        std::fill(row.begin(), row.end(), 0.0f);
        for (int k = 0; k < kSubLines; ++k) {
            const float at = static_cast<float>(y) + (static_cast<float>(k) + 0.5f) / kSubLines;
            crossings.clear();
            for (size_t i = 0; i < outline.size(); ++i) {
                const ImVec2 a = scaled(outline[i]), b = scaled(outline[(i + 1) % outline.size()]);
                if ((a.y <= at) != (b.y <= at)) crossings.push_back(a.x + (at - a.y) / (b.y - a.y) * (b.x - a.x));
            }
            std::sort(crossings.begin(), crossings.end());
            for (size_t i = 0; i + 1 < crossings.size(); i += 2) {
                const float from = std::max(crossings[i], static_cast<float>(clip.x0)),
                            to = std::min(crossings[i + 1], static_cast<float>(clip.x1));
                for (int x = static_cast<int>(from); x < to; ++x)
                    row[static_cast<size_t>(x)] +=
                        (std::min(to, static_cast<float>(x + 1)) - std::max(from, static_cast<float>(x))) / kSubLines;
            }
        }
        for (int x = clip.x0; x < clip.x1; ++x)
            if (row[static_cast<size_t>(x)] > 0) cover(x, y, row[static_cast<size_t>(x)]);
    }
}

void Raster::cells(const Shape& s, const Box& clip) {
    const ImVec2 a = scaled(s.points[0]), b = scaled(s.points[1]);
    const int x0 = std::max(clip.x0, static_cast<int>(std::round(a.x))),
              x1 = std::min(clip.x1, static_cast<int>(std::round(b.x)));
    const int y0 = std::max(clip.y0, static_cast<int>(std::round(a.y))),
              y1 = std::min(clip.y1, static_cast<int>(std::round(b.y)));
    for (int y = y0; y < y1; ++y)
        for (int x = x0; x < x1; ++x) {
            const auto cell = [](int p, float from, float to, int n) {
                return std::clamp(
                    static_cast<int>((static_cast<float>(p) + 0.5f - from) / (to - from) * static_cast<float>(n)), 0,
                    n - 1);
            };
            const int r = cell(y, a.y, b.y, s.rows), c = cell(x, a.x, b.x, s.cols);
            blend_pixel(x, y, s.cells[static_cast<size_t>(r) * s.cols + c], 1);
        }
}

void Raster::glyph(const LoadedFont& f, int index, float scale, float x, float baseline, const Box& clip) {
    int x0, y0, x1, y1;
    const float left = std::floor(x), sub = x - left;
    stbtt_GetGlyphBitmapBoxSubpixel(&f.info, index, scale, scale, sub, 0, &x0, &y0, &x1, &y1);
    const int w = x1 - x0, h = y1 - y0;
    if (w <= 0 || h <= 0 || w > 4096 || h > 4096) return;
    std::vector<unsigned char> bits(static_cast<size_t>(w) * h);
    stbtt_MakeGlyphBitmapSubpixel(&f.info, bits.data(), w, h, w, scale, scale, sub, 0, index);
    for (int y = 0; y < h; ++y)
        for (int k = 0; k < w; ++k) {
            const int at_x = static_cast<int>(left) + x0 + k, at_y = static_cast<int>(std::round(baseline)) + y0 + y;
            const unsigned char v = bits[static_cast<size_t>(y) * w + k];
            if (v && at_x >= clip.x0 && at_x < clip.x1 && at_y >= clip.y0 && at_y < clip.y1)
                cover(at_x, at_y, static_cast<float>(v) / 255.0f);
        }
}

void Raster::text(const Shape& s, const Box& clip) {
    const auto& fonts = s.is_mono && !mono.empty() ? mono : words;
    if (fonts.empty()) return;
    const float size = s.width * scale_;
    const LoadedFont& first = *fonts.front();
    int ascent = 0, descent = 0, gap = 0;
    stbtt_GetFontVMetrics(&first.info, &ascent, &descent, &gap);
    const ImVec2 at = scaled(s.points[0]);
    const float baseline = at.y + static_cast<float>(ascent) * stbtt_ScaleForPixelHeight(&first.info, size);
    float x = at.x;
    for (size_t i = 0; i < s.text.size();) {
        const auto code = static_cast<int>(next_code_point(s.text, i));
        const LoadedFont* f = &first;
        int index = 0;
        for (const auto& candidate : fonts)
            if ((index = stbtt_FindGlyphIndex(&candidate->info, code)) != 0) {
                f = candidate.get();
                break;
            }
        const float scale = stbtt_ScaleForPixelHeight(&f->info, size * f->factor);
        int advance = 0, bearing = 0;
        stbtt_GetGlyphHMetrics(&f->info, index, &advance, &bearing);
        glyph(*f, index, scale, x, baseline, clip);
        x += static_cast<float>(advance) * scale;
    }
}

void Raster::draw(const Shape& s) {
    const Box clip = clip_of(s);
    if (clip.is_empty() || s.points.empty()) return;
    const auto corners = [&] {
        const ImVec2 a = s.points[0], b = s.points[1];
        return std::vector<ImVec2>{a, {b.x, a.y}, b, {a.x, b.y}};
    };
    switch (s.kind) {
        case Shape::Kind::line:
            stroke(s.points, s.width * scale_, s.dash * scale_, clip);
            break;
        case Shape::Kind::area:
            fill(s.points, clip);
            break;
        case Shape::Kind::rect: {
            auto outline = corners();
            outline.push_back(outline.front());
            stroke(outline, s.width * scale_, 0, clip);
            break;
        }
        case Shape::Kind::rect_filled:
            fill(corners(), clip);
            break;
        case Shape::Kind::circle:
            segment(scaled(s.points[0]), scaled(s.points[0]), s.width * scale_, clip);
            break;
        case Shape::Kind::text:
            text(s, clip);
            break;
        case Shape::Kind::cells:
            cells(s, clip);
            return;
    }
    blend(s.color);
}

std::vector<std::unique_ptr<LoadedFont>> load(const std::vector<FontFile>& files) {
    std::vector<std::unique_ptr<LoadedFont>> out;
    for (const FontFile& file : files) {
        auto f = std::make_unique<LoadedFont>();
        try {
            f->bytes = read_file(file.path, kMaxFontBytes);
        } catch (const Error&) {
            continue;  // the next one serves
        }
        const auto* data = reinterpret_cast<const unsigned char*>(f->bytes.data());
        const int offset = stbtt_GetFontOffsetForIndex(data, file.index);
        f->factor = file.factor;
        if (offset >= 0 && stbtt_InitFont(&f->info, data, offset)) out.push_back(std::move(f));
    }
    return out;
}

}  // namespace

Pixels rasterize(const Figure& f, float scale, const std::vector<FontFile>& words, const std::vector<FontFile>& mono) {
    Pixels out;
    out.width = static_cast<int>(std::lround(f.width * scale)),
    out.height = static_cast<int>(std::lround(f.height * scale));
    if (out.width <= 0 || out.height <= 0 || out.width > 16384 || out.height > 16384) return {};
    out.rgba.assign(static_cast<size_t>(out.width) * out.height, f.background | 0xFF000000u);
    Raster r(out, f, scale);
    r.words = load(words), r.mono = load(mono);
    for (const Shape& s : f.shapes) r.draw(s);
    return out;
}

}  // namespace vitrine::viz::ui
