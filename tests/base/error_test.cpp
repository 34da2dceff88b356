// Messages: untrusted text made printable, the nearest name, many issues.
#include "engine/base/error.h"

#include <gtest/gtest.h>

namespace vitrine {
namespace {

TEST(Escaped, NothingThatActsOnATerminal) {
    EXPECT_EQ(escaped("a\x1B[2J\n\x7F"), "a\\x1B[2J\\x0A\\x7F");
    EXPECT_EQ(escaped("\xC2\x9B"
                      "x"),
              "<U+009B>x");  // C1: another way to say ESC [
    EXPECT_EQ(escaped("a\xE2\x80\xAE"
                      "b"),
              "a<U+202E>b");                         // turns the text around
    EXPECT_EQ(escaped("\xFFx\xC3"), "\\xFFx\\xC3");  // no UTF-8
    EXPECT_EQ(escaped("模型 é 🌱"), "模型 é 🌱");
    EXPECT_EQ(escaped(std::string(100, 'x')), std::string(80, 'x') + "...");
    EXPECT_EQ(escaped("模型", 4), "模...");
}

TEST(NearestName, WithinReason) {
    EXPECT_EQ(nearest_name("hiden_size", {"vocab_size", "hidden_size"}), "hidden_size");
    EXPECT_EQ(nearest_name("zzzzzzzz", {"vocab_size", "hidden_size"}), "");
    EXPECT_EQ(nearest_name(std::string(1 << 20, 'x'), {"vocab_size", std::string(1 << 20, 'x')}), "");
}

TEST(Issues, AtMostTwentyAreListed) {
    std::vector<Issue> issues(23, Issue{"f.json", "key", "1", "expected 2", "line 3, column 4"});
    try {
        throw_if_any(issues);
        FAIL();
    } catch (const Error& e) {
        const std::string m = e.what();
        EXPECT_EQ(m.substr(0, m.find('\n')), "f.json: key = 1 (line 3, column 4): expected 2");
        EXPECT_NE(m.find("... and 3 more"), std::string::npos);
    }
    EXPECT_NO_THROW(throw_if_any({}));
}

}  // namespace
}  // namespace vitrine
