// UTF-8 decoding by table 3-7 of the Unicode standard.
#include "engine/base/utf8.h"

namespace vitrine {
namespace {

struct Lead {
    int n_bytes;                // 0: this byte starts nothing
    unsigned char low2, high2;  // allowed range of the second byte
};

// Overlong forms, surrogates and values above U+10FFFF are excluded by the range of the second byte.
Lead lead_of(unsigned char b) {
    if (b >= 0xC2 && b <= 0xDF) return {2, 0x80, 0xBF};
    if (b == 0xE0) return {3, 0xA0, 0xBF};
    if (b == 0xED) return {3, 0x80, 0x9F};
    if (b >= 0xE1 && b <= 0xEF) return {3, 0x80, 0xBF};
    if (b == 0xF0) return {4, 0x90, 0xBF};
    if (b >= 0xF1 && b <= 0xF3) return {4, 0x80, 0xBF};
    if (b == 0xF4) return {4, 0x80, 0x8F};
    return {0, 0, 0};
}

}  // namespace

Utf8Step utf8_step(std::string_view text, size_t at) {
    const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
    const unsigned char b0 = byte(at);
    if (b0 < 0x80) return {b0, 1, true, false};
    const Lead lead = lead_of(b0);
    if (lead.n_bytes == 0) return {};
    char32_t cp = b0 & (0xFF >> (lead.n_bytes + 1));
    for (int i = 1; i < lead.n_bytes; ++i) {
        if (at + i >= text.size()) return {kReplacement, i, false, true};
        const unsigned char b = byte(at + i);
        const bool fits = i == 1 ? b >= lead.low2 && b <= lead.high2 : (b & 0xC0) == 0x80;
        if (!fits) return {kReplacement, i, false, false};
        cp = (cp << 6) | (b & 0x3F);
    }
    return {cp, lead.n_bytes, true, false};
}

void append_utf8(std::string& out, char32_t c) {
    if (c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF)) c = kReplacement;
    if (c < 0x80) {
        out += static_cast<char>(c);
    } else if (c < 0x800) {
        out += {static_cast<char>(0xC0 | (c >> 6)), static_cast<char>(0x80 | (c & 0x3F))};
    } else if (c < 0x10000) {
        out += {static_cast<char>(0xE0 | (c >> 12)), static_cast<char>(0x80 | ((c >> 6) & 0x3F)),
                static_cast<char>(0x80 | (c & 0x3F))};
    } else {
        out += {static_cast<char>(0xF0 | (c >> 18)), static_cast<char>(0x80 | ((c >> 12) & 0x3F)),
                static_cast<char>(0x80 | ((c >> 6) & 0x3F)), static_cast<char>(0x80 | (c & 0x3F))};
    }
}

bool is_valid_utf8(std::string_view text) {
    for (size_t i = 0; i < text.size();) {
        const Utf8Step s = utf8_step(text, i);
        if (!s.is_valid) return false;
        i += s.n_bytes;
    }
    return true;
}

std::string repaired_utf8(std::string_view text) {
    std::string out;
    out.reserve(text.size());
    for (size_t i = 0; i < text.size();) {
        const Utf8Step s = utf8_step(text, i);
        if (s.is_valid)
            out.append(text.substr(i, s.n_bytes));
        else
            append_utf8(out, kReplacement);
        i += s.n_bytes;
    }
    return out;
}

}  // namespace vitrine
