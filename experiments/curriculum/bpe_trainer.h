// Learns a byte-level BPE from counted pieces of text, deterministically.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace vitrine::curriculum {

// Pieces as a pre-tokenizer cuts them, with how often each occurs.
using PieceCounts = std::map<std::string, uint64_t>;

// The bytes of both sides of each merge, in order of rank: first what makes each of `whole` one token (characters of
// several bytes), then always the pair that occurs most often (of equals, the one whose tokens are older), until
// `n_tokens` new tokens were made or no pair occurs twice.
std::vector<std::pair<std::string, std::string>> train_bpe(const PieceCounts& pieces, int n_tokens,
                                                           const std::vector<std::string>& whole = {});

}  // namespace vitrine::curriculum
