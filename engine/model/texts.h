// Text files that belong to a model and travel with its checkpoints.
#pragma once
#include <string>
#include <utility>
#include <vector>

namespace vitrine {

struct ModelTexts {
    std::vector<std::pair<std::string, std::string>> files;  // name and content
    // Those that a folder has: tokenizer.json, tokenizer_config.json, chat.json, generation_config.json. Error(io).
    static ModelTexts read(const std::string& folder);
};

}  // namespace vitrine
