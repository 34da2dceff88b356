// Surface forms: the same problem asked in many ways, in English and Chinese.
#pragma once
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "experiments/curriculum/item.h"

namespace vitrine::curriculum {

// Patterns with {a}, {b}, … for the first, second, … value. At least eight of each language.
struct Wordings {
    std::vector<std::string_view> english, chinese;
    const std::vector<std::string_view>& of(Language l) const { return l == Language::chinese ? chinese : english; }
};

std::string fill(std::string_view pattern, std::initializer_list<std::string_view> values);

// A wording drawn from the list, filled, and now and then as people type: no capital, no mark at the end, full-width
// marks.
std::string ask(Wish& w, const Wordings& wordings, std::initializer_list<std::string_view> values);

// The words that workings use, by language.
struct WorkingWords {
    const char *plan, *check, *ok, *wrong, *so;
};
const WorkingWords& words(Language l);

// Marks a step that was wrong and is done again.
inline constexpr const char* kBack = "[back]";

std::string joined(const std::vector<std::string>& parts, std::string_view separator);

}  // namespace vitrine::curriculum
