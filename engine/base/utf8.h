// UTF-8 with the Unicode standard's rules: decoding one code point, and repairing text from outside.
#pragma once
#include <cstddef>
#include <string>
#include <string_view>

namespace vitrine {

constexpr char32_t kReplacement = 0xFFFD;

// One step of decoding. `n_bytes` is how much of the text it covers (at least 1). An ill-formed sequence has is_valid =
// false, code_point = U+FFFD and covers its maximal subpart (Unicode 15, section 3.9, table 3-7; as Python's
// errors="replace"). `is_cut` marks an ill-formed sequence that the end of the text interrupted and that more bytes
// could complete.
struct Utf8Step {
    char32_t code_point = kReplacement;
    int n_bytes = 1;
    bool is_valid = false;
    bool is_cut = false;
};

// Decodes at `at`, which must be smaller than text.size().
Utf8Step utf8_step(std::string_view text, size_t at);

// Appends the UTF-8 form of a scalar value; surrogates and values above U+10FFFF become U+FFFD.
void append_utf8(std::string& out, char32_t code_point);

bool is_valid_utf8(std::string_view text);

// The text with every maximal ill-formed subpart replaced by U+FFFD.
std::string repaired_utf8(std::string_view text);

}  // namespace vitrine
