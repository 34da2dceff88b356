// How an item is thought through, written once and rendered twice: short for Think High, with plan, verification and
// steps that go wrong on purpose for Think Max.
#pragma once
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "experiments/curriculum/wording.h"

namespace vitrine::curriculum {

class Working {
  public:
    explicit Working(Wish& w) : wish_(w) {}

    void plan(const char* english, const char* chinese);  // Max only, first line
    // `wrong`: what a slip would look like at this step; empty: none is made here.
    void step(std::string right, std::string wrong = "");      // both
    void high_step(std::string text);                          // High only
    void max_step(std::string right, std::string wrong = "");  // Max only
    // Max only, a line of its own: "Check: … ok".
    void check(const std::string& text);
    void new_line();  // in Max, the next step begins a line

    // Steps joined by spaces.
    std::string high() const;
    // With probability slip_rate one step (sometimes two) is first written wrong, then "[back]", then right.
    std::string max() const;

  private:
    struct Step {
        std::string right, wrong;
        bool is_in_high, is_in_max, begins_line;
    };
    Wish& wish_;
    std::string plan_, check_;
    std::vector<Step> steps_;
    bool begins_line_ = false;
};

// The item that a skill has made. `problem`: the same for every wording of it; `accepts`: exactly the reply when none is given.
Item finish(std::string prompt, std::string reply, const Working& working, const std::string& problem,
            std::function<bool(std::string_view)> accepts = nullptr);

}  // namespace vitrine::curriculum
