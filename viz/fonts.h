// Fonts: Inter for words, JetBrains Mono for numbers and tokens, Noto CJK for Chinese, found through fontconfig.
//
// Before Dear ImGui 1.92 the glyph atlas is fixed once it was built: the code points of arriving text are noted, and characters
// that it lacks are put into it between frames (late_glyphs.h). Code points above U+FFFF can't be drawn: see displayable().
#pragma once
#include <imgui.h>

#include <string>
#include <string_view>
#include <vector>

#include "viz/late_glyphs.h"

namespace vitrine::viz {

enum class Font { body, small, title, heading, mono, mono_small, mono_large, count };
inline constexpr int kFontCount = static_cast<int>(Font::count);
float font_design_size(Font f);  // [px] at scale 1

// A file of glyphs, for those who draw without the atlas. `factor`: of the size, so that scripts look equally big.
struct FontFile {
    std::string path;
    int index = 0;
    float factor = 1;
};
// What a font is made of, in order of preference; empty before Fonts was made.
std::vector<FontFile> font_files(Font f);

class Fonts {
  public:
    Fonts();
    void set_scale(float scale);                // font scale x content scale; rebuilt before the next frame
    void note_text(std::string_view utf8);      // when text arrives, not every frame
    // Between frames only. True: the atlas has another texture, which must be uploaded (before 1.92). Rows of the texture that
    // changed are uploaded here.
    bool rebuild_if_needed();
    bool is_pending() const { return late_.is_pending(); }  // characters are on their way
    // The same until nothing is pending: for tests and pictures.
    void finish();
    int n_evictions() const { return late_.n_evictions(); }  // how often room was made for characters
    float scale() const { return scale_; }
    const std::vector<std::string>& substitutes() const { return substitutes_; }  // families that were not found

  private:
    struct File {
        std::string path;
        int index = 0;
    };
    File find(const char* family, const char* language, bool is_mono, int weight, unsigned code_point);
    void add(ImFontAtlas* atlas, Font f);
    File inter_, inter_bold_, mono_, cjk_, symbols_;
    float scale_ = 1;
    bool is_dirty_ = true;
    std::vector<bool> seen_;                    // by code point, from U+0180 up
    LateGlyphs late_;
    std::vector<std::string> substitutes_;
};

namespace ui {
ImFont* font(Font f);
// ImGui draws with this font until the end of the scope.
struct FontScope {
    explicit FontScope(Font f);
    ~FontScope();
    FontScope(const FontScope&) = delete;
    FontScope& operator=(const FontScope&) = delete;
};
}  // namespace ui

}  // namespace vitrine::viz
