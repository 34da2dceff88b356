// Character classes that pre-tokenizer patterns speak of, as bits, and text decoded once with them.
#pragma once
#include <cstdint>
#include <string_view>
#include <vector>

namespace vitrine::text {

enum ClassBit : uint8_t {
    kLetter = 1,        // \p{L}
    kMark = 2,          // \p{M}
    kNumber = 4,        // \p{N}
    kPunctuation = 8,   // \p{P}
    kSymbol = 16,       // \p{S}
    kSpace = 32,        // \s, the White_Space property
    kLineBreak = 64,    // [\r\n]
    kAsciiLetter = 128  // [A-Za-z]
};
uint8_t class_bits(char32_t c);
bool is_white_space(char32_t c);

// Text as arrays over code points: byte offset (n + 1 of them), value, class bits.
struct Points {
    std::vector<uint32_t> at;
    std::vector<char32_t> code_point;
    std::vector<uint8_t> bits;
    size_t size() const { return code_point.size(); }
    size_t held_bytes() const { return at.capacity() * 4 + code_point.capacity() * 4 + bits.capacity(); }
};
// `text` is valid UTF-8 shorter than 2^32 bytes. The second form fills arrays that are kept.
Points points_of(std::string_view text);
void points_of(std::string_view text, Points& p);

}  // namespace vitrine::text
