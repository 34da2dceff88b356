// Draws the next token from logits. Same bits for any thread count: one thread, fixed order, counter-based randomness.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "engine/base/config/sampling.h"
#include "engine/base/error.h"

namespace vitrine {

std::vector<Issue> validate(const Sampling& s, int vocab_size);

// `seen`: the tokens so far (for the repetition penalty). `position`: of the token to be drawn; the draw uses (seed, position).
// Error(bad_input) when no logit is finite. NaN logits are never drawn.
int32_t sample(std::span<const float> logits, const Sampling& s, std::span<const int32_t> seen, int64_t position);

// The n most probable tokens at temperature 1 (ties: lowest id) and the entropy [nat].
struct NextTokens {
    std::vector<int32_t> ids;
    std::vector<float> probabilities;
    float entropy = 0;
};
NextTokens next_tokens(std::span<const float> logits, int n);

// What is said of a drawn token: its probability and the entropy [nat] of the distribution, at temperature 1. One pass.
struct TokenOdds {
    float probability = 0, entropy = 0;
};
TokenOdds token_odds(std::span<const float> logits, int32_t id);

}  // namespace vitrine
