// The project's own files as the lint tests read them: every text file of the tree, without build folders and data.
#pragma once
#include <string>
#include <vector>

namespace vitrine::lint {

struct File {
    std::string path;                // from the root, "engine/base/error.h"
    std::vector<std::string> lines;  // as written
    std::vector<std::string>
        code;  // the same lines of C++ with comments and the insides of literals blanked; else = lines

    std::string extension() const;  // ".h", "" when there is none
    std::string folder() const;     // "engine/base", "" at the root
    bool is_cpp() const;            // .h, .cpp, .cu
    bool is_header() const;
    bool is_test() const;           // under tests/ or *_test.cpp
};

// Sorted by path. Files whose first 4 KiB hold a zero byte are data and left out.
const std::vector<File>& tree();

// Whether a file or folder exists in the project.
bool exists(const std::string& path);

// "path:line: text", one per finding, as gtest failure text; empty when there is none.
class Findings {
  public:
    void add(const File& file, size_t line_index, const std::string& text);
    void add(const std::string& path, const std::string& text);
    const std::string& text() const { return text_; }

  private:
    std::string text_;
};

}  // namespace vitrine::lint
