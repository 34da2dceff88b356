// Characters that come after the atlas was built: their width at once, their picture later, everything else unmoved.
#include "viz/fonts.h"

#include <gtest/gtest.h>

#include <cmath>

#include "viz/gl.h"
#include "viz/imgui_compat.h"
#include "viz/text_util.h"

namespace vitrine::viz {
namespace {

#if IMGUI_VERSION_NUM < 19200

std::string utf8(unsigned c) {
    return {static_cast<char>(0xE0 | (c >> 12)), static_cast<char>(0x80 | ((c >> 6) & 63)),
            static_cast<char>(0x80 | (c & 63))};
}

class LateGlyphsTest : public ::testing::Test {
  protected:
    void SetUp() override {
        set_gl_backend(GlBackend::null);
        ImGui::CreateContext();
        fonts_ = std::make_unique<Fonts>();
        for (const std::string& s : fonts_->substitutes())
            if (s.find("CJK") != std::string::npos) GTEST_SKIP() << s;
        fonts_->rebuild_if_needed();
    }
    void TearDown() override {
        fonts_.reset();
        ImGui::DestroyContext();
    }
    static const ImFontGlyph* glyph(Font f, unsigned c) {
        return ui::font(f)->FindGlyphNoFallback(static_cast<ImWchar>(c));
    }
    // What the atlas holds where the glyph is.
    static std::vector<unsigned char> pixels(const ImFontGlyph& g) {
        const ImFontAtlas* a = ImGui::GetIO().Fonts;
        const auto at = [](float uv, int n) { return static_cast<int>(std::lround(uv * static_cast<float>(n))); };
        std::vector<unsigned char> out;
        for (int y = at(g.V0, a->TexHeight); y < at(g.V1, a->TexHeight); ++y)
            for (int x = at(g.U0, a->TexWidth); x < at(g.U1, a->TexWidth); ++x)
                out.push_back(a->TexPixelsAlpha8[y * a->TexWidth + x]);
        return out;
    }
    std::unique_ptr<Fonts> fonts_;
};

TEST_F(LateGlyphsTest, have_their_width_at_once_and_their_picture_later) {
    EXPECT_EQ(glyph(Font::body, 0x94A5), nullptr);
    fonts_->note_text(utf8(0x94A5));
    fonts_->rebuild_if_needed();
    const ImFontGlyph* g = glyph(Font::body, 0x94A5);
    ASSERT_NE(g, nullptr);
    const float advance = g->AdvanceX;
    EXPECT_GT(advance, 12);
    EXPECT_TRUE(fonts_->is_pending());
    fonts_->finish();
    for (int f = 0; f < kFontCount; ++f) {
        g = glyph(static_cast<Font>(f), 0x94A5);
        ASSERT_NE(g, nullptr) << f;
        EXPECT_TRUE(g->Visible) << f;
        int most = 0;
        for (const unsigned char v : pixels(*g)) most = std::max<int>(most, v);
        EXPECT_GT(most, 200) << f;
        EXPECT_GE(g->X0, -1);
        EXPECT_LE(g->X1, g->AdvanceX + 1);
    }
    EXPECT_EQ(glyph(Font::body, 0x94A5)->AdvanceX, advance) << "nothing jumps";
    const std::string arabic = "\xD8\xA7";
    fonts_->note_text(arabic + utf8(0x0E01));
    fonts_->finish();
    EXPECT_EQ(glyph(Font::body, 0x0627), nullptr) << "a script that no font here has";
    EXPECT_EQ(displayable(arabic + "x" + utf8(0x0E01) + utf8(0x94A5)), "<U+0627>x<U+0E01>" + utf8(0x94A5));
    EXPECT_EQ(token_label(arabic), "<U+0627>");
}

TEST_F(LateGlyphsTest, what_was_there_keeps_its_pixels_when_the_atlas_grows) {
    const int height = ImGui::GetIO().Fonts->TexHeight;
    const std::vector<unsigned char> before = pixels(*glyph(Font::mono_large, 'g'));
    fonts_->note_text(utf8(0x4E2D));
    fonts_->finish();
    const std::vector<unsigned char> first = pixels(*glyph(Font::title, 0x4E2D));
    std::string many;
    for (unsigned c = 0x4E00; c < 0x4E00 + 900; ++c) many += utf8(c);
    fonts_->note_text(many);
    fonts_->finish();
    EXPECT_GE(ImGui::GetIO().Fonts->TexHeight, height + 2 * 512);
    EXPECT_EQ(pixels(*glyph(Font::mono_large, 'g')), before);
    EXPECT_EQ(pixels(*glyph(Font::title, 0x4E2D)), first);
    // Another scale builds the atlas anew: the same characters come again.
    fonts_->set_scale(1.5f);
    fonts_->finish();
    EXPECT_TRUE(fonts_->rebuild_if_needed());
    fonts_->finish();
    ASSERT_NE(glyph(Font::body, 0x4E2D), nullptr);
    EXPECT_TRUE(glyph(Font::body, 0x4E2D)->Visible);
}

// More characters than the atlas holds, screen after screen at three times the type size: each screen is whole, and
// what was shown before comes back as it was.
TEST_F(LateGlyphsTest, more_characters_than_fit_are_all_shown_in_time) {
    constexpr int kPerScreen = 250;
    fonts_->set_scale(3);
    fonts_->rebuild_if_needed();
    const auto text = [](int screen) {
        std::string out;
        for (int i = 0; i < kPerScreen; ++i)
            out += utf8(static_cast<unsigned>(0x4E00 + screen * kPerScreen + i)) + (i % 25 == 24 ? "\n" : "");
        return out;
    };
    const auto show = [&](int screen) {
        ImGuiIO& io = ImGui::GetIO();
        io.DisplaySize = {1600, 1000}, io.DeltaTime = 1 / 60.0f, io.IniFilename = nullptr;
        ImGui::NewFrame();
        ImGui::SetNextWindowPos({0, 0}), ImGui::SetNextWindowSize(io.DisplaySize);
        ImGui::Begin("page", nullptr, ImGuiWindowFlags_NoDecoration);
        {
            ui::FontScope body(Font::body);
            ImGui::TextUnformatted(text(screen).c_str());
        }
        ImGui::End();
        ImGui::Render();
    };
    const auto n_blank = [&](int screen) {
        int n = 0;
        for (int i = 0; i < kPerScreen; ++i) {
            const ImFontGlyph* g = glyph(Font::body, static_cast<unsigned>(0x4E00 + screen * kPerScreen + i));
            n += !g || g->V0 < 0 || pixels(*g).empty();
        }
        return n;
    };
    std::vector<std::vector<unsigned char>> first;
    for (const int screen : {0, 1, 2, 3, 0, 2, 1, 3}) {
        fonts_->note_text(text(screen));
        fonts_->rebuild_if_needed();
        show(screen);
        fonts_->finish();
        ASSERT_EQ(n_blank(screen), 0) << "screen " << screen;
        if (screen == 0)
            for (int i = 0; i < kPerScreen; ++i) {
                const auto now = pixels(*glyph(Font::body, static_cast<unsigned>(0x4E00 + i)));
                if (first.size() < static_cast<size_t>(kPerScreen))
                    first.push_back(now);
                else
                    ASSERT_EQ(now, first[static_cast<size_t>(i)]) << i;
            }
    }
    EXPECT_GT(fonts_->n_evictions(), 0) << "all of it fitted: this shows nothing";
    EXPECT_LE(ImGui::GetIO().Fonts->TexHeight, 8192);
    show(3);
    EXPECT_FALSE(fonts_->is_pending());
}

#endif

}  // namespace
}  // namespace vitrine::viz
