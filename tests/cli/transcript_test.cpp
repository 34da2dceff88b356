// What the program prints, word for word: tests/cli/transcripts/*.txt.
//
// "$ words" runs the program, "< line" is its input, "> line" its stdout, "! line" its stderr, "= N" its exit code.
// {model} is the seedling, {data} tests/golden, {scripts} tests/cli/scripts, {tmp} an empty folder; {*} stands for
// anything on a line (versions, times). Files named window* need the window built.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include "tests/cli/program.h"
#include "tests/support/temp_folder.h"

namespace vitrine {
namespace {
namespace fs = std::filesystem;

struct Command {
    int line = 0, code = 0;
    std::vector<std::string> words, out, err;
    std::string input;
};

std::vector<std::string> split_words(const std::string& line) {
    std::vector<std::string> words;
    std::string word;
    bool is_quoted = false, has_word = false;
    for (char c : line) {
        if (c == '\'') {
            is_quoted = !is_quoted;
            has_word = true;
        } else if (c == ' ' && !is_quoted) {
            if (has_word) words.push_back(word);
            word.clear();
            has_word = false;
        } else {
            word += c;
            has_word = true;
        }
    }
    if (has_word) words.push_back(word);
    return words;
}

void replace_all(std::string& s, const std::string& from, const std::string& to) {
    for (size_t at = 0; (at = s.find(from, at)) != std::string::npos; at += to.size()) s.replace(at, from.size(), to);
}

std::vector<std::string> split_lines(const std::string& text) {
    std::vector<std::string> lines;
    std::istringstream in(text);
    for (std::string line; std::getline(in, line);) lines.push_back(line);
    return lines;
}

std::vector<Command> read_transcript(const fs::path& file, const std::map<std::string, std::string>& names) {
    std::ifstream in(file);
    std::vector<Command> commands;
    std::string line;
    for (int n = 1; std::getline(in, line); ++n) {
        if (line.empty() || line[0] == '#') continue;
        for (const auto& [name, value] : names) replace_all(line, name, value);
        const std::string rest = line.size() > 2 ? line.substr(2) : "";
        if (line[0] == '$') {
            commands.push_back({});
            commands.back().line = n;
            commands.back().words = split_words(rest);
        } else if (line[0] == '<') {
            commands.back().input += rest + "\n";
        } else if (line[0] == '>') {
            commands.back().out.push_back(rest);
        } else if (line[0] == '!') {
            commands.back().err.push_back(rest);
        } else if (line[0] == '=') {
            commands.back().code = std::stoi(rest);
        } else {
            ADD_FAILURE() << file << ":" << n << ": a line of no kind";
        }
    }
    return commands;
}

bool matches(const std::string& expected, const std::string& found) {
    const size_t star = expected.find("{*}");
    if (star == std::string::npos) return expected == found;
    if (found.compare(0, star, expected, 0, star) != 0) return false;
    const std::string tail = expected.substr(star + 3);
    for (size_t at = star; at <= found.size(); ++at)
        if (matches(tail, found.substr(at))) return true;
    return false;
}

void expect_lines(const std::vector<std::string>& expected, const std::string& text, const std::string& where) {
    const std::vector<std::string> found = split_lines(text);
    EXPECT_EQ(found.size(), expected.size()) << where << " is\n" << text;
    for (size_t i = 0; i < std::min(found.size(), expected.size()); ++i)
        EXPECT_TRUE(matches(expected[i], found[i]))
            << where << ", line " << i + 1 << ":\n  expected " << expected[i] << "\n  found    " << found[i];
}

class Transcript : public testing::TestWithParam<std::string> {};

TEST_P(Transcript, IsWhatTheProgramPrints) {
    const test::TempFolder tmp;
    const std::string source = VITRINE_SOURCE_DIR;
    const fs::path file = fs::path(source) / "tests/cli/transcripts" / (GetParam() + ".txt");
    const auto commands = read_transcript(file, {{"{model}", source + "/assets/models/seedling"},
                                                 {"{data}", source + "/tests/golden"},
                                                 {"{scripts}", source + "/tests/cli/scripts"},
                                                 {"{tmp}", tmp.path()}});
    ASSERT_FALSE(commands.empty());
    for (const Command& c : commands) {
        const test::Run r = test::run_program(c.words, tmp.path(), c.input);
        const std::string where = GetParam() + ".txt:" + std::to_string(c.line) + ": ";
        EXPECT_EQ(r.code, c.code) << where << r.err;
        expect_lines(c.out, r.out, where + "stdout");
        expect_lines(c.err, r.err, where + "stderr");
    }
}

std::vector<std::string> transcripts() {
    std::vector<std::string> names;
    for (const auto& e : fs::directory_iterator(fs::path(VITRINE_SOURCE_DIR) / "tests/cli/transcripts"))
        if (e.path().extension() == ".txt" && (VITRINE_HAS_WINDOW || !e.path().stem().string().starts_with("window")))
            names.push_back(e.path().stem().string());
    std::sort(names.begin(), names.end());
    return names;
}

INSTANTIATE_TEST_SUITE_P(Cli, Transcript, testing::ValuesIn(transcripts()), [](const auto& i) { return i.param; });

TEST(TranscriptTest, WildcardsAndWords) {
    EXPECT_TRUE(matches("a {*} b {*}", "a 12 b "));
    EXPECT_FALSE(matches("a {*} b", "a 12 c"));
    EXPECT_FALSE(matches("a", "a "));
    EXPECT_EQ(split_words("chat -p 'a b' ''"), (std::vector<std::string>{"chat", "-p", "a b", ""}));
}

}  // namespace
}  // namespace vitrine
