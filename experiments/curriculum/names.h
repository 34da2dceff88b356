// Names and things that problems speak of: data, in two languages.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "experiments/curriculum/item.h"

namespace vitrine::curriculum {

const std::vector<std::string_view>& women(Language l);
const std::vector<std::string_view>& men(Language l);
const std::vector<std::string_view>& first_names(Language l);  // both
const std::vector<std::string_view>& colours(Language l);
const std::vector<std::string_view>& animals(Language l);
const std::vector<std::string_view>& things(Language l);

// `n` different ones, in drawn order.
std::vector<std::string_view> different(Draws& draw, const std::vector<std::string_view>& from, size_t n);

}  // namespace vitrine::curriculum
