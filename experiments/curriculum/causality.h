// Does the answer follow from what was thought? A digit of the model's own working is changed, and it goes on from
// there.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "experiments/curriculum/asker.h"
#include "experiments/curriculum/item.h"

namespace vitrine::curriculum {

// A working up to and with one of its results' digits ("5+8=3c ...": any digit that follows '='), which is replaced.
struct Edit {
    std::string kept, changed;  // the prefix as it was, and with another last digit; empty: there is no such digit
};
Edit edit_working(std::string_view working, uint64_t seed, uint64_t index);

// `after` is `before` but for one digit, and that digit is the one that was written into the working.
bool takes_over(std::string_view before, std::string_view after, char digit);

struct Causality {
    int n = 0;                            // answers whose working had a digit to change
    int n_changed = 0, n_taken_over = 0;  // after the edit: another answer; one that takes the digit over
    int n_taken_back = 0;                 // after the edit: a step of what follows is marked as wrong ("[back]")
    int n_unfinished = 0;                 // after the edit
    int n_changed_without = 0;            // the control: another answer though the same digit was put back
    double mean_spent = 0;                // tokens after the edit
    struct Example {
        std::string question, kept, changed, went_on, answer, before;
    };
    std::vector<Example> examples;
};
// Questions in Think High; the model answers each of them three times: by itself, and from its own working cut after a
// digit, changed or not.
Causality corrupt_digits(const Asker& asker, const std::vector<Item>& items, uint64_t seed, int n_examples);

}  // namespace vitrine::curriculum
