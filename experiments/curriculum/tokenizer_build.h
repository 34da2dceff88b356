// The curriculum's own tokenizer and chat format: what a model trained on it ships with.
#pragma once
#include <cstdint>
#include <string>

namespace vitrine {
struct ModelConfig;
}

namespace vitrine::curriculum {

// tokenizer.json with `vocab_size` tokens learnt from `n_items` generated items of all domains, in every mode. The same
// arguments give the same bytes. Error(bad_input) when the vocabulary is too small for bytes and control tokens.
std::string build_tokenizer(const ModelConfig& model, int vocab_size, uint64_t n_items);

// chat.json: DeepSeek-V4's format with a short text for Think Max.
std::string chat_json();

}  // namespace vitrine::curriculum
