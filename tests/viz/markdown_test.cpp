// Markdown: what is parsed, and that what is drawn stays inside its width.
#include "viz/widgets/markdown.h"

#include <gtest/gtest.h>

#include "tests/viz/stage.h"
#include "viz/imgui_compat.h"
#include "viz/widgets/registry.h"

namespace vitrine::viz::test {
namespace {

using namespace ui::markdown;
using Kind = Block::Kind;

constexpr const char* kText = R"(# Title

**Question.** Does `a|b` grow
over two lines, as [the paper](https://example.org) says?

<!-- left out -->
- one
- two **bold**,
  and more of two
  1. deep

| arm | *gain* | `x|y` |
|---|---:|:--:|
| hc | 1550 | a \| b |
| short |

    indented code
```
fenced **code**
```
---
end_of_text * 2
)";

TEST(Markdown, blocks) {
    const std::vector<Block> b = parse(kText);
    ASSERT_EQ(b.size(), 10u);
    EXPECT_EQ(b[0].kind, Kind::heading);
    EXPECT_EQ(b[0].level, 1);
    EXPECT_EQ(plain(b[0].spans), "Title");
    EXPECT_EQ(b[1].kind, Kind::paragraph);
    EXPECT_EQ(plain(b[1].spans), "Question. Does a|b grow over two lines, as the paper says?");
    EXPECT_EQ(b[1].spans[0].style, Style::bold);
    EXPECT_EQ(b[1].spans[2].style, Style::code);
    EXPECT_EQ(b[1].spans[4].address, "https://example.org");
    EXPECT_EQ(b[2].kind, Kind::item);
    EXPECT_EQ(plain(b[3].spans), "two bold, and more of two");
    EXPECT_EQ(b[4].marker, "1.");
    EXPECT_EQ(b[4].level, 1);
    ASSERT_EQ(b[5].kind, Kind::table);
    ASSERT_EQ(b[5].rows.size(), 3u);
    EXPECT_EQ(b[5].is_right, (std::vector<bool>{false, true, false}));
    EXPECT_EQ(plain(b[5].rows[0][2]), "x|y");
    EXPECT_EQ(plain(b[5].rows[1][2]), "a | b");
    EXPECT_EQ(plain(b[5].rows[2][2]), "") << "a short row";
    EXPECT_EQ(b[6].code, "indented code\n");
    EXPECT_EQ(b[7].code, "fenced **code**\n");
    EXPECT_EQ(b[8].kind, Kind::rule);
    EXPECT_EQ(plain(b[9].spans), "end_of_text * 2");
}

TEST(Markdown, what_is_not_closed_stays_as_it_is) {
    EXPECT_EQ(plain(parse_spans("a ** b `c [d](e")), "a ** b `c [d](e");
    EXPECT_EQ(plain(parse_spans("\\*no\\* \\`code\\`")), "*no* `code`");
    EXPECT_TRUE(parse("").empty());
    EXPECT_EQ(parse("| a |\n|").size(), 2u) << "no table without its line of dashes";
    EXPECT_TRUE(parse("<!-- never closed\nx").empty());
    EXPECT_EQ(parse("```\nnever closed").size(), 1u);
}

TEST(Markdown, is_drawn_inside_its_width_and_found_by_name) {
    Stage stage;
    ui::Markdown m;
    const std::string text = std::string(kText) + "\n" + std::string(400, 'w') + "\n\n" +
                             "| a wide table with many words | and another column of words |\n|---|---|\n| " +
                             std::string(300, 'x') + " | one two three four five six seven |\n";
    for (const float width : {180.0f, 420.0f, 1200.0f}) {
        for (int i = 0; i < 2; ++i) {
            ImGui::GetIO().DisplaySize = {1400, 2400};
            ImGui::NewFrame();
            ImGui::SetNextWindowPos({0, 0});
            ImGui::SetNextWindowSize({width, 2300});
            ImGui::Begin("stage", nullptr, ImGuiWindowFlags_NoDecoration | ImGuiWindowFlags_NoSavedSettings);
            m.draw(text, "md");
            ImGui::End();
            ImGui::Render();
            null_render();
        }
        EXPECT_TRUE(ui::find_cut_text().empty()) << width;
        EXPECT_EQ(stage.text("md/0"), "Title");
        EXPECT_EQ(stage.text("md/5/1/1"), "1550");
    }
}

}  // namespace
}  // namespace vitrine::viz::test
