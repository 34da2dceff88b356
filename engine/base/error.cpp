// Errors of the engine: formatting and escaping.
#include "engine/base/error.h"

#include <algorithm>
#include <cstdio>

#include "engine/base/reader.h"

namespace vitrine {

std::string Issue::to_string() const {
    std::string s;
    if (!file.empty()) s += escaped(file, 512) + ": ";
    if (!key.empty()) s += escaped(key, 200);
    if (!value.empty()) s += (key.empty() ? "" : " = ") + escaped(value);
    if (!where.empty()) s += " (" + where + ")";
    if (!expected.empty()) s += ": " + expected;
    return s;
}

void throw_if_any(const std::vector<Issue>& issues) {
    if (issues.empty()) return;
    std::string s;
    const size_t shown = std::min<size_t>(issues.size(), 20);
    for (size_t i = 0; i < shown; ++i) s += (i ? "\n" : "") + issues[i].to_string();
    if (shown < issues.size()) s += "\n... and " + std::to_string(issues.size() - shown) + " more";
    throw Error(ErrorKind::bad_input, s);
}

std::string escaped(std::string_view text, size_t max_bytes) {
    std::string s;
    size_t end = text.size();
    if (end > max_bytes) {
        end = max_bytes;
        while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
    }
    char b[16];
    for (size_t at = 0; at < end;) {
        const size_t begin = at;
        const uint32_t c = next_code_point(text, at);
        if (c == 0xFFFFFFFF || c < 0x20 || c == 0x7F) {
            std::snprintf(b, sizeof b, "\\x%02X", static_cast<unsigned char>(text[begin]));
            s += b;
        } else if (is_unsafe_code_point(c)) {  // C1, direction marks, invisible: shown, never sent to a terminal
            std::snprintf(b, sizeof b, "<U+%04X>", static_cast<unsigned>(c));
            s += b;
        } else {
            s += text.substr(begin, at - begin);
        }
    }
    return end < text.size() ? s + "..." : s;
}

std::string nearest_name(std::string_view word, const std::vector<std::string>& candidates) {
    std::string best;
    if (word.size() > 256) return best;  // the cost is the product of the lengths, and no name of ours is that long
    size_t best_distance = std::max<size_t>(2, word.size() / 3) + 1;
    for (const auto& c : candidates) {
        if (c.size() > 256) continue;
        std::vector<size_t> row(c.size() + 1);
        for (size_t j = 0; j <= c.size(); ++j) row[j] = j;
        for (size_t i = 1; i <= word.size(); ++i) {
            size_t diagonal = row[0];
            row[0] = i;
            for (size_t j = 1; j <= c.size(); ++j) {
                const size_t up = row[j];
                row[j] = std::min({row[j] + 1, row[j - 1] + 1, diagonal + (word[i - 1] != c[j - 1])});
                diagonal = up;
            }
        }
        if (row.back() < best_distance) best_distance = row.back(), best = c;
    }
    return best;
}

void assertion_failed(const char* expression, const char* file, int line) {
    throw Error(ErrorKind::internal, std::string("internal error: ") + expression + " does not hold at " + file + ":" +
                                         std::to_string(line) + " (please report this)");
}

}  // namespace vitrine
