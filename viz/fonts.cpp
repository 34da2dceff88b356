// Fontconfig look-ups and the glyph atlas.
#include "viz/fonts.h"

#include <fontconfig/fontconfig.h>

#include <array>
#include <cstring>
#include <utility>

#include "viz/gl.h"
#include "viz/imgui_compat.h"
#include "viz/text_util.h"

namespace vitrine::viz {
namespace {

std::array<ImFont*, kFontCount> g_fonts{};
std::array<std::vector<FontFile>, kFontCount> g_files;
// ImGui's size is ascent to descent, which Noto CJK has taller: the factors give characters as big as the Latin ones.
constexpr float kCjkFactor = 1.22f, kCjkMonoFactor = 1.28f;
float g_font_scale = 1;

// Latin, Greek, Cyrillic, punctuation, sub- and superscripts, arrows, mathematics, shapes: always present.
const ImWchar kAlways[] = {0x20,   0x17F,  0x192,  0x192,  0x2C6,  0x2DD,  0x300,  0x36F,  0x370,  0x3FF,  0x400,  0x45F,
                           0x1D40, 0x1D6A, 0x2010, 0x205E, 0x2070, 0x209C, 0x20AC, 0x20AC, 0x2100, 0x214F, 0x2190, 0x21FF,
                           0x2200, 0x22FF, 0x2300, 0x233F, 0x2500, 0x25FF, 0x2605, 0x2606, 0x2611, 0x2612, 0x2713, 0x2717,
                           0x27E8, 0x27E9, 0xFFFD, 0xFFFD, 0};
const ImWchar kMonoExtra[] = {0x20, 0x17F, 0x370, 0x3FF, 0x400, 0x45F, 0x2010, 0x205E, 0x2070, 0x209C, 0x2190, 0x21FF,
                              0x2200, 0x22FF, 0x2300, 0x233F, 0x2420, 0x2424, 0x2500, 0x25FF, 0x2713, 0x2717, 0xFFFD, 0xFFFD, 0};

bool is_mono(Font f) { return f == Font::mono || f == Font::mono_small || f == Font::mono_large; }
bool is_always(unsigned c, const ImWchar* ranges) {
    for (; ranges[0]; ranges += 2)
        if (c >= ranges[0] && c <= ranges[1]) return true;
    return false;
}

}  // namespace

float font_design_size(Font f) {
    switch (f) {
        case Font::body: return 15;
        case Font::small: return 13;
        case Font::title: return 15;
        case Font::heading: return 20;
        case Font::mono: return 14;
        case Font::mono_small: return 12;
        case Font::mono_large: return 22;
        case Font::count: break;
    }
    return 15;
}

Fonts::Fonts() : seen_(0x10000) {
    FcInit();
    inter_ = find("Inter", nullptr, false, FC_WEIGHT_REGULAR, 'a');
    inter_bold_ = find("Inter", nullptr, false, FC_WEIGHT_DEMIBOLD, 'a');
    mono_ = find("JetBrains Mono", nullptr, true, FC_WEIGHT_REGULAR, '0');
    cjk_ = find("Noto Sans CJK SC", "zh-cn", false, FC_WEIGHT_REGULAR, 0x4E2D);
    if (!kHasDynamicFonts) late_.set_face(cjk_.path, cjk_.index);
    symbols_ = find("DejaVu Sans", nullptr, false, FC_WEIGHT_REGULAR, 0x2202);
    for (int i = 0; i < kFontCount; ++i) {
        const auto f = static_cast<Font>(i);
        const bool is_bold = f == Font::title || f == Font::heading;
        g_files[static_cast<size_t>(i)].clear();
        for (const auto& [file, factor] : {std::pair(is_mono(f) ? mono_ : is_bold ? inter_bold_ : inter_, 1.0f),
                                           std::pair(symbols_, 1.0f), std::pair(cjk_, is_mono(f) ? kCjkMonoFactor : kCjkFactor)})
            if (!file.path.empty()) g_files[static_cast<size_t>(i)].push_back({file.path, file.index, factor});
    }
}

std::vector<FontFile> font_files(Font f) { return g_files[static_cast<size_t>(f)]; }

// fontconfig always answers with something; a substitute is used and named, never refused.
Fonts::File Fonts::find(const char* family, const char* language, bool is_mono_wanted, int weight, unsigned code_point) {
    const auto text = [](const char* s) { return reinterpret_cast<const FcChar8*>(s); };
    FcPattern* want = FcPatternCreate();
    FcPatternAddString(want, FC_FAMILY, text(family));
    if (language) FcPatternAddString(want, FC_LANG, text(language));
    if (is_mono_wanted) FcPatternAddInteger(want, FC_SPACING, FC_MONO);
    FcPatternAddBool(want, FC_OUTLINE, FcTrue);
    FcPatternAddBool(want, FC_COLOR, FcFalse);
    FcPatternAddBool(want, FC_VARIABLE, FcFalse);
    FcPatternAddInteger(want, FC_WEIGHT, weight);
    FcPatternAddInteger(want, FC_SLANT, FC_SLANT_ROMAN);
    FcCharSet* chars = FcCharSetCreate();
    FcCharSetAddChar(chars, code_point);
    FcPatternAddCharSet(want, FC_CHARSET, chars);
    FcCharSetDestroy(chars);
    FcConfigSubstitute(nullptr, want, FcMatchPattern);
    FcDefaultSubstitute(want);
    FcResult result;
    File out;
    if (FcPattern* got = FcFontMatch(nullptr, want, &result)) {
        FcChar8* s = nullptr;
        if (FcPatternGetString(got, FC_FILE, 0, &s) == FcResultMatch) out.path = reinterpret_cast<const char*>(s);
        FcPatternGetInteger(got, FC_INDEX, 0, &out.index);
        out.index &= 0xffff;  // the upper half is a named instance
        if (FcPatternGetString(got, FC_FAMILY, 0, &s) != FcResultMatch ||
            std::strcmp(reinterpret_cast<const char*>(s), family) != 0)
            substitutes_.push_back(std::string(family) + " -> " + (s ? reinterpret_cast<const char*>(s) : "nothing"));
        FcPatternDestroy(got);
    }
    FcPatternDestroy(want);
    return out;
}

void Fonts::set_scale(float scale) {
    if (scale == scale_) return;
    scale_ = scale;
    is_dirty_ = true;
}

void Fonts::note_text(std::string_view utf8) {
    for (size_t i = 0; i < utf8.size();) {
        const unsigned c = next_code_point(utf8, i);
        if (c < 0x180 || c > 0xFFFF || seen_[c]) continue;
        seen_[c] = true;
        if (is_always(c, kAlways)) continue;
#if IMGUI_VERSION_NUM >= 19200
        if (g_fonts[0] && !g_fonts[0]->IsGlyphInFont(static_cast<ImWchar>(c))) set_undrawable(c);
#else
        if (!late_.has(c)) set_undrawable(c);
#endif
        if (!kHasDynamicFonts) late_.add(c);
    }
}

void Fonts::add(ImFontAtlas* atlas, Font f) {
    const float size = font_design_size(f) * scale_;
    const bool is_bold = f == Font::title || f == Font::heading;
    const File& file = is_mono(f) ? mono_ : is_bold ? inter_bold_ : inter_;
    ImFontConfig config;
    config.OversampleH = 2;
    config.OversampleV = 1;
    config.PixelSnapH = true;
    const auto load = [&](const File& from, float at, const ImWchar* ranges) -> ImFont* {
        if (from.path.empty()) return nullptr;
        config.FontNo = from.index;
        ImFont* font = atlas->AddFontFromFileTTF(from.path.c_str(), at, &config, kHasDynamicFonts ? nullptr : ranges);
        return font;
    };
    ImFont* font = load(file, size, is_mono(f) ? kMonoExtra : kAlways);
    if (!font) font = atlas->AddFontDefault();
    config.MergeMode = true;
    load(symbols_, size, is_mono(f) ? kMonoExtra : kAlways);
    config.OversampleH = 1;
    if (kHasDynamicFonts) load(cjk_, size * (is_mono(f) ? kCjkMonoFactor : kCjkFactor), nullptr);
    g_fonts[static_cast<int>(f)] = font;
}

bool Fonts::rebuild_if_needed() {
    ImFontAtlas* atlas = ImGui::GetIO().Fonts;
    const bool is_new = std::exchange(is_dirty_, false);
    if (is_new) {
        atlas->Clear();
        atlas->Flags |= ImFontAtlasFlags_NoPowerOfTwoHeight;
        g_font_scale = scale_;
        for (int f = 0; f < kFontCount; ++f) add(atlas, static_cast<Font>(f));
#if IMGUI_VERSION_NUM < 19200
        atlas->TexDesiredWidth = 2048;  // rows for characters that come later hold more
        ImGui::GetIO().FontDefault = g_fonts[0];
        atlas->Build();
        std::vector<LateGlyphs::Target> targets;
        for (int f = 0; f < kFontCount; ++f) {
            const float factor = is_mono(static_cast<Font>(f)) ? kCjkMonoFactor : kCjkFactor;
            targets.push_back({g_fonts[static_cast<size_t>(f)], font_design_size(static_cast<Font>(f)) * scale_ * factor});
        }
        late_.attach(atlas, std::move(targets));
        for (unsigned c = 0x180; c < 0x10000; ++c)
            if (seen_[c] && !is_always(c, kAlways)) late_.add(c);
#endif
    }
    const LateGlyphs::Change change = late_.update();
    if (is_new || change.is_whole) return true;
#if IMGUI_VERSION_NUM < 19200
    if (change.n_rows > 0 && atlas->TexPixelsRGBA32)
        update_texture_rows(atlas->TexID, change.row, change.n_rows, atlas->TexWidth,
                            atlas->TexPixelsRGBA32 + static_cast<ptrdiff_t>(change.row) * atlas->TexWidth);
#endif
    return false;
}

void Fonts::finish() {
    while (is_pending()) late_.wait(), rebuild_if_needed();
}

namespace ui {

ImFont* font(Font f) { return g_fonts[static_cast<int>(f)]; }
FontScope::FontScope(Font f) { push_imgui_font(font(f), font_design_size(f) * g_font_scale); }
FontScope::~FontScope() { ImGui::PopFont(); }

}  // namespace ui
}  // namespace vitrine::viz
