// Visible marks for characters that can't or shouldn't be drawn as they are.
#include "engine/base/display_text.h"

#include <cstdio>

#include "engine/base/utf8.h"

namespace vitrine {
namespace {

constexpr int kMaxMarksInARow = 4;

bool is_in(char32_t c, char32_t low, char32_t high) {
    return c >= low && c <= high;
}

// Characters that change direction, take no width, or are drawn as nothing (Unicode's Default_Ignorable and format
// characters of the BMP), and the ones that no font has.
bool is_deceiving(char32_t c) {
    return c < 0x20 || is_in(c, 0x7F, 0x9F) || c == 0xAD || c == 0x34F || c == 0x61C || is_in(c, 0x115F, 0x1160) ||
           is_in(c, 0x17B4, 0x17B5) || is_in(c, 0x180B, 0x180F) || is_in(c, 0x200B, 0x200F) ||
           is_in(c, 0x2028, 0x202E) || is_in(c, 0x2060, 0x206F) || c == 0x3164 || is_in(c, 0xE000, 0xF8FF) ||
           is_in(c, 0xFE00, 0xFE0F) || c == 0xFEFF || c == 0xFFA0 || is_in(c, 0xFFF0, 0xFFFB) ||
           is_in(c, 0xFDD0, 0xFDEF) || is_in(c, 0xFFFE, 0xFFFF);
}

// The blocks of combining marks that scripts stack (Combining Diacritical Marks and its relatives).
bool is_stacking_mark(char32_t c) {
    return is_in(c, 0x300, 0x36F) || is_in(c, 0x483, 0x489) || is_in(c, 0x591, 0x5BD) || is_in(c, 0x610, 0x61A) ||
           is_in(c, 0x64B, 0x65F) || is_in(c, 0xE31, 0xE3A) || is_in(c, 0xE47, 0xE4E) || is_in(c, 0x1AB0, 0x1AFF) ||
           is_in(c, 0x1DC0, 0x1DFF) || is_in(c, 0x20D0, 0x20FF) || is_in(c, 0xFE20, 0xFE2F);
}

void append_tag(std::string& out, char32_t c) {
    char b[16];
    std::snprintf(b, sizeof b, "<U+%04X>", static_cast<unsigned>(c));
    out += b;
}

std::string marked(std::string_view text, bool one_line) {
    std::string out;
    out.reserve(text.size());
    int marks = 0;
    const auto end_marks = [&] {
        if (marks > kMaxMarksInARow) out += "<+" + std::to_string(marks - kMaxMarksInARow) + " marks>";
        marks = 0;
    };
    for (size_t i = 0; i < text.size();) {
        const Utf8Step s = utf8_step(text, i);
        const size_t at = i;
        i += s.n_bytes;
        const char32_t c = s.code_point;
        if (s.is_valid && is_stacking_mark(c)) {
            if (++marks <= kMaxMarksInARow) out.append(text.substr(at, s.n_bytes));
            continue;
        }
        end_marks();
        if (c == '\r' && i < text.size() && text[i] == '\n') continue;
        if (c == '\n' || c == '\t') {
            if (one_line)
                out += c == '\n' ? "\\n" : "\\t";
            else
                out += static_cast<char>(c);
        } else if (c > 0xFFFF || is_deceiving(c)) {
            append_tag(out, c);
        } else {
            append_utf8(out, c);
        }
    }
    end_marks();
    return out;
}

}  // namespace

std::string display_text(std::string_view text) {
    return marked(text, false);
}
std::string display_line(std::string_view text) {
    return marked(text, true);
}

}  // namespace vitrine
