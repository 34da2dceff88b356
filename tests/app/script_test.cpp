// The language of `vitrine drive`.
#include "app/cli/script.h"

#include <gtest/gtest.h>

#include "engine/base/error.h"

namespace vitrine::cli {
namespace {

TEST(Script, ReadsEveryVerb) {
    const auto steps = parse_script(
        "# a comment\n\n  type 74*82=? and more \nkey Ctrl+Enter\nwait idle\nwait 0.5\ntoken 12\nlayer 4\n"
        "expect-value routing/a = b/weight = -1.5e-3 ± 1e-5\nexpect-value x = 1 +- 0\r\nclick Send\nshot a b.png\n"
        "set temperature 0.7\nset mode high\nlabels\nlabels max\nmenu routing/map",
        "s");
    ASSERT_EQ(steps.size(), 15u);
    EXPECT_EQ(steps[10].label, "temperature");
    EXPECT_EQ(steps[10].number, 0.7);
    EXPECT_EQ(steps[11].text, "high");
    EXPECT_EQ(steps[0].rest, "74*82=? and more");
    EXPECT_EQ(steps[0].line, 3);
    EXPECT_EQ(steps[2].number, -1);
    EXPECT_EQ(steps[3].number, 0.5);
    EXPECT_EQ(steps[4].number, 12);
    EXPECT_EQ(steps[6].label, "routing/a = b/weight");
    EXPECT_EQ(steps[6].value, -1.5e-3);
    EXPECT_EQ(steps[6].tolerance, 1e-5);
    EXPECT_EQ(steps[7].tolerance, 0);
    EXPECT_EQ(steps[9].rest, "a b.png");
    EXPECT_TRUE(parse_script("", "s").empty());
}

TEST(Script, ListsEveryLineThatIsWrong) {
    try {
        parse_script(
            "tpye x\nwait soon\ntoken -1\ntoken 1.5\nexpect\n"
            "expect-value a = 1\nexpect-value a = 1 ± -2\nclick Send\n"
            "set temperture 1\nset top-k x\nset mode fast\nset seed\n",
            "s");
        FAIL() << "accepted";
    } catch (const Error& e) {
        const std::string m = e.what();
        EXPECT_NE(m.find("s: tpye = x (line 1): no such verb; did you mean type?"), std::string::npos) << m;
        for (int line = 2; line <= 7; ++line)
            EXPECT_NE(m.find("(line " + std::to_string(line) + ")"), std::string::npos) << m;
        EXPECT_EQ(m.find("line 8"), std::string::npos);
        EXPECT_NE(m.find("no such setting; did you mean temperature?"), std::string::npos) << m;
        for (int line = 9; line <= 12; ++line)
            EXPECT_NE(m.find("(line " + std::to_string(line) + ")"), std::string::npos) << m;
    }
}

}  // namespace
}  // namespace vitrine::cli
