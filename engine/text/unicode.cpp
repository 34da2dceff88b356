// Character classes from utf8proc's general categories, which are those of Unicode 15.0 in its oldest release we build with.
#include "engine/text/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <iterator>

#include "engine/base/utf8.h"

namespace vitrine::text {
namespace {

// What Unicode 15.1 and 16 assigned, as `tokenizers` 0.23 classes it: ids must not depend on which utf8proc is installed.
struct Later {
    char32_t first, last;
    uint8_t bits;
};
constexpr Later kLater[] = {
    {0x0897, 0x0897, kMark}, {0x1B4E, 0x1B4F, kPunctuation}, {0x1B7F, 0x1B7F, kPunctuation},
    {0x1C89, 0x1C8A, kLetter}, {0x2427, 0x2429, kSymbol}, {0x2FFC, 0x2FFF, kSymbol}, {0x31E4, 0x31E5, kSymbol},
    {0x31EF, 0x31EF, kSymbol}, {0xA7CB, 0xA7CD, kLetter}, {0xA7DA, 0xA7DC, kLetter}, {0x105C0, 0x105F3, kLetter},
    {0x10D40, 0x10D49, kNumber}, {0x10D4A, 0x10D65, kLetter}, {0x10D69, 0x10D6D, kMark},
    {0x10D6E, 0x10D6E, kPunctuation}, {0x10D6F, 0x10D85, kLetter}, {0x10D8E, 0x10D8F, kSymbol},
    {0x10EC2, 0x10EC4, kLetter}, {0x10EFC, 0x10EFC, kMark}, {0x11380, 0x11389, kLetter}, {0x1138B, 0x1138B, kLetter},
    {0x1138E, 0x1138E, kLetter}, {0x11390, 0x113B5, kLetter}, {0x113B7, 0x113B7, kLetter}, {0x113B8, 0x113C0, kMark},
    {0x113C2, 0x113C2, kMark}, {0x113C5, 0x113C5, kMark}, {0x113C7, 0x113CA, kMark}, {0x113CC, 0x113D0, kMark},
    {0x113D1, 0x113D1, kLetter}, {0x113D2, 0x113D2, kMark}, {0x113D3, 0x113D3, kLetter},
    {0x113D4, 0x113D5, kPunctuation}, {0x113D7, 0x113D8, kPunctuation}, {0x113E1, 0x113E2, kMark},
    {0x116D0, 0x116E3, kNumber}, {0x11BC0, 0x11BE0, kLetter}, {0x11BE1, 0x11BE1, kPunctuation},
    {0x11BF0, 0x11BF9, kNumber}, {0x11F5A, 0x11F5A, kMark}, {0x13460, 0x143FA, kLetter}, {0x16100, 0x1611D, kLetter},
    {0x1611E, 0x1612F, kMark}, {0x16130, 0x16139, kNumber}, {0x16D40, 0x16D6C, kLetter},
    {0x16D6D, 0x16D6F, kPunctuation}, {0x16D70, 0x16D79, kNumber}, {0x18CFF, 0x18CFF, kLetter},
    {0x1CC00, 0x1CCEF, kSymbol}, {0x1CCF0, 0x1CCF9, kNumber}, {0x1CD00, 0x1CEB3, kSymbol},
    {0x1E5D0, 0x1E5ED, kLetter}, {0x1E5EE, 0x1E5EF, kMark}, {0x1E5F0, 0x1E5F0, kLetter}, {0x1E5F1, 0x1E5FA, kNumber},
    {0x1E5FF, 0x1E5FF, kPunctuation}, {0x1F8B2, 0x1F8BB, kSymbol}, {0x1F8C0, 0x1F8C1, kSymbol},
    {0x1FA89, 0x1FA89, kSymbol}, {0x1FA8F, 0x1FA8F, kSymbol}, {0x1FABE, 0x1FABE, kSymbol},
    {0x1FAC6, 0x1FAC6, kSymbol}, {0x1FADC, 0x1FADC, kSymbol}, {0x1FADF, 0x1FADF, kSymbol},
    {0x1FAE9, 0x1FAE9, kSymbol}, {0x1FBCB, 0x1FBEF, kSymbol}, {0x2EBF0, 0x2EE5D, kLetter}};

uint8_t later_bits(char32_t c) {
    const auto* r = std::ranges::lower_bound(kLater, c, {}, &Later::last);
    return r != std::end(kLater) && c >= r->first ? r->bits : 0;
}

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
        case UTF8PROC_CATEGORY_CN:
            return later_bits(c);
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
