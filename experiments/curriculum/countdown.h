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
// What random pairs and signs make of all numbers. Differences are never negative, quotients exact.
int64_t drawn_target(Draws& draw, const std::vector<int64_t>& numbers);
// For each first step (pairs in the order of the list, then + - * /) what comes nearest to the target from there, up to
// the first try that reaches it.
std::vector<CountdownTry> search(const std::vector<int64_t>& numbers, int64_t target);

// Value of an expression of whole numbers, + - * / and brackets; exact quotients only. False when it is none. `used`
// gets the numbers in it.
bool evaluate(std::string_view expression, int64_t& value, std::vector<int64_t>& used);

}  // namespace vitrine::curriculum
