// Reads the tree from disk and blanks comments and literals, so that rules about code don't trip over prose.
#include "tests/lint/tree.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace fs = std::filesystem;

namespace vitrine::lint {
namespace {

const fs::path kRoot = VITRINE_SOURCE_DIR;

bool is_skipped_folder(const std::string& name) {
    return name == "build" || name == "dist" || name == ".git" || name == ".cache" || name == "__pycache__";
}

std::vector<std::string> split_lines(const std::string& text) {
    std::vector<std::string> lines;
    std::istringstream in(text);
    for (std::string line; std::getline(in, line);) lines.push_back(line);
    return lines;
}

// The end (one past) of the literal or comment that starts at i, or i itself when none does.
size_t end_of_prose(const std::string& s, size_t i) {
    auto find_end = [&](const std::string& mark, size_t from) {
        size_t at = s.find(mark, from);
        return at == std::string::npos ? s.size() : at + mark.size();
    };
    if (s.compare(i, 2, "//") == 0) return std::min(s.find('\n', i), s.size());
    if (s.compare(i, 2, "/*") == 0) return find_end("*/", i + 2);
    if (s.compare(i, 2, "R\"") == 0) {
        size_t open = s.find('(', i);
        return open == std::string::npos ? i : find_end(")" + s.substr(i + 2, open - i - 2) + "\"", open);
    }
    if (s[i] != '"' && s[i] != '\'') return i;
    if (s[i] == '\'' && i > 0 && std::isalnum(static_cast<unsigned char>(s[i - 1]))) return i;  // 1'000
    for (size_t j = i + 1; j < s.size() && s[j] != '\n'; ++j) {
        if (s[j] == '\\')
            ++j;
        else if (s[j] == s[i])
            return j + 1;
    }
    return i;
}

std::string without_prose(std::string s) {
    for (size_t i = 0; i < s.size();) {
        bool is_include = s.compare(i, 8, "#include") == 0;
        size_t end = is_include ? std::min(s.find('\n', i), s.size()) : end_of_prose(s, i);
        if (!is_include)
            for (size_t j = i; j < end; ++j)
                if (s[j] != '\n') s[j] = ' ';
        i = std::max(end, i + 1);
    }
    return s;
}

std::vector<File> read_tree() {
    std::vector<File> files;
    for (auto it = fs::recursive_directory_iterator(kRoot); it != fs::recursive_directory_iterator(); ++it) {
        if (it->is_directory()) {
            if (is_skipped_folder(it->path().filename())) it.disable_recursion_pending();
            continue;
        }
        if (!it->is_regular_file() || it->path().filename() == ".git") continue;
        std::ifstream in(it->path(), std::ios::binary);
        std::string text(std::istreambuf_iterator<char>(in), {});
        if (text.substr(0, 4096).find('\0') != std::string::npos) continue;
        File file;
        file.path = fs::relative(it->path(), kRoot).generic_string();
        file.lines = split_lines(text);
        file.code = file.is_cpp() ? split_lines(without_prose(text)) : file.lines;
        files.push_back(std::move(file));
    }
    std::sort(files.begin(), files.end(), [](const File& a, const File& b) { return a.path < b.path; });
    return files;
}

}  // namespace

std::string File::extension() const {
    return fs::path(path).extension();
}
std::string File::folder() const {
    return fs::path(path).parent_path().generic_string();
}
bool File::is_cpp() const {
    std::string e = extension();
    return e == ".h" || e == ".cpp" || e == ".cu" || e == ".cuh";
}
bool File::is_header() const { return extension() == ".h" || extension() == ".cuh"; }
bool File::is_test() const {
    return path.rfind("tests/", 0) == 0 || path.find("_test.cpp") != std::string::npos;
}

bool exists(const std::string& path) { return fs::exists(kRoot / path); }

const std::vector<File>& tree() {
    static const std::vector<File> files = read_tree();
    return files;
}

void Findings::add(const File& file, size_t line_index, const std::string& text) {
    add(file.path + ":" + std::to_string(line_index + 1), text);
}
void Findings::add(const std::string& path, const std::string& text) {
    text_ += "\n  " + path + ": " + text;
}

}  // namespace vitrine::lint
