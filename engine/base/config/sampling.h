// How the next token is drawn and when an answer ends.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace vitrine {

// Applied in this order: repetition penalty, temperature, top-k, top-p, min-p, draw. temperature 0 is greedy (lowest id wins
// ties). top_k 0, top_p 1, min_p 0, repetition_penalty 1 switch their step off.
struct Sampling {
    double temperature = 1.0;         // [0, 100]
    int top_k = 0;                    // [0, vocabulary]
    double top_p = 1.0;               // (0, 1]
    double min_p = 0.0;               // [0, 1)
    double repetition_penalty = 1.0;  // [0.1, 10]: logits of seen tokens are divided (positive) or multiplied (negative) by it
    uint64_t seed = 0;                // the draw at position t is a function of (seed, t)
    int max_new_tokens = 4096;        // [1, 1048576]
    std::vector<std::string> stop;    // stop strings, cut from the answer
};

// Non-think, Think High, Think Max (v4-spec 8.2).
enum class Mode : uint8_t { non_think, high, max };
inline const char* mode_name(Mode m) { return m == Mode::non_think ? "non-think" : m == Mode::high ? "high" : "max"; }
inline const char* mode_title(Mode m) {
    return m == Mode::non_think ? "Non-think" : m == Mode::high ? "Think High" : "Think Max";
}

}  // namespace vitrine
