// The command line's rules: strict, with the nearest name and the range in every message.
#include "app/cli/options.h"

#include <gtest/gtest.h>

namespace vitrine::cli {
namespace {

struct Parsed {
    bool is_json = false;
    std::string model, mode = "non-think", folder;
    std::vector<std::string> stop;
    int64_t n = 5;
    double temp = 1, top_p = 1, min_p = 0;
    uint64_t seed = 0;
    std::string error;
};

Parsed parse(const Args& args) {
    Parsed p;
    Options o("test", "", "A test.");
    o.flag("--json", &p.is_json, "")
        .text("-m, --model", "DIR", &p.model, "")
        .choice("--mode", {"non-think", "high"}, &p.mode, "")
        .list("--stop", "TEXT", &p.stop, "")
        .integer("-n, --n-predict", 1, 100, &p.n, "")
        .number("--temp", 0, 100, &p.temp, "")
        .number("--top-p", 0, 1, &p.top_p, "", Ends::above_lowest)
        .number("--min-p", 0, 1, &p.min_p, "", Ends::below_highest)
        .counter("--seed", &p.seed, "")
        .positional("DIR", &p.folder, "a folder", false);
    try {
        o.parse(args);
    } catch (const UsageError& e) {
        p.error = e.what();
    }
    return p;
}

TEST(Options, AcceptsEveryForm) {
    const Parsed p = parse({"-m", "a b", "--temp=0.5", "--stop", "x", "--stop=", "--json", "-n", "7", "folder",
                            "--seed", "18446744073709551615", "--mode", "high"});
    EXPECT_EQ(p.error, "");
    EXPECT_EQ(p.model, "a b");
    EXPECT_EQ(p.temp, 0.5);
    EXPECT_EQ(p.stop, (std::vector<std::string>{"x", ""}));
    EXPECT_TRUE(p.is_json);
    EXPECT_EQ(p.n, 7);
    EXPECT_EQ(p.folder, "folder");
    EXPECT_EQ(p.seed, ~uint64_t{0});
    EXPECT_EQ(p.mode, "high");
    EXPECT_EQ(parse({"--", "--json"}).folder, "--json");
    EXPECT_EQ(parse({"--model", "-1"}).model, "-1");  // the word after an option is its value, whatever it looks like
}

TEST(Options, RefusesWithAReason) {
    EXPECT_EQ(parse({"--jsno"}).error, "unknown option --jsno; did you mean --json?");
    EXPECT_EQ(parse({"--temp", "hot"}).error, "--temp hot: expected a number in [0, 100]");
    EXPECT_EQ(parse({"--top-p", "0"}).error, "--top-p 0: expected a number in (0, 1]");
    EXPECT_EQ(parse({"--min-p", "1"}).error, "--min-p 1: expected a number in [0, 1)");
    EXPECT_EQ(parse({"--top-p", "1", "--min-p=0"}).error, "");
    EXPECT_EQ(parse({"--temp", "nan"}).error, "--temp nan: expected a number in [0, 100]");
    EXPECT_EQ(parse({"--temp", "1e400"}).error, "--temp 1e400: expected a number in [0, 100]");
    EXPECT_EQ(parse({"-n", "0"}).error, "-n 0: expected an integer in [1, 100]");
    EXPECT_EQ(parse({"-n", "7x"}).error, "-n 7x: expected an integer in [1, 100]");
    EXPECT_EQ(parse({"--seed", "-1"}).error, "--seed -1: expected an integer in [0, 18446744073709551615]");
    EXPECT_EQ(parse({"--mode", "low"}).error, "--mode low: expected one of non-think|high");
    EXPECT_EQ(parse({"--json=1"}).error, "--json takes no value");
    EXPECT_EQ(parse({"-m"}).error, "-m needs a value: DIR");
    EXPECT_EQ(parse({"--json", "--json"}).error, "--json was given twice");
    EXPECT_EQ(parse({"a", "b"}).error, "unexpected word b");
    // Control bytes of a stranger's argument do not reach the terminal.
    EXPECT_EQ(parse({"--temp", "\x1b[31m"}).error, "--temp \\x1B[31m: expected a number in [0, 100]");
}

}  // namespace
}  // namespace vitrine::cli
