// How arithmetic is asked for.
#pragma once
#include "experiments/curriculum/wording.h"

namespace vitrine::curriculum {

struct ArithmeticWords {
    Wordings add, subtract, multiply, divide, larger, smaller, remainder;
};
const ArithmeticWords& arithmetic_words();

}  // namespace vitrine::curriculum
