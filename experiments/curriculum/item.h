// One generated question with its answers: what the curriculum is made of, for training and for `vitrine eval` alike.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "engine/base/config/sampling.h"
#include "experiments/curriculum/draws.h"

namespace vitrine {
struct ModelConfig;
}

namespace vitrine::curriculum {

enum class Language : uint8_t { english, chinese };

struct Item {
    std::string prompt;
    std::string reply;      // what follows </think>, the same in every mode
    std::string high, max;  // inside <think>: shortest sufficient steps; plan, steps, verification
    // Sums and differences: Think High with a digit that was exchanged, and the reply that follows from it. What comes
    // after its first `end` bytes is learnt, the digit is not: so the model goes by what is written. Empty elsewhere.
    struct Slip {
        std::string high, reply;
        size_t end = 0;
    } slip;
    std::function<bool(std::string_view)>
        accepts;           // the checker; where several answers are right, it takes all of them
    uint64_t problem = 0;  // hash of the problem, whatever its wording: decides the split
    Language language = Language::english;
    int level = 0;  // difficulty, within its skill's range
    const char* skill = "";
    int domain = 0;  // index into domains()

    const std::string& thinking(Mode m) const;  // "" in Non-think
};

// What a generator is asked for. A skill draws its level and language from `draw` when they are not fixed.
struct Wish {
    Draws& draw;
    int level = 0;
    Language language = Language::english;
    double slip_rate = 0;                // share of Max workings with a step that is wrong on purpose
    const ModelConfig* model = nullptr;  // whose facts the chat tells
    bool is_chinese() const { return language == Language::chinese; }
};

// A kind of problem with levels of difficulty. `make` is a pure function of the draws and the wish.
struct Skill {
    const char* name;
    double weight;        // among the skills of its domain
    int lowest, highest;  // level
    Item (*make)(Wish&);
    int first_split_level = 0;  // problems of lower levels are so few that training needs them all
};

// One in ten problems is never trained on.
constexpr bool is_held_out(uint64_t problem) {
    return mix64(problem) % 10 == 7;
}

// A checker that takes exactly this reply, white space at its ends apart.
std::function<bool(std::string_view)> exactly(std::string reply);

}  // namespace vitrine::curriculum
