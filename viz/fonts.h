// Fonts: Inter for words, JetBrains Mono for numbers and tokens, Noto CJK for Chinese, found through fontconfig.
//
// Before Dear ImGui 1.92 the glyph atlas is fixed, so the code points of arriving text are noted and the atlas is rebuilt
// between frames when there are new ones (about 20 ms). Code points above U+FFFF can't be drawn: see displayable().
#pragma once
#include <imgui.h>

#include <string>
#include <string_view>
#include <vector>

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
    // Between frames only. True: the atlas was rebuilt and its texture must be uploaded again (before 1.92).
    bool rebuild_if_needed();
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
    ImVector<ImWchar> seen_ranges_;             // must outlive the atlas's build
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
