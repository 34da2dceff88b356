// What an empty conversation offers to ask, for models that were taught by experiments/curriculum.
#pragma once
#include <span>
#include <string>

namespace vitrine::viz {

// One line of the table in suggestions.cpp.
struct Suggestion {
    const char* skill;                // "Sums · 加法"
    const char *english, *chinese;    // what is asked
    // Not null: the question is about this note, which is said first, about 2,000 tokens of exercises earlier.
    const char *note_english = nullptr, *note_chinese = nullptr;
};

std::span<const Suggestion> suggestions();
// The whole message: the question alone, or the note, exercises with their answers, and the question.
std::string suggested_prompt(const Suggestion& s, bool is_chinese);

}  // namespace vitrine::viz
