// Holding back unfinished characters.
#include "engine/text/detokenizer.h"

#include "engine/base/utf8.h"

namespace vitrine::text {

std::string Detokenizer::push(std::string_view token_bytes) {
    held_ += token_bytes;
    std::string out;
    size_t i = 0;
    while (i < held_.size()) {
        const Utf8Step s = utf8_step(held_, i);
        if (s.is_cut) break;
        append_utf8(out, s.code_point);
        i += s.n_bytes;
    }
    held_.erase(0, i);
    return out;
}

std::string Detokenizer::finish() {
    const std::string out = repaired_utf8(held_);
    held_.clear();
    return out;
}

}  // namespace vitrine::text
