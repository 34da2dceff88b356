// vitrine bench --draft, --sequences: generating text faster, by guesses of the MTP module or several sequences side by
// side.
#pragma once
#include <cstdint>
#include <stop_token>
#include <string>

namespace vitrine {
class Engine;
}

namespace vitrine::cli {

struct GenerateBench {
    std::string prompts;     // JSON file: a list of lists of ids; empty: the beginning-of-text token alone
    int64_t n_tokens = 256;  // of an answer, at most
    int n_drafts = 0, n_sequences = 0;
    bool is_batch_invariant = true;
};

// Answers every prompt one at a time without drafts, then the faster way, both in turn three times (the best counts),
// greedily and drawn at temperature 1; prints both speeds, how many guesses were right, and whether the texts are the
// same.
void bench_generate(Engine& engine, const GenerateBench& what, bool is_json, std::stop_token stop);

}  // namespace vitrine::cli
