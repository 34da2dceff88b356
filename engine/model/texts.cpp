// Text files that belong to a model.
#include "engine/model/texts.h"

#include <filesystem>

#include "engine/base/reader.h"

namespace vitrine {

ModelTexts ModelTexts::read(const std::string& folder) {
    constexpr uint64_t kMaxBytes = 64 << 20;
    ModelTexts t;
    for (const char* name : {"tokenizer.json", "tokenizer_config.json", "chat.json", "generation_config.json"}) {
        const std::string path = folder + "/" + name;
        std::error_code failed;
        if (std::filesystem::is_regular_file(path, failed)) t.files.emplace_back(name, read_file(path, kMaxBytes));
    }
    return t;
}

}  // namespace vitrine
