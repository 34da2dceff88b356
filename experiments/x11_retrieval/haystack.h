// Long prompts with one note to be found: where it stands and among how many others of its kind are chosen.
#pragma once
#include <cstdint>
#include <string>

namespace vitrine {
struct ModelConfig;
}

namespace vitrine::lab {

struct Haystack {
    std::string before, note, after;  // the prompt is all three; `after` ends with the question
    std::string reply;                // what the note says
    std::string prompt() const { return before + note + after; }
};
// The curriculum's "recall" of about `n_tokens` (its own estimate), in its own words and in English, with the note
// moved to `depth` of the lines (0: first, 1: right before the question) and with `n_notes` notes of people in all (4
// at least). The others are about other people. A pure function of its arguments; never trained on.
Haystack make_haystack(int n_tokens, double depth, int n_notes, uint64_t seed, uint64_t index,
                       const ModelConfig& model);

}  // namespace vitrine::lab
