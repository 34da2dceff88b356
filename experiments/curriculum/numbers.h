// Numbers as workings write them.
#pragma once
#include <cstdint>
#include <string>

#include "experiments/curriculum/draws.h"

namespace vitrine::curriculum {

inline std::string text(int64_t n) { return std::to_string(n); }

// A number with exactly so many digits (one digit: 0 to 9).
int64_t drawn_number(Draws& draw, int n_digits);

// "~3201" for 1023: lowest digit first, as sums are worked out. At least `n_digits`, zeros at the end.
std::string reversed(int64_t n, int n_digits = 1);

// "1+0+2+3=6→6": the digit sum and its remainder by nine, for casting out nines.
std::string nines(int64_t n);

// Another digit, for a slip.
int other_digit(Draws& draw, int digit);

}  // namespace vitrine::curriculum
