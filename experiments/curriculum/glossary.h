// The words of this field that the model can explain: data, in two languages.
#pragma once
#include <string_view>
#include <vector>

namespace vitrine::curriculum {

struct Term {
    std::vector<std::string_view> names, chinese_names;  // the first one is used in answers and workings
    std::string_view is, chinese_is;                     // what it is
    std::string_view purpose, chinese_purpose;           // what it is for, or why; "": not asked
};
const std::vector<Term>& glossary();

// Two terms that are often mixed up.
struct Contrast {
    std::string_view a, b, chinese_a, chinese_b;
    std::string_view answer, chinese_answer;
};
const std::vector<Contrast>& contrasts();

}  // namespace vitrine::curriculum
