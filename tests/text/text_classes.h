// Long texts of one class of character, for tests of time, memory and stack.
#pragma once
#include <string>
#include <vector>

#include "engine/base/rng.h"
#include "engine/base/utf8.h"

namespace vitrine::test {

struct TextClass {
    const char* name;
    std::vector<std::string> pieces;  // drawn in random order, or repeated when there is one
    std::string make(size_t n_bytes, uint64_t seed = 7) const {
        std::string s;
        s.reserve(n_bytes + 8);
        const CounterRng rng(seed, fnv1a64(name));
        for (uint64_t k = 0; s.size() < n_bytes; ++k) s += pieces[rng.bits(k) % pieces.size()];
        s.resize(n_bytes);
        return s;
    }
};

inline std::vector<TextClass> text_classes() {
    const auto range = [](char32_t low, char32_t high) {
        std::vector<std::string> all;
        for (char32_t c = low; c < high; ++c) append_utf8(all.emplace_back(), c);
        return all;
    };
    return {
        {"one letter", {"a"}},
        {"letters", range('a', 'z' + 1)},
        {"words", {"the", "model", "ing", "expert", "s", "tion", "window", "e"}},
        {"one digit", {"7"}},
        {"digits", range('0', '9' + 1)},
        {"spaces", {" "}},
        {"newlines", {"\n"}},
        {"mixed white space", {" ", "\n", "\t", "\r", "\u3000"}},
        {"space then newline", {"     \n"}},
        {"punctuation", {"!", "?", ".", ",", ";"}},
        {"one punctuation", {"-"}},
        {"symbols", {"+", "=", "€", "☃"}},
        {"combining marks", {"\u0301"}},
        {"CJK", range(0x4E00, 0x4F00)},
        {"one CJK", {"中"}},
        {"kana", range(0x3041, 0x3090)},
        {"emoji", {"😀", "🎉"}},
        {"invalid UTF-8", {"\xFF"}},
        {"cut sequences", {"\xF0\x9F", "\xE4"}},
        {"controls", {std::string(1, '\0'), "\x01"}},
        {"apostrophes", {"'"}},
        {"near a control token", {"<"}},
        {"halves of tokens", {"<｜User｜", "</think"}},
        {"control tokens", {"<｜User｜>", "<think>"}},
        {"English", {"the ", "expert ", "chooses ", "entries, ", "and so on.\n", "It's ", "2026 "}},
    };
}

}  // namespace vitrine::test
