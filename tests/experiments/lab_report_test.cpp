// Knobs, numbers in words, tables as Markdown and where they go in a README.
#include <gtest/gtest.h>

#include "engine/base/error.h"
#include "experiments/list.h"
#include "experiments/report.h"

namespace vitrine::lab {
namespace {

LabInfo some_info() {
    LabInfo i;
    i.name = "X99";
    i.knobs = {number_knob("depth", "Depth", "8", 1, 16, ""), choice_knob("arm", "Arm", {"a", "b"}, ""),
               text_knob("folder", "Folder", "", "")};
    return i;
}

std::string message(const std::map<std::string, std::string>& given) {
    try {
        Knobs(some_info(), given);
    } catch (const Error& e) {
        return e.what();
    }
    return "";
}

TEST(Knobs, start_at_the_preset_and_are_checked) {
    const Knobs k(some_info(), {{"depth", "1.2e1"}, {"folder", "x y"}});
    EXPECT_EQ(k.integer("depth"), 12);
    EXPECT_EQ(k.text("arm"), "a");
    EXPECT_EQ(k.text("folder"), "x y");
    EXPECT_NE(message({{"depth", "17"}}).find("[1, 16]"), std::string::npos);
    EXPECT_NE(message({{"depth", "4x"}}).find("[1, 16]"), std::string::npos);
    EXPECT_NE(message({{"depht", "4"}}).find("did you mean depth"), std::string::npos);
    const std::string both = message({{"arm", "c"}, {"depth", "nan"}});
    EXPECT_NE(both.find("one of a, b"), std::string::npos);
    EXPECT_NE(both.find("depth"), std::string::npos);
}

TEST(Numbers, in_words) {
    EXPECT_EQ(significant(22697.4, 3), "22700");
    EXPECT_EQ(significant(1.2345, 3), "1.23");
    EXPECT_EQ(significant(0.012345, 3), "0.0123");
    EXPECT_EQ(significant(-433, 2), "-430");
    EXPECT_EQ(significant(2.5e9, 2), "2.5e+09");
    EXPECT_EQ(significant(0, 3), "0");
    EXPECT_EQ(percent(0.1048, 2), "10.48 %");
    EXPECT_TRUE(is_within_factor(300, 100, 3));
    EXPECT_FALSE(is_within_factor(301, 100, 3));
    EXPECT_FALSE(is_within_factor(-100, 100, 3));
}

TEST(Report, a_table_in_both_forms) {
    LabVerdict v;
    v.outcome = LabVerdict::Outcome::not_visible;
    v.sentence = "Nothing moved.";
    v.tables = {{"Title", {"name", "gain"}, {{"a", "1.5"}, {"long name", "22"}}}};
    EXPECT_EQ(
        to_markdown(v),
        "**not visible.** Nothing moved.\n\nTitle\n\n| name | gain |\n|---|---:|\n| a | 1.5 |\n| long name | 22 |\n");
    EXPECT_EQ(to_text(v),
              "Title\n  name       gain\n  a           1.5\n  long name    22\n\nnot visible: Nothing moved.\n");
}

TEST(Report, numbers_stay_right_aligned_beside_empty_cells_and_what_is_not_finite) {
    LabVerdict v;
    v.tables = {{"Title",
                 {"name", "some", "none", "broken", "words"},
                 {{"a", "", "", "nan / 1.5", "1"}, {"b", "-2", "", "inf", "nano"}, {"c", "3", "", "-inf / 2", "2"}}}};
    EXPECT_NE(to_markdown(v).find("\n|---|---:|---:|---:|---|\n"), std::string::npos) << to_markdown(v);
}

TEST(Report, a_bar_in_a_cell_does_not_end_it) {
    LabVerdict v;
    v.tables = {{"Title", {"arm", "|cos|"}, {{"a|b", "1"}}}};
    EXPECT_NE(to_markdown(v).find("| arm | \\|cos\\| |\n|---|---:|\n| a\\|b | 1 |\n"), std::string::npos)
        << to_markdown(v);
}

TEST(Report, the_result_goes_between_the_marks) {
    const std::string readme = "# X\n<!-- result -->\nold\n<!-- end of result -->\nrest\n";
    EXPECT_EQ(with_result(readme, "new\n", "README.md"), "# X\n<!-- result -->\nnew\n<!-- end of result -->\nrest\n");
    EXPECT_THROW(with_result("# X\n<!-- end of result -->\n", "new\n", "README.md"), Error);
    for (const Experiment& e : experiments()) EXPECT_NO_THROW(with_result(e.info.readme, "", e.folder)) << e.info.name;
}

TEST(List, names_are_found_or_suggested) {
    EXPECT_EQ(experiment("X08").folder, "x08_cost");
    try {
        experiment("X80");
        FAIL();
    } catch (const Error& e) {
        EXPECT_NE(std::string(e.what()).find("X08"), std::string::npos);
    }
}

}  // namespace
}  // namespace vitrine::lab
