// Scanners for known pre-tokenizer patterns. Each alternative is tried in the order of the expression; where the
// expression would backtrack, the scanner computes the outcome directly and the comment says how.
#include "engine/text/split_pattern.h"

#include <utility>

#include "engine/base/error.h"
#include "engine/base/utf8.h"

namespace vitrine::text {
namespace {

struct Known {
    const char* regex;
    ScannerKind kind;
};
constexpr Known kKnown[] = {
    {R"(\p{N}{1,3})", ScannerKind::numbers_1_to_3},
    {R"(\p{N})", ScannerKind::one_number},
    {R"(\p{N}+)", ScannerKind::numbers},
    {"[一-龥\u3040-ゟ゠-ヿ]+", ScannerKind::cjk},
    {R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|)"
     R"([^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     ScannerKind::v4_words},
    {R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)", ScannerKind::gpt2},
    {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     ScannerKind::llama3},
    {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     ScannerKind::qwen2},
};

// One text being scanned between i and end, with the helpers that all patterns share.
struct Scan {
    const Points& p;
    size_t i, end;

    uint8_t bits(size_t k) const { return k < end ? p.bits[k] : 0; }
    char32_t at(size_t k) const { return k < end ? p.code_point[k] : 0; }
    bool has(size_t k, int any_of) const { return (bits(k) & any_of) != 0; }
    size_t run(size_t k, int any_of) const {
        while (k < end && (p.bits[k] & any_of)) ++k;
        return k;
    }
    size_t run_without(size_t k, int none_of) const {
        while (k < end && !(p.bits[k] & none_of)) ++k;
        return k;
    }
    size_t run_up_to(size_t k, int any_of, size_t most) const {
        const size_t from = k;
        while (k < end && k - from < most && (p.bits[k] & any_of)) ++k;
        return k;
    }

    // \s*[\r\n]+|\s+(?!\S)|\s+ with the first alternative optional. \s*[\r\n]+ gives back until a line break can
    // follow, so it ends after the last line break of the white-space run. \s+(?!\S) gives back one character unless
    // the text ends there.
    size_t white_space(bool with_line_breaks) const {
        const size_t stop = run(i, kSpace);
        if (stop == i) return 0;
        if (with_line_breaks)
            for (size_t k = stop; k > i; --k)
                if (p.bits[k - 1] & kLineBreak) return k - i;
        if (stop == end || stop - i == 1) return stop - i;
        return stop - 1 - i;
    }

    // 's|'t|'re|'ve|'m|'ll|'d; case-insensitively U+017F (long s) is an s.
    size_t contraction(bool ignore_case) const {
        if (at(i) != '\'') return 0;
        const auto low = [&](size_t k) -> char32_t {
            const char32_t c = at(k);
            if (!ignore_case) return c;
            return c == 0x17F ? U's' : c >= 'A' && c <= 'Z' ? c + 32 : c;
        };
        const char32_t a = low(i + 1), b = low(i + 2);
        if (a == 's' || a == 't') return 2;
        if ((a == 'r' || a == 'v') && b == 'e') return 3;
        if (a == 'm') return 2;
        if (a == 'l' && b == 'l') return 3;
        return a == 'd' ? 2 : 0;
    }
};

bool is_cjk(char32_t c) {
    return (c >= 0x4E00 && c <= 0x9FA5) || (c >= 0x3040 && c <= 0x30FF);
}

size_t match_v4(const Scan& s) {
    const size_t i = s.i;
    const char32_t c = s.at(i);
    const bool is_ascii_sign = c < 128 && s.has(i, kPunctuation | kSymbol);
    if (is_ascii_sign && s.has(i + 1, kAsciiLetter)) return s.run(i + 1, kAsciiLetter) - i;
    // [^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+: the optional character is kept only if a letter or mark follows it.
    constexpr int kWord = kLetter | kMark;
    const bool can_lead = !s.has(i, kLineBreak | kLetter | kPunctuation | kSymbol);
    if (can_lead && s.has(i + 1, kWord)) return s.run(i + 1, kWord) - i;
    if (s.has(i, kWord)) return s.run(i, kWord) - i;
    const size_t sign = c == ' ' ? i + 1 : i;
    if (s.has(sign, kPunctuation | kSymbol)) return s.run(s.run(sign, kPunctuation | kSymbol), kLineBreak) - i;
    return s.white_space(true);
}

// ` ?[^\s\p{L}\p{N}]+`, then [\r\n]* if asked.
size_t match_signs(const Scan& s, bool with_line_breaks) {
    constexpr int kNot = kSpace | kLetter | kNumber;
    const size_t sign = s.at(s.i) == ' ' ? s.i + 1 : s.i;
    if (sign >= s.end || s.has(sign, kNot)) return 0;
    const size_t stop = s.run_without(sign, kNot);
    return (with_line_breaks ? s.run(stop, kLineBreak) : stop) - s.i;
}

size_t match_gpt2(const Scan& s) {
    if (const size_t n = s.contraction(false)) return n;
    const size_t word = s.at(s.i) == ' ' ? s.i + 1 : s.i;
    if (s.has(word, kLetter)) return s.run(word, kLetter) - s.i;
    if (s.has(word, kNumber)) return s.run(word, kNumber) - s.i;
    if (const size_t n = match_signs(s, false)) return n;
    return s.white_space(false);
}

size_t match_llama3(const Scan& s, size_t most_digits) {
    if (const size_t n = s.contraction(true)) return n;
    if (!s.has(s.i, kLineBreak | kLetter | kNumber) && s.has(s.i + 1, kLetter)) return s.run(s.i + 1, kLetter) - s.i;
    if (s.has(s.i, kLetter)) return s.run(s.i, kLetter) - s.i;
    if (s.has(s.i, kNumber)) return s.run_up_to(s.i, kNumber, most_digits) - s.i;
    if (const size_t n = match_signs(s, true)) return n;
    return s.white_space(true);
}

// Raw CR and LF written as the escapes \r and \n, so that both spellings compare equal.
std::string with_escaped_line_breaks(std::string_view regex) {
    std::string out;
    for (char c : regex) {
        if (c == '\r')
            out += "\\r";
        else if (c == '\n')
            out += "\\n";
        else
            out += c;
    }
    return out;
}

}  // namespace

SplitPattern::SplitPattern(std::string_view literal) : kind_(ScannerKind::literal) {
    const Points p = points_of(literal);
    literal_.assign(p.code_point.begin(), p.code_point.end());
    VITRINE_ASSERT(!literal_.empty() && literal_.size() <= kMaxLiteral);
}

std::optional<SplitPattern> SplitPattern::from_regex(std::string_view regex) {
    const std::string canonical = with_escaped_line_breaks(regex);
    for (const Known& k : kKnown)
        if (canonical == k.regex) return SplitPattern(k.kind);
    return std::nullopt;
}

std::vector<std::string> SplitPattern::known_regexes() {
    std::vector<std::string> all;
    for (const Known& k : kKnown) all.emplace_back(k.regex);
    return all;
}

size_t SplitPattern::match(const Points& p, size_t i, size_t end) const {
    const Scan s{p, i, end};
    switch (kind_) {
        case ScannerKind::numbers_1_to_3:
            return s.run_up_to(i, kNumber, 3) - i;
        case ScannerKind::one_number:
            return s.has(i, kNumber) ? 1 : 0;
        case ScannerKind::numbers:
            return s.run(i, kNumber) - i;
        case ScannerKind::cjk: {
            size_t k = i;
            while (k < end && is_cjk(p.code_point[k])) ++k;
            return k - i;
        }
        case ScannerKind::v4_words:
            return match_v4(s);
        case ScannerKind::gpt2:
            return match_gpt2(s);
        case ScannerKind::llama3:
            return match_llama3(s, 3);
        case ScannerKind::qwen2:
            return match_llama3(s, 1);
        case ScannerKind::literal:
            break;
    }
    if (end - i < literal_.size()) return 0;
    for (size_t k = 0; k < literal_.size(); ++k)
        if (p.code_point[i + k] != literal_[k]) return 0;
    return literal_.size();
}

}  // namespace vitrine::text
