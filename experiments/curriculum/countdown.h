// Countdown: reach a target with all of a few numbers, each used once.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "experiments/curriculum/draws.h"

namespace vitrine::curriculum {

// A way to combine all numbers: the steps as they are written ("3+4=7 7*5=35"), the whole expression, its value.
struct CountdownTry {
    std::vector<std::string> steps;
    std::string expression;
    int64_t value = 0;
};
// Random pairs combined by random signs until one number is left. Differences are never negative, quotients exact.
CountdownTry drawn_try(Draws& draw, const std::vector<int64_t>& numbers);

// Value of an expression of whole numbers, + - * / and brackets; exact quotients only. False when it is none. `used`
// gets the numbers in it.
bool evaluate(std::string_view expression, int64_t& value, std::vector<int64_t>& used);

}  // namespace vitrine::curriculum
