// The regular expressions that pre-tokenizers of this family use, run by hand-written scanners in linear time.
//
// A pattern from a file never reaches a regex engine: std::regex recurses per character and PCRE2 backtracks. A pattern
// that is not in the table below is refused by its text.
#pragma once
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/text/unicode.h"

namespace vitrine::text {

enum class ScannerKind {
    numbers_1_to_3,  // \p{N}{1,3}
    one_number,      // \p{N}
    numbers,         // \p{N}+
    cjk,             // V4 stage 2: [一-龥぀-ゟ゠-ヿ]+
    v4_words,        // V4 stage 3 (v4-spec 9)
    gpt2,            // ByteLevel's own pattern (use_regex)
    llama3,          // cl100k's form with \p{N}{1,3}
    qwen2,           // the same with \p{N}
    literal          // a fixed string
};

class SplitPattern {
  public:
    explicit SplitPattern(ScannerKind kind) : kind_(kind) {}
    // A fixed string, not empty, at most kMaxLiteral code points (so that searching stays linear).
    explicit SplitPattern(std::string_view literal);
    static constexpr size_t kMaxLiteral = 64;

    // The scanner for a regular expression as it stands in tokenizer.json, or nothing when it is unknown. Carriage
    // return and line feed may be written as themselves or as escapes.
    static std::optional<SplitPattern> from_regex(std::string_view regex);
    static std::vector<std::string> known_regexes();

    // Length in code points of the match that starts at i within [i, end), 0 when there is none. Amortised O(1) per
    // code point when called on the ends of successive matches and on each position of a gap.
    size_t match(const Points& p, size_t i, size_t end) const;

  private:
    ScannerKind kind_;
    std::vector<char32_t> literal_;
};

}  // namespace vitrine::text
