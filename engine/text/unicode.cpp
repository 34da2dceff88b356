// Character classes from utf8proc's general categories.
#include "engine/text/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>

#include "engine/base/utf8.h"

namespace vitrine::text {
namespace {

uint8_t category_bits(char32_t c) {
    switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
        case UTF8PROC_CATEGORY_LU:
        case UTF8PROC_CATEGORY_LL:
        case UTF8PROC_CATEGORY_LT:
        case UTF8PROC_CATEGORY_LM:
        case UTF8PROC_CATEGORY_LO:
            return kLetter;
        case UTF8PROC_CATEGORY_MN:
        case UTF8PROC_CATEGORY_MC:
        case UTF8PROC_CATEGORY_ME:
            return kMark;
        case UTF8PROC_CATEGORY_ND:
        case UTF8PROC_CATEGORY_NL:
        case UTF8PROC_CATEGORY_NO:
            return kNumber;
        case UTF8PROC_CATEGORY_PC:
        case UTF8PROC_CATEGORY_PD:
        case UTF8PROC_CATEGORY_PS:
        case UTF8PROC_CATEGORY_PE:
        case UTF8PROC_CATEGORY_PI:
        case UTF8PROC_CATEGORY_PF:
        case UTF8PROC_CATEGORY_PO:
            return kPunctuation;
        case UTF8PROC_CATEGORY_SM:
        case UTF8PROC_CATEGORY_SC:
        case UTF8PROC_CATEGORY_SK:
        case UTF8PROC_CATEGORY_SO:
            return kSymbol;
        default:
            return 0;
    }
}

uint8_t computed_bits(char32_t c) {
    uint8_t b = category_bits(c);
    if (is_white_space(c)) b |= kSpace;
    if (c == '\r' || c == '\n') b |= kLineBreak;
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) b |= kAsciiLetter;
    return b;
}

}  // namespace

// The White_Space property (PropList.txt), closed since Unicode 6.3.
bool is_white_space(char32_t c) {
    return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

uint8_t class_bits(char32_t c) {
    static const std::array<uint8_t, 128> ascii = [] {
        std::array<uint8_t, 128> a{};
        for (char32_t i = 0; i < 128; ++i) a[i] = computed_bits(i);
        return a;
    }();
    return c < 128 ? ascii[c] : computed_bits(c);
}

Points points_of(std::string_view text) {
    Points p;
    points_of(text, p);
    return p;
}

void points_of(std::string_view text, Points& p) {
    p.at.clear(), p.code_point.clear(), p.bits.clear();
    const auto n =
        static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
    p.at.reserve(n + 1), p.code_point.reserve(n), p.bits.reserve(n);
    for (size_t i = 0; i < text.size();) {
        const Utf8Step s = utf8_step(text, i);
        p.at.push_back(static_cast<uint32_t>(i));
        p.code_point.push_back(s.code_point);
        p.bits.push_back(class_bits(s.code_point));
        i += s.n_bytes;
    }
    p.at.push_back(static_cast<uint32_t>(text.size()));
}

}  // namespace vitrine::text
