// What can be checked of docs/STYLE.md by reading the text.
#include <gtest/gtest.h>

#include <map>
#include <regex>
#include <set>

#include "engine/telemetry/catalog.h"
#include "tests/lint/tree.h"

namespace vitrine::lint {
namespace {

constexpr size_t kMaxLines = 700;
constexpr size_t kMaxColumns = 132;  // clang-format aims at 120; tables may be a little wider

bool is_in(const File& file, const std::string& folder) {
    return file.path.rfind(folder + "/", 0) == 0;
}
bool is_script(const File& file) {
    return !file.lines.empty() && file.lines[0].rfind("#!", 0) == 0;
}
bool is_cmake(const File& file) {
    return file.path.find("CMakeLists.txt") != std::string::npos || file.extension() == ".cmake";
}
bool is_source(const File& file) {
    return file.is_cpp() || is_cmake(file) || is_script(file) || file.extension() == ".sh";
}

// Columns as an editor counts them: bytes that continue a UTF-8 sequence take none.
size_t columns(const std::string& line) {
    size_t n = 0;
    for (unsigned char c : line) n += (c & 0xC0) != 0x80;
    return n;
}

void find_in_code(Findings& findings, const File& file, const std::regex& pattern, const std::string& why) {
    for (size_t i = 0; i < file.code.size(); ++i)
        if (std::regex_search(file.code[i], pattern)) findings.add(file, i, why + ": " + file.lines[i]);
}

TEST(Style, the_first_line_says_what_a_file_is) {
    Findings findings;
    for (const File& file : tree()) {
        if (!is_source(file) || file.path.find("CMakeLists.txt") != std::string::npos) continue;
        size_t at = is_script(file) ? 1 : 0;
        std::string line = file.lines.size() > at ? file.lines[at] : "";
        std::string mark = file.is_cpp() ? "// " : "# ";
        if (file.extension() == ".py") mark = "\"\"\"";
        bool says = line.rfind(mark, 0) == 0 && line.size() > 12 && line.find(' ', mark.size()) != std::string::npos;
        if (!says) findings.add(file, at, "expected a comment of a few words that says what the file is");
    }
    EXPECT_TRUE(findings.text().empty()) << findings.text();
}

TEST(Style, files_stay_readable) {
    Findings findings;
    for (const File& file : tree()) {
        if (!is_source(file) || file.extension() == ".py") continue;
        if (file.lines.size() > kMaxLines)
            findings.add(file.path, std::to_string(file.lines.size()) + " lines, at most " + std::to_string(kMaxLines));
        for (size_t i = 0; i < file.lines.size(); ++i) {
            const std::string& line = file.lines[i];
            if (line.find('\t') != std::string::npos) findings.add(file, i, "tab");
            if (columns(line) > kMaxColumns)
                findings.add(file, i, "longer than " + std::to_string(kMaxColumns) + " columns");
            if (!line.empty() && (line.back() == ' ' || line.back() == '\r')) findings.add(file, i, "space at the end");
        }
    }
    EXPECT_TRUE(findings.text().empty()) << findings.text();
}

TEST(Style, nothing_is_left_to_do_and_no_place_is_named) {
    // Written in two halves, so that this file doesn't find itself.
    static const std::regex later(
        "\\b(TO"
        "DO|FIX"
        "ME|XX"
        "X)\\b");
    static const std::regex place(
        "(^|[^A-Za-z0-9_./-])/(wo"
        "rk|ho"
        "me|ro"
        "ot)/");
    Findings findings;
    for (const File& file : tree()) {
        if (is_in(file, "assets/models") || is_in(file, "tests/golden")) continue;
        for (size_t i = 0; i < file.lines.size(); ++i) {
            if (std::regex_search(file.lines[i], later)) findings.add(file, i, "unfinished: " + file.lines[i]);
            if (std::regex_search(file.lines[i], place))
                findings.add(file, i, "a path of one machine: " + file.lines[i]);
        }
    }
    EXPECT_TRUE(findings.text().empty()) << findings.text();
}

TEST(Style, the_engine_neither_dies_nor_prints_nor_reads_the_environment) {
    static const std::regex dies(R"(\b(abort|exit|_exit|_Exit|quick_exit|terminate)\s*\()");
    static const std::regex environment(R"(\b(getenv|secure_getenv|setenv|putenv)\s*\()");
    static const std::regex prints(R"(\b(printf|puts|putchar|vprintf)\s*\(|\bcout\b|\bstdout\b)");
    static const std::regex asserts(R"((^|[^_A-Za-z])assert\s*\(|<cassert>)");
    Findings findings;
    for (const File& file : tree()) {
        bool is_program = file.path.find("/bench_") != std::string::npos;  // a main() of its own, for measuring by hand
        if (!file.is_cpp() || file.is_test() || is_program || !is_in(file, "engine")) continue;
        find_in_code(findings, file, dies, "throw an Error instead");
        find_in_code(findings, file, environment, "pass it in as an option");
        find_in_code(findings, file, prints, "the engine has no stdout");
        find_in_code(findings, file, asserts, "VITRINE_ASSERT throws, assert dies");
    }
    EXPECT_TRUE(findings.text().empty()) << findings.text();
}

TEST(Style, headers_guard_themselves_and_open_no_namespace) {
    static const std::regex opens(R"(^\s*using\s+namespace\b)");
    Findings findings;
    for (const File& file : tree()) {
        if (!file.is_header()) continue;
        bool guards = false;
        for (const std::string& line : file.code) guards |= line == "#pragma once";
        if (!guards) findings.add(file.path, "no #pragma once");
        find_in_code(findings, file, opens, "using namespace in a header");
    }
    EXPECT_TRUE(findings.text().empty()) << findings.text();
}

TEST(Style, cuda_is_switched_in_one_place) {
    static const std::regex pattern(R"(^\s*#\s*(if|ifdef|elif)\b.*VITRINE_CUDA)");
    int n = 0;
    for (const File& file : tree())
        if (file.is_cpp())
            for (const std::string& line : file.code) n += std::regex_search(line, pattern);
    EXPECT_LE(n, 1);
}

TEST(Style, the_rooms_of_the_map_exist) {
    for (const char* folder :
         {"app", "app/cli", "engine/base", "engine/base/config", "engine/telemetry", "engine/device", "engine/tensor",
          "engine/ops", "engine/model", "engine/weights", "engine/text", "engine/infer", "viz",
          "assets/models/nano", "assets/models/seedling", "tests/golden", "tests/lint", "docs/howto"})
        EXPECT_TRUE(exists(folder)) << folder;
}

TEST(Style, every_cpp_file_is_built) {
    std::map<std::string, std::string> lists;  // folder -> text of the CMake files and scripts there
    for (const File& file : tree())
        if (is_cmake(file) || is_script(file))
            for (const std::string& line : file.lines) lists[file.folder()] += line + "\n";
    Findings findings;
    for (const File& file : tree()) {
        if (!file.is_cpp() || file.is_header()) continue;
        bool is_listed = false;
        std::string folder = file.folder(), name = file.path.substr(folder.empty() ? 0 : folder.size() + 1);
        for (;;) {
            is_listed |= lists[folder].find(name) != std::string::npos;
            size_t slash = folder.rfind('/');
            if (is_listed || folder.empty()) break;
            name = folder.substr(slash == std::string::npos ? 0 : slash + 1) + "/" + name;
            folder = slash == std::string::npos ? "" : folder.substr(0, slash);
        }
        if (!is_listed) findings.add(file.path, "built by no CMakeLists.txt and no script");
    }
    EXPECT_TRUE(findings.text().empty()) << findings.text();
}

TEST(Style, every_panel_is_listed) {
    std::string table;
    for (const File& file : tree())
        if (file.path == "viz/panels.cpp")
            for (const std::string& line : file.code) table += line + "\n";
    for (const File& file : tree()) {
        if (!is_in(file, "viz/panels") || file.path.find("_panel.cpp") == std::string::npos) continue;
        size_t start = std::string("viz/panels/").size();
        std::string name = "make_" + file.path.substr(start, file.path.size() - start - 4);  // make_cache_panel
        bool is_used =
            std::regex_search(table, std::regex("[^ ]" + name + "\\("));  // a declaration has a space before it
        EXPECT_TRUE(is_used) << name << "() is not in the list of viz/panels.cpp";
    }
}

TEST(Style, every_probe_is_explained_named_once_and_published) {
    std::string code;
    for (const File& file : tree())
        if (file.is_cpp() && !file.is_test() && is_in(file, "engine") && !is_in(file, "engine/telemetry"))
            for (const std::string& line : file.code) code += line + "\n";
    std::set<std::string> names;
    for (int p = 0; p < kProbeCount; ++p) {
        const ProbeInfo& info = probe_info(static_cast<Probe>(p));
        EXPECT_GE(std::string(info.what).size(), 15u) << info.id;
        EXPECT_TRUE(std::regex_match(info.shape, std::regex(R"(\[[^\]]+\])"))) << info.id << " " << info.shape;
        EXPECT_TRUE(names.insert(info.name).second) << info.name << " twice";
        EXPECT_NE(code.find(info.id), std::string::npos) << info.id << " is published nowhere";
    }
}

// A link or a file named in the docs has to be there.
TEST(Style, docs_point_to_what_exists) {
    static const std::regex link(R"(\]\(([^)#: ]+)\))");
    static const std::regex named(
        R"(`((engine|viz|app|tests|docs|cmake|assets)/[A-Za-z0-9_./-]+\.(h|cpp|md|txt|sh|py|cmake))`)");
    Findings findings;
    for (const File& file : tree()) {
        if (file.extension() != ".md") continue;
        for (size_t i = 0; i < file.lines.size(); ++i) {
            const std::string& line = file.lines[i];
            for (std::sregex_iterator m(line.begin(), line.end(), link), end; m != end; ++m) {
                std::string path = (file.folder().empty() ? "" : file.folder() + "/") + (*m)[1].str();
                if (!exists(path)) findings.add(file, i, "no such file: " + (*m)[1].str());
            }
            if (is_in(file, "docs/howto")) continue;  // these name files that the reader is about to make
            for (std::sregex_iterator m(line.begin(), line.end(), named), end; m != end; ++m)
                if (!exists((*m)[1])) findings.add(file, i, "no such file: " + (*m)[1].str());
        }
    }
    EXPECT_TRUE(findings.text().empty()) << findings.text();
}

}  // namespace
}  // namespace vitrine::lint
