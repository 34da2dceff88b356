// The small parts of the window: numbers, text, colours, ticks.
#include <gtest/gtest.h>

#include <cmath>

#include "viz/text_util.h"
#include "viz/theme.h"
#include "viz/widgets/line_plot.h"
#include "viz/widgets/number.h"

namespace vitrine::viz {
namespace {

TEST(Number, three_significant_digits) {
    EXPECT_EQ(ui::format_number(0), "0");
    EXPECT_EQ(ui::format_number(0.04123), "0.0412");
    EXPECT_EQ(ui::format_number(9.996), "10.0");
    EXPECT_EQ(ui::format_number(412.4), "412");
    EXPECT_EQ(ui::format_number(-3.214), "-3.21");
    EXPECT_EQ(ui::format_number(12345), "12,345");
    EXPECT_EQ(ui::format_number(1.234e-7), "1.23e-7");
    EXPECT_EQ(ui::format_number(2.5e9), "2.50e9");
    EXPECT_EQ(ui::format_number(NAN), "n/a");
    EXPECT_EQ(ui::format_count(1048576), "1,048,576");
    EXPECT_EQ(ui::format_count(-1234), "-1,234");
    EXPECT_EQ(ui::format_bytes(512), "512 B");
    EXPECT_EQ(ui::format_bytes(3250586), "3.10 MiB");
    EXPECT_EQ(ui::format_percent(0.0183), "1.83 %");
}

TEST(Number, ticks_have_no_more_decimals_than_they_need) {
    const auto ticks = [](std::vector<double> v, bool is_log = false) {
        std::string out;
        for (const std::string& s : ui::format_ticks(v, is_log)) out += s + " ";
        return out;
    };
    EXPECT_EQ(ticks({0, 2, 4}), "0 2 4 ");
    EXPECT_EQ(ticks({0, 0.5, 1}), "0 0.5 1.0 ");
    EXPECT_EQ(ticks({0.95, 1, 1.05}), "0.95 1.00 1.05 ");
    EXPECT_EQ(ticks({1000, 10000, 1e6}, true), "1,000 10,000 1,000,000 ");
    EXPECT_EQ(ticks({0.01, 1, 100, 1e8}, true), "0.01 1 100 1e8 ");
    EXPECT_EQ(ticks({-2e-5, 0, 2e-5}), "-2e-5 0 2e-5 ");
    EXPECT_EQ(ticks({0.1 + 0.2, 0.4}), "0.3 0.4 ") << "not the rounding of a sum";
    EXPECT_EQ(ui::format_bound(1), "1");
    EXPECT_EQ(ui::format_bound(0.80214), "0.802");
}

TEST(Text, untrusted_bytes_become_displayable) {
    EXPECT_EQ(displayable("a\xF0\x9F\x98\x80z"), "a<U+1F600>z");
    EXPECT_EQ(displayable("\xFF\xE4\xBD"), "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");
    EXPECT_EQ(displayable("\x1B[2J"), "\\x1B[2J");
    EXPECT_EQ(displayable("\xC0\xAF"), "\xEF\xBF\xBD\xEF\xBF\xBD");  // overlong
    EXPECT_EQ(token_label("a\n\tb"),
              "a\xE2\x86\xB5\xE2\x86\x92"
              "b");
    EXPECT_TRUE(contains_folded("Think High", "think h"));
    EXPECT_FALSE(contains_folded("Think", "thinks"));
}

TEST(Theme, text_is_readable_on_every_surface) {
    for (const bool is_dark : {true, false}) {
        const Theme t = make_theme(is_dark);
        for (const ImU32 surface : {t.back, t.pane, t.raised}) {
            EXPECT_GE(contrast(t.text, surface), 7);
            EXPECT_GE(contrast(t.text_dim, surface), 7) << is_dark << " " << std::hex << surface;
        }
        for (const ImU32 kind : {t.window, t.csa, t.hca, t.sink, t.index_key, t.thinking})
            EXPECT_GE(contrast(kind, t.pane), 2.5);
        EXPECT_GE(contrast(t.button, t.button_text), 7);
    }
}

TEST(Theme, maps_are_ordered_in_lightness_and_clamp) {
    for (const bool is_dark : {true, false}) {
        set_theme(make_theme(is_dark), 1);
        const ImU32 black = IM_COL32_BLACK;
        for (int i = 0; i < 20; ++i) {
            const double a = contrast(map_color(ColorMap::magnitude, i / 20.0f), black),
                         b = contrast(map_color(ColorMap::magnitude, (i + 1) / 20.0f), black);
            EXPECT_TRUE(is_dark ? b > a : b < a) << i;
        }
        EXPECT_EQ(map_color(ColorMap::magnitude, 7), map_color(ColorMap::magnitude, 1));
        EXPECT_EQ(map_color(ColorMap::diverging, NAN), 0u);
    }
    EXPECT_FLOAT_EQ(map_position(ColorMap::diverging, -2, -4, 1), -0.5f);
}

TEST(Ticks, are_round_and_inside) {
    EXPECT_EQ(ui::tick_values(0, 10, 5, false), (std::vector<double>{0, 2, 4, 6, 8, 10}));
    const auto log = ui::tick_values(0.01, 1000, 10, true);
    ASSERT_EQ(log.size(), 6u);
    EXPECT_NEAR(log.front(), 0.01, 1e-12);
    EXPECT_NEAR(log.back(), 1000, 1e-9);
    EXPECT_TRUE(ui::tick_values(1, 1, 5, false).empty());
}

}  // namespace
}  // namespace vitrine::viz
